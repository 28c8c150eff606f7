"""What an arm's sampler may see: a copy of the arm's trials in memory, results shown in turn.

The storage is told of every result at once. The sampler that suggests trial n sees exactly the
results of the trials numbered up to n - lookahead; later ones look as if they were still running.
So suggestions depend on the study's seed, n and those results, and on nothing that timing, the
number of slots or an interruption could change.

A sampler's cost grows with what it sees, so from trial `LIMIT` on it is shown a thinned copy of
the finished ones: the best, the newest, and an even share of the rest. CMA-ES alone is shown them
all: it replays every generation, but each only once, so that its cost hardly grows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from gsvae_tune.search.samplers import GENERATION
from gsvae_tune.study.parameters import Scalar

LIMIT = 1000  # trials; below it nothing is thinned
_KEPT = 500
_BLOCK = 250  # trials between two thinnings
_BEST = _NEWEST = 100  # TPE's lower group holds 25


class SamplerView:
    """The trials of one arm as its sampler sees them.

    Args:
        lookahead: trial n is suggested from the results up to n - lookahead.
        trials: the arm's trials so far, ordered by number from 0.
    """

    def __init__(self, lookahead: int, trials: Sequence[FrozenTrial]) -> None:
        self._lookahead = lookahead
        self._rebuild(trials)

    def _rebuild(self, trials: Sequence[FrozenTrial]) -> None:
        """Copy what the sampler sees when it suggests trial len(trials)."""
        self._next = len(trials)
        self._storage = InMemoryStorage()
        self._study = optuna.create_study(direction="minimize", storage=self._storage)
        self._withheld: dict[int, FrozenTrial] = {}
        self._running: dict[int, int] = {}  # number -> id in the copy
        thinned = 0
        if self._next >= LIMIT:  # from what was to be seen at the last thinning, whenever this is
            thinned = max(0, self._next - self._next % _BLOCK - self._lookahead + 1)
        for trial in (*thin(trials[:thinned]), *trials[thinned:]):
            number = trial.number
            if trial.state.is_finished() and number <= self._next - self._lookahead:
                self._study.add_trial(trial)
                continue
            self._study.add_trial(as_running(trial))
            self._running[number] = self._newest()._trial_id  # noqa: SLF001 - no public name
            if trial.state.is_finished():
                self._withheld[number] = trial

    def finished(self, trial: FrozenTrial) -> None:
        """Take a finished trial, to be shown when its turn comes."""
        self._withheld[trial.number] = trial

    def suggest(
        self,
        sampler: BaseSampler,
        ask: Callable[[optuna.Trial], dict[str, Scalar]],
        all_trials: Callable[[], Sequence[FrozenTrial]],
    ) -> FrozenTrial:
        """Let a sampler suggest the next trial; every result up to its horizon must be in.

        Args:
            sampler: a fresh one.
            ask: suggests each setting of the space.
            all_trials: the arm's trials so far; called only when the copy is thinned.
        """
        if self._next >= LIMIT and self._next % _BLOCK == 0:
            self._rebuild(all_trials())
        for number in sorted(n for n in self._withheld if n <= self._next - self._lookahead):
            self._show(self._running.pop(number), self._withheld.pop(number))
        self._study.sampler = sampler
        ask(self._study.ask())
        suggested = self._newest()
        self._running[self._next] = suggested._trial_id  # noqa: SLF001
        self._next += 1
        return suggested

    def _show(self, copy: int, trial: FrozenTrial) -> None:
        for step, value in trial.intermediate_values.items():
            self._storage.set_trial_intermediate_value(copy, step, value)
        self._storage.set_trial_state_values(copy, trial.state, trial.values)

    def _newest(self) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[-1]


def as_running(trial: FrozenTrial) -> FrozenTrial:
    """Return a running trial of the same settings."""
    return optuna.trial.create_trial(
        state=OptunaState.RUNNING,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=trial.user_attrs,
        system_attrs=trial.system_attrs,
    )


def thin(trials: Sequence[FrozenTrial]) -> Sequence[FrozenTrial]:
    """Return `_KEPT` of the trials, in their order: best, newest and an even share."""
    if len(trials) <= _KEPT or any(GENERATION in trial.system_attrs for trial in trials):
        return trials

    def loss(index: int) -> float:
        value = trials[index].value if trials[index].state is OptunaState.COMPLETE else None
        return math.inf if value is None else value

    kept = set(sorted(range(len(trials)), key=loss)[:_BEST])
    kept.update(range(len(trials) - _NEWEST, len(trials)))
    rest = [index for index in range(len(trials)) if index not in kept]
    wanted = _KEPT - len(kept)
    kept.update(rest[index * len(rest) // wanted] for index in range(wanted))
    return [trials[index] for index in sorted(kept)]
