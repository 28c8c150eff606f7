"""How the loss of trials hangs on tau's settings: curves, strips of choices, two-way maps.

Frames that several functions take, a row each:

    panels   arm, setting, label, log, low, high: what stands in which panel, in order
    points   arm, setting, at (a number, or the choice), loss_nats, random, failed, beyond

Losses are drawn as they are given: `beyond` marks those that were cut at the top of the axis.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from gsvae_tune.report.figures import style
from gsvae_tune.report.figures.style import ArmStyle
from gsvae_tune.search.ledger import RANDOM_STRATUM

LOSS = "validation loss (nats)"
RASTER = 2_000  # points of one artist
UP, RIGHT = mpl.markers.CARETUP, mpl.markers.CARETRIGHT  # of losses beyond the axis


@dataclass(frozen=True)
class Map:
    """One two-way map: medians of cells, with the trials on top."""

    arm: str
    across: str  # label
    up: str  # label
    across_edges: NDArray[np.float64]
    up_edges: NDArray[np.float64]
    across_log: bool
    up_log: bool
    choices: tuple[str, ...]  # what stands upward: choices, the first lowest; empty: numbers
    ordered: bool  # what stands upward is never below what stands across
    cells: pd.DataFrame  # column, row, n, median_nats
    points: pd.DataFrame  # across, up, random, failed


def marginals(
    panels: pd.DataFrame,
    points: pd.DataFrame,
    curves: pd.DataFrame,
    ranges: pd.DataFrame,
    arms: Mapping[str, ArmStyle],
    caption: str,
) -> Figure:
    """Draw trials against a numeric setting, a panel each, all with one loss axis.

    Args:
        panels: see the module.
        points: see the module.
        curves: arm, setting, stratum (random or all), stretch (points joined by a line), at,
            loss_nats, low_nats, high_nats.
        ranges: arm, setting, stratum, near_low, near_high, possible_low, possible_high.
        arms: style of each.
        caption: under the figure.
    """
    figure, grid, columns = grid_of(len(panels), sharey=True)
    limits = _limits(points.loss_nats)
    panel: Any
    row: Any
    for place, (panel, axes) in enumerate(zip(panels.itertuples(), grid, strict=True)):
        own = [_of(frame, panel) for frame in (points, curves, ranges)]
        drawn = arms[panel.arm]
        _curves(axes, own[1], drawn)
        _trials(axes, own[0]["at"].astype(float), own[0].loss_nats, own[0], drawn, UP)
        for row in own[2].itertuples():
            bar: dict[str, Any] = {
                "transform": axes.get_xaxis_transform(), "solid_capstyle": "butt",
                "color": style.BLACK if row.stratum == RANDOM_STRATUM else style.GREY,
            }  # fmt: skip
            axes.plot([row.possible_low, row.possible_high], [0.03, 0.03], linewidth=1.0, **bar)
            axes.plot([row.near_low, row.near_high], [0.03, 0.03], linewidth=4.0, **bar)
        _number_axis(axes, panel)
        axes.set_ylim(*limits)
        axes.set_title(wrapped(panel.arm, columns))
        if place % columns == 0:
            axes.set_ylabel(LOSS)
    _legend(figure, points, curves.stratum.unique(), "mean near it, 95 % interval", bars=ranges)
    style.caption(figure, caption)
    return figure


def strips(
    panels: pd.DataFrame,
    points: pd.DataFrame,
    medians: pd.DataFrame,
    arms: Mapping[str, ArmStyle],
    caption: str,
) -> Figure:
    """Draw trials by choice, a panel for each setting, all with one loss axis.

    Args:
        panels: see the module; and choices, a tuple of names.
        points: see the module.
        medians: arm, setting, stratum (random or all), choice, median_nats, low_nats, high_nats.
        arms: style of each.
        caption: under the figure.
    """
    columns = min(2, len(panels))
    tall = [len(choices) for choices in panels.choices]
    rows = [max(tall[start : start + columns]) for start in range(0, len(tall), columns)]
    height = (0.5 * sum(rows) + 0.75 * len(rows) + 0.8) / len(rows)
    figure, grid, _ = grid_of(len(panels), columns, height=height, height_ratios=rows, sharex=True)
    limits = _limits(points.loss_nats)
    panel: Any
    row: Any
    for place, (panel, axes) in enumerate(zip(panels.itertuples(), grid, strict=True)):
        choices: Any = panel.choices
        own = _of(points, panel)
        spot = own["at"].map({name: row for row, name in enumerate(choices)}).astype(float)
        jitter = np.random.default_rng(0).uniform(-0.18, 0.18, len(own))
        _trials(axes, own.loss_nats, spot + jitter - 0.08, own, arms[panel.arm], RIGHT)
        for row in _of(medians, panel).itertuples():
            _median(axes, choices.index(row.choice), row)
        axes.set_ylim(len(choices) - 0.4, -0.6)
        axes.set_yticks(range(len(choices)), choices)
        axes.grid(visible=False, axis="y")
        axes.set_xlim(*limits)
        axes.set_title(wrapped(f"{panel.arm}: {panel.setting}", 3))
        if place >= len(panels) - columns:
            axes.set_xlabel(LOSS)
            axes.tick_params(labelbottom=True)
    _legend(figure, points, medians.stratum.unique(), "median, 95 % interval", marks=True)
    style.caption(figure, caption)
    return figure


def maps(found: list[Map], high_nats: float, arms: Mapping[str, ArmStyle], caption: str) -> Figure:
    """Draw two-way maps side by side, with one colour scale; cells without trials are hatched.

    Args:
        found: a panel each.
        high_nats: top of the colour scale.
        arms: style of each, whose marker the trials have.
        caption: under the figure.
    """
    figure, grid, columns = grid_of(len(found), height=2.9 if len(found) > 1 else 3.6)
    medians = pd.Series([value for one in found for value in one.cells.median_nats])
    low = float(medians.min())
    scale = mpl.colors.Normalize(low, high_nats if high_nats > low else low + 1e-6)
    for one, axes in zip(found, grid, strict=True):
        drawn = _cells(axes, one, scale)
        _over_map(axes, one, arms[one.arm])
        if one.across_log:
            axes.set_xscale("log")
        if one.up_log:
            axes.set_yscale("log")
        axes.set_xlim(one.across_edges[0], one.across_edges[-1])
        axes.set_ylim(one.up_edges[0], one.up_edges[-1])
        if one.across_log:
            style.log_ticks(axes)
        if one.up_log:
            style.log_ticks(axes, "y")
        if one.choices:
            axes.set_yticks(np.arange(len(one.choices)) + 0.5, one.choices)
        axes.set(xlabel=one.across, ylabel=one.up, title=wrapped(one.arm, columns + 1))
        axes.grid(visible=False)
    figure.colorbar(
        drawn, ax=list(grid), label="median loss (nats), lower is better", aspect=30,
        extend="max" if (medians > high_nats).any() else "neither",
    )  # fmt: skip
    every = pd.concat([one.points for one in found])
    hatched = Patch(facecolor="white", edgecolor=style.GREY, hatch="////", label="no trial")
    _legend(figure, every, [], "", more=[hatched])
    style.caption(figure, caption)
    return figure


def wrapped(name: str, columns: int) -> str:
    """Return a title broken into lines that fit a panel."""
    return "\n".join(textwrap.wrap(name, {1: 66, 2: 44}.get(columns, 29)))


def grid_of(
    count: int, columns: int | None = None, *, height: float = 2.3, **more: Any
) -> tuple[Figure, list[Axes], int]:
    """Return a figure with so many panels in a grid, the panels, and how many stand in a row.

    Args:
        count: of panels; places left over in the last row stay empty.
        columns: panels in a row; default: what fits.
        height: of a row, inches.
        more: of `Figure.subplots`.
    """
    columns = columns or {1: 1, 2: 2, 4: 2}.get(count, 3)
    rows = -(-count // columns)
    room = height if "height_ratios" in more else height + 1.0 / rows  # legend and caption
    figure, grid = style.panels(rows, columns, height=room, **more)
    axes = list(grid.flat)
    for spare in axes[count:]:
        figure.delaxes(spare)
    return figure, axes[:count], columns


def _of(frame: pd.DataFrame, panel: Any) -> pd.DataFrame:
    own: pd.DataFrame = frame[(frame.arm == panel.arm) & (frame.setting == panel.setting)]
    return own


def _limits(losses: pd.Series) -> tuple[float, float]:
    """Return the ends of the loss axis, with room for the bar below and the marks at the edge."""
    low, high = float(losses.min()), float(losses.max())
    room = high - low if high > low else 1.0
    return low - 0.12 * room, high + 0.06 * room


def _number_axis(axes: Axes, panel: Any) -> None:
    low, high = panel.low, panel.high
    if panel.log:
        axes.set_xscale("log")
        edge = (high / low) ** 0.03
        axes.set_xlim(low / edge, high * edge)
        style.log_ticks(axes)
        if low < 0.01 and high / low > 20:  # labels so long that only decades have room
            axes.xaxis.set_major_locator(mpl.ticker.LogLocator())
    else:
        axes.set_xlim(low - 0.03 * (high - low), high + 0.03 * (high - low))
        axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel(panel.label)


def _curves(axes: Axes, curves: pd.DataFrame, drawn: ArmStyle) -> None:
    """Draw the curve of the random trials solid, that of all trials dashed and grey."""
    for (stratum, _), curve in curves.groupby(
        ["stratum", "stretch"]
    ):  # all first, so that random lies on top
        random = stratum == RANDOM_STRATUM
        color = drawn.color if random else style.GREY
        place = curve["at"].to_numpy()
        axes.fill_between(
            place, curve.low_nats.to_numpy(), curve.high_nats.to_numpy(), color=color,
            alpha=0.25 if random else 0.2, linewidth=0,
        )  # fmt: skip
        axes.plot(place, curve.loss_nats, color=color, linestyle="-" if random else "--")


def _trials(
    axes: Axes, x: pd.Series, y: pd.Series, trials: pd.DataFrame, drawn: ArmStyle, arrow: Any
) -> None:
    """Draw trials: filled where drawn at random, arrows where cut at the edge, crosses failed."""
    size = 4.5 if len(trials) <= 100 else 3.0 if len(trials) <= 300 else 1.8
    plain: dict[str, Any] = {
        "color": drawn.color, "linestyle": "none", "markeredgewidth": 0.8 if size > 2 else 0.5,
        "alpha": 0.85 if size > 2 else 0.5,
    }  # fmt: skip
    kinds = [
        (~trials.failed & ~trials.beyond, drawn.marker, size),
        (trials.beyond & ~trials.failed, arrow, 6.0),
        (trials.failed, "x", 5.5),
    ]
    for kind, marker, wide in kinds:
        for random in (False, True):
            chosen = kind & (trials.random == random)
            if not chosen.any():
                continue  # the layout would make room for an empty unclipped line, in a corner
            face: dict[str, Any] = {} if random or marker == "x" else {"markerfacecolor": "white"}
            axes.plot(
                x[chosen], y[chosen], marker=marker, markersize=wide, clip_on=False,
                rasterized=int(chosen.sum()) > RASTER, **face, **plain,
            )  # fmt: skip


def _median(axes: Axes, place: int, row: Any) -> None:
    """Draw one median with its interval, under the trials of its choice."""
    random = row.stratum == RANDOM_STRATUM
    y = place + (0.2 if random else 0.38)
    color = style.BLACK if random else style.GREY
    axes.plot([row.low_nats, row.high_nats], [y, y], color=color, linewidth=2.2 if random else 1.4)
    axes.plot(
        row.median_nats, y, marker="D", markersize=4.5, color=color,
        markerfacecolor=color if random else "white",
    )  # fmt: skip


def _cells(axes: Axes, one: Map, scale: Any) -> Any:
    """Draw the cells of a map and return what a colour bar needs."""
    shape = (one.up_edges.size - 1, one.across_edges.size - 1)
    values = np.full(shape, np.nan)
    values[one.cells.row, one.cells.column] = one.cells.median_nats
    for row, column in np.argwhere(np.isnan(values)):
        if one.ordered and one.up_edges[row + 1] <= one.across_edges[column]:
            continue  # no configuration lies there
        box = one.across_edges[column : column + 2], one.up_edges[row : row + 2]
        axes.fill_between(
            box[0], *box[1], facecolor="none", edgecolor=style.PALE, hatch="////", linewidth=0.0
        )
    shown = np.ma.masked_invalid(values)
    return axes.pcolormesh(
        one.across_edges, one.up_edges, shown, cmap=style.SEQUENTIAL, norm=scale, linewidth=0.5,
        edgecolor="white",
    )  # fmt: skip


def _over_map(axes: Axes, one: Map, drawn: ArmStyle) -> None:
    """Draw the trials over a map, white-edged, and the line that none can cross."""
    trials = one.points
    for random in (False, True):
        chosen = trials[(trials.random == random) & ~trials.failed]
        axes.plot(
            chosen.across, chosen.up, linestyle="none", marker=drawn.marker, markersize=4.2,
            markerfacecolor="black" if random else "white",
            markeredgecolor="white" if random else "black", markeredgewidth=0.7,
            clip_on=chosen.empty,
        )  # fmt: skip
    failed = trials[trials.failed]
    axes.plot(
        failed.across, failed.up, linestyle="none", marker="X", markersize=6.5, color="white",
        markeredgecolor="black", markeredgewidth=0.7,
    )  # fmt: skip
    if one.ordered:
        ends = [max(one.across_edges[0], one.up_edges[0]), one.across_edges[-1]]
        axes.plot(ends, ends, color=style.BLACK, linewidth=1.0, linestyle=":")


def _legend(
    figure: Figure,
    points: pd.DataFrame,
    strata: Iterable[str],
    curve: str,
    *,
    bars: pd.DataFrame | None = None,
    marks: bool = False,
    more: list[Any] | None = None,
) -> None:
    """Explain, above all panels, only what the figure holds."""
    ended = ~points.failed
    beyond = points.get("beyond", pd.Series(False, index=points.index))
    known = {"linestyle": "none", "color": style.BLACK, "markersize": 5}
    handles: list[Any] = []
    if (ended & points.random).any():
        handles.append(Line2D([], [], marker="o", label="trial drawn at random", **known))  # type: ignore[arg-type]
    if (ended & ~points.random).any():
        handles.append(
            Line2D([], [], marker="o", markerfacecolor="white", label="the sampler's", **known)  # type: ignore[arg-type]
        )
    if (ended & beyond).any():
        marker = RIGHT if marks else UP
        handles.append(Line2D([], [], marker=marker, label="beyond the axis", **known))  # type: ignore[arg-type]
    if points.failed.any():
        handles.append(Line2D([], [], marker="x", label="failed", **known))  # type: ignore[arg-type]
    handles += [_curve_handle(one, curve, marks=marks) for one in sorted(strata, reverse=True)]
    if bars is not None and len(bars):
        handles.append(Line2D([], [], color=style.BLACK, linewidth=4, label="near its lowest"))
        handles.append(Line2D([], [], color=style.BLACK, linewidth=1, label="not ruled out"))
    figure.legend(
        handles=[*handles, *(more or [])], loc="outside upper left", ncols=3, columnspacing=1.4,
        handletextpad=0.5, borderaxespad=0.0,
    )  # fmt: skip


def _curve_handle(stratum: str, curve: str, *, marks: bool) -> Line2D:
    random = stratum == RANDOM_STRATUM
    color = style.BLACK if random else style.GREY
    look: dict[str, Any] = {"color": color, "linestyle": "-" if random or marks else "--"}
    if marks:
        look |= {"marker": "D", "markersize": 4.5, "markerfacecolor": color if random else "white"}
    return Line2D([], [], label=f"{'random' if random else 'all'}: {curve}", **look)
