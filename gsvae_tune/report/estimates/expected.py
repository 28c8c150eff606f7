"""Expected validation performance: the best loss to expect of n independent random trials.

The best of one search is one draw of luck. What a budget of n trials gives on average can be
estimated from N >= n trials that were drawn independently from one distribution; those that an
adaptive sampler chose were not, so only the random stratum is asked.

Notation: v_1 <= ... <= v_N the losses of the N trials, n the budget; the expected minimum of n is
    with replacement     sum_i v_i [((N-i+1)/N)^n - ((N-i)/N)^n]    Dodge et al. 2019, 1909.03004
    without replacement  sum_i v_i C(N-i, n-1) / C(N, n)            Tang et al. 2020, 2004.13705
The first is a V-statistic: biased (too high for a minimum), with the smaller error; the second a
U-statistic: unbiased, with the larger variance (Dodge et al. 2021, 2110.00613, compare them).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from gsvae_tune.study.records import TrialState

RESAMPLES = 1_000
BUDGETS = 40  # along a curve, at most
CONFIDENCE = 0.95

Floats = NDArray[np.float64]


def expected_best(values: ArrayLike, budgets: ArrayLike) -> Floats:
    """Return the expected minimum of n draws with replacement for each budget n (V-statistic).

    Args:
        values: (N,) losses, finite, in any order.
        budgets: (M,) numbers of trials, n >= 1; more than N may be asked for.

    Returns:
        (M,) in the units of the values; NaN where there are no values.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    return (
        _weights_with(ordered.size, _floats(budgets)) @ ordered if ordered.size else _none(budgets)
    )


def expected_best_unbiased(values: ArrayLike, budgets: ArrayLike) -> Floats:
    """Return the expected minimum of n draws without replacement for each budget n (U-statistic).

    Args:
        values: (N,) losses, finite, in any order.
        budgets: (M,) whole numbers of trials, 1 to N.

    Returns:
        (M,) in the units of the values; NaN for n > N, of which N trials say nothing.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n, size = _floats(budgets), ordered.size
    found = _none(budgets)
    able = n <= size
    found[able] = _weights_without(size, n[able]) @ ordered
    return found


def expected_curves(trials: pd.DataFrame) -> pd.DataFrame:
    """Return both estimates over the budget for each arm's random trials.

    A failed trial, or one that was pruned, counts as the worst loss of its arm: as infinite it
    would make every expectation infinite, and left out it would be free.

    Args:
        trials: the study's table of trials; only those of the random stratum that have ended are
            used, and only arms with a finished one.

    Returns:
        One row an arm and budget: `arm`, `trials` (n), `device_s` (n times the mean device-seconds
        of the arm's random trials; NaN if none was recorded), `with_nats`, `without_nats`,
        `low_nats` and `high_nats` (percentile bootstrap interval of `with_nats` over the trials, at
        CONFIDENCE), `of` (N) and `failed` (of N).

        No resample holds a loss below the best one seen, so as n nears N the interval is too short
        at its lower end (Bickel and Freedman 1981).
    """
    over = trials[
        (trials.phase == "search")
        & (trials.stratum == "random")
        & (trials.state != TrialState.RUNNING.value)
    ]
    curves = [_curve(str(arm), own) for arm, own in over.groupby("arm", sort=False)]
    found = [curve for curve in curves if curve is not None]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=_COLUMNS)


_COLUMNS = [
    "arm", "trials", "device_s", "with_nats", "without_nats", "low_nats", "high_nats", "of",
    "failed",
]  # fmt: skip


def _curve(arm: str, trials: pd.DataFrame) -> pd.DataFrame | None:
    values = trials.value.where(trials.state == TrialState.COMPLETE.value).to_numpy(np.float64)
    lost = ~np.isfinite(values)
    if lost.all():
        return None
    values = np.where(lost, values[~lost].max(), values)
    n = budgets_up_to(values.size)
    low, high = _interval(values, n)
    return pd.DataFrame(
        {
            "arm": arm,
            "trials": n,
            "device_s": n * trials.wall_s.mean(),
            "with_nats": expected_best(values, n),
            "without_nats": expected_best_unbiased(values, n),
            "low_nats": low,
            "high_nats": high,
            "of": values.size,
            "failed": int(lost.sum()),
        }
    )


def budgets_up_to(size: int) -> NDArray[np.int64]:
    """Return whole budgets from 1 to `size`, all of them or BUDGETS at most, evenly in log."""
    if size <= BUDGETS:
        return np.arange(1, size + 1)
    spaced = np.unique(np.rint(np.geomspace(1, size, BUDGETS)).astype(np.int64))
    return np.asarray(spaced, dtype=np.int64)


def _interval(values: Floats, budgets: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return the percentile bootstrap interval of `expected_best`, from RESAMPLES resamples."""
    rng = np.random.default_rng(0)
    size = values.size
    # Sorted uniform numbers are cumulated exponential ones, scaled (Renyi 1953): resamples come
    # sorted without sorting, which is what takes the time where thousands of trials are.
    steps = rng.standard_exponential((RESAMPLES, size + 1)).cumsum(axis=1)
    drawn = (steps[:, :-1] / steps[:, -1:] * size).astype(np.intp)
    resampled = np.sort(values)[np.minimum(drawn, size - 1)]
    curves = _weights_with(size, _floats(budgets)) @ resampled.T
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(curves, [tail, 1 - tail], axis=1)
    return low, high


def _weights_with(size: int, budgets: Floats) -> Floats:
    """Return (M, N): how probably the i-th best is the minimum of n draws with replacement."""
    at_least = (np.arange(size, -1, -1) / size) ** budgets[:, None]
    return np.asarray(at_least[:, :-1] - at_least[:, 1:])


def _weights_without(size: int, budgets: Floats) -> Floats:
    """Return (M, N): how probably the i-th best is the minimum of n draws without replacement.

    C(N-i, n-1) / C(N, n) in logarithms: the binomials themselves overflow from N = 1,030 on.
    """
    from scipy.special import gammaln

    n, worse = budgets[:, None], size - np.arange(1.0, size + 1)  # N - i
    logs = np.log(n) + gammaln(worse + 1) - gammaln(np.maximum(worse - n + 2, 1.0))
    logs += gammaln(size - n + 1) - gammaln(size + 1.0)
    return np.where(worse >= n - 1, np.exp(logs), 0.0)


def _floats(values: ArrayLike) -> Floats:
    flat: Floats = np.asarray(values, dtype=np.float64).reshape(-1)
    return flat


def _none(budgets: ArrayLike) -> Floats:
    return np.full(_floats(budgets).shape, np.nan)
