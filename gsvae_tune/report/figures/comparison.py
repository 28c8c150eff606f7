"""The arms beside the baseline: paired differences, losses by seed, compute, learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from gsvae_tune.report.figures import style
from gsvae_tune.report.figures.style import BLACK, GREY, PALE, ArmStyle

Styles = Mapping[str, ArmStyle]

_ALARM = "#B00020"  # what is not as it should be; always beside a word that says so
_PAIR = ["arm", "baseline"]
_FAR = 8.0  # times what most comparisons reach: a comparison beyond is cut off
_ROOM = 0.45  # of what is always shown: so far beyond it a wide interval is followed
_MINUS = "\N{MINUS SIGN}"
_ABREAST = 112  # characters of a legend, side by side in a wide figure
_TEXT = 8.0  # points, of numbers beside a row


def paired_differences(
    summary: pd.DataFrame,
    pairs: pd.DataFrame,
    styles: Styles,
    *,
    matters_nats: float,
    metric: str,
    wide: str,
) -> Figure:
    """Draw each comparison's differences seed by seed, their mean and its two intervals.

    Args:
        summary: a row a comparison: arm, baseline, effect_nats, ci_low, ci_high, wide_low,
            wide_high, p_holm, verdict, arm_trial and baseline_trial (NaN: none).
        pairs: a row a (comparison, replicate): arm, baseline, difference_nats, failed.
        styles: by arm.
        matters_nats: half the width of the band around 0.
        metric: what the differences are of.
        wide: what the thin interval is, a few words.
    """
    count = len(summary)
    figure = Figure(figsize=(style.WIDE, 1.45 + 0.8 * count), layout="constrained")
    axes, beside = figure.subplots(1, 2, width_ratios=[2.6, 1.0])
    view = _view(summary, pairs, matters_nats)
    _lanes(axes, count)
    _lanes(beside, count)
    beside.axis("off")
    axes.set_xlim(*view)
    axes.axvspan(-matters_nats, matters_nats, color=PALE, alpha=0.55, linewidth=0)
    axes.axvline(0.0, color=BLACK, linewidth=0.9)
    for place, row in enumerate(summary.itertuples(index=False)):
        own = pairs[(pairs.arm == row.arm) & (pairs.baseline == row.baseline)]
        y = float(count - 1 - place)
        _difference(axes, y, row, own, styles[str(row.arm)], view)
        _told(axes, beside, y, row)
    axes.set_xlabel(f"arm {_MINUS} baseline, nats per example\n{metric}; left of 0: arm better")
    _key_of_differences(figure, wide, matters_nats, failed=bool(pairs.failed.any()))
    return figure


def _trial(arm: Any, number: Any) -> str:
    return f"{arm} #{number:.0f}" if np.isfinite(float(number)) else str(arm)


def _view(summary: pd.DataFrame, pairs: pd.DataFrame, matters_nats: float) -> tuple[float, float]:
    """Return the range to show: seeds and their interval whole, the wide one as far as is near.

    What a failure is charged may lie tens of nats away, and so may a whole arm that is beside the
    point: neither may shrink the others to a line. What lies beyond is shown at the edge.
    """
    sound = pairs[~pairs.failed.astype(bool)]
    reaches = sound.difference_nats.abs().groupby([sound.arm, sound.baseline]).max()
    usual = float(reaches.quantile(0.4, interpolation="lower")) if len(reaches) else 0.0
    limit = _FAR * max(usual, 2.0 * matters_nats)
    failing = set(map(tuple, pairs.loc[pairs.failed.astype(bool), _PAIR].to_numpy()))
    whole = np.array([tuple(key) not in failing for key in summary[_PAIR].to_numpy()], dtype=bool)
    near = summary[whole & (summary.effect_nats.abs() <= limit)]
    seen = [
        sound.difference_nats.to_numpy(float),
        near[["effect_nats", "ci_low", "ci_high"]].to_numpy(float).ravel(),
        np.array([-1.4 * matters_nats, 1.4 * matters_nats]),
    ]
    core = np.concatenate(seen)
    core = core[np.isfinite(core) & (np.abs(core) <= limit)]
    reach = _ROOM * np.ptp(core)
    ends = near[["wide_low", "wide_high"]].to_numpy(float).ravel()
    ends = np.clip(ends[np.isfinite(ends)], core.min() - reach, core.max() + reach)
    low, high = min([core.min(), *ends]), max([core.max(), *ends])
    pad = 0.04 * (high - low)
    return float(low - pad), float(high + pad)


def _lanes(axes: Axes, count: int) -> None:
    """Set axes up for rows of a name above and a drawing below it."""
    axes.set_ylim(-0.45, count - 0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")
    for y in range(count - 1):
        axes.axhline(y + 0.53, color=PALE, linewidth=0.7)


def _difference(
    axes: Axes, y: float, row: Any, own: pd.DataFrame, look: ArmStyle, view: tuple[float, float]
) -> None:
    _span(axes, y, (row.wide_low, row.wide_high), view, color=look.color, linewidth=1.3)
    _span(axes, y, (row.ci_low, row.ci_high), view, color=look.color, linewidth=5.0, alpha=0.55)
    mean = float(row.effect_nats)
    if np.isfinite(mean):
        marker = "<" if mean < view[0] else ">" if mean > view[1] else "D"
        axes.plot(np.clip(mean, *view), y, marker, color=BLACK, markersize=5.0, zorder=5,
                  clip_on=False)  # fmt: skip
    lanes = y - 0.27 + 0.045 * (np.arange(len(own)) % 3 - 1)
    values = own.difference_nats.to_numpy(float)
    failed = own.failed.to_numpy(bool)
    for marker, which in (
        ("o", ~failed & (values >= view[0]) & (values <= view[1])),
        ("<", ~failed & (values < view[0])),
        (">", ~failed & (values > view[1])),
        ("X", failed),
    ):
        if which.any():  # without points, an artist that is not clipped would stretch the layout
            axes.plot(np.clip(values[which], *view), lanes[which], marker=marker, zorder=5,
                      linestyle="none", markersize=5.5 if marker == "X" else 4.0,
                      markerfacecolor=_ALARM if marker == "X" else "white",
                      color=_ALARM if marker == "X" else look.color, clip_on=False,
                      rasterized=len(own) > 2000)  # fmt: skip


def _span(
    axes: Axes, y: float, ends: tuple[float, float], view: tuple[float, float], **look: Any
) -> None:
    """Draw an interval; an end beyond the view is an arrow at its edge."""
    low, high = (float(end) for end in ends)
    if not (np.isfinite(low) and np.isfinite(high)):
        return
    inside = np.clip([low, high], *view)
    axes.plot(inside, [y, y], solid_capstyle="butt", **look)
    for beyond, edge, arrow in ((low < view[0], view[0], "<"), (high > view[1], view[1], ">")):
        if beyond:
            axes.plot(edge, y, arrow, color=look["color"], markersize=7.0, clip_on=False)


def _told(axes: Axes, beside: Axes, y: float, row: Any) -> None:
    """Write who is compared above the row, and the verdict and its numbers beside it."""
    sides = _trial(row.arm, row.arm_trial), _trial(row.baseline, row.baseline_trial)
    name = f" {_MINUS} ".join(sides)
    axes.text(0.0, y + 0.3, name, weight="bold", va="center",
              fontsize=9.0 if len(name) < 64 else 7.5,
              bbox={"facecolor": "white", "linewidth": 0, "pad": 1.0, "alpha": 0.85},
              transform=axes.get_yaxis_transform())  # fmt: skip
    p = "" if not np.isfinite(float(row.p_holm)) else f", p = {float(row.p_holm):.2g}"
    lines = [
        f"mean {_signed(row.effect_nats)}",
        f"seeds {_signed(row.ci_low)} to {_signed(row.ci_high)}",
        f"searches too {_signed(row.wide_low)} to {_signed(row.wide_high)}",
    ]
    if not np.isfinite(float(row.effect_nats)):
        lines = ["nothing to compare"]
    at: dict[str, Any] = {"transform": beside.get_yaxis_transform()}
    beside.text(0.03, y + 0.3, f"{row.verdict}{p}", weight="bold", va="center", **at)
    beside.text(0.03, y + 0.16, "\n".join(lines), fontsize=_TEXT, va="top", color=GREY,
              linespacing=1.15, **at)  # fmt: skip


def _signed(value: float) -> str:
    if not np.isfinite(float(value)):
        return "?"
    return f"{float(value):+.3f}".replace("-", _MINUS) if value else "0"


def _key_of_differences(figure: Figure, wide: str, matters_nats: float, *, failed: bool) -> None:
    handles: list[Any] = [
        Line2D([], [], marker="o", color=GREY, markerfacecolor="white", linestyle="none",
               markersize=4.5, label="one seed"),
        Line2D([], [], marker="D", color=BLACK, linestyle="none", markersize=5, label="mean"),
        Line2D([], [], color=GREY, linewidth=5, alpha=0.55, label="95 %, seeds"),
        Line2D([], [], color=GREY, linewidth=1.3, label=wide),
        Patch(color=PALE, alpha=0.55, linewidth=0, label=f"within {matters_nats:g}: too small"),
    ]  # fmt: skip
    if failed:
        handles.insert(1, _failure())
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles),
                  handlelength=1.4, columnspacing=1.1, borderaxespad=0.0)  # fmt: skip


def _failure() -> Line2D:
    return Line2D([], [], marker="X", color=_ALARM, linestyle="none", markersize=5.5,
                  label="failed seed")  # fmt: skip


def finalist_losses(
    losses: pd.DataFrame,
    means: pd.DataFrame,
    styles: Styles,
    *,
    names: Mapping[str, str],
    metric: str,
) -> Figure:
    """Draw what each finalist gave on each seed, the same seed joined across arms.

    Args:
        losses: a row a (arm, replicate): arm, replicate, loss_nats, failed.
        means: a row an arm, drawn in this order: arm, n, failed, mean_nats, low_nats, high_nats.
        styles: by arm.
        names: what each arm is called.
        metric: what the losses are.
    """
    arms = list(means.arm)
    figure = Figure(figsize=(style.WIDE, 1.3 + 0.62 * len(arms)), layout="constrained")
    axes = figure.subplots()
    sound = losses[~losses.failed.astype(bool)]
    edge = _far_edge(sound, means)
    near = sound[sound.loss_nats <= edge]
    heights = np.arange(len(arms))[::-1].astype(float)
    axes.add_collection(_joined(near, arms, heights))
    failures = bool(losses.failed.any())
    shown = means[["low_nats", "high_nats"]].to_numpy(float).ravel()
    edge, strip = _losses_axis(
        axes, np.concatenate([near.loss_nats, shown[shown <= edge]]), failures=failures
    )
    for y, row in zip(heights, means.itertuples(index=False), strict=True):
        own = losses[losses.arm == row.arm]
        _finalist(axes, y, row, own, styles[str(row.arm)], (edge, strip))
    axes.set_ylim(-0.6, len(arms) - 0.5)
    axes.set_yticks(heights, [names[arm] for arm in arms])
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"{metric} (nats per example); lower is better")
    _key_of_losses(figure, failed=failures)
    return figure


def _joined(near: pd.DataFrame, arms: list[str], heights: NDArray[np.float64]) -> LineCollection:
    """Return a line a seed: one that failed in an arm interrupts it, a whole arm far off not."""
    seeds = near.pivot_table("loss_nats", "replicate", "arm", dropna=False).reindex(columns=arms)
    seen = seeds.notna().any().to_numpy()
    paths = [np.column_stack([row[seen], heights[seen]]) for row in seeds.to_numpy(float)]
    return LineCollection(paths, colors=GREY, linewidths=0.6, alpha=0.55)


def _far_edge(sound: pd.DataFrame, means: pd.DataFrame) -> float:
    """Return up to which loss is shown: an arm far worse than most shrinks the others to a line."""
    best = float(means.mean_nats.min())
    reaches = sound.groupby("arm").loss_nats.max() - best
    return best + _FAR * max(float(reaches.quantile(0.4, interpolation="lower")), 0.05)


def _losses_axis(axes: Axes, values: NDArray[np.float64], *, failures: bool) -> tuple[float, float]:
    """Set the axis of losses up, with a strip beside it for failed seeds.

    Returns:
        Where losses end, and the middle of the strip.
    """
    low, high = float(values.min()), float(values.max())
    pad = max(0.04 * (high - low), 0.01)
    axes.set_xlim(low - pad, high + pad)
    strip = high + 3.5 * pad
    if failures:
        ticks = [tick for tick in axes.get_xticks() if low - pad <= tick <= high + pad]
        axes.set_xticks([*ticks, strip], [*(f"{tick:.6g}" for tick in ticks), "failed"])
        axes.set_xlim(low - pad, high + 5.5 * pad)
        axes.axvline(high + 1.5 * pad, color=GREY, linewidth=0.8, linestyle=":")
    return high + pad, strip


def _finalist(
    axes: Axes, y: float, row: Any, own: pd.DataFrame, look: ArmStyle, places: tuple[float, float]
) -> None:
    edge, strip = places
    values = own.loss_nats.to_numpy(float)[~own.failed.to_numpy(bool)]
    near = values[values <= edge]
    axes.plot(near, np.full(near.size, y), markersize=5.0, alpha=0.85, **look.points)
    if near.size < values.size:
        axes.plot(edge, y, marker=">", color=look.color, markersize=6.0, clip_on=False)
    below = y - 0.28
    if row.low_nats < edge:
        axes.plot([row.low_nats, min(row.high_nats, edge)], [below, below], color=look.color,
                  linewidth=4.5, alpha=0.55, solid_capstyle="butt")  # fmt: skip
    if row.mean_nats < edge:
        axes.plot(row.mean_nats, below, "D", color=BLACK, markersize=4.5)
    spread = y + (0.3 * np.linspace(-0.5, 0.5, row.failed) if row.failed > 1 else 0.0)
    axes.plot(np.full(row.failed, strip), np.broadcast_to(spread, row.failed), marker="X",
              linestyle="none", color=_ALARM, markersize=5.5)  # fmt: skip
    told = f"{row.mean_nats:.3f}" if row.n else "no sound seed"
    more = f"\n{row.failed} of {row.failed + row.n} failed" if row.failed else ""
    axes.text(1.02, y - 0.05, f"{told}{more}", fontsize=_TEXT + 0.5, va="center",
              transform=axes.get_yaxis_transform())  # fmt: skip


def _key_of_losses(figure: Figure, *, failed: bool) -> None:
    handles: list[Any] = [
        Line2D([], [], marker="o", color=GREY, linewidth=0.6, markersize=5, label="one seed"),
        Line2D([], [], marker="D", color=BLACK, linestyle="none", markersize=4.5,
               label="mean (number at the right)"),
        Line2D([], [], color=GREY, linewidth=4.5, alpha=0.55, label="95 % interval of the mean"),
    ]  # fmt: skip
    handles += [_failure()] * failed
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles),
                  borderaxespad=0.0)  # fmt: skip


def compute(
    shares: pd.DataFrame,
    styles: Styles,
    *,
    names: Mapping[str, str],
    headings: Mapping[str, str],
) -> Figure:
    """Draw what each arm was given, a panel a measure, with what counts as equal shaded.

    Args:
        shares: a row an (arm, measure): arm, measure, value, low, high, equal.
        styles: by arm.
        names: what each arm is called.
        headings: of each measure's panel, in their order.
    """
    arms = list(dict.fromkeys(shares.arm))
    figure, grid = style.panels(
        1, len(headings), height=1.3 + 0.36 * len(arms), width=style.WIDE, sharey=True
    )
    heights = np.arange(len(arms))[::-1]
    for axes, (measure, heading) in zip(grid[0], headings.items(), strict=True):
        own = shares[shares.measure == measure].set_index("arm").loc[arms]
        _measure(axes, heights, own, [styles[arm] for arm in arms])
        axes.set_title(heading)
    grid[0][0].set_yticks(heights, [names[arm] for arm in arms])
    grid[0][0].set_ylim(-0.6, len(arms) - 0.4)
    return figure


def _measure(axes: Axes, heights: np.ndarray, own: pd.DataFrame, looks: Sequence[ArmStyle]) -> None:
    low, high = float(own.low.iloc[0]), float(own.high.iloc[0])
    top = max(float(own.value.max()), 1e-9)
    axes.axvspan(low, max(high, low + 0.008 * top), color=GREY, alpha=0.28, linewidth=0)
    axes.barh(heights, own.value, height=0.5, color=[look.color for look in looks], alpha=0.85)
    for y, value, equal in zip(heights, own.value.astype(float), own.equal, strict=True):
        axes.text(value + 0.04 * top, y, _short(value), fontsize=_TEXT, color=BLACK,
                  va="center" if equal else "bottom")  # fmt: skip
        if not equal:
            axes.text(value + 0.04 * top, y - 0.03, "UNEQUAL", fontsize=_TEXT - 1.0,
                      va="top", color=_ALARM, weight="bold")  # fmt: skip
    axes.set_xlim(0.0, 1.75 * top if own.equal.all() else 2.1 * top)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)


def _short(value: float) -> str:
    """Return 20, 182k, 9.12M: at most five characters and a sign."""
    for size, mark in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if mark == 'k' else size):.3g}{mark}"
    return f"{value:,.0f}" if value == round(value) or value >= 1000 else f"{value:.3g}"


def learning_curves(
    curves: pd.DataFrame, styles: Styles, *, names: Mapping[str, str], bands: bool, clock: str
) -> Figure:
    """Draw each arm's mean loss over epochs and over time, as far as all its seeds are sound.

    Args:
        curves: a row an (arm, epoch): arm, epoch, wall_s, mean_nats, low_nats, high_nats, lost
            (on the arm's last row: seeds that fail after it).
        styles: by arm.
        names: what each arm is called.
        bands: shade from low_nats to high_nats.
        clock: label of the time axis.
    """
    arms = list(dict.fromkeys(curves.arm))
    columns = _columns([names[arm] for arm in arms])
    height = 3.2 + 0.19 * -(-len(arms) // columns)
    figure, grid = style.panels(1, 2, height=height, sharey=True)
    for axes, column in zip(grid[0], ("epoch", "wall_s"), strict=True):
        for arm in arms:
            _curve(axes, column, curves[curves.arm == arm], styles[arm], bands=bands)
        axes.set_xlim(0.0, float(curves[column].max()) * 1.02)
    grid[0][0].set_ylim(*_heights(curves))
    grid[0][0].set_xlabel("epochs")
    grid[0][1].set_xlabel(clock)
    grid[0][0].set_ylabel("validation negative ELBO,\none-hot codes (nats)")
    handles = [
        Line2D([], [], label=names[arm], marker=styles[arm].marker, markersize=5,
               **styles[arm].curve)
        for arm in arms
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, handlelength=3.2,
                  borderaxespad=0.0)  # fmt: skip
    return figure


def _curve(axes: Axes, column: str, own: pd.DataFrame, look: ArmStyle, *, bands: bool) -> None:
    if bands:
        axes.fill_between(own[column], own.low_nats, own.high_nats, color=look.color, alpha=0.16,
                          linewidth=0)  # fmt: skip
    axes.plot(own[column], own.mean_nats, **look.curve)
    last = own.iloc[-1]
    marker, size = ("X", 7.0) if last.lost else (look.marker, 5.0)
    axes.plot(last[column], last.mean_nats, marker=marker, color=look.color, markersize=size,
              clip_on=False, zorder=4)  # fmt: skip


def _columns(names: Sequence[str]) -> int:
    """Return how many legend entries fit side by side."""
    widths = [len(name) + 9 for name in names]  # with line and gap, in characters
    return len(names) if sum(widths) < _ABREAST else max(1, _ABREAST // max(widths))


def _heights(curves: pd.DataFrame) -> tuple[float, float]:
    """Return a range in which the second half of training can be told apart.

    The first epochs lie far above; a range that held them would show one line.
    """
    late = curves[curves.epoch >= 0.4 * curves.epoch.max()]
    low = np.fmin(late.low_nats, late.mean_nats).min()
    high = np.fmax(late.high_nats, late.mean_nats).max()
    span = max(float(high - low), 0.02)
    return float(low - 0.08 * span), float(high + 0.35 * span)
