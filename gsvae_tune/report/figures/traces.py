"""Drawing both members over the epochs: temperatures, losses, and the gap of the relaxation.

In every figure member a is a solid line in its arm's colour and member b a dashed black one, drawn
on top: where the two are one, both can be seen.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from gsvae_tune.report.figures import style
from gsvae_tune.report.figures.style import ArmStyle

CROWDED = 2_000  # points in one artist, from where on it is drawn as pixels
B_HATCH = "////"
_BANDS = ((0.1, 0.9, 0.18), (0.25, 0.75, 0.38))  # of a fan: from, to, opacity


@dataclass(frozen=True)
class TauPanel:
    """One trial's temperatures."""

    title: str
    style: ArmStyle
    paths: pd.DataFrame  # as `estimates.traces.living`
    means: pd.DataFrame  # as `mean_paths`
    stops: pd.DataFrame  # branch, epoch, tau: where replicates ended early
    lower: float  # the active range; NaN: there is no such end
    upper: float


@dataclass(frozen=True)
class LossPanel:
    """One trial's losses."""

    title: str
    style: ArmStyle
    bands: pd.DataFrame  # as `estimates.traces.loss_bands`
    leads: pd.DataFrame  # as `leads`


@dataclass(frozen=True)
class FanPanel:
    """The temperatures of one third of an arm's trials."""

    arm: str
    third: str  # which one, of how many trials
    style: ArmStyle
    fan: pd.DataFrame  # as `estimates.traces.fan`


@dataclass(frozen=True)
class GapPanel:
    """One arm's gap over the epochs of one trial, and at the end of all of its search's trials."""

    arm: str
    style: ArmStyle
    path: pd.DataFrame | None  # as `estimates.traces.gap_path`
    last: pd.DataFrame  # as `last_gaps`


def taus(panels: Sequence[TauPanel], note: str) -> Figure:
    """Draw each trial's temperatures, one panel a trial, all on the same axes."""
    figure, axes, _ = _grid(len(panels), height=2.0)
    edges = [edge for panel in panels for edge in (panel.lower, panel.upper) if edge > 0]
    values = np.concatenate([panel.paths["tau"] for panel in panels] + [edges])
    low, high = values.min() / 1.35, values.max() * 1.35
    last = max(panel.paths["epoch"].max() for panel in panels)
    for panel, ax in zip(panels, axes, strict=True):
        ax.set(yscale="log", ylim=(low, high), xlim=_epochs(last), title=_title(panel.title))
        style.log_ticks(ax, "y")
        _range(ax, panel, low, high)
        for branch, look in _members(panel.style).items():
            own = panel.paths[panel.paths["branch"] == branch]
            thin = own.pivot_table(index="epoch", columns="replicate", values="tau")
            mean = panel.means[panel.means["branch"] == branch]
            thin = thin.T.drop_duplicates().T  # paths that are one would look like a thick one
            ax.plot(thin.index, thin, **_dotted(thin, look), linewidth=0.6, alpha=0.45)
            ax.plot(mean["epoch"], mean["tau"], **_dotted(mean, look), linewidth=2.0)
        ax.plot(panel.stops["epoch"], panel.stops["tau"], **_CROSS)
    _label(axes, "temperature tau")
    handles = [
        *_member_handles(),
        Line2D([], [], color=style.GREY, linewidth=0.6, label="one replicate"),
        Patch(facecolor=style.PALE, label="outside the range"),
    ]
    if any(len(panel.stops) for panel in panels):
        handles.append(Line2D([], [], **_CROSS, label="ended early"))
    _legend(figure, handles)
    style.caption(figure, note)
    return figure


def losses(panels: Sequence[LossPanel], top_nats: float, note: str) -> Figure:
    """Draw each trial's losses and, under them, which member is ahead.

    Args:
        panels: one a trial.
        top_nats: where the axes of all panels end; what is above is cut off.
        note: of the caption.
    """
    figure, axes, strips = _grid(len(panels), height=2.3, strip=True)
    bottom = min(panel.bands["low"].min() for panel in panels)
    last = max(panel.bands["epoch"].max() for panel in panels)
    room = 0.05 * (top_nats - bottom)
    for panel, ax, strip in zip(panels, axes, strips, strict=True):
        ax.set(ylim=(bottom - room, top_nats), title=_title(panel.title))
        strip.set(xlim=_epochs(last), ylim=(0, 1), yticks=[])
        strip.grid(visible=False)
        for branch, look in _members(panel.style).items():
            band = panel.bands[panel.bands["branch"] == branch]
            ax.fill_between(band["epoch"], band["low"], band["high"], color=look["color"],
                            alpha=0.18, linewidth=0)  # fmt: skip
            ax.plot(band["epoch"], band["mean"], **_dotted(band, look), linewidth=1.5)
        _ahead(strip, panel)
    _label(axes, "control loss (nats)", strips)
    handles = [
        *_member_handles(),
        Patch(facecolor=style.GREY, alpha=0.3, label="range of replicates"),
        Patch(facecolor=style.GREY, label="strip: a ahead"),
        Patch(facecolor="white", edgecolor=style.BLACK, hatch=B_HATCH, label="b ahead"),
        Patch(facecolor=style.PALE, label="equal"),
    ]
    _legend(figure, handles)
    style.caption(figure, note)
    return figure


def fans(pairs: Sequence[tuple[FanPanel, FanPanel]], note: str) -> Figure:
    """Draw the best third of each arm's trials beside its worst third, all on the same axes."""
    columns = 2 if len(pairs) <= 4 else 4
    panels = [panel for pair in pairs for panel in pair]
    figure, axes, _ = _grid(len(panels), height=1.9, columns=columns)
    low = min(panel.fan[0.1].min() for panel in panels) / 1.2
    high = max(panel.fan[0.9].max() for panel in panels) * 1.2
    last = max(panel.fan["epoch"].max() for panel in panels)
    for panel, ax in zip(panels, axes, strict=True):
        fan, color = panel.fan, panel.style.color
        title = (
            f"{panel.arm}, {panel.third}"
            if columns == 2
            else f"{_title(panel.arm, 21)}\n{panel.third}"
        )
        ax.set(yscale="log", ylim=(low, high), xlim=_epochs(last), title=title)
        style.log_ticks(ax, "y")
        for start, end, alpha in _BANDS:
            ax.fill_between(fan["epoch"], fan[start], fan[end], color=color, alpha=alpha,
                            linewidth=0)  # fmt: skip
        for branch, look in _members(panel.style).items():
            ax.plot(fan["epoch"], fan[f"median_{branch}"], **_dotted(fan, look), linewidth=1.6)
    _label(axes, "temperature tau")
    shades = [
        Patch(
            facecolor=style.GREY,
            alpha=1.3 * alpha,
            label=f"{100 * start:.0f} to {100 * end:.0f} % of paths",
        )
        for start, end, alpha in _BANDS
    ]
    _legend(figure, [*_member_handles(), *shades])
    style.caption(figure, note)
    return figure


def gaps(panels: Sequence[GapPanel], trend: pd.DataFrame, note: str) -> Figure:
    """Draw the gap of one trial an arm, epoch by epoch, and that of all trials against tau."""
    rows = -(-(len(panels) + 1) // _columns(style.WIDE, [panel.arm for panel in panels]))
    figure, ((over, against),) = style.panels(1, 2, height=3.0 + 0.2 * rows)
    for panel in panels:
        if panel.path is not None and len(panel.path):
            over.plot(panel.path["epoch"], panel.path["gap_nats"], **panel.style.curve,
                      marker=panel.style.marker, markersize=4,
                      markevery=max(1, len(panel.path) // 6))  # fmt: skip
        against.plot(panel.last["tau"], panel.last["gap_nats"], **panel.style.points, markersize=4,
                     alpha=0.55, markeredgewidth=0,
                     rasterized=len(panel.last) > CROWDED)  # fmt: skip
    against.plot(trend["tau"], trend["gap_nats"], color=style.BLACK, linewidth=1.6)
    for ax in (over, against):
        ax.axhline(0.0, color=style.GREY, linewidth=0.9)
        ax.set_ylabel("relaxed - one-hot loss (nats)")
    over.xaxis.get_major_locator().set_params(integer=True)
    over.set(xlabel="epoch", title="one trial an arm, by epoch")
    against.set(xscale="log", xlabel="temperature tau", title="all trials, last epoch, by tau")
    if any(len(panel.last) for panel in panels):
        style.log_ticks(against)
    handles = [
        Line2D([], [], **panel.style.curve, marker=panel.style.marker, markersize=4,
               label=panel.arm)
        for panel in panels
    ]  # fmt: skip
    if len(trend):
        handles.append(Line2D([], [], color=style.BLACK, linewidth=1.6, label="median (right)"))
    _legend(figure, handles)
    style.caption(figure, note)
    return figure


_CROSS: dict[str, Any] = {"linestyle": "none", "marker": "X", "color": style.BLACK, "markersize": 5,
                          "markeredgecolor": "white", "markeredgewidth": 0.6}  # fmt: skip


def _members(arm: ArmStyle) -> dict[str, dict[str, Any]]:
    """Return how each member is drawn, b last and so on top."""
    return {
        "a": {"color": arm.color, "linestyle": "-"},
        "b": {"color": style.BLACK, "linestyle": (0, (4, 2.5))},
    }


def _member_handles() -> list[Line2D]:
    looks = {"member a (colour)": {"color": style.GREY},
             "member b": _members(ArmStyle("", "", ""))["b"]}  # fmt: skip
    return [Line2D([], [], **look, linewidth=2.0, label=name) for name, look in looks.items()]


def _dotted(frame: pd.DataFrame, look: dict[str, Any]) -> dict[str, Any]:
    """Add dots where so few epochs make no line."""
    return look | ({"marker": ".", "markersize": 5} if len(frame) < 4 else {})


def _range(ax: Axes, panel: TauPanel, low: float, high: float) -> None:
    for start, end, edge in ((low, panel.lower, panel.lower), (panel.upper, high, panel.upper)):
        if np.isfinite(edge):
            ax.axhspan(start, end, facecolor=style.PALE, linewidth=0, zorder=0.5)
            ax.axhline(edge, color=style.GREY, linewidth=0.8, zorder=0.6)


def _ahead(strip: Axes, panel: LossPanel) -> None:
    """Fill each epoch's column with the shares of replicates in which a, none or b is ahead."""
    own = panel.leads
    if own.empty:
        return
    edges = np.append(own["epoch"] - 0.5, own["epoch"].iloc[-1] + 0.5)
    tied = own["a"] + own["equal"]
    looks: list[tuple[Any, Any, dict[str, Any]]] = [
        (own["a"], 0.0, {"facecolor": panel.style.color}),
        (tied, own["a"], {"facecolor": style.PALE}),
        (tied + own["b"], tied, {"facecolor": "white", "edgecolor": style.BLACK, "hatch": B_HATCH}),
    ]
    for top, base, look in looks:
        strip.stairs(top, edges, baseline=base, fill=True, linewidth=0, **look)


def _epochs(last: int) -> tuple[float, float]:
    return (0.5, last + 0.5)


def _title(text: str, width: int = 36) -> str:
    return textwrap.fill(text, width)


def _grid(
    count: int, *, height: float, columns: int | None = None, strip: bool = False
) -> tuple[Figure, list[Axes], list[Axes]]:
    """Return a figure, as many panels, and the lowest axes of each: with `strip` a flat one."""
    columns = columns or (count if count < 3 else 2 if count <= 4 else 3)
    rows = -(-count // columns)
    ratios: dict[str, Any] = {"height_ratios": [6.0, 1.0] * rows} if strip else {}
    figure, grid = style.panels(
        rows * (1 + strip), columns, height=height / (1 + strip), sharex=True, **ratios
    )
    every = 2 if strip else 1
    lowest: NDArray[Any] = grid[every - 1 :: every]
    panels, lows = [*grid[::every].flat], [*lowest.flat]
    for axes in {*panels[count:], *lows[count:]}:
        axes.remove()
    for column in range(columns):  # the lowest panel of a column has the axis's numbers
        ax = lowest.T[column][(count - 1 - column) // columns]
        ax.tick_params(labelbottom=True)
        ax.set_xlabel("epoch")
        ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    return figure, panels[:count], lows[:count]


def _label(axes: Sequence[Axes], name: str, strips: Sequence[Axes] = ()) -> None:
    """Name the values at the left of each row; the numbers are the same in all columns."""
    for ax in axes:
        first = ax.get_subplotspec().is_first_col()  # type: ignore[union-attr]
        ax.set_ylabel(name if first else "")
        ax.tick_params(labelleft=first)
    for strip in strips:
        if strip.get_subplotspec().is_first_col():  # type: ignore[union-attr]
            strip.set_ylabel("ahead", rotation=0, ha="right", va="center")


def _legend(figure: Figure, handles: Sequence[Any]) -> None:
    """Set a legend above the panels, as wide as its longest entry allows."""
    columns = _columns(figure.get_figwidth(), [handle.get_label() for handle in handles])
    figure.legend(handles=handles, loc="outside upper left", ncols=columns)


def _columns(width: float, labels: Sequence[str]) -> int:
    """Return how many columns of a legend fit, all as wide as the longest label."""
    longest = max(len(label) for label in labels)
    return min(len(labels), max(1, int(14 * width / (longest + 8))))
