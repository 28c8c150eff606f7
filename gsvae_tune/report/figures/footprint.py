"""Configurations of a search: a map of them, and each one's settings side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from gsvae_tune.report.figures import style
from gsvae_tune.report.figures.searching import LOSS, title
from gsvae_tune.report.figures.timeline import legend_above
from gsvae_tune.search.space import SearchedSetting

_FAILED = "#b2182b"


@dataclass(frozen=True)
class Footprint:
    """One arm's map."""

    arm: str
    places: NDArray[np.float64]  # (n, 2)
    losses: NDArray[np.float64]  # (n,) nats; NaN where the trial failed
    random: NDArray[np.bool_]  # (n,) of the random stratum
    confirmed: NDArray[np.bool_]  # (n,)


@dataclass(frozen=True)
class Parallel:
    """One arm's settings."""

    arm: str
    settings: Sequence[SearchedSetting]
    unit: pd.DataFrame  # (n, settings) from 0 to 1, NaN where switched off
    losses: NDArray[np.float64]  # (n,) nats; NaN where the trial failed
    best: NDArray[np.intp]  # places of the best, best first


def footprints(maps: Sequence[Footprint], colours: tuple[float, float], note: str) -> Figure:
    """Draw each arm's configurations on a map, coloured by loss.

    Args:
        maps: one an arm.
        colours: losses at the ends of the colour range, nats.
        note: what is said below.
    """
    columns = min(3, len(maps))
    rows = -(-len(maps) // columns)
    width = style.WIDTH if columns == 1 else style.WIDE
    figure, axes = style.panels(rows, columns, height=2.9 if columns > 1 else 4.2, width=width)
    norm = _norm(colours)
    for panel, one in zip(axes.flat, maps, strict=False):
        _map(panel, one, norm)
        title(panel, one.arm, (width - 0.6) / columns)
    for panel in axes.flat[len(maps) :]:
        panel.set_visible(False)
    axes[0, 0].set_ylabel("second axis of the map")
    axes[len(maps) // columns - 1, 0].set_xlabel("first axis of the map")
    _colour_bar(figure, axes, norm)
    drawn: dict[str, Any] = {"linestyle": "none", "color": style.GREY, "markeredgecolor": "white"}
    handles = [
        Line2D([], [], marker="s", **drawn, label="random trial"),
        Line2D([], [], marker="o", **drawn, label="sampler's trial"),
    ]
    if any(np.isnan(one.losses).any() for one in maps):
        handles.append(Line2D([], [], marker="x", linestyle="none", color=_FAILED, label="failed"))
    if any(one.confirmed.any() for one in maps):
        handles.append(
            Line2D([], [], marker="o", markersize=9, linestyle="none", markerfacecolor="none",
                   markeredgecolor=style.BLACK, label="confirmed")
        )  # fmt: skip
    handles.append(
        Line2D([], [], marker="*", markersize=10, linestyle="none", color="white",
               markeredgecolor=style.BLACK, label="best")
    )  # fmt: skip
    legend_above(figure, handles)
    style.caption(figure, note)
    return figure


def _map(panel: Axes, one: Footprint, norm: Normalize) -> None:
    x, y = one.places.T
    lost = np.isnan(one.losses)
    size = float(np.clip(6000 / len(x), 9, 34))
    for own, marker in ((one.random, "s"), (~one.random, "o")):
        kept = own & ~lost
        order = np.argsort(-one.losses[kept], kind="stable")  # the best on top
        panel.scatter(
            x[kept][order], y[kept][order], c=one.losses[kept][order], s=size, marker=marker,
            cmap=style.SEQUENTIAL, norm=norm, edgecolors="white", linewidths=0.4,
        )  # fmt: skip
    panel.plot(x[lost], y[lost], linestyle="none", marker="x", color=_FAILED, markersize=5)
    panel.plot(x[one.confirmed], y[one.confirmed], linestyle="none", marker="o", markersize=11,
               markerfacecolor="none", markeredgecolor=style.BLACK)  # fmt: skip
    best = int(np.nanargmin(one.losses))
    panel.plot(x[best], y[best], marker="*", markersize=13, color="white",
               markeredgecolor=style.BLACK)  # fmt: skip
    panel.set_aspect("equal", adjustable="datalim")
    panel.margins(0.08)


def parallels(arms: Sequence[Parallel], colours: tuple[float, float], note: str) -> Figure:
    """Draw each arm's settings, a line a trial from setting to setting, the best in front.

    Settings lie below each other, so that names and choices stay level; a line is broken where a
    setting is switched off.

    Args:
        arms: one an arm.
        colours: losses at the ends of the colour range, nats.
        note: what is said below.
    """
    sizes = [len(one.settings) for one in arms]
    heights = [0.36 * size + 0.45 for size in sizes]
    figure = Figure(figsize=(style.WIDE, sum(heights) + 0.9), layout="constrained")
    axes = np.asarray(
        figure.subplots(len(arms), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    )
    norm = _norm(colours)
    for panel, one in zip(axes.flat, arms, strict=True):
        _parallel(panel, one, norm)
        title(panel, one.arm, style.WIDE - 1.5)
    _colour_bar(figure, axes, norm)
    handles = [
        Line2D(
            [], [], color=style.BLACK, linewidth=2.6, marker="o", markersize=4, label="the best"
        ),
        Line2D([], [], color=style.GREY, linewidth=0.7, label="other trials"),
    ]
    if any(np.isnan(one.losses).any() for one in arms):
        handles.append(Line2D([], [], color=_FAILED, linewidth=0.8, linestyle=":", label="failed"))
    legend_above(figure, handles)
    style.caption(figure, note)
    return figure


def _parallel(panel: Axes, one: Parallel, norm: Normalize) -> None:
    import matplotlib as mpl

    x = _spread_choices(one)
    order = np.argsort(-np.nan_to_num(one.losses, nan=np.inf), kind="stable")
    best = set(one.best.tolist())
    others = [place for place in order if place not in best]
    colours = mpl.colormaps[style.SEQUENTIAL](norm(np.nan_to_num(one.losses, nan=norm.vmax or 0.0)))
    lost = np.isnan(one.losses)
    alpha = float(np.clip(20 / max(len(x), 1), 0.25, 0.7))
    _lines(panel, x, [p for p in others if not lost[p]], colours, linewidth=0.8, alpha=alpha)
    _lines(panel, x, [p for p in others if lost[p]], [_FAILED] * len(x), linewidth=0.8,
           linestyle=":")  # fmt: skip
    _lines(panel, x, one.best[::-1], [style.BLACK] * len(x), linewidth=2.8)
    _lines(panel, x, one.best[::-1], colours, linewidth=1.6)
    rows = np.arange(x.shape[1])
    for place in one.best[::-1]:
        panel.plot(x[place], rows, linestyle="none", marker="o", markersize=4.5,
                   color=colours[place], markeredgecolor=style.BLACK)  # fmt: skip
    _scales(panel, one.settings)


def _lines(
    panel: Axes, x: NDArray[np.float64], chosen: Sequence[int] | NDArray[np.intp], colours: Any,
    **look: Any,
) -> None:  # fmt: skip
    """Draw the chosen trials' lines; a part that touches a missing setting is left out."""
    from matplotlib.collections import LineCollection

    rows = np.arange(x.shape[1])
    parts, shades = [], []
    alone: list[tuple[float, int]] = []
    for place in chosen:
        known = ~np.isnan(x[place])
        both = known[:-1] & known[1:]
        lines = np.stack(
            [np.column_stack([x[place], rows])[:-1], np.column_stack([x[place], rows])[1:]], 1
        )
        parts += list(lines[both])
        shades += [colours[place]] * int(both.sum())
        linked = np.append(both, False) | np.insert(both, 0, False)
        alone += [(x[place][row], row) for row in rows[known & ~linked]]
    panel.add_collection(LineCollection(parts, colors=shades, rasterized=len(parts) > 2000, **look))
    if alone:
        panel.plot(*zip(*alone, strict=True), linestyle="none", marker=".", markersize=3,
                   color=style.GREY)  # fmt: skip


def _spread_choices(one: Parallel) -> NDArray[np.float64]:
    """Return places in which trials of the same choice lie beside each other, not in one line."""
    x = one.unit.to_numpy(copy=True)
    rng = np.random.default_rng(0)
    for column, setting in enumerate(one.settings):
        if setting.choices is not None:
            reach = 0.25 / max(len(setting.choices), 4)
            x[:, column] += rng.uniform(-reach, reach, len(x))
    return x


def _scales(panel: Axes, settings: Sequence[SearchedSetting]) -> None:
    rows = len(settings)
    panel.set_xlim(-0.1, 1.1)
    panel.set_ylim(rows - 0.35, -0.55)
    panel.set_yticks(range(rows), [setting.name for setting in settings])
    panel.set_xticks([])
    panel.grid(visible=False)
    panel.spines[["left", "bottom"]].set_visible(False)
    panel.tick_params(axis="y", length=0)
    panel.hlines(range(rows), 0, 1, color="#bbbbbb", linewidth=0.8, zorder=0.5)
    text: dict[str, Any] = {"fontsize": 6.5, "color": "#444444", "zorder": 4}
    text["bbox"] = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.6}
    for row, setting in enumerate(settings):
        if setting.choices is None:
            ends = (f"{setting.low:g}", f"{setting.high:g}{', log' if setting.log else ''}")
            panel.text(-0.012, row, ends[0], ha="right", va="center", **text)
            panel.text(1.012, row, ends[1], ha="left", va="center", **text)
            continue
        for place, choice in enumerate(setting.choices):
            at = place / (len(setting.choices) - 1) if len(setting.choices) > 1 else 0.5
            panel.text(at, row + 0.27, str(choice), ha="center", va="center", **text)


def _norm(colours: tuple[float, float]) -> Normalize:
    low, high = colours
    return Normalize(low, high) if high > low else Normalize(low - 0.5, low + 0.5)


def _colour_bar(figure: Figure, axes: NDArray[Any], norm: Normalize) -> None:
    from matplotlib.cm import ScalarMappable

    bar = figure.colorbar(
        ScalarMappable(norm, style.SEQUENTIAL),
        ax=axes,
        extend="max",
        label=LOSS,
        pad=0.02,
        shrink=min(0.8, 3.0 / figure.get_figheight()),
        aspect=20,
        anchor=(0.0, 0.9),
    )
    bar.outline.set_visible(False)
