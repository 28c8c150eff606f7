"""Curves of a search: the best so far, the best to expect, and what early losses tell.

Every function takes tidy frames, as the module of the same subject in `estimates` returns them, and
the arms' styles, and returns a figure. Nothing is worked out here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gsvae_tune.report.figures import style
from gsvae_tune.report.figures.timeline import legend_above, time_unit

Styles = Mapping[str, style.ArmStyle]

BANDS = 4  # arms whose bands can still be told apart in one panel
MANY = 300  # trials from which on an axis is logarithmic: most improvements come early
LOSS = "val. negative ELBO, nats"


def anytime(
    improvements: pd.DataFrame, ends: pd.DataFrame, least: Mapping[str, float], styles: Styles,
    note: str,
) -> Figure:  # fmt: skip
    """Draw the best value so far over trials, time and device time.

    Args:
        improvements: as `anytime.improvements` returns it; no panel of a column that is all NaN.
        ends: as `anytime.random_ends` returns it.
        least: by column, what the most frugal arm spent in all.
        styles: of the arms, in order.
        note: what is said below.
    """
    timed = improvements.elapsed_s.notna().any()
    columns = ["ended", "elapsed_s", "spent_s"] if timed else ["ended", "spent_s"]
    figure, axes = style.panels(1, len(columns), height=3.0, width=style.WIDE, sharey=True)
    many = improvements.ended.max() > MANY
    for panel, column in zip(axes[0], columns, strict=True):
        scale = 1.0 if column == "ended" else _label_time(panel, improvements[column], column)
        for arm in _present(styles, improvements):
            own = improvements[improvements.arm == arm]
            _steps(panel, own[column] / scale, own, styles[arm])
            end = ends[ends.arm == arm]
            panel.plot(end[column] / scale, end.best_nats, marker="|", markersize=13,
                       markeredgewidth=1.8, color=styles[arm].color, linestyle="none")  # fmt: skip
        if column in least:
            panel.axvline(least[column] / scale, color=style.GREY, linestyle=(0, (1, 1.5)))
        if many and improvements[column].min() > 0:
            panel.set_xscale("log")
            style.log_ticks(panel)
        else:
            panel.set_xlim(left=0)
    if not many:
        axes[0, 0].xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].set_xlabel("trials that have ended")
    axes[0, 0].set_ylabel(f"best so far:\n{LOSS}")
    _first_values_cut(axes[0, 0], improvements)
    marks = [
        Line2D([], [], color=style.GREY, marker="|", markersize=11, linestyle="none",
               markeredgewidth=1.8, label="random trials end"),
        Line2D([], [], color=style.GREY, linestyle=(0, (1, 1.5)), label="equal compute"),
    ]  # fmt: skip
    arm_legend(figure, _present(styles, improvements), styles, marks[0 if len(ends) else 1 :])
    style.caption(figure, note)
    return figure


def _steps(panel: Axes, x: pd.Series, own: pd.DataFrame, drawn: style.ArmStyle) -> None:
    panel.step(x, own.best_nats, where="post", **drawn.curve)
    better = own.improved
    if better.sum() <= 40:
        panel.plot(x[better], own.best_nats[better], **drawn.points, markersize=4)
    panel.plot(x.iloc[-1:], own.best_nats.iloc[-1:], **drawn.points, markersize=6,
               markeredgecolor="white", markeredgewidth=0.8)  # fmt: skip


def _label_time(panel: Axes, seconds: pd.Series, column: str) -> float:
    scale, name = time_unit(float(seconds.max()))
    what = "since the search began" if column == "elapsed_s" else "device time spent"
    panel.set_xlabel(f"{what}, {name}")
    return scale


def _first_values_cut(panel: Axes, improvements: pd.DataFrame) -> None:
    """Leave what only an arm's first trials gave above the panel: the rest would be a flat line."""
    lowest = improvements.best_nats.min()
    early = improvements[improvements.ended <= max(1.0, 0.1 * improvements.ended.max())]
    highest = early.groupby("arm").best_nats.min().median()
    highest = max(highest, improvements.groupby("arm").best_nats.min().max())
    if highest > lowest:
        margin = 0.06 * (highest - lowest)
        panel.set_ylim(lowest - margin, highest + margin)


def expected(curves: pd.DataFrame, styles: Styles, note: str) -> Figure:
    """Draw the expected best of n random trials, over n and over device time.

    Args:
        curves: as `expected.expected_curves` returns it.
        styles: of the arms, in order.
        note: what is said below.
    """
    timed = curves.device_s.notna().any()
    width = style.WIDE if timed else style.WIDTH
    figure, axes = style.panels(1, 2 if timed else 1, height=3.1, width=width, sharey=True)
    arms = _present(styles, curves)
    scale, name = time_unit(float(curves.device_s.max())) if timed else (1.0, "")
    for panel, column, unit in zip(axes[0], ["trials", "device_s"], [1.0, scale], strict=False):
        for arm in arms:
            own = curves[curves.arm == arm]
            x = own[column] / unit
            panel.plot(x, own.with_nats, **styles[arm].curve)
            panel.plot(x, own.without_nats, **styles[arm].curve, linewidth=0.7, alpha=0.9)
            _marked(panel, x, own.with_nats, styles[arm])
            if len(arms) <= BANDS:
                panel.fill_between(
                    x, own.low_nats, own.high_nats, color=styles[arm].color, alpha=0.13, linewidth=0
                )
        if curves.trials.max() > 40:
            panel.set_xscale("log")
            style.log_ticks(panel)
        else:
            panel.xaxis.get_major_locator().set_params(integer=column == "trials")
    axes[0, 0].set_xlabel("random trials, n")
    axes[0, -1].set_xlabel(f"device time of n trials, {name}" if timed else "random trials, n")
    axes[0, 0].set_ylabel(f"expected best of n:\n{LOSS}")
    kinds = [
        Line2D([], [], color=style.GREY, label="with replacement"),
        Line2D([], [], color=style.GREY, linewidth=0.7, label="without replacement"),
    ]
    arm_legend(figure, arms, styles, kinds)
    style.caption(figure, note)
    return figure


def fidelity(curves: pd.DataFrame, styles: Styles, note: str) -> Figure:
    """Draw how well losses at an epoch order the trials, and what choosing there costs.

    Args:
        curves: as `fidelity.proxy_curves` returns it.
        styles: of the arms, in order.
        note: what is said below.
    """
    figure, axes = style.panels(1, 2, height=3.0)
    left, right = axes[0]
    arms = _present(styles, curves)
    for arm in arms:
        own = curves[curves.arm == arm]
        left.plot(own.epoch, own.correlation, **styles[arm].curve)
        _marked(left, own.epoch, own.correlation, styles[arm])
        if len(arms) <= BANDS:
            left.fill_between(own.epoch, own.low, own.high, color=styles[arm].color, alpha=0.13,
                              linewidth=0)  # fmt: skip
        right.plot(own.epoch, own.regret_nats, **styles[arm].curve)
        _marked(right, own.epoch, own.regret_nats, styles[arm])
    for panel in (left, right):
        panel.set_xlabel("epoch")
        if curves.epoch.max() > 10:
            panel.set_xscale("log")
            style.log_ticks(panel)
    left.axhline(0, color=style.GREY, linewidth=0.8)
    left.set_ylim(max(-1.05, min(-0.05, _lowest(curves, len(arms) <= BANDS) - 0.05)), 1.05)
    left.set_ylabel("rank correlation\nwith the final loss")
    right.set_ylabel("lost by choosing\nat this epoch, nats")
    right.set_ylim(bottom=0)
    if not curves.regret_nats.max() > 0:
        right.set_ylim(0, 1)
    arm_legend(figure, arms, styles)
    style.caption(figure, note)
    return figure


def _lowest(curves: pd.DataFrame, bands: bool) -> float:
    values = curves[["correlation", "low"] if bands else ["correlation"]].to_numpy()
    return float(np.nanmin(values)) if np.isfinite(values).any() else 0.0


def selection(
    confirmed: pd.DataFrame, stability: pd.DataFrame, styles: Styles, note: str
) -> Figure:
    """Draw each confirmed configuration's selected score beside what fresh seeds give.

    Args:
        confirmed: as `selection.confirmations` returns it; at least one with a mean.
        stability: as `selection.stability` returns it.
        styles: of the arms, in order.
        note: what is said below.
    """
    arms = _present(styles, confirmed)
    columns = min(4, len(arms))
    rows = -(-len(arms) // columns)
    width = style.WIDTH if columns < 3 else style.WIDE
    figure, axes = style.panels(rows, columns, height=2.7, width=width, sharey=True, sharex=True)
    told = stability.set_index("arm")
    for panel, arm in zip(axes.flat, arms, strict=False):
        own = confirmed[confirmed.arm == arm]
        for place, row in enumerate(own.itertuples()):
            _slope(panel, row, 1 + 0.09 * place, styles[arm], best=place == 0)
        title(panel, arm, width / columns)
        panel.set_xticks([0, 1 + 0.045 * (len(own) - 1)], ["search", "fresh seeds"])
        panel.tick_params(labelbottom=arm in arms[-columns:])
        tau, curse = told.tau_b[arm], told.curse_nats[arm]
        text = "" if np.isnan(curse) else f"{curse:+.3f} nats"
        scored = told.configurations[arm] - told.failed[arm]
        text += "" if np.isnan(tau) else f"\ntau-b {tau:.2f} (n {scored})"
        panel.text(0.03, 0.97, text, transform=panel.transAxes, va="top", fontsize=8)
    widest = int(confirmed.groupby("arm").size().max())
    axes[0, 0].set_xlim(-0.25, 1.25 + 0.09 * (widest - 1))
    _headroom(axes[0, 0], confirmed)
    for panel in axes.flat[len(arms) :]:
        panel.set_visible(False)
    for row in axes:
        row[0].set_ylabel("validation\nnegative ELBO, nats")
    style.caption(figure, note)
    return figure


def _slope(panel: Axes, row: Any, at: float, drawn: style.ArmStyle, *, best: bool) -> None:
    color = drawn.color
    if not np.isfinite(row.again_nats):
        panel.plot([0], [row.selected_nats], marker="X", markersize=8, color=color)
        return
    panel.plot([0, at], [row.selected_nats, row.again_nats], color=color,
               linewidth=2.2 if best else 1.0, marker=drawn.marker, markersize=5.5,
               markerfacecolor="white" if row.failed else color)  # fmt: skip
    panel.plot([at, at], [row.low_nats, row.high_nats], color=color, linewidth=1.2, alpha=0.75)


def _headroom(panel: Axes, confirmed: pd.DataFrame) -> None:
    """Leave a quarter of the height free for the numbers written at the top."""
    drawn = confirmed[["selected_nats", "again_nats", "low_nats", "high_nats"]].to_numpy()
    drawn = drawn[np.isfinite(drawn)]
    low, high = drawn.min(), drawn.max()
    reach = (high - low) or 0.1
    panel.set_ylim(low - 0.06 * reach, high + 0.38 * reach)


def title(panel: Axes, name: str, width: float) -> None:
    """Set a panel's title, smaller where the name is long, and cut where it is longer still.

    Args:
        panel: the axes.
        name: the title.
        width: of the panel with its margins, inches.
    """
    room = (width - 0.55) * 72
    size = float(np.clip(room / (0.6 * len(name)), 6.5, 9.5))
    fits = int(room / (0.6 * size))
    panel.set_title(name if len(name) <= fits else name[: fits - 1] + "…", fontsize=size)


def arm_legend(
    figure: Figure, arms: Iterable[str], styles: Styles, more: Iterable[Line2D] = ()
) -> None:
    """Set the arms' legend above the panels, in as many columns as there is room for."""
    handles = [
        Line2D([], [], **styles[arm].curve, marker=styles[arm].marker, markersize=5, label=arm)
        for arm in arms
    ]
    handles += list(more)
    legend_above(figure, handles)


def _marked(panel: Axes, x: pd.Series, y: pd.Series, drawn: style.ArmStyle) -> None:
    every = max(1, len(x) // 8)
    panel.plot(x[::every], y[::every], **drawn.points, markersize=4)


def _present(styles: Styles, frame: pd.DataFrame) -> list[str]:
    seen = set(frame.arm)
    return [arm for arm in styles if arm in seen]
