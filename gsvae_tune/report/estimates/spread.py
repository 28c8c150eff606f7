"""How much of a loss's spread lies between configurations, and how much is the luck of a seed.

One-way random effects: loss of replicate j of trial i = mean + t_i + e_ij, with var t = between and
var e = within. In a search all trials use the same seeds; what a seed does to all of them is part
of `within`, though it moves no comparison of trials.

Sources: Searle, Casella and McCulloch 1992, "Variance Components", sections 3.6 and 3.9 (ANOVA
estimators for unequal numbers, interval of the intraclass share); Rousseeuw and Croux 1993 (MAD).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray


@dataclass(frozen=True)
class Components:
    """Standard deviations between and within trials, nats, and the share of variance between."""

    trials: int
    losses: int  # replicates, all trials together
    between_nats: float
    within_nats: float
    share: float  # intraclass correlation: between^2 / (between^2 + within^2)
    share_low: float
    share_high: float
    robust_between_nats: float
    robust_within_nats: float


def components(losses: pd.DataFrame, confidence: float = 0.95) -> Components | None:
    """Return the components of variance of an arm's losses; None where they cannot be told apart.

    That takes two trials at least, and one with two replicates. A between-variance that comes out
    negative is 0. The share's interval is exact for normal effects and equal numbers of replicates,
    else an approximation. Losses that are all equal give a share of NaN.

    The robust pair rests on medians: of the trials' own variances (each divided by the median that
    normal losses would give it), and of the trial means' distance to their median.

    Args:
        losses: columns number (of the trial) and loss_nats, a row a replicate; rows whose loss is
            not finite are left out.
        confidence: of the interval of the share.
    """
    table = trial_spreads(losses)
    n = table.n.to_numpy(dtype=float)
    if len(table) < 2 or n.sum() <= len(table):
        return None
    total, count = n.sum(), len(table)
    grand = float((n * table["mean"]).sum() / total)
    among = float((n * (table["mean"] - grand) ** 2).sum()) / (count - 1)
    inner = float(((n - 1) * table.sd.fillna(0.0) ** 2).sum()) / (total - count)
    size = (total - (n**2).sum() / total) / (
        count - 1
    )  # replicates a trial, where all have as many
    between = max(0.0, (among - inner) / size)
    low, high = _share_interval(among, inner, size, count - 1, total - count, confidence)
    both = between + inner
    robust = _robust(table)
    return Components(
        trials=count,
        losses=int(total),
        between_nats=between**0.5,
        within_nats=inner**0.5,
        share=between / both if both > 0 else np.nan,
        share_low=low,
        share_high=high,
        robust_between_nats=robust[0],
        robust_within_nats=robust[1],
    )


def trial_spreads(losses: pd.DataFrame) -> pd.DataFrame:
    """Return n, mean and sd (nats; NaN for one replicate) of each trial's finite losses.

    Args:
        losses: as in `components`.
    """
    known = losses[np.isfinite(losses.loss_nats)]
    grouped = known.groupby("number").loss_nats
    table: pd.DataFrame = grouped.agg(n="size", mean="mean", sd="std").reset_index()
    # Equal losses leave rounding behind in a mean: no spread, rather than 1e-15.
    table.loc[(grouped.nunique().to_numpy() == 1) & (table.n > 1), "sd"] = 0.0
    return table


def _share_interval(
    among: float, inner: float, size: float, upper: float, lower: float, confidence: float
) -> tuple[float, float]:
    """Return the interval of the intraclass share from F = among / inner, at least 0."""
    from scipy.special import fdtri

    if among <= 0:
        return (0.0, 0.0) if inner > 0 else (np.nan, np.nan)
    tail = (1 - confidence) / 2
    ends = []
    for probability in (1 - tail, tail):
        inverse = inner / among * fdtri(upper, lower, probability)  # 1 / F, shifted to its quantile
        ends.append(max(0.0, (1 - inverse) / (1 + (size - 1) * inverse)))
    return ends[0], ends[1]


def _robust(table: pd.DataFrame) -> tuple[float, float]:
    """Return the robust standard deviations between and within trials."""
    from scipy.special import chdtri

    several = table[table.n > 1]
    freedom = several.n.to_numpy(dtype=float) - 1
    usual: NDArray[np.float64] = chdtri(freedom, 0.5) / freedom  # median of a variance, for var 1
    within = float(np.median(several.sd.to_numpy() ** 2 / usual))
    means = table["mean"].to_numpy()
    spread = 1.482602 * float(np.median(np.abs(means - np.median(means))))
    return max(0.0, spread**2 - within * float((1 / table.n).mean())) ** 0.5, within**0.5
