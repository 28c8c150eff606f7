"""What the settings of a search did: their importance, the way to the best, what a default costs.

All three rest on a surrogate; of an arm whose surrogate is not to be trusted, the panel is grey.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gsvae_tune.report.estimates.surrogate import READABLE
from gsvae_tune.report.figures import style

_UNREAD = style.ArmStyle(style.GREY, "-", "o")  # of an arm whose surrogate says too little
_PAPER = "#f1f1f1"  # behind it
_CONDITIONAL = " †"


def importance_figure(
    frames: Mapping[str, pd.DataFrame],
    r2: Mapping[str, float],
    styles: Mapping[str, style.ArmStyle],
    note: str,
) -> Figure:
    """Draw the importance of every setting: a row of panels an arm, PED-ANOVA beside fANOVA.

    Args:
        frames: by arm, as `estimates.importance.importances` gives them, rows from top to bottom.
        r2: out of sample, by arm.
        styles: by arm.
        note: the caption.
    """
    figure, panels = _stack([len(frame) for frame in frames.values()], columns=2)
    for (left, right), (arm, frame) in zip(panels, frames.items(), strict=True):
        drawn = _prepared((left, right), arm, r2[arm], styles[arm])
        left.set_yticks(range(len(frame)), _names(frame))
        right.set_yticks(range(len(frame)), [])
        right.tick_params(axis="y", length=0)
        for axes, kind in ((left, "ped"), (right, "fanova")):
            _intervals(axes, frame[[kind, f"{kind}_low", f"{kind}_high"]].to_numpy(float), drawn)
            for place, row in enumerate(frame.itertuples()):
                if not row.varied:
                    _absent(axes, place, "did not vary")
                elif kind == "fanova" and row.conditional:
                    _absent(axes, place, "conditional: not defined")
                elif np.isnan(getattr(row, kind)):
                    _absent(axes, place, f"only {row.trials} trials have it")
            axes.set(xlim=(-0.02, 1.02), ylim=(len(frame) - 0.4, -0.6))
    panels[-1, 0].set_xlabel("PED-ANOVA: share of the importance")
    panels[-1, 1].set_xlabel("fANOVA: share of the forest's variance")
    style.caption(figure, note)
    return figure


def ablation_figure(
    paths: Mapping[str, pd.DataFrame],
    observed_nats: Mapping[str, float],
    r2: Mapping[str, float],
    styles: Mapping[str, style.ArmStyle],
    note: str,
) -> Figure:
    """Draw the path from the default to the best trial: a panel an arm, a line of it a step.

    Args:
        paths: by arm, as `estimates.ablation.ablation_path` gives them, with column `label`.
        observed_nats: the loss that the search measured at the end of each path.
        r2: out of sample, by arm.
        styles: by arm.
        note: the caption.
    """
    figure, panels = _stack([_lines(path) for path in paths.values()])
    for (axes,), (arm, path) in zip(panels, paths.items(), strict=True):
        drawn = _prepared((axes,), arm, r2[arm], styles[arm])
        places, losses = np.arange(len(path)), path.loss_nats.to_numpy(float)
        axes.step(losses, places, where="pre", color=drawn.color, linewidth=1.0, alpha=0.8)
        _intervals(axes, path[["loss_nats", "low_nats", "high_nats"]].to_numpy(float), drawn)
        axes.plot(
            observed_nats[arm], len(path) - 1, marker="D", markersize=7, markerfacecolor="none",
            markeredgecolor=style.BLACK, linestyle="none",
        )  # fmt: skip
        axes.set_yticks(places, list(path.label))
        axes.set_ylim(len(path) - 0.4, -0.6)
        axes.margins(x=0.06)
    panels[-1, 0].set_xlabel("predicted loss, nats per example")
    style.caption(figure, note)
    return figure


def tunability_figure(
    frames: Mapping[str, pd.DataFrame],
    r2: Mapping[str, float],
    styles: Mapping[str, style.ArmStyle],
    note: str,
) -> Figure:
    """Draw what each default costs: a panel an arm, each with a scale of its own.

    Args:
        frames: by arm, as `estimates.tunability.tunability` gives them, with column `label`, rows
            from top to bottom.
        r2: out of sample, by arm.
        styles: by arm.
        note: the caption.
    """
    figure, panels = _stack([len(frame) for frame in frames.values()])
    for (axes,), (arm, frame) in zip(panels, frames.items(), strict=True):
        drawn = _prepared((axes,), arm, r2[arm], styles[arm])
        values = frame[["lost_nats", "low_nats", "high_nats"]].to_numpy(float)
        _intervals(axes, values, drawn)
        for place in np.flatnonzero(np.isnan(values[:, 0])).tolist():
            varied = frame.varied.iloc[place]
            _absent(axes, place, "default not possible" if varied else "did not vary")
        marks = [_CONDITIONAL if conditional else "" for conditional in frame.conditional]
        labels = [label + mark for label, mark in zip(frame.label, marks, strict=True)]
        axes.set_yticks(range(len(frame)), labels)
        reach = float(np.nanmax(values)) if np.isfinite(values).any() else 0.0
        reach = max(reach, 1e-3)  # where nothing is lost, no false detail
        axes.set(xlim=(-0.03 * reach, 1.06 * reach), ylim=(len(frame) - 0.4, -0.6))
    panels[-1, 0].set_xlabel("predicted loss of leaving it there, nats per example")
    style.caption(figure, note)
    return figure


def r2_text(r2: float) -> str:
    """Return an R2 as it is written."""
    return f"{r2:.2f}" if np.isfinite(r2) else "unknown"


def _stack(lines: Sequence[int], columns: int = 1) -> tuple[Figure, NDArray[Any]]:
    """Return a figure with a row of panels an arm, each as high as its lines need."""
    heights = [0.2 * count + 0.55 for count in lines]
    return style.panels(
        len(lines), columns, height=sum(heights) / len(heights) + 0.9 / len(heights),
        width=style.WIDE, height_ratios=heights,
    )  # fmt: skip


def _prepared(panels: Sequence[Axes], arm: str, r2: float, own: style.ArmStyle) -> style.ArmStyle:
    """Name the arm over its first panel with its R2; return how the arm is drawn."""
    known = r2_text(r2)
    if r2 >= READABLE:
        panels[0].set_title(f"{arm}: surrogate R² = {known}", color=own.color, weight="bold")
        return own
    panels[0].set_title(f"{arm}: surrogate R² = {known}: do not read", color=style.GREY)
    for axes in panels:
        axes.set_facecolor(_PAPER)
        axes.grid(color="white")
        axes.tick_params(labelcolor=style.GREY)
    return _UNREAD


def _intervals(axes: Axes, values: NDArray[np.float64], drawn: style.ArmStyle) -> None:
    """Draw points with their intervals, (lines, [point, low, high]), from top to bottom."""
    places = np.arange(len(values))
    axes.hlines(places, values[:, 1], values[:, 2], color=drawn.color, linewidth=3.2, alpha=0.4)
    axes.plot(values[:, 0], places, markersize=5, **drawn.points)


def _absent(axes: Axes, place: int, why: str) -> None:
    axes.annotate(
        why, (0.02, place), xycoords=axes.get_yaxis_transform(), va="center", fontsize=7.5,
        color=style.GREY, style="italic",
    )  # fmt: skip


def _names(frame: pd.DataFrame) -> list[str]:
    marks = [_CONDITIONAL if conditional else "" for conditional in frame.conditional]
    return [name + mark for name, mark in zip(frame.name, marks, strict=True)]


def _lines(path: pd.DataFrame) -> int:
    """Return how many lines of text the steps' labels take."""
    return int(sum(label.count("\n") + 1 for label in path.label))
