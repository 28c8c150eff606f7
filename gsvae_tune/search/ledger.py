"""The ledger: hands out trials and takes their results; Optuna's storage is the only record.

Suggestions do not depend on timing: the sampler is shown results in turn (`search.view`), so the
same seed gives the same trials on one slot or eight, and across an interruption. A trial is
recorded whole, with its settings, in one step; one whose result file is there but untold (the
driver was killed in between) is told when the ledger is opened.
"""

from __future__ import annotations

import math
from typing import Protocol

from optuna.storages import BaseStorage

from gsvae_tune.search.confirm import ArmConfirmation, original, searched_arms
from gsvae_tune.search.samplers import make_sampler
from gsvae_tune.search.space import ArmSpace
from gsvae_tune.search.storage import ArmRecord, Assignment, refuse_foreign
from gsvae_tune.search.view import SamplerView, as_running
from gsvae_tune.study.config import StudyConfig
from gsvae_tune.study.parameters import Scalar
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import TrialResult
from gsvae_tune.study.seeds import derive

RANDOM_STRATUM = "random"


class Ledger:
    """Hands out trials and takes results: each arm's search, then its confirmations.

    Args:
        config: the study; `search.trials` is the budget of each arm.
        paths: its folder.
        owner: the study's own id; two folders never share an Optuna study.
        storage: as `open_storage` gives it. This process must be its only writer.

    Raises:
        InputError: as `refuse_foreign`.
    """

    def __init__(
        self, config: StudyConfig, paths: StudyPaths, storage: BaseStorage, owner: str
    ) -> None:
        refuse_foreign(config, paths, storage, owner)
        where = (config, paths, storage, owner)
        searches = {name: ArmSearch(name, *where) for name in searched_arms(config)}
        self._searches = [*searches.values()]
        self._confirmations: list[ArmConfirmation] = []
        if config.protocol.until != "search":
            self._confirmations = [
                ArmConfirmation(name, searches[original(config, name)], *where)
                for name in config.arms
            ]

    @property
    def to_search(self) -> int:
        """Trials of the search still to be handed out, interrupted ones included."""
        return sum(search.remaining for search in self._searches)

    @property
    def remaining(self) -> int:
        """Trials still to be handed out, interrupted ones included.

        At most: an arm may have fewer sound trials than it is to confirm.
        """
        return self.to_search + sum(arm.remaining for arm in self._confirmations)

    def next(self) -> Assignment | None:
        """Return the next trial, or None: all are out, or the next ones wait for results.

        Interrupted trials come first; then the arm that has asked for fewest; then confirmations.
        """
        searches = sorted(self._searches, key=lambda arm: (not arm.interrupted, arm.asked))
        sides: list[_Side] = [*searches, *self._confirmations]
        for side in sides:
            if (assignment := side.next()) is not None:
                return assignment
        return None

    def finish(self, assignment: Assignment, result: TrialResult) -> None:
        """Take a trial's result; it must be in the trial's folder already."""
        sides: list[_Side] = [*self._searches, *self._confirmations]
        (side,) = [s for s in sides if (s.arm, s.phase) == (assignment.arm, assignment.phase)]
        side.finish(assignment.number, result)


class _Side(Protocol):
    """One arm in one phase."""

    @property
    def arm(self) -> str: ...
    @property
    def phase(self) -> str: ...
    def next(self) -> Assignment | None: ...
    def finish(self, number: int, result: TrialResult) -> None: ...


class ArmSearch:
    """One arm's search.

    Args: as `ArmRecord`.
    """

    phase = "search"

    def __init__(
        self, arm: str, config: StudyConfig, paths: StudyPaths, storage: BaseStorage, owner: str
    ) -> None:
        self.arm = arm
        self._search = config.search
        self.space = ArmSpace(arm, config.arms[arm], "study")
        self._seed = derive(config.seed, "sampler", arm)
        self._plan: list[dict[str, Scalar]] | None = None
        if config.search.sampler == "grid":
            grid = self.space.grid(config.search.grid_points)
            self._plan = sorted(grid, key=lambda params: derive(self._seed, repr(params)))
        self.record = ArmRecord(arm, "search", config, paths, storage, owner)
        self.interrupted = self.record.interrupted
        trials = self.record.trials()
        self._unfinished = {t.number: t for t in trials if not t.state.is_finished()}
        self.asked = len(trials)
        self._random = sum(t.user_attrs.get("stratum") == RANDOM_STRATUM for t in trials)
        self._view = SamplerView(config.search.lookahead, trials)

    @property
    def remaining(self) -> int:
        return len(self.interrupted) + max(0, self._search.trials - self.asked)

    @property
    def ended(self) -> bool:
        """Whether every trial of the budget has ended."""
        return not self.remaining and not self._unfinished

    def next(self) -> Assignment | None:
        if self.interrupted:  # handed out again under its own number
            trial = self.interrupted.popleft()
            self.record.write_config(trial, self.space.settings(trial.params))
            return self.record.assignment(trial)
        if self.asked >= self._search.trials:
            return None
        horizon = self.asked - self._search.lookahead
        if any(number <= horizon for number in self._unfinished):
            return None
        return self._ask()

    def _ask(self) -> Assignment:
        wanted = math.ceil(self._search.random_fraction * self._search.trials)
        stratum: str = self._search.sampler
        if self._plan is None and self._random < wanted:
            stratum = RANDOM_STRATUM
        suggested = self._view.suggest(
            make_sampler(stratum, self._seed, self.asked, self._plan),
            self.space.suggest,
            self.record.trials,
        )
        trial = as_running(suggested)
        trial.number = self.asked
        trial.set_user_attr("stratum", stratum)
        self.record.add(trial, self.space.settings(trial.params))
        self.asked += 1
        self._random += stratum == RANDOM_STRATUM
        self._unfinished[trial.number] = trial
        return self.record.assignment(trial)

    def finish(self, number: int, result: TrialResult) -> None:
        self._view.finished(self.record.tell(self._unfinished.pop(number), result))
