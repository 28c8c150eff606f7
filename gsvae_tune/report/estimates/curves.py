"""Learning curves: what a trial's better member gives on the validation split, epoch by epoch.

The better member is chosen each epoch as at the end of a trial, by its one-hot loss on the control
split, and shown by its loss on the validation split: the minimum of two is not reported as if it
were one. One-hot losses alone: they contain no tau.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd

_COLUMNS = ["epoch", "wall_s", "replicates", "n", "mean_nats", "low_nats", "high_nats"]


def learning_curve(
    epochs: pd.DataFrame, failed: Collection[int] = (), confidence: float = 0.95
) -> pd.DataFrame:
    """Return one trial's curve over epochs, a row an epoch.

    Args:
        epochs: the table of epochs, that trial's rows.
        failed: replicates that are left out: a collapsed one has finite losses to its end.
        confidence: of the interval of the mean over replicates (Student's t).

    Returns:
        Columns epoch, wall_s (seconds since the trial began, all its replicates stacked),
        replicates (that it has but for those left out), n (those still sound: each one is lost from
        the first epoch on that is missing or in which a loss of either member is not finite),
        mean_nats over the n, low_nats and high_nats (NaN for n < 2). No rows give no rows, as do
        failed ones alone.
    """
    if epochs.empty or epochs.replicate.isin(list(failed)).all():
        return pd.DataFrame(columns=_COLUMNS)
    counted = epochs[~epochs.replicate.isin(list(failed))]
    best_first = counted.sort_values(["control_loss_discrete", "branch"], kind="stable")
    marked = best_first.assign(
        sound=np.isfinite(best_first.control_loss_discrete.to_numpy())
        & np.isfinite(best_first.val_neg_elbo_nats.to_numpy())
    )
    better = marked.drop_duplicates(["replicate", "epoch"])
    losses = better.pivot_table("val_neg_elbo_nats", "epoch", "replicate", dropna=False)
    both = marked.pivot_table("sound", "epoch", "replicate", aggfunc="all", dropna=False)
    kept = both.eq(other=True).cummin()
    values = losses.where(kept)
    n = kept.sum(axis=1)
    mean = values.mean(axis=1)
    reach = _student(n.to_numpy(), confidence) * values.std(axis=1) / np.sqrt(n.where(n > 0))
    return pd.DataFrame(
        {"epoch": losses.index, "wall_s": counted.groupby("epoch").wall_s.max(),
         "replicates": losses.shape[1], "n": n, "mean_nats": mean,
         "low_nats": mean - reach, "high_nats": mean + reach}
    ).reset_index(drop=True)  # fmt: skip


def _student(n: np.ndarray, confidence: float) -> np.ndarray:
    """Return the two-sided quantile with n - 1 degrees of freedom, NaN for n < 2."""
    from scipy.special import stdtrit

    freedom = np.where(n > 1, n - 1.0, np.nan)
    return np.asarray(stdtrit(freedom, 0.5 + confidence / 2))


def whole(curve: pd.DataFrame) -> pd.DataFrame:
    """Return the curve as far as all its replicates are sound.

    Beyond, the mean of those left would be better than the trial is.
    """
    return curve[curve.n == curve.replicates]


@dataclass(frozen=True)
class Crossing:
    """From when on a curve stays at or below a loss."""

    epoch: int
    wall_s: float


def crossing(curve: pd.DataFrame, target_nats: float) -> Crossing | None:
    """Return the first epoch from which on the mean stays at or below the target, to its end.

    None where its last mean is above it, NaN, or where there is none. A curve that dips below and
    rises again has not arrived.
    """
    above = np.flatnonzero(~(curve.mean_nats.to_numpy(float) <= target_nats))
    first = int(above[-1]) + 1 if above.size else 0
    if first >= len(curve):
        return None
    row = curve.iloc[first]
    return Crossing(int(row.epoch), float(row.wall_s))
