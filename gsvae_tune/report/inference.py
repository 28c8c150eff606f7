"""What the replicates say about two arms: tests, intervals, and the luck a search leaves behind.

Losses are nats, lower is better. A difference is arm - baseline within one pair of replicates
(same seed), so a negative difference means that the arm is better. n counts pairs.

Functions take anything that numpy reads as one axis of floats and know nothing of studies, tables
or verdicts. Failed replicates are given a loss by `paired_losses` before anything else is asked;
a value that is still NaN or infinite makes the answer NaN instead of vanishing from it.

scipy is imported where it is used: scipy.stats takes half a second that a command line which only
asks for help should not wait for.

Sources: Ernst 2004 (permutation tests), Phipson and Smyth 2010 (p is never 0), Efron 1987 (BCa),
Clopper and Pearson 1934, Holm 1979, Agarwal et al. 2021 (2108.13264), Bouthillier et al. 2021
(2103.03098), Kendall 1945 (tau-b).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

# 2^19 sums, a few milliseconds; each further pair doubles both time and memory.
EXACT_PAIRS = 20
FLIPS = 100_000
RESAMPLES = 9_999

# Two sums within this share of sum |d| are one value. Far above what rounding does to differences
# of losses (about 1e-13 of a nat), far below what a seed does; an error here only enlarges p.
ROUNDING = 1e-10


def sign_flip_p(differences: ArrayLike, seed: int = 0) -> float:
    """Return the two-sided p of the paired randomization test that the mean difference is 0.

    Under the null hypothesis each pair could as well have come out with its sign flipped; p is the
    share of all 2^n flips whose |sum| is at least the one seen. Exact up to EXACT_PAIRS pairs.
    Beyond that FLIPS random flips drawn from `seed`, the flip seen counted among them, so that p is
    never 0 and never below 1 / (FLIPS + 1). Sums equal up to rounding count as equal.

    No pairs, or differences that are all 0, give 1. NaN or an infinite value gives NaN.
    """
    values = _floats(differences)
    if not np.isfinite(values).all():
        return np.nan
    if values.size == 0:
        return 1.0
    if values.size <= EXACT_PAIRS:
        return float(exact_sign_flip_p(values))
    generator = np.random.default_rng(seed)
    reach = abs(values.sum()) - ROUNDING * np.abs(values).sum()
    as_far = 0
    for _ in range(FLIPS // 1_000):  # in blocks: 1,000 pairs at once would take 800 MB
        kept = generator.integers(0, 2, (1_000, values.size), dtype=np.int8)
        as_far += int((np.abs((2.0 * kept - 1.0) @ values) >= reach).sum())
    return (as_far + 1) / (FLIPS + 1)


def exact_sign_flip_p(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the exact p of `sign_flip_p` for each study: (..., n) -> (...), n >= 1, finite.

    It holds 2^(n-1) sums a study in memory.
    """
    # Flipping every sign leaves |sum| as it is: the first sign stays, and the first sum is the
    # one that was seen.
    sums = differences[..., :1]
    for pair in range(1, differences.shape[-1]):
        flip = differences[..., pair : pair + 1]
        sums = np.concatenate([sums + flip, sums - flip], axis=-1)
    slack = ROUNDING * np.abs(differences).sum(axis=-1, keepdims=True)
    shares: NDArray[np.float64] = np.mean(np.abs(sums) >= np.abs(sums[..., :1]) - slack, axis=-1)
    return shares


def smallest_p(n: int) -> float:
    """Return 2 / 2^n, at most 1: the lowest p that n pairs can reach, all of one sign.

    With it a comparison that cannot succeed is known before it is run: 5 pairs stop at 0.0625. A
    pair whose difference is exactly 0 does not help: p stops where it would without that pair.
    """
    return min(1.0, 2.0 ** (1 - n))


def bca_interval(values: ArrayLike, confidence: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Return the BCa bootstrap interval of the mean, from RESAMPLES resamples (Efron 1987).

    In the units of the values. Values that are all v give (v, v). Fewer than two values, NaN or an
    infinite value give (nan, nan). Like every bootstrap it is too narrow where values are few: at
    0.95 it held the mean of 5 normal values in 85 % of 2,000 repetitions, of 10 in 90 %, of 20 in
    93 %.
    """
    from scipy.stats import bootstrap

    data = _floats(values)
    if data.size < 2 or not np.isfinite(data).all():
        return np.nan, np.nan
    start, spread = data.min(), np.ptp(data)
    if spread == 0:
        return float(start), float(start)
    # On the scale from 0 to 1, which changes no BCa interval of a mean, tiny or nearly equal
    # values divide no zero by zero, and _rounded_mean knows what rounding is. scipy before 1.15
    # knows the generator as random_state only.
    scaled = bootstrap(
        ((data - start) / spread,),
        _rounded_mean,
        n_resamples=RESAMPLES,
        confidence_level=confidence,
        method="BCa",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return float(start + spread * scaled.low), float(start + spread * scaled.high)


def probability_better(
    differences: ArrayLike, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Return (p, low, high): the share of pairs in which the arm is better, with its interval.

    Better is a difference < 0; a tie (exactly 0) counts one half. The interval is that of
    `binomial_interval`. No pairs give (nan, 0, 1); NaN anywhere gives three NaN.
    """
    values = _floats(differences)
    if np.isnan(values).any():
        return np.nan, np.nan, np.nan
    wins = float((values < 0).sum() + (values == 0).sum() / 2)
    share = wins / values.size if values.size else np.nan
    return share, *binomial_interval(wins, values.size, confidence)


def binomial_interval(count: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a rate of which `count` in n was seen (Clopper, Pearson 1934).

    A half count, as a tie leaves, lies between its neighbours by the same beta quantiles. n = 0
    gives (0, 1). Raises ValueError unless 0 <= count <= n.
    """
    from scipy.special import betaincinv

    if not 0 <= count <= n:
        raise ValueError(f"a count lies between 0 and n: count is {count}, n is {n}")
    tail = (1 - confidence) / 2
    low = betaincinv(count, n - count + 1, tail) if count > 0 else 0.0
    high = betaincinv(count + 1, n - count, 1 - tail) if count < n else 1.0
    return float(low), float(high)


def half_width(
    error: ArrayLike, n: int, lead: ArrayLike, confidence: float = 0.95
) -> NDArray[np.float64]:
    """Return half the interval of a mean difference, over seeds and over repeated searches, nats.

    sqrt((t error)^2 + lead^2): the standard error of the mean with Student's quantile for its n - 1
    degrees of freedom, and what luck in searching may give at the same confidence (`search_lead`).
    Exact where either is 0 (for normal differences); else an approximation that the calibration
    checks. NaN for fewer than two pairs.
    """
    from scipy.special import stdtrit

    seeds = stdtrit(n - 1, 0.5 + confidence / 2) * np.asarray(error) if n > 1 else np.nan
    return np.asarray(np.hypot(seeds, np.asarray(lead)), dtype=np.float64)


def interquartile_mean(values: ArrayLike) -> float:
    """Return the mean of the middle half (Agarwal et al. 2021), int(n / 4) values cut at each end.

    Up to 3 values that is their mean; none give NaN. NaN gives NaN.
    """
    from scipy.stats import trim_mean

    data = _floats(values)
    if data.size == 0 or np.isnan(data).any():  # sorting would cut NaN off as if it were a loss
        return np.nan
    return float(trim_mean(data, 0.25))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return Holm's adjusted p values (1979) in the order given, each at most 1.

    Comparing each with alpha keeps the chance of any false claim in the family at alpha. NaN, a
    comparison that could not be tested, stays NaN and still counts as a member of the family.
    """
    p = _floats(p_values)
    order = np.argsort(p)  # NaN last
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    return np.minimum(adjusted, 1.0)


def search_lead(values: ArrayLike, others: int, level: float) -> float:
    """Return how far ahead a search's best must be before luck alone would hardly put it there.

    That is how far its own j-th best trial lies behind its best, nats. Where two searches of N and
    M trials draw from one distribution, whatever it is, the j best of all N + M trials are all of
    the first search with probability N ... (N - j + 1) / ((N + M) ... (N + M - j + 1)), about
    2^-j where N = M; j is the smallest for which that is at most ``level``. So a lead of this size,
    over the other search's best, comes by luck no more often than that (a precedence test).

    Args:
        values: losses of the search that is ahead; those that are not finite are no finished
            trials.
        others: finished trials of the other search.
        level: in one direction.

    NaN where no lead would do: too few trials. Trials of an adaptive sampler are not independent:
    for them it is an approximation, which the calibration checks.
    """
    data = _floats(values)
    data = np.sort(data[np.isfinite(data)])
    ranks = np.arange(data.size)
    by_luck = np.cumprod((data.size - ranks) / (data.size + others - ranks))
    enough = np.flatnonzero(by_luck <= level) if others else np.empty(0, dtype=np.intp)
    return float(data[enough[0]] - data[0]) if enough.size else np.nan


def search_luck(values: ArrayLike) -> float:
    """Return how far the best of a search would move, in nats, if the search were repeated.

    The standard deviation of the minimum of N draws with replacement from the N finished trials'
    values. No drawing is needed: with the values sorted, the minimum is the i-th with probability
    ((N-i+1)/N)^N - ((N-i)/N)^N. Values that are not finite are no finished trials; fewer than two
    give NaN. A scale for planning and no test: no value better than the best one seen can be drawn
    (Bickel and Freedman 1981); `search_lead` is what a claim is held against.
    """
    data = _floats(values)
    data = np.sort(data[np.isfinite(data)])
    if data.size < 2:
        return np.nan
    at_least = (np.arange(data.size, -1, -1) / data.size) ** data.size
    weights = at_least[:-1] - at_least[1:]
    behind = data - data[0]  # small beside the values: squares lose no digits
    return float(np.sqrt(weights @ (behind - weights @ behind) ** 2))


def winners_curse(selected: ArrayLike, reevaluated: ArrayLike) -> float:
    """Return the re-evaluated mean minus the selected score, in nats.

    Positive: the score that won the search was better than fresh seeds bear out. Several selected
    scores are averaged. No values on either side, NaN or an infinite value give NaN.
    """
    scores, again = _floats(selected), _floats(reevaluated)
    known = np.isfinite(scores).all() and np.isfinite(again).all()
    return float(again.mean() - scores.mean()) if known and scores.size and again.size else np.nan


def rank_stability(selected: ArrayLike, reevaluated: ArrayLike) -> float:
    """Return Kendall's tau-b between the selected scores of configurations and their new ones.

    1: the order is the same, 0: nothing is left of it, -1: it is reversed. Fewer than two
    configurations, scores that are all equal, and NaN give NaN; a configuration that failed may be
    given as infinite, and ranks last. Raises ValueError where the lengths differ.
    """
    from scipy.stats import kendalltau

    scores, again = _floats(selected), _floats(reevaluated)
    if scores.size != again.size:
        raise ValueError(
            f"each configuration has two scores: {scores.size} selected, {again.size} re-evaluated"
        )
    return float(kendalltau(scores, again).statistic) if scores.size > 1 else np.nan


def paired_losses(
    arm: ArrayLike,
    baseline: ArrayLike,
    arm_failed: ArrayLike,
    baseline_failed: ArrayLike,
    margin: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both arms' losses, (n,) each, with every failed replicate as a loss; none is dropped.

    A failed replicate, and any whose loss is not finite, gets the largest finite loss of the two
    arms, failed ones among them, plus `margin` nats: it is no better than its own value, no better
    than any that finished, and two failures in one pair tie. Where no loss is finite all of them
    get `margin`: the levels mean nothing then, and every difference is 0, which supports nothing.

    Raises ValueError unless the four have one length and margin >= 0.
    """
    losses = [_floats(arm), _floats(baseline)]
    failed = [np.asarray(flags, dtype=np.bool_) for flags in (arm_failed, baseline_failed)]
    if len({array.shape for array in (*losses, *failed)}) > 1:
        shapes = ", ".join(str(array.shape) for array in (*losses, *failed))
        raise ValueError(f"losses and failures of both arms have one length: theirs are {shapes}")
    if not 0 <= margin < np.inf:
        raise ValueError(f"a failure costs a margin of 0 nats or more: margin is {margin}")
    finite = np.concatenate(losses)
    finite = finite[np.isfinite(finite)]
    lost = (finite.max() if finite.size else 0.0) + margin
    values = [
        np.where(flags | ~np.isfinite(own), lost, own)
        for own, flags in zip(losses, failed, strict=True)
    ]
    return values[0], values[1]


def _rounded_mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Return the mean, to 12 decimals.

    The bias correction counts the resampled means below, and half of those equal to, the mean seen.
    The same values added in another order differ in the last digit, and would count at random.
    """
    means: NDArray[np.float64] = np.asarray(values.mean(axis=axis)).round(12)
    return means


def _floats(values: ArrayLike) -> NDArray[np.float64]:
    """Return the values along one axis; a single number is one value."""
    flat: NDArray[np.float64] = np.asarray(values, dtype=np.float64).reshape(-1)
    return flat
