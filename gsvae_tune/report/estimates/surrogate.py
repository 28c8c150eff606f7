"""A random forest that predicts the loss of a configuration, and how far it can be trusted.

A failed trial is a loss, as bad as the worst of those that ended: what makes runs diverge is then
learned like what makes them bad.

Sources: Breiman 1996 (bagged trees) and 2001 (random forests), Hutter et al. 2014 (forests for
reading a search), Tukey 1977 (fences), Shao and Wu 1989 (halves of a sample in place of the
bootstrap).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gsvae_tune.report.estimates.configurations import Configurations, Rows

TREES = 64  # as many as Optuna's fANOVA grows
FEWEST = 10  # trials; with fewer, each fifth left out is a trial or two
MOST = 250  # trials; of more so many are drawn, or what rests on forests takes 10 s
READABLE = 0.3  # out-of-sample R2 below which nothing that rests on a surrogate is read
FOLDS = 5
HALVES = 40  # of the trials, for intervals; an even number
CONFIDENCE = 0.9  # of 40 halves an end is the second; that of 0.95 would be the outermost
_HALVES_TREES = 8  # a half's forest: its own error is small beside that of the trials
_CHECKING_TREES = 24  # a forest that checks need not be as smooth as the one that is read


@dataclass(frozen=True)
class LossScale:
    """The scale on which a forest learns losses: nats up to a fence, compressed beyond it.

    A collapsed run is tens of nats worse than all others. Least squares would spend every split on
    it, and an R2 would ask nothing but whether it was foreseen; a logarithm leaves much of that.
    Ranks would do, but lose the nats that predictions are read in. Up to the fence this changes
    nothing, so that what is additive in nats stays so; beyond it order stays, and however bad a run
    was, it lies less than one unit above the fence.
    """

    fence_nats: float  # Tukey's: third quartile + 1.5 interquartile ranges; inf: nothing is beyond
    unit_nats: float  # the interquartile range

    @classmethod
    def of(cls, losses: ArrayLike) -> LossScale:
        """Return the scale for these losses, finite; where half of them are equal there is none."""
        first, third = np.quantile(np.asarray(losses, dtype=np.float64), [0.25, 0.75])
        unit = float(third - first)
        return cls(float(third) + 1.5 * unit, unit) if unit > 0 else cls(np.inf, 1.0)

    def compressed(self, losses_nats: ArrayLike) -> NDArray[np.float64]:
        """Return losses as the forest learns them."""
        losses = np.asarray(losses_nats, dtype=np.float64)
        beyond = np.maximum(losses - self.fence_nats, 0.0) / self.unit_nats
        return np.minimum(losses, self.fence_nats) + self.unit_nats * beyond / (1 + beyond)

    def expanded(self, predicted: ArrayLike) -> NDArray[np.float64]:
        """Return what the forest predicts in nats; the inverse of `compressed`."""
        values = np.asarray(predicted, dtype=np.float64)
        share = np.maximum(values - self.fence_nats, 0.0) / self.unit_nats
        # A loss beyond 10^9 units is not told from one at it: rounding would divide by nothing.
        beyond = share / np.maximum(1 - share, 1e-9)
        return np.minimum(values, self.fence_nats) + self.unit_nats * beyond


class Predictor(Protocol):
    """What predicts the loss of configurations."""

    def predicted_nats(self, rows: Rows) -> NDArray[np.float64]:
        """Return the predicted losses, (n,)."""


@dataclass(frozen=True)
class Surrogate:
    """A forest grown on an arm's trials."""

    configurations: Configurations
    rows: Rows  # the configurations it knows, (n, settings)
    losses_nats: NDArray[np.float64]  # (n,), of failed trials the worst of the others
    scale: LossScale
    forest: list[Any]  # scikit-learn's trees
    r2: float  # out of sample; NaN where it cannot be told
    trials: int  # of the arm, with failed ones; more than n where some were drawn
    failed: int  # of these

    @property
    def readable(self) -> bool:
        """Whether what rests on it may be read; an R2 that is not known is not enough."""
        return self.r2 >= READABLE

    def predicted_nats(self, rows: Rows) -> NDArray[np.float64]:
        """Return the predicted losses, (n,)."""
        features = encoded(self.configurations, rows)
        return self.scale.expanded(_tree_values(self.forest, features).mean(axis=0))

    def halved(self, seed: int = 0) -> list[Surrogate]:
        """Return surrogates of halves of the trials, as `halves` draws them; R2 is not known."""
        features = encoded(self.configurations, self.rows)
        target = self.scale.compressed(self.losses_nats)
        return [
            replace(
                self, rows=self.rows[half], losses_nats=self.losses_nats[half], r2=np.nan,
                forest=_forest(features[half], target[half], seed + at, _HALVES_TREES),
            )
            for at, half in enumerate(halves(len(self.rows), seed))
        ]  # fmt: skip


def halves(n: int, seed: int = 0) -> NDArray[np.intp]:
    """Return `HALVES` random halves of n trials, each with its complement, (halves, n // 2).

    Of an odd number of trials one, another each time, is in neither.
    """
    generator = np.random.default_rng(seed)
    size = n // 2
    orders = np.array([generator.permutation(n) for _ in range(HALVES // 2)], dtype=np.intp)
    return orders[:, : 2 * size].reshape(-1, size)


def interval_around(
    estimate: ArrayLike, of_halves: ArrayLike, least: float = -np.inf, most: float = np.inf
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of the `CONFIDENCE` intervals of estimates; they hold the estimates.

    A mean over half of the trials is as far from that over all as this is from the truth: without
    replacement, the variance is s^2 (2 / n - 1 / n). So the middle `CONFIDENCE` of the halves'
    results is as wide as the interval sought. Fewer trials also move results on average, which is
    no uncertainty of the estimate: the interval is moved to have its median there. But results that
    crowd at a bound, as shares at 0, spread too little to be moved away from it; so the interval
    reaches from the lower of the ends before and after to the higher.

    Args:
        estimate: from all trials, (n,).
        of_halves: the same from halves of them, (halves, n); NaN is left out.
        least: no result can be lower: the interval is cut there.
        most: nor higher.

    Returns:
        Lower and upper ends, (n,); NaN where the estimate is, or no half has a result.
    """
    middle, found = np.asarray(estimate, np.float64), np.asarray(of_halves, np.float64)
    low, high = np.full((2, *middle.shape), np.nan)
    known = ~np.isnan(middle) & ~np.isnan(found).all(axis=0)
    if known.any():
        # Weibull's place of a quantile: one result more lies below it as often as it says.
        tails = [(1 - CONFIDENCE) / 2, 0.5, (1 + CONFIDENCE) / 2]
        lower, median, upper = np.nanquantile(found[:, known], tails, axis=0, method="weibull")
        moved = middle[known] - median
        low[known] = np.maximum(lower + np.minimum(moved, 0.0), least)
        high[known] = np.minimum(upper + np.maximum(moved, 0.0), most)
    return low, high


def surrogate_of(
    configurations: Configurations, rows: Rows, losses_nats: ArrayLike, seed: int = 0
) -> Surrogate:
    """Grow a surrogate on trials.

    Args:
        configurations: what the arm's may be.
        rows: the trials' configurations, (n, settings).
        losses_nats: theirs, (n,); a loss that is not finite is a failure and counts as the largest
            finite one. Of more than `MOST` trials so many are drawn.
        seed: of everything drawn here.

    Raises:
        ValueError: fewer than two trials have a loss.
    """
    losses = np.asarray(losses_nats, dtype=np.float64)
    ended = np.isfinite(losses)
    if ended.sum() < 2:
        raise ValueError(f"a surrogate needs two losses: there are {ended.sum()}")
    # The scale is that of the runs that ended: many failures would make the worst look usual.
    scale = LossScale.of(losses[ended])
    counted, kept = np.where(ended, losses, losses[ended].max()), np.arange(len(losses))
    if len(kept) > MOST:
        kept = np.sort(np.random.default_rng(seed).choice(kept, MOST, replace=False))
    features, target = encoded(configurations, rows[kept]), scale.compressed(counted[kept])
    return Surrogate(
        configurations, rows[kept], counted[kept], scale, _forest(features, target, seed, TREES),
        out_of_sample_r2(features, target, seed), len(losses), int((~ended).sum()),
    )  # fmt: skip


def encoded(configurations: Configurations, rows: Rows) -> NDArray[np.float32]:
    """Return configurations as a forest reads them, (n, features).

    A number runs from 0 to 1 over what is searched, in the logarithm where it is searched so; where
    a condition switches it off it is -0.5, which one split tells from all others, and a further
    column says so. A choice has a column for each value, all 0 where it is switched off.
    """
    columns: list[NDArray[np.float64]] = []
    for place, setting in enumerate(configurations.settings):
        values = rows[:, place]
        if setting.choices is not None:
            columns += [(values == at).astype(np.float64) for at in range(len(setting.choices))]
            continue
        columns.append(np.nan_to_num(shares(configurations, rows, place), nan=-0.5))
        if setting.when:
            columns.append(np.isnan(values).astype(np.float64))
    return np.column_stack(columns).astype(np.float32)


def shares(configurations: Configurations, rows: Rows, place: int) -> NDArray[np.float64]:
    """Return a number's place in what is searched, 0 to 1, (n,); NaN where it is switched off."""
    setting = configurations.settings[place]
    ends = np.array([setting.low, setting.high], dtype=np.float64)
    values = rows[:, place]
    if setting.log:
        ends, values = np.log(ends), np.log(values)
    found: NDArray[np.float64] = (values - ends[0]) / (ends[1] - ends[0])
    return found


def out_of_sample_r2(
    features: NDArray[np.float32], target: NDArray[np.float64], seed: int = 0
) -> float:
    """Return the forest's R2 on trials it was not grown on, by repeated cross-validation.

    One minus the squared error of predicting each trial from the other folds, over that of
    predicting the other folds' mean: a constant forest has 0, one that does harm less. `FOLDS`
    folds, three times up to 100 trials, where luck in dividing them matters, once for more. NaN for
    fewer than `FEWEST` trials and where all losses are equal.
    """
    from sklearn.model_selection import KFold, RepeatedKFold

    n = len(target)
    if n < FEWEST or np.ptp(target) == 0:
        return np.nan
    missed = plain = 0.0
    folds = (
        RepeatedKFold(n_splits=FOLDS, n_repeats=3, random_state=seed)
        if n <= 100
        else KFold(FOLDS, shuffle=True, random_state=seed)
    )
    for fit, held in folds.split(features):
        grown = _forest(features[fit], target[fit], seed, _CHECKING_TREES)
        predicted = _tree_values(grown, features[held]).mean(axis=0)
        missed += float(((target[held] - predicted) ** 2).sum())
        plain += float(((target[held] - target[fit].mean()) ** 2).sum())
    return 1 - missed / plain


def _forest(
    features: NDArray[np.float32], target: NDArray[np.float64], seed: int, trees: int
) -> list[Any]:
    """Return trees, each grown on as many trials drawn with replacement.

    All features at every split, unlike Breiman's third: with a handful of settings, of which one or
    two matter, a split that may not see them is wasted. Scikit-learn's own forest does the same,
    but takes as long again around each of its trees, and here they are small and thousands.
    """
    from sklearn.tree import DecisionTreeRegressor

    generator = np.random.default_rng(seed)
    forest = []
    for drawn in generator.integers(len(target), size=(trees, len(target))):
        tree = DecisionTreeRegressor(random_state=int(generator.integers(2**31)))
        forest.append(tree.fit(features[drawn], target[drawn], check_input=False).tree_)
    return forest


def _tree_values(forest: list[Any], features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return each tree's prediction, (trees, n)."""
    return np.array([tree.predict(features).ravel() for tree in forest])
