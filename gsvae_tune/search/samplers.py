"""Optuna's samplers by name, made anew for each trial from a seed of its own.

A fresh sampler a trial makes trial n a function of the study's seed, n, and the results it may see,
whatever was interrupted and resumed before.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import optuna
from optuna._transform import _SearchSpaceTransform
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from gsvae_tune.study.seeds import derive

GENERATION = "cma:generation"  # which one a trial was drawn in: Optuna's mark

# By the storage of a sampler's view: the space and the optimizer, as far as it was replayed.
_REPLAYED: WeakKeyDictionary[BaseStorage, tuple[dict[str, BaseDistribution], Any]] = (
    WeakKeyDictionary()
)


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


class ReplayingCmaEsSampler(optuna.samplers.CmaEsSampler):
    """CMA-ES that learns its state anew from the trials.

    Optuna's keeps its optimizer in the storage as a pickle, and whoever can write there could make
    the reader run code. The optimizer is a function of the generations it was told, and those are
    in the trials: their settings, their values and the generation each was drawn in. No seed
    enters it (one is set for each draw), so this one draws what Optuna's would. Results must have
    come in by their trials' numbers, as `view` shows them.
    """

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        self._replayed = (study, search_space)
        return super().sample_relative(study, trial, search_space)

    def _restore_optimizer(self, completed_trials: list[FrozenTrial]) -> Any:
        """Return the optimizer after every whole generation: Optuna then has none to tell it."""
        study, search_space = self._replayed
        generations: dict[int, list[FrozenTrial]] = {}
        for trial in completed_trials:
            if (generation := trial.system_attrs.get(GENERATION)) is not None:
                generations.setdefault(generation, []).append(trial)
        space = _SearchSpaceTransform(search_space, transform_step=True, transform_0_1=True)
        storage, state = study._storage, self._cma_rng.rng.get_state()  # noqa: SLF001
        if storage not in _REPLAYED or _REPLAYED[storage][0] != search_space:
            _REPLAYED[storage] = search_space, self._init_optimizer(space, study.direction)
        optimizer = _REPLAYED[storage][1]
        self._cma_rng.rng.set_state(state)
        if not any(generations):  # none beyond 0: Optuna's begins here, and draws a seed for it
            self._cma_rng.rng.randint(1, 2**31 - 2)
        size = optimizer.population_size
        while len(found := generations.get(optimizer.generation, [])) >= size:
            optimizer.tell([(space.transform(t.params), t.value) for t in found[:size]])
        return optimizer


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
            return ReplayingCmaEsSampler(seed=own, independent_sampler=alone, n_startup_trials=1)
    raise ValueError(f"unknown sampler {name!r}")
