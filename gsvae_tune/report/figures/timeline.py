"""What ran when: a bar for each trial in its slot, or how many ran at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from gsvae_tune.report.figures import style

Styles = Mapping[str, style.ArmStyle]

SLOTS = 64  # rows of bars that can still be told apart
FEW = 600  # trials up to which bars have an edge and, where wide enough, their arm's marker
_HATCH = "////"


def time_unit(longest_s: float) -> tuple[float, str]:
    """Return the seconds of the unit in which so long a time is best read, and its name."""
    if longest_s > 4 * 3600:
        return 3600.0, "hours"
    return (60.0, "minutes") if longest_s > 300 else (1.0, "seconds")


def timeline(timed: pd.DataFrame, styles: Styles, note: str) -> Figure:
    """Draw a bar for each trial, a row each slot.

    Args:
        timed: as `timeline.intervals` returns it, at most SLOTS slots.
        styles: of the arms, in order.
        note: what is said below.
    """
    slots = int(timed.slot.max()) + 1
    height = float(np.clip(0.28 * slots, 0.8, 5.0)) + 1.3
    figure, axes = style.panels(1, 1, height=height, width=style.WIDE)
    panel = axes[0, 0]
    scale, unit = time_unit(float(timed.end_s.max()))
    for arm in styles:
        for phase in ("search", "confirm"):
            own = timed[(timed.arm == arm) & (timed.phase == phase)]
            if len(own):
                _bars(panel, own, scale, styles[arm], few=len(timed) <= FEW)
    lost = timed[timed.state == "failed"]
    if len(lost):
        panel.plot(lost.end_s / scale, lost.slot, linestyle="none", marker="x", markersize=5,
                   color=style.BLACK, clip_on=False)  # fmt: skip
    panel.set_xlim(0, timed.end_s.max() / scale or 1.0)
    panel.set_ylim(slots - 0.5, -0.5)
    panel.set_yticks(*_slot_ticks(slots))
    panel.set_ylabel("slot")
    panel.set_xlabel(f"since the first trial began, {unit}")
    panel.grid(axis="y", visible=False)
    _legend(figure, timed, styles, failed=len(lost) > 0)
    style.caption(figure, note)
    return figure


def _bars(
    panel: Axes, own: pd.DataFrame, scale: float, drawn: style.ArmStyle, *, few: bool
) -> None:
    from matplotlib.collections import PolyCollection

    left, right = own.start_s.to_numpy() / scale, own.end_s.to_numpy() / scale
    slot = own.slot.to_numpy()
    x = np.stack([left, right, right, left], axis=1)
    y = np.stack([slot - 0.42, slot - 0.42, slot + 0.42, slot + 0.42], axis=1)
    look: dict[str, Any] = {"facecolors": drawn.color, "rasterized": len(own) > 2000}
    look |= {"edgecolors": "white", "linewidths": 0.5} if few else {"linewidths": 0}
    confirm = own.phase.iloc[0] == "confirm"
    if confirm:
        look |= {"hatch": _HATCH, "edgecolors": "white", "linewidths": 0.5}
    panel.add_collection(PolyCollection(list(np.stack([x, y], axis=2)), **look))
    if few and not confirm:
        panel.plot((left + right) / 2, slot, linestyle="none", marker=drawn.marker, markersize=3,
                   markerfacecolor="white", markeredgewidth=0)  # fmt: skip


def _slot_ticks(slots: int) -> tuple[list[int], list[str]]:
    step = max(1, -(-slots // 12))
    places = list(range(0, slots, step))
    return places, [str(place + 1) for place in places]


def occupancy(at_once: pd.DataFrame, slots: int, styles: Styles, note: str) -> Figure:
    """Draw how many trials of each arm ran over time, stacked.

    Args:
        at_once: as `timeline.running_at_once` returns it.
        slots: the most that ran at once.
        styles: of the arms, in order.
        note: what is said below.
    """
    figure, axes = style.panels(1, 1, height=3.4, width=style.WIDE)
    panel = axes[0, 0]
    scale, unit = time_unit(float(at_once.index.max()))
    arms = [arm for arm in styles if arm in at_once and at_once[arm].max() > 0]
    below = np.zeros(len(at_once))
    x = at_once.index.to_numpy() / scale
    for arm in arms:
        above = below + at_once[arm].to_numpy()
        panel.fill_between(x, below, above, step="mid", facecolor=styles[arm].color, alpha=0.8,
                           linewidth=0)  # fmt: skip
        panel.step(x, above, where="mid", **styles[arm].curve, linewidth=0.8)
        below = above
    panel.axhline(slots, color=style.BLACK, linewidth=0.9, linestyle=":")
    panel.set_xlim(0, None)
    panel.set_ylim(0, slots * 1.08)
    panel.set_ylabel("trials running")
    panel.set_xlabel(f"since the first trial began, {unit}")
    handles: list[Any] = [Patch(facecolor=styles[arm].color, alpha=0.8, label=arm) for arm in arms]
    handles.append(panel.lines[-1])
    handles[-1].set_label(f"{slots}: the most at once")
    legend_above(figure, handles)
    style.caption(figure, note)
    return figure


def _legend(figure: Figure, timed: pd.DataFrame, styles: Styles, *, failed: bool) -> None:
    from matplotlib.lines import Line2D

    handles: list[Any] = [
        Line2D([], [], color=styles[arm].color, linewidth=8, marker=styles[arm].marker,
               markersize=4, markerfacecolor="white", markeredgewidth=0, label=arm)
        for arm in styles
        if arm in set(timed.arm)
    ]  # fmt: skip
    if (timed.phase == "confirm").any():
        handles.append(
            Patch(facecolor=style.GREY, edgecolor="white", hatch=_HATCH, label="confirmation")
        )
    if failed:
        handles.append(
            Line2D([], [], color=style.BLACK, marker="x", linestyle="none", label="failed")
        )
    legend_above(figure, handles)


def legend_above(figure: Figure, handles: Sequence[Any]) -> None:
    """Set a legend above the panels, in as many columns as there is room for.

    The figure grows by the height of all rows but the first, so that the panels do not shrink.
    """
    sizes = [len(str(handle.get_label())) for handle in handles]
    for columns in range(len(sizes), 0, -1):
        rows = -(-len(sizes) // columns)
        widest = [max(sizes[start : start + rows]) for start in range(0, len(sizes), rows)]
        if sum(0.072 * size + 0.62 for size in widest) <= figure.get_figwidth() or columns == 1:
            figure.legend(handles=handles, loc="outside upper left", ncols=columns)
            figure.set_figheight(figure.get_figheight() + 0.18 * (rows - 1))
            return
