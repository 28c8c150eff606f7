"""A random forest that predicts the loss of a configuration, and how far it can be trusted.

Sources: Breiman 2001 (random forests), Hutter et al. 2014 (forests for reading a search),
Tukey 1977 (fences).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gsvae_tune.report.estimates.configurations import Configurations, Rows

TREES = 64  # as many as Optuna's fANOVA grows
FEWEST = 10  # trials; with fewer, each fifth left out is a trial or two
MOST = 250  # trials; of more so many are drawn, or what rests on forests takes 10 s
READABLE = 0.3  # out-of-sample R2 below which nothing that rests on a surrogate is read
FOLDS = 5
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

    def tree_nats(self, rows: Rows) -> NDArray[np.float64]:
        """Return what each tree predicts, (trees, n)."""


@dataclass(frozen=True)
class Surrogate:
    """A forest grown on an arm's trials."""

    configurations: Configurations
    rows: Rows  # the configurations it knows, (n, settings)
    losses_nats: NDArray[np.float64]  # (n,)
    scale: LossScale
    forest: Any
    r2: float  # out of sample; NaN where it cannot be told
    trials: int  # of the arm; more than n where some were drawn

    @property
    def readable(self) -> bool:
        """Whether what rests on it may be read; an R2 that is not known is not enough."""
        return self.r2 >= READABLE

    def predicted_nats(self, rows: Rows) -> NDArray[np.float64]:
        """Return the predicted losses, (n,)."""
        return self.scale.expanded(_tree_values(self.forest, self._features(rows)).mean(axis=0))

    def tree_nats(self, rows: Rows) -> NDArray[np.float64]:
        """Return what each tree predicts, (trees, n)."""
        return self.scale.expanded(_tree_values(self.forest, self._features(rows)))

    def resampled(self, generator: np.random.Generator, trees: int) -> Surrogate:
        """Return a surrogate of the same trials drawn with replacement; its R2 is not known."""
        drawn = generator.integers(len(self.rows), size=len(self.rows))
        seed = int(generator.integers(2**31))
        features = self._features(self.rows[drawn])
        grown = _forest(features, self.scale.compressed(self.losses_nats[drawn]), seed, trees)
        return Surrogate(
            self.configurations, self.rows[drawn], self.losses_nats[drawn], self.scale, grown,
            np.nan, self.trials,
        )  # fmt: skip

    def _features(self, rows: Rows) -> NDArray[np.float32]:
        return encoded(self.configurations, rows)


def surrogate_of(
    configurations: Configurations, rows: Rows, losses_nats: ArrayLike, seed: int = 0
) -> Surrogate:
    """Grow a surrogate on trials.

    Args:
        configurations: what the arm's may be.
        rows: the trials' configurations, (n, settings).
        losses_nats: theirs, (n,); trials without a finite loss are left out. Of more than `MOST`
            trials so many are drawn.
        seed: of everything drawn here.

    Raises:
        ValueError: fewer than two trials have a loss.
    """
    losses = np.asarray(losses_nats, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(losses))
    if len(known) < 2:
        raise ValueError(f"a surrogate needs two losses: there are {len(known)}")
    kept = known
    if len(known) > MOST:
        kept = np.sort(np.random.default_rng(seed).choice(known, MOST, replace=False))
    scale = LossScale.of(losses[kept])
    features, target = encoded(configurations, rows[kept]), scale.compressed(losses[kept])
    return Surrogate(
        configurations, rows[kept], losses[kept], scale, _forest(features, target, seed, TREES),
        out_of_sample_r2(features, target, seed), len(known),
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


def out_of_sample_r2(features: NDArray[Any], target: NDArray[np.float64], seed: int = 0) -> float:
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


def _forest(features: NDArray[Any], target: NDArray[np.float64], seed: int, trees: int) -> Any:
    from sklearn.ensemble import RandomForestRegressor

    # All features at every split, unlike Breiman's third: with a handful of settings, of which one
    # or two matter, a split that may not see them is wasted.
    return RandomForestRegressor(trees, random_state=seed, n_jobs=1).fit(features, target)


def _tree_values(forest: Any, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return each tree's prediction, (trees, n); the trees themselves, unchecked, are 3x faster."""
    return np.array([tree.tree_.predict(features).ravel() for tree in forest.estimators_])
