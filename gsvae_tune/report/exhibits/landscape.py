"""Two-way maps of the search: where in the plane of two settings did trials do well?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gsvae_tune.report.estimates.marginal import cell_medians, fence
from gsvae_tune.report.exhibits.ended import counted, cut, ended, failures, left_out, span
from gsvae_tune.report.exhibits.exhibit import Exhibit, NothingToShow
from gsvae_tune.report.figures import sensitivity, style
from gsvae_tune.report.figures.sensitivity import Map
from gsvae_tune.report.loaded import LoadedStudy
from gsvae_tune.search.space import SearchedSetting

SHOWN = 300  # trials drawn over one map: more would hide it
SUPPORT = 3  # trials of a cell below which its median is one trial's luck

_Settings = dict[str, SearchedSetting]
_Make = Callable[[str, _Settings, pd.DataFrame], list[Map]]


def exhibits(study: LoadedStudy) -> Iterator[Exhibit]:
    """Yield the maps."""
    reading = (
        "A cell's colour is the median loss of its trials, which stand on it as dots; a cell with "
        "one dot is one trial's luck, and a hatched one was never tried."
    )
    yield Exhibit(
        "sensitivity-map-range",
        "Which range of temperatures did well: how low and how high at once?",
        reading,
        partial(_maps, study, _ranges, "tau_min and tau_max as ranges"),
    )
    yield Exhibit(
        "sensitivity-map-start-rule",
        "Does the best starting temperature depend on the rule that moves it?",
        reading,
        partial(_maps, study, _rules, "tau_start as a range and a choice of rules"),
    )


def _maps(study: LoadedStudy, make: _Make, what: str) -> tuple[Figure, str]:
    frames, _ = cut(ended(study))
    found = []
    for arm, frame in frames.items():
        settings = {setting.name: setting for setting in study.settings[arm]}
        found += make(arm, settings, frame)
    if not found:
        raise NothingToShow(f"No arm with trials enough searches {what}.")
    drawn = {one.arm: frames[one.arm] for one in found}
    high = fence([median for one in found for median in one.cells.median_nats])
    above = sum(int((one.cells.median_nats > high).sum()) for one in found)
    thinned = any(len(frames[one.arm]) > SHOWN for one in found)
    caption = (
        f"{counted(study, drawn)}{left_out(study, frames)} Medians over all trials of a cell, the "
        "sampler's among them, whatever their other settings; failed trials count as the worst."
        + (" Dotted: where both are equal; none lies below." if found[0].ordered else "")
        + (f" Cells above {high:.4g} nats, in the top colour: {above}." if above else "")
        + (f" Dots: {SHOWN} trials a map, drawn at random." if thinned else "")
    )
    figure = sensitivity.maps(found, high, style.arm_styles(study.arms), caption)
    return figure, _finding(found) + failures(drawn)


def _ranges(arm: str, settings: _Settings, frame: pd.DataFrame) -> list[Map]:
    """Return the map of an arm's lower and upper ends, if it searches both."""
    names = ("tau_min", "tau_max")
    if any(name not in settings or settings[name].choices is not None for name in names):
        return []
    trials = frame.dropna(subset=list(names))
    if trials.empty:
        return []
    bins = _bins(len(trials))
    edges = [_edges(settings[name], bins) for name in names]
    values = [pd.to_numeric(trials[name]).astype(float) for name in names]
    logs = [settings[name].log for name in names]
    return [_map(arm, names, (edges[0], edges[1]), (values[0], values[1]), trials, logs)]


def _rules(arm: str, settings: _Settings, frame: pd.DataFrame) -> list[Map]:
    """Return the maps of an arm's start against each of its rules, if it searches them."""
    start = settings.get("tau_start")
    if start is None or start.choices is not None:
        return []
    found = []
    for rule in ("rule_a", "rule_b"):
        choices = settings[rule].choices if rule in settings else None
        trials = frame.dropna(subset=["tau_start", rule]) if choices else frame.iloc[:0]
        if not choices or trials.empty:
            continue
        names = tuple(str(choice) for choice in choices)
        edges = _edges(start, _bins(len(trials))), np.arange(len(names) + 1.0)
        row = trials[rule].astype(str).map({name: place for place, name in enumerate(names)})
        # Spread within the rows, so that trials do not lie on each other.
        up = row + 0.5 + np.random.default_rng(0).uniform(-0.32, 0.32, len(row))
        values = pd.to_numeric(trials.tau_start).astype(float), up.astype(float)
        labels = ("tau_start", rule)
        found.append(_map(arm, labels, edges, values, trials, [start.log, False], names))
    return found


def _map(
    arm: str,
    labels: tuple[str, ...],
    edges: tuple[NDArray[np.float64], NDArray[np.float64]],
    values: tuple[pd.Series, pd.Series],
    trials: pd.DataFrame,
    logs: list[bool],
    choices: tuple[str, ...] = (),
) -> Map:
    points = pd.DataFrame(
        {"across": values[0], "up": values[1], "random": trials.random, "failed": trials.failed}
    )
    if len(points) > SHOWN:
        points = points.sample(SHOWN, random_state=np.random.default_rng(0))
    return Map(
        arm=arm, across=labels[0], up=labels[1], across_edges=edges[0], up_edges=edges[1],
        across_log=logs[0], up_log=logs[1], choices=choices, ordered=not choices,
        cells=cell_medians(*values, trials.loss_nats, *edges), points=points,
    )  # fmt: skip


def _bins(trials: int) -> int:
    """Return cells a side: some six trials a cell, were they spread evenly over half of the map."""
    return int(np.clip(round((trials / 3) ** 0.5), 3, 10))


def _edges(setting: SearchedSetting, bins: int) -> NDArray[np.float64]:
    low, high = float(setting.low or 0.0), float(setting.high or 0.0)
    space = np.geomspace if setting.log else np.linspace
    edges: NDArray[np.float64] = space(low, high, bins + 1)
    edges[0], edges[-1] = low, high  # geomspace may miss its ends by rounding
    return edges


def _finding(found: list[Map]) -> str:
    """Name the cell with the lowest median, and the highest, of those with trials enough."""
    cells: list[tuple[float, Any, Map]] = []
    for one in found:
        cell: Any
        for cell in one.cells[one.cells.n >= SUPPORT].itertuples():
            cells.append((cell.median_nats, cell, one))  # noqa: PERF401 - keeps the types
    held = sum(len(one.cells) for one in found)
    if not cells:
        return f"No cell holds {SUPPORT} trials: a median here is the luck of one or two."
    low, high = min(cells, key=lambda one: one[0]), max(cells, key=lambda one: one[0])
    if low[0] == high[0]:
        return (
            f"In this search {len(cells)} of {held} cells with trials hold {SUPPORT} or more, and "
            f"all of these have the median {low[0]:.2f} nats."
        )
    return (
        f"In this search, of cells with {SUPPORT} trials or more ({len(cells)} of {held}), the "
        f"lowest median is {low[0]:.2f} nats, of {_cell(low[1], low[2])}, the highest "
        f"{high[0]:.2f} nats, of {_cell(high[1], high[2])}."
    )


def _cell(cell: Any, one: Map) -> str:
    across = span(*one.across_edges[cell.column : cell.column + 2])
    if one.choices:
        up = f"{one.up} {one.choices[cell.row]}"
    else:
        up = f"{one.up} {span(*one.up_edges[cell.row : cell.row + 2])}"
    return f"{one.arm} with {one.across} {across} and {up} ({cell.n:,} trials)"
