"""How the loss of trials hangs on one setting, or two, whatever the other settings were.

A marginal says what trials gave that had a setting near a value; it holds nothing else constant.
Where an adaptive sampler chose the trials it speaks of the sampler's mixture of the other settings.

Losses are nats, lower is better. One absurd loss would bend a mean over its whole neighbourhood,
and a failed trial has no loss at all: both are counted as the loss at `fence`, and never dropped.

Sources: Fan 1992 (local-linear regression); Seifert and Gasser 1996 (its ridge); Scott 1992 (the
bandwidth); Kish 1965 (effective number); Tukey 1977 (outer fence); Dixon 1960 (a mean of losses
cut at a fence); Thompson 1936 (interval of a median by order statistics); Westfall and Young 1993
(permutation of the largest statistic).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 1_000  # of the bootstrap; of 5 % shared by four curves some six lie beyond each end
PERMUTATIONS = 1_999  # enough for a p of 5 % / 100
GRID = 51  # points of a curve
RIDGE = (
    0.01  # of h^2: leaves a slope all but as it is, and keeps two near trials from blowing it up
)
CURVE = [
    "at", "loss_nats", "low_nats", "high_nats", "above_low_nats", "above_high_nats", "stretch",
]  # fmt: skip
FEWEST = 5.0  # effective trials behind a point of a curve: with fewer it turns on one trial
GAP = 2.0  # bandwidths without a trial, over which a curve would only be guessed
LEVEL = 0.05  # of a figure: how often chance alone may make it name anything
NAMED = 10  # trials of a curve from which something is said of its shape
INSIDE = 3  # trials in a range that is named


def fence(losses: ArrayLike) -> float:
    """Return the loss above which trials lie far outside: Q3 + 3 (Q3 - Q1), at most the largest.

    Values that are not finite are left out. Quartiles that are equal give the largest loss, no
    finite loss gives NaN.
    """
    values = np.asarray(losses, dtype=np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return np.nan
    lower, upper = np.quantile(values, [0.25, 0.75])
    largest = float(values.max())
    return min(largest, float(upper + 3 * (upper - lower))) if upper > lower else largest


def bandwidth(values: ArrayLike) -> float:
    """Return the kernel's standard deviation for n values: 1.06 min(sd, IQR / 1.349) n^(-1/5).

    In the units of the values. Equal quartiles leave the standard deviation alone; values that are
    all equal, or fewer than two, give 0: no curve can be drawn through them.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size < 2 or np.ptp(data) == 0:
        return 0.0
    quarter = float(np.subtract(*np.quantile(data, [0.75, 0.25]))) / 1.349
    spread = float(data.std(ddof=1))
    return float(1.06 * (min(spread, quarter) if quarter > 0 else spread) * data.size**-0.2)


@dataclass(frozen=True)
class _Kernel:
    """Where a curve is worked out, and what every trial weighs there; (trials, points)."""

    place: NDArray[np.float64]  # in the setting's unit, (points,)
    away: NDArray[np.float64]  # bandwidths
    weights: NDArray[np.float64]
    stretch: NDArray[np.intp]  # which unbroken piece of the curve a point belongs to, (points,)


def _kernel(setting: ArrayLike, at: ArrayLike | None, *, log: bool) -> _Kernel | None:
    """Return the kernel at all points that trials carry; None where there is none."""
    x = np.asarray(setting, dtype=np.float64)
    x = np.log(x) if log else x
    width = bandwidth(x)
    if width == 0:
        return None
    if at is None:
        points = np.linspace(x.min(), x.max(), GRID)
    else:
        points = np.log(np.asarray(at, dtype=np.float64)) if log else np.asarray(at, dtype=float)
    away = (x[:, None] - points) / width
    exponents = -0.5 * away**2
    weights = np.exp(exponents - exponents.max(axis=0))  # of the nearest trial 1
    carried = weights.sum(axis=0) ** 2 / (weights**2).sum(axis=0) >= FEWEST
    stretch = np.zeros(points.size, dtype=np.intp)
    if at is None:
        ordered = np.sort(x)
        before = np.flatnonzero(np.diff(ordered) > GAP * width)
        stretch = np.searchsorted(ordered[before + 1], points, side="right")
        carried &= np.searchsorted(ordered[before], points, side="left") <= stretch
    if not carried.any():
        return None
    place = np.exp(points) if log else points
    weights = np.maximum(weights, 1e-12)  # a resample may lack all near trials
    return _Kernel(place[carried], away[:, carried], weights[:, carried], stretch[carried])


def smoothed_loss(
    setting: ArrayLike,
    loss: ArrayLike,
    *,
    log: bool,
    at: ArrayLike | None = None,
    seed: int = 0,
    curves: int = 1,
) -> pd.DataFrame:
    """Return the local-linear mean of the loss along a setting, with a 95 % bootstrap interval.

    Gaussian kernel in the setting, or in its logarithm. The interval is pointwise, from resampled
    trials (percentiles) with the bandwidth kept, and knows nothing of the smoothing's own bias.

    Args:
        setting: a value a trial, finite; above 0 if `log`.
        loss: a loss a trial, nats, finite.
        log: smooth in the logarithm of the setting.
        at: where, if the setting has these values only; default: `GRID` points from the lowest to
            the highest setting, without those in a gap of more than `GAP` bandwidths.
        seed: of the bootstrap.
        curves: that are looked at together, and share `LEVEL`.

    Returns:
        Columns at, loss_nats, low_nats, high_nats; above_low_nats and above_high_nats: the interval
        of how far the loss lies above that at the curve's lowest point, at 1 - LEVEL / curves; and
        stretch: a number for each piece between gaps. Only points with `FEWEST` effective trials
        (Kish's number of the kernel's weights). Empty where there is none, or the setting has one
        value only.
    """
    kernel = _kernel(setting, at, log=log)
    if kernel is None:
        return pd.DataFrame(columns=CURVE, dtype=float)
    y = np.asarray(loss, dtype=np.float64)
    # A loss far from 0 would cost digits: smooth what is left above the lowest.
    above = y - y.min()
    drawn = _local_linear(kernel, above, _resamples(y.size, seed))
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0) + y.min()
    curve = _local_linear(kernel, above, np.ones((1, y.size)))[0] + y.min()
    distance = drawn - drawn[:, [int(curve.argmin())]]
    tail = LEVEL / curves / 2
    ends = np.quantile(distance, [tail, 1 - tail], axis=0)
    columns = (kernel.place, curve, low, high, *ends, kernel.stretch)
    return pd.DataFrame(dict(zip(CURVE, columns, strict=True)))


def flatness_p(
    setting: ArrayLike, loss: ArrayLike, *, log: bool, at: ArrayLike | None = None, seed: int = 0
) -> float:
    """Return how often shuffled losses bend the curve of `smoothed_loss` as much as these do.

    By the largest distance of the curve from the mean, in its standard deviations under shuffling:
    for independent trials exact, whatever the losses' distribution (for an adaptive sampler's it is
    a guide). 1 where there is no curve, or no two losses differ.

    Args:
        setting: see `smoothed_loss`, as are loss, log and at.
        loss: a loss a trial.
        log: of the setting.
        at: where.
        seed: of the shuffling.
    """
    kernel = _kernel(setting, at, log=log)
    losses = np.asarray(loss, dtype=np.float64)
    if kernel is None or np.ptp(losses) == 0:
        return 1.0
    s1, s2 = ((kernel.weights * kernel.away**power).sum(axis=0) for power in (1, 2))
    s0 = kernel.weights.sum(axis=0)
    s2 = s2 + RIDGE * s0
    share = kernel.weights * (s2 - s1 * kernel.away) / (s2 * s0 - s1**2)
    share = share - share.mean(axis=0)
    size = np.sqrt((share**2).sum(axis=0))
    share = share[:, size > 1e-9] / size[size > 1e-9]
    away = (losses - losses.mean()) / np.ptp(losses)
    shuffled = np.tile(away, (PERMUTATIONS, 1))
    np.random.default_rng(seed).permuted(shuffled, axis=1, out=shuffled)
    seen = float(np.abs(away @ share).max(initial=0.0))
    as_far = np.abs(shuffled @ share).max(axis=1, initial=0.0) >= seen - 1e-12
    return float((1 + as_far.sum()) / (1 + PERMUTATIONS))


def _resamples(n: int, seed: int) -> NDArray[np.float64]:
    """Return how often each of n trials is drawn, (RESAMPLES, n), n draws a resample."""
    drawn = np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))
    places = drawn + n * np.arange(RESAMPLES)[:, None]
    return np.bincount(places.ravel(), minlength=RESAMPLES * n).reshape(-1, n).astype(np.float64)


def _local_linear(
    kernel: _Kernel, loss: NDArray[np.float64], counts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the height at each point, (resamples, points), of the line fitted around it.

    Args:
        kernel: the weights.
        loss: (trials,).
        counts: how often each trial was drawn, (resamples, trials).
    """
    weights, away = kernel.weights, kernel.away
    s0, s1, s2 = (counts @ (weights * away**power) for power in range(3))
    t0, t1 = (counts @ (weights * away**power * loss[:, None]) for power in range(2))
    s2 = s2 + RIDGE * s0
    height: NDArray[np.float64] = (s2 * t0 - s1 * t1) / (s2 * s0 - s1**2)
    return height


def stretches(at: ArrayLike, inside: ArrayLike) -> list[tuple[float, float]]:
    """Return the first and last point of each unbroken run of points that are inside."""
    points = np.asarray(at, dtype=np.float64)
    flags = np.concatenate([[False], np.asarray(inside, dtype=bool), [False]])
    changes = np.flatnonzero(flags[1:] != flags[:-1])
    return [
        (float(points[first]), float(points[after - 1]))
        for first, after in zip(changes[::2], changes[1::2], strict=True)
    ]


def near_lowest(curve: pd.DataFrame, margin_nats: float) -> dict[str, tuple[float, float]]:
    """Return where a smoothed loss lies within a margin of its lowest point, in the setting's unit.

    Args:
        curve: of `smoothed_loss`, not empty.
        margin_nats: at least 0.

    Returns:
        ``near``: the unbroken stretch around the lowest point, over no gap. ``possible``: from the
        first to the last point that the interval of its distance to the lowest does not rule out;
        it holds ``near``.
    """
    lowest = int(curve.loss_nats.argmin())
    level = curve.loss_nats.iloc[lowest] + margin_nats
    place = float(curve["at"].iloc[lowest])
    piece = curve[curve.stretch == curve.stretch.iloc[lowest]]
    near = next(
        (first, last)
        for first, last in stretches(piece["at"], piece.loss_nats <= level)
        if first <= place <= last
    )
    near_enough = (curve.above_low_nats <= margin_nats) | (curve.loss_nats <= level)
    reached = curve["at"][near_enough]
    return {"near": near, "possible": (float(reached.min()), float(reached.max()))}


@dataclass(frozen=True)
class Shape:
    """What may be said of a curve; nats, and ranges in the setting's unit."""

    trials: int
    amount_nats: float  # the curve's highest point above its lowest
    amount_low_nats: float  # 0 where it is not told from flat
    amount_high_nats: float
    told: bool  # apart from a flat line
    near: tuple[float, float]  # see `near_lowest`
    possible: tuple[float, float]
    ends: tuple[float, float]  # of the curve
    held: bool  # the ranges may be named


def shape(
    setting: ArrayLike,
    loss: ArrayLike,
    curve: pd.DataFrame,
    margin_nats: float,
    *,
    log: bool,
    at: ArrayLike | None = None,
    curves: int = 1,
) -> Shape:
    """Return what may be said of a curve, at `LEVEL` for all `curves` together (Bonferroni).

    `told` takes `NAMED` trials, a `flatness_p` of at most LEVEL / curves, and an amount whose
    interval leaves out 0; where trials are independent and their losses hang on nothing, at most
    LEVEL of figures tell any of their curves. `held` takes more: a part of the curve is ruled out,
    and `INSIDE` trials lie in `near`.

    Args:
        setting: of the curve, see `smoothed_loss`, as are loss, log and at.
        loss: a loss a trial.
        curve: of `smoothed_loss` with as many `curves`, not empty.
        margin_nats: of `near_lowest`.
        log: of the setting.
        at: where.
        curves: looked at together.
    """
    x = np.asarray(setting, dtype=np.float64)
    near = near_lowest(curve, margin_nats)
    worst = curve.iloc[int(curve.loss_nats.argmax())]
    p = flatness_p(x, loss, log=log, at=at)
    told = bool(x.size >= NAMED and p <= LEVEL / curves and worst.above_low_nats > 0)
    slack = 1e-9 * np.abs(x).max()  # a logarithm and back moves the ends
    inside = (x >= near["near"][0] - slack) & (x <= near["near"][1] + slack)
    ends = (float(curve["at"].min()), float(curve["at"].max()))
    return Shape(
        trials=x.size,
        amount_nats=float(worst.loss_nats - curve.loss_nats.min()),
        amount_low_nats=float(worst.above_low_nats) if told else 0.0,
        amount_high_nats=float(max(worst.above_high_nats, 0.0)),
        told=told,
        ends=ends,
        held=bool(told and near["possible"] != ends and inside.sum() >= INSIDE),
        **near,
    )


def median_interval(values: ArrayLike, confidence: float = 0.95) -> tuple[float, float, float]:
    """Return (median, low, high) with an interval that no shape of distribution breaks.

    The k-th lowest and k-th highest value, with the largest k for which Binomial(n, 1/2) says that
    the median lies between them in at least `confidence` of samples (Thompson 1936). Fewer values
    than that takes (6 at 0.95) give an interval of NaN, none a median of NaN; infinite values are
    as good as any. For independent draws only.
    """
    from scipy.special import bdtr

    data = np.sort(np.asarray(values, dtype=np.float64))
    if not data.size:
        return np.nan, np.nan, np.nan
    beyond = bdtr(np.arange(data.size // 2), data.size, 0.5)  # P(at most k values lie below it)
    k = int((2 * beyond <= 1 - confidence).sum())
    middle = (data[(data.size - 1) // 2], data[data.size // 2])
    median = float(middle[0]) if middle[0] == middle[1] else float(np.mean(middle))
    return (median, float(data[k - 1]), float(data[-k])) if k else (median, np.nan, np.nan)


def cell_medians(
    across: ArrayLike, up: ArrayLike, loss: ArrayLike, across_edges: ArrayLike, up_edges: ArrayLike
) -> pd.DataFrame:
    """Return the median loss of the trials in each cell of a grid.

    Args:
        across: a value a trial.
        up: a value a trial.
        loss: a loss a trial, nats; infinite where it failed, no NaN.
        across_edges: of the cells, ascending; a cell holds its lower edge, the last its upper too.
        up_edges: likewise.

    Returns:
        Columns column, row (from 0), n and median_nats of the cells that hold trials; trials
        outside the grid are in none.
    """
    column, row = _cells(across, across_edges), _cells(up, up_edges)
    frame = pd.DataFrame({"column": column, "row": row, "loss": np.asarray(loss, dtype=float)})
    found = frame[(frame.column >= 0) & (frame.row >= 0)].groupby(["column", "row"]).loss
    table = found.agg(n="size", median_nats=lambda cell: median_interval(cell)[0])
    return table.reset_index()


def _cells(values: ArrayLike, edges: ArrayLike) -> NDArray[np.intp]:
    """Return the place of each value's cell, -1 for those outside."""
    data, ends = np.asarray(values, dtype=np.float64), np.asarray(edges, dtype=np.float64)
    place = np.searchsorted(ends, data, side="right") - 1
    place[data == ends[-1]] = ends.size - 2
    return np.where((place < 0) | (place > ends.size - 2), -1, place)
