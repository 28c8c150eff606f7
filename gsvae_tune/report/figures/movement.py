"""Drawing how temperatures moved over the trials of a search, and what decided it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from gsvae_tune.report.figures import style
from gsvae_tune.report.figures.style import ArmStyle
from gsvae_tune.report.figures.traces import B_HATCH, CROWDED

FEW = 60  # columns, of which each can be told from its neighbours


@dataclass(frozen=True)
class Measure:
    """One number a trial, for each arm."""

    label: str  # of the axis, with its unit
    trials: Mapping[str, pd.Series]  # of each arm; NaN: not defined for it
    quartiles: Mapping[str, tuple[float, float, float]]
    absent: str  # what is written where an arm has none
    ends: tuple[float, float] | None = None  # of the axis


@dataclass(frozen=True)
class EventPanel:
    """One arm's events, trials (or groups of neighbours) from best to worst."""

    title: str
    style: ArmStyle
    edges: Sequence[float]  # of the trials' columns, one more than there are
    shares: pd.DataFrame  # one row a column, one column an event
    failed: float | None  # from where on trials failed


def strips(measures: Sequence[Measure], styles: Mapping[str, ArmStyle], note: str) -> Figure:
    """Draw each measure's distribution over the trials, arms from top to bottom."""
    arms = list(measures[0].trials)
    figure, axes = style.panels(
        -(-len(measures) // 2), 2, height=max(1.5, 0.75 + 0.33 * len(arms)), sharey=True
    )
    rng = np.random.default_rng(0)
    for measure, ax in zip(measures, axes.flat, strict=True):
        for place, arm in enumerate(arms):
            values = measure.trials[arm].dropna().to_numpy()
            if not values.size:
                ax.text(0.015, place, measure.absent, fontsize=8, color=style.GREY, va="center",
                        transform=ax.get_yaxis_transform())  # fmt: skip
                continue
            ax.plot(values, place + rng.uniform(-0.36, 0.04, values.size), **styles[arm].points,
                    markersize=3.5, alpha=0.5, markeredgewidth=0,
                    rasterized=values.size > CROWDED)  # fmt: skip
            _quartile_mark(ax, place + 0.25, *measure.quartiles[arm])
        ax.set(xlabel=measure.label, yticks=range(len(arms)), yticklabels=arms)
        ax.set_ylim(len(arms) - 0.5, -0.5)
        ax.grid(visible=False, axis="y")
        ax.tick_params(axis="y", length=0)
        if measure.ends:
            room = 0.03 * (measure.ends[1] - measure.ends[0])
            ax.set_xlim(measure.ends[0] - room, measure.ends[1] + room)
    style.caption(figure, note)
    return figure


def decisions(panels: Sequence[EventPanel], note: str) -> Figure:
    """Draw what became of each trial's epochs, as shares that fill its column."""
    figure, axes = style.panels(len(panels), 1, height=2.6, width=style.WIDE)
    for panel, ax in zip(panels, axes[:, 0], strict=True):
        base = np.zeros(len(panel.shares))
        for event, (_, look) in _events(panel.style.color).items():
            if event in panel.shares:
                top = base + panel.shares[event].to_numpy()
                ax.stairs(100 * top, panel.edges, baseline=100 * base, fill=True, linewidth=0.4,
                          **look)  # fmt: skip
                base = top
        if len(panel.shares) <= FEW:
            ax.vlines(panel.edges[1:-1], 0, 100, color="white", linewidth=1.0)
        if panel.failed is not None:
            ax.axvline(panel.failed, color=style.BLACK, linewidth=1.6)
            ax.annotate("failed", (panel.failed, 1), xycoords=("data", "axes fraction"),
                        xytext=(2, 2), textcoords="offset points", fontsize=8)  # fmt: skip
        ax.set(xlim=(panel.edges[0], panel.edges[-1]), ylim=(0, 100), title=panel.title,
               xlabel="trials, from best to worst", ylabel="epochs (%)")  # fmt: skip
        ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        ax.grid(visible=False)
    color = panels[0].style.color if len(panels) == 1 else style.GREY
    handles = [Patch(label=label, **({"edgecolor": style.GREY} | look), linewidth=0.4)
               for label, look in _events(color).values()]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper left", ncols=3)
    style.caption(figure, note)
    return figure


def _quartile_mark(ax: Axes, place: float, low: float, median: float, high: float) -> None:
    """Draw the middle half as a bar, the median as a stroke."""
    ax.plot([low, high], [place, place], color=style.BLACK, linewidth=2.0, solid_capstyle="butt")
    ax.plot([median], [place], linestyle="none", marker="|", markersize=8, color=style.BLACK,
            markeredgewidth=2.2)  # fmt: skip


def _events(color: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return each event of a pair with its name and look, from the bottom up."""
    hatched = {"facecolor": "white", "edgecolor": style.BLACK}
    return {
        "A_WON": ("decided: a's loss was lower", {"facecolor": color}),
        "B_WON": ("decided: b's loss was lower", hatched | {"hatch": B_HATCH}),
        "COLLAPSED": ("no signal: both cooled", {"facecolor": "#E69F00", "hatch": "..."}),
        "TIE": ("tie: each moved by its own rule", {"facecolor": "#bdbdbd"}),
        "WAITED": ("waited between decisions", {"facecolor": "#f4f4f4"}),
    }
