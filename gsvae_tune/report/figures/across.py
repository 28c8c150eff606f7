"""Figures over several studies."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gsvae_tune.report.figures import style
from gsvae_tune.report.figures.style import ArmStyle
from gsvae_tune.search.ledger import RANDOM_STRATUM

_LABEL = 32  # characters of a line


def differences(frame: pd.DataFrame, styles: Mapping[str, ArmStyle]) -> Figure:
    """Draw each comparison's difference with its intervals, a panel a study.

    Panels have axes of their own: nats of one data set are no nats of another.

    Args:
        frame: as `estimates.across.differences`.
        styles: by arm.
    """
    studies = list(dict.fromkeys(frame.study))
    counts = [max(1, int((frame.study == study).sum())) for study in studies]
    figure, axes = style.panels(len(studies), 1, height=max(1.3, 0.7 + 0.3 * max(counts)),
                                height_ratios=counts)  # fmt: skip
    for place, (study, panel) in enumerate(zip(studies, axes[:, 0], strict=True)):
        own = frame[frame.study == study].reset_index(drop=True)
        heights = -np.arange(len(own))
        for height, row in zip(heights, own.itertuples(), strict=True):
            drawn = styles[str(row.arm)]
            panel.plot([row.wide_low, row.wide_high], [height] * 2, color=drawn.color, lw=1)
            panel.plot([row.low, row.high], [height] * 2, color=drawn.color, lw=4, alpha=0.6)
            panel.plot(row.effect_nats, height, **drawn.points)
        panel.axvline(0, color=style.BLACK, lw=0.8)
        panel.set_yticks(
            heights,
            [textwrap.fill(f"{row.arm} - {row.baseline}", _LABEL) for row in own.itertuples()],
        )
        panel.set_ylim(heights.min() - 0.6, 0.6)
        _words(panel, own, heights)
        panel.set_title(study)
        if place == len(studies) - 1:
            panel.set_xlabel("difference in test loss, nats (left of 0: the first is better)")
    pairs = sorted({int(n) for n in frame.n})
    style.caption(
        figure,
        "Point: mean paired difference over fresh seeds "
        f"(n = {' or '.join(map(str, pairs))} pairs). Thick: its 95 % BCa interval over seeds. "
        "Thin: over seeds and searches, at each study's own level.",
    )
    return figure


def _words(panel: Axes, own: pd.DataFrame, heights: np.ndarray) -> None:
    right = panel.secondary_yaxis("right")
    right.set_yticks(heights, list(own.verdict))
    right.tick_params(length=0)
    right.spines["right"].set_visible(False)


def starts(frame: pd.DataFrame, styles: Mapping[str, ArmStyle]) -> Figure:
    """Draw smoothed losses along the starting temperature, a panel a study, a curve an arm.

    Args:
        frame: as `estimates.across.starts`, and stratum: of the trials of each curve.
        styles: by arm.
    """
    studies = list(dict.fromkeys(frame.study))
    figure, axes = style.panels(len(studies), 1, height=2.3, sharex=True)
    for study, panel in zip(studies, axes[:, 0], strict=True):
        for arm, own in frame[frame.study == study].groupby("arm", sort=False):
            _curve(panel, own, styles[str(arm)], str(arm))
        panel.set_title(study)
        panel.set_ylabel("loss, nats")
        panel.set_xscale("log")
        panel.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    style.log_ticks(axes[-1, 0])
    axes[-1, 0].set_xlabel("starting temperature tau (member a's)")
    style.caption(
        figure,
        "Smoothed validation loss, whatever the other settings, with its 95 % pointwise bootstrap "
        f"interval; failed trials count as the worst shown. Trials an arm: {_counts(frame)}. "
        "Losses far out are cut at the outer fence.",
    )
    return figure


def _counts(frame: pd.DataFrame) -> str:
    """Say how many trials the curves of each study rest on, and which."""
    said = []
    for study, own in frame.groupby("study", sort=False):
        rows = own.drop_duplicates("arm")
        counts = {
            stratum: " or ".join(
                f"{n:,}" for n in dict.fromkeys(rows.trials[rows.stratum == stratum])
            )
            for stratum in dict.fromkeys(rows.stratum)
        }
        parts = [
            f"{n} " + ("random" if stratum == RANDOM_STRATUM else "(the sampler's among them)")
            for stratum, n in counts.items()
        ]
        said.append(f"{study}: {', '.join(parts)}")
    return "; ".join(said)


def _curve(panel: Axes, own: pd.DataFrame, drawn: ArmStyle, label: str) -> None:
    """Draw a curve with its band, broken where trials leave a gap."""
    for place, (_, piece) in enumerate(own.groupby("stretch")):
        # Names that start with an underscore stay out of the legend.
        panel.plot(
            piece["at"], piece.loss_nats, **drawn.curve, label=label if place == 0 else "_piece"
        )
        panel.fill_between(
            piece["at"], piece.low_nats, piece.high_nats, color=drawn.color, alpha=0.12
        )


def temperatures(frame: pd.DataFrame, styles: Mapping[str, ArmStyle]) -> Figure:
    """Draw where each arm's best starts, and its range, a row a (study, arm).

    Args:
        frame: as `estimates.across.temperatures`.
        styles: by arm.
    """
    figure, axes = style.panels(height=max(1.8, 0.9 + 0.28 * len(frame)))
    panel = axes[0, 0]
    heights = -np.arange(len(frame))
    for height, row in zip(heights, frame.itertuples(), strict=True):
        drawn = styles[str(row.arm)]
        panel.plot([row.low, row.high], [height] * 2, color=drawn.color, lw=5, alpha=0.3)
        panel.plot([row.low], [height], color=drawn.color, marker="|", ms=11)
        panel.plot([row.high], [height], color=drawn.color, marker="|", ms=11)
        panel.plot(row.start_a, height, **drawn.points)
        panel.plot(row.start_b, height, **drawn.points, markerfacecolor="white", zorder=1.9)
    panel.set_yticks(
        heights, [textwrap.fill(f"{row.study}: {row.arm}", _LABEL) for row in frame.itertuples()]
    )
    panel.set_ylim(heights.min() - 0.7, 0.7)
    panel.set_xscale("log")
    style.log_ticks(panel)
    panel.set_xlabel("temperature tau")
    style.caption(figure, "Marker: starting temperature (hollow: member b's, where it differs). "
                  "Upright strokes: ends of the active range that the arm has; bar: between "
                  "them.")  # fmt: skip
    return figure
