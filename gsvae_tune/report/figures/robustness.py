"""How many configurations come near the best, and how much of a loss is the luck of a seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from gsvae_tune.report.figures import style
from gsvae_tune.report.figures.sensitivity import RASTER, grid_of, wrapped
from gsvae_tune.report.figures.style import ArmStyle
from gsvae_tune.search.ledger import RANDOM_STRATUM

_BARS: dict[str, dict[str, Any]] = {"between": {}, "within": {"hatch": "////"}}


def nearness(
    shares: pd.DataFrame, mark_nats: float, arms: Mapping[str, ArmStyle], caption: str
) -> Figure:
    """Draw the share of configurations within x nats of the best, a panel an arm, x logarithmic.

    Args:
        shares: arm, stratum (random or all), within_nats, share, low, high; a step a row. The band
            is drawn where low is known.
        mark_nats: where a line is drawn.
        arms: style of each.
        caption: under the figure.
    """
    names = list(dict.fromkeys(shares.arm))
    figure, panels, columns = grid_of(len(names), sharex=True, sharey=True)
    known = shares.within_nats[shares.within_nats > 0]
    low, high = min(float(known.min()), mark_nats) / 1.3, max(float(known.max()), mark_nats) * 1.2
    for place, (arm, axes) in enumerate(zip(names, panels, strict=True)):
        axes.axvline(mark_nats, color=style.GREY, linestyle=":", linewidth=1.0)
        for other in names:
            if other != arm:
                _steps(
                    axes, shares[shares.arm == other], low, high, {"color": "#a8a8a8"}, pale=True
                )
        _steps(axes, shares[shares.arm == arm], low, high, {"color": arms[arm].color}, pale=False)
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        axes.set_ylim(0, 1.02)
        style.log_ticks(axes)
        axes.set_title(wrapped(arm, columns))
        if place % columns == 0:
            axes.set_ylabel("share of configurations")
        if place >= len(names) - columns:
            axes.set_xlabel("nats above the best")
            axes.tick_params(labelbottom=True)
    _legend(figure, shares, others=len(names) > 1, mark_nats=mark_nats)
    style.caption(figure, caption)
    return figure


def _steps(
    axes: Axes, shares: pd.DataFrame, low: float, high: float, color: dict[str, Any], *, pale: bool
) -> None:
    """Draw an arm's steps from the left end of the axis to the right."""
    main = RANDOM_STRATUM if (shares.stratum == RANDOM_STRATUM).any() else "all"
    for stratum, steps in shares.groupby("stratum"):
        if pale and stratum != main:
            continue
        x = np.append(steps.within_nats.clip(lower=low), high)
        line = "-" if stratum == RANDOM_STRATUM else "--"
        share, below, above = (
            np.append(column, column.iloc[-1]) for column in (steps.share, steps.low, steps.high)
        )
        axes.step(x, share, where="post", linestyle=line, linewidth=1.0 if pale else 1.6, **color)
        if not pale and steps.low.notna().all():
            axes.fill_between(x, below, above, step="post", alpha=0.22, linewidth=0, **color)


def _legend(figure: Figure, shares: pd.DataFrame, *, others: bool, mark_nats: float) -> None:
    handles: list[Any] = []
    if (shares.stratum == RANDOM_STRATUM).any():
        handles += [
            Line2D([], [], color=style.BLACK, label="trials drawn at random"),
            Patch(facecolor=style.BLACK, alpha=0.22, label="95 % interval"),
        ]
    if (shares.stratum == "all").any():
        handles.append(Line2D([], [], color=style.BLACK, linestyle="--", label="all trials"))
    if others:
        handles.append(Line2D([], [], color="#a8a8a8", linewidth=1.0, label="the other arms"))
    handles.append(
        Line2D([], [], color=style.GREY, linestyle=":", linewidth=1.0, label=f"{mark_nats:g} nats")
    )
    figure.legend(handles=handles, loc="outside upper left", ncols=3, borderaxespad=0.0)


def spreads(
    trials: pd.DataFrame,
    components: pd.DataFrame,
    arms: Mapping[str, ArmStyle],
    caption: str,
) -> Figure:
    """Draw each trial's spread over its replicates against its mean, and both spreads by arm.

    Args:
        trials: arm, mean_nats, sd_nats, mean_beyond, sd_beyond: drawn at the edge of the axes.
        components: arm, between_nats, within_nats, robust_between_nats, robust_within_nats.
        arms: style of each.
        caption: under the figure.
    """
    rows = len(components)
    figure, grid = style.panels(1, 2, height=max(3.1, 1.7 + 0.3 * rows))
    _dots(grid[0, 0], trials, arms)
    axes = grid[0, 1]
    for place, row in enumerate(components.itertuples()):
        color = arms[str(row.arm)].color
        for kind, look in _BARS.items():
            y = place + (-0.17 if kind == "between" else 0.17)
            axes.barh(y, getattr(row, f"{kind}_nats"), height=0.3, edgecolor=color,
                      facecolor=color if kind == "between" else "white", **look)  # fmt: skip
            robust = getattr(row, f"robust_{kind}_nats")
            axes.plot([robust] * 2, [y - 0.2, y + 0.2], color=style.BLACK, linewidth=2.2)
    axes.set_yticks(range(rows), [wrapped(str(arm), 3) for arm in components.arm], fontsize=7.5)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("standard deviation (nats)")
    axes.set_title("by arm")
    axes.grid(visible=False, axis="y")
    _spread_legend(figure, trials, arms)
    style.caption(figure, caption)
    return figure


def _dots(axes: Axes, trials: pd.DataFrame, arms: Mapping[str, ArmStyle]) -> None:
    beyond = trials.mean_beyond | trials.sd_beyond
    size = 4.0 if len(trials) <= 600 else 2.0
    for arm, own in trials[~beyond].groupby("arm", sort=False):
        axes.plot(own.mean_nats, own.sd_nats, markersize=size, alpha=0.7, markeredgewidth=0.0,
                  rasterized=len(own) > RASTER, **arms[str(arm)].points)  # fmt: skip
    for arm, own in trials[beyond].groupby("arm", sort=False):
        axes.plot(own.mean_nats, own.sd_nats, linestyle="none", marker="*", markersize=8,
                  markerfacecolor="white", color=arms[str(arm)].color, clip_on=False)  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.set_xlabel("mean over replicates (nats)")
    axes.set_ylabel("standard deviation\nover replicates (nats)")
    axes.set_title("a dot a trial")


def _spread_legend(figure: Figure, trials: pd.DataFrame, arms: Mapping[str, ArmStyle]) -> None:
    plain: dict[str, Any] = {"linestyle": "none", "color": style.BLACK}
    grey: dict[str, Any] = {"edgecolor": style.GREY}
    handles: list[Any] = [
        Patch(facecolor=style.GREY, label="between configurations", **_BARS["between"], **grey),
        Patch(facecolor="white", label="over replicates (seeds)", **_BARS["within"], **grey),
        Line2D([], [], color=style.BLACK, linewidth=2.2, label="the same, from medians"),
    ]
    if (trials.mean_beyond | trials.sd_beyond).any():
        handles.append(
            Line2D(
                [],
                [],
                marker="*",
                markersize=8,
                markerfacecolor="white",
                label="beyond the axes",
                **plain,
            )
        )
    handles += [
        Line2D([], [], label=wrapped(arm, 3), **arms[arm].points)
        for arm in dict.fromkeys(trials.arm)
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=3, borderaxespad=0.0)
