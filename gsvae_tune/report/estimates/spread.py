"""How much of a loss's spread lies between configurations, and how much is the luck of a seed.

One-way random effects: loss of replicate j of trial i = mean + t_i + e_ij, with var t = between and
var e = within. In a search all trials use the same seeds; what a seed does to all of them is part
of `within`, though it moves no comparison of trials.

Sources: Searle, Casella and McCulloch 1992, "Variance Components", section 3.6 (ANOVA estimators
for unequal numbers); Arvesen and Layard 1975 (jackknife of the logarithm of their ratio, which
holds where effects are not normal: the F interval does not); Rousseeuw and Croux 1993 (MAD).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FARTHEST = 0.1  # of the trials, counted for how much of the spread they alone make up


@dataclass(frozen=True)
class Components:
    """Standard deviations between and within trials, nats, and the share of variance between."""

    trials: int
    losses: int  # replicates, all trials together
    between_nats: float
    within_nats: float
    share: float  # intraclass correlation: between^2 / (between^2 + within^2)
    share_low: float  # NaN, like share_high, where the trials are too few for an interval
    share_high: float
    robust_between_nats: float
    robust_within_nats: float
    farthest_share: float  # of the squared distances to the mean, `FARTHEST` of the trials have

    @property
    def robust_share(self) -> float:
        """The share from the robust pair; NaN where both are 0."""
        both = self.robust_between_nats**2 + self.robust_within_nats**2
        return self.robust_between_nats**2 / both if both > 0 else np.nan


def components(losses: pd.DataFrame, confidence: float = 0.95) -> Components | None:
    """Return the components of variance of an arm's losses; None where they cannot be told apart.

    That takes two trials at least, and one with two replicates. A between-variance that comes out
    negative is 0. The share's interval is the jackknife's over trials. With 20 trials of three
    replicates and normal effects it held the truth in 95 % of 300 repetitions, with effects of
    Student's t (3 degrees) in 84 %, lognormal ones in 73 %; with 67 trials in 97, 85 and 81 %. (The
    interval of F theory: 98, 74 and 50 %, 97, 65 and 44 %; a BCa bootstrap over trials: 90, 79 and
    64 %, 96, 84 and 77 %.) Losses that are all equal give a share of NaN.

    The robust pair rests on medians: of the trials' own variances (each divided by the median that
    normal losses would give it), and of the trial means' distance to their median.

    Args:
        losses: columns number (of the trial) and loss_nats, a row a replicate; rows whose loss is
            not finite are left out.
        confidence: of the interval of the share.
    """
    table = trial_spreads(losses)
    n = table.n.to_numpy(dtype=float)
    count, total = len(table), n.sum()
    if count < 2 or total <= count:
        return None
    means = table["mean"].to_numpy()
    squares = (n - 1) * table.sd.fillna(0.0).to_numpy() ** 2
    among, inner, size = (float(one[0]) for one in _squares(n, means, squares))
    between = max(0.0, (among - inner) / size)
    low, high = _share_interval(n, means, squares, confidence)
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
        farthest_share=_farthest(n, means),
    )


def _squares(
    n: NDArray[np.float64],
    means: NDArray[np.float64],
    squares: NDArray[np.float64],
    *,
    without: bool = False,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean squares among and within trials, and replicates a trial where equally many.

    Of all trials, a value each; or `without` each trial in turn, as many values as trials.

    Args:
        n: replicates of each trial.
        means: of each trial, nats.
        squares: sum of squares within each trial.
    """
    means = means - (n * means).sum() / n.sum()  # sums of squares far from 0 would cost digits

    def summed(parts: NDArray[np.float64]) -> NDArray[np.float64]:
        rest: NDArray[np.float64] = parts.sum() - parts if without else parts.sum(keepdims=True)
        return rest

    trials, total = n.size - without, summed(n)
    among = (summed(n * means**2) - summed(n * means) ** 2 / total) / (trials - 1)
    inner = summed(squares) / np.where(total > trials, total - trials, np.nan)
    return among, inner, (total - summed(n**2) / total) / (trials - 1)


def _farthest(n: NDArray[np.float64], means: NDArray[np.float64]) -> float:
    """Return how much of the sum of squares among trials the farthest have; NaN if it is 0."""
    parts = np.sort(n * (means - (n * means).sum() / n.sum()) ** 2)[::-1]
    most = max(1, round(FARTHEST * n.size))
    return float(parts[:most].sum() / parts.sum()) if parts.sum() > 0 else np.nan


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
    n: NDArray[np.float64],
    means: NDArray[np.float64],
    squares: NDArray[np.float64],
    confidence: float,
) -> tuple[float, float]:
    """Return the interval of the share, at least 0, from the jackknife of log(among / inner)."""
    from scipy.special import stdtrit

    count = n.size
    among, inner, size = _squares(n, means, squares)
    if inner[0] == 0:
        return (1.0, 1.0) if among[0] > 0 else (np.nan, np.nan)
    if count < 3 or among[0] == 0:
        return np.nan, np.nan
    among_without, inner_without, _ = _squares(n, means, squares, without=True)
    if not ((among_without > 0) & (inner_without > 0)).all():
        return np.nan, np.nan
    every = float(np.log(among[0] / inner[0]))
    pseudo = count * every - (count - 1) * np.log(among_without / inner_without)
    reach = float(stdtrit(count - 1, (1 + confidence) / 2) * pseudo.std(ddof=1) / count**0.5)
    ends = np.exp(pseudo.mean() + np.array([-reach, reach]))
    shares = np.maximum(0.0, (ends - 1) / (ends - 1 + size[0]))
    return float(shares[0]), float(shares[1])


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
