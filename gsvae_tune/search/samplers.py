"""Optuna's samplers by name, made anew for each trial from a seed of its own.

A fresh sampler a trial makes trial n a function of the study's seed, n, and the results it may see,
whatever was interrupted and resumed before.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from gsvae_tune.study.seeds import derive


class PlannedSampler(BaseSampler):
    """Gives a trial one configuration of a list (grid search over a conditional space)."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._params = params

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._params[param_name]


class _NumberedQMCSampler(optuna.samplers.QMCSampler):
    """Gives trial n the n-th point of the sequence; Optuna's counts in the storage as it goes."""

    def __init__(self, number: int, seed: int, independent: BaseSampler) -> None:
        super().__init__(scramble=True, seed=seed, independent_sampler=independent)
        self._number = number

    def _find_sample_id(
        self, study: optuna.Study, search_space: dict[str, BaseDistribution]
    ) -> int:
        return self._number


def make_sampler(
    name: str, seed: int, number: int, plan: Sequence[Mapping[str, Any]] | None = None
) -> BaseSampler:
    """Return the sampler for one trial.

    Args:
        name: random, tpe, qmc, gp, cmaes or grid.
        seed: of the arm's searches.
        number: of the trial.
        plan: the grid, for name grid.
    """
    own = derive(seed, "trial", number) % 2**32
    alone = RandomSampler(seed=own)  # for settings a sampler cannot treat jointly
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "random":
            return alone
        if name == "grid":
            assert plan is not None  # noqa: S101 - the ledger makes it
            return PlannedSampler(plan[number])
        if name == "tpe":
            # The ledger draws the random stratum itself; TPE needs no start-up of its own.
            return optuna.samplers.TPESampler(
                n_startup_trials=0, multivariate=True, constant_liar=True, seed=own
            )
        if name == "qmc":
            # One scramble for the whole sequence: its seed must not change with the trial.
            return _NumberedQMCSampler(number, seed % 2**32, alone)
        if name == "gp":
            return optuna.samplers.GPSampler(
                seed=own,
                independent_sampler=alone,
                n_startup_trials=1,
                deterministic_objective=False,
            )
        if name == "cmaes":
            return optuna.samplers.CmaEsSampler(
                seed=own, independent_sampler=alone, n_startup_trials=1
            )
    raise ValueError(f"unknown sampler {name!r}")
