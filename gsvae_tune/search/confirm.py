"""Confirmation: the best trials of each arm, trained again on fresh seeds.

A search picks the best of many tries, and the best of many is partly luck. What an arm is worth is
what its best configurations give on seeds that had no part in choosing them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState

from gsvae_tune.search.arms import Arm, TauPath, arm_of
from gsvae_tune.search.storage import SOURCE, ArmRecord, Assignment, TrialRow, number_of
from gsvae_tune.study.config import StudyConfig
from gsvae_tune.study.errors import UnfinishedError
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import TrialResult, TrialState, read_json_lines

if TYPE_CHECKING:
    from gsvae_tune.search.ledger import ArmSearch


def searched_arms(config: StudyConfig) -> list[str]:
    """Return the arms that have a search of their own."""
    return [arm for arm in config.arms if arm_of(arm, config.method(arm)).searched]


def original(config: StudyConfig, arm: str) -> str:
    """Return the arm whose configurations an arm confirms: itself, or what a yoked one replays."""
    return arm if arm_of(arm, config.method(arm)).searched else config.arms[arm].of


def count_searched(rows: Iterable[TrialRow]) -> int:
    """Return how many trials of the search have ended, all arms together."""
    return sum(row.phase == "search" and row.state is not TrialState.RUNNING for row in rows)


def choose(config: StudyConfig, rows: Iterable[TrialRow]) -> dict[str, list[int]]:
    """Return the numbers of the trials each arm confirms, best first.

    Args:
        config: the study; `protocol.top` says how many.
        rows: all trials, in any order.
    """
    values = [
        (row.arm, row.value, row.number)
        for row in rows
        if row.phase == "search" and row.state is TrialState.COMPLETE and row.value is not None
    ]
    best = {
        arm: [number for _, number in _best([(v, n) for a, v, n in values if a == arm], config)]
        for arm in searched_arms(config)
    }
    return {arm: best[original(config, arm)] for arm in config.arms}


def _best(found: list[tuple[float, int]], config: StudyConfig) -> list[tuple[float, int]]:
    return sorted(found)[: config.protocol.top]


class ArmConfirmation:
    """One arm's confirmations; they wait until the search they come from has ended.

    Args:
        arm: its name.
        search: that of the arm itself, or of the arm it replays.
        config: the study.
        paths: its folder.
        storage: as `open_storage` gives it.
        owner: the study's own id.
    """

    phase = "confirm"

    def __init__(
        self,
        arm: str,
        search: ArmSearch,
        config: StudyConfig,
        paths: StudyPaths,
        storage: BaseStorage,
        owner: str,
    ) -> None:
        self.arm = arm
        self._config, self._paths, self._search = config, paths, search
        self._record = ArmRecord(arm, "confirm", config, paths, storage, owner)
        self._out: dict[int, FrozenTrial] = {}
        self._waiting: deque[FrozenTrial] | None = None  # None until the search has ended

    @property
    def remaining(self) -> int:
        """Confirmations still to be handed out; at most, while the search goes on."""
        if self._waiting is None and self._search.ended:
            self._choose()
        if self._waiting is None:
            return self._config.protocol.top + len(self._record.interrupted)
        return len(self._waiting)

    def _choose(self) -> None:
        """Line up what is interrupted, then the chosen trials that no record is there of."""
        self._waiting = deque(self._record.interrupted)
        recorded = {number_of(trial) for trial in self._record.trials()}
        found = [
            (trial.value, trial.number)
            for trial in self._search.record.trials()
            if trial.state is OptunaState.COMPLETE and trial.value is not None
        ]
        originals = self._search.record.trials()
        for _, number in _best(found, self._config):
            if number not in recorded:
                self._waiting.append(self._copy(originals[number]))

    def _copy(self, source: FrozenTrial) -> FrozenTrial:
        trial = create_trial(
            state=OptunaState.RUNNING,
            params=source.params,
            distributions=source.distributions,
            user_attrs={SOURCE: source.number, "stratum": "confirm"},
        )
        trial.number = -1  # not recorded yet
        return trial

    def next(self) -> Assignment | None:
        if not self.remaining or self._waiting is None:
            return None
        ready = [trial for trial in self._waiting if self._is_ready(number_of(trial))]
        if not ready:
            return None
        trial = ready[0]
        self._waiting.remove(trial)
        number = number_of(trial)
        if trial.number < 0:
            trial.number = len(self._record.trials())
            self._record.add(trial, self._settings(number))
        else:
            self._record.write_config(trial, self._settings(number))
        self._out[number] = trial
        return self._record.assignment(trial)

    def _is_ready(self, number: int) -> bool:
        """Whether a trial can be trained: a yoked one waits for the confirmation it replays."""
        if self._search.arm == self.arm:
            return True
        played = self._paths.trial(self._search.arm, number, "confirm")
        return TrialResult.read(played.result) is not None

    def _settings(self, number: int) -> Arm:
        source = self._search.record.trials()[number]
        settings = self._search.space.settings(source.params)
        if self._search.arm == self.arm:
            return settings
        shared = {key: getattr(settings, key) for key in Arm.model_fields}
        recorded = {"tau_paths": self._tau_paths(number)}
        return arm_of(self.arm, self._config.method(self.arm)).model_validate(shared | recorded)

    def _tau_paths(self, number: int) -> list[TauPath]:
        """Return each replicate the temperatures of another one of the original's confirmation.

        (replicates, epochs, 2). Replicate r replays r + 1: as many paths as replicates, and each
        moved by the losses of another seed.
        """
        folder = self._paths.trial(self._search.arm, number, "confirm")
        taus = [record["tau"] for record in read_json_lines(folder.epochs)]
        result = TrialResult.read(folder.result)
        if not self._config.simulate and (result is None or len(taus) != result.epochs):
            raise UnfinishedError(
                f"{folder.epochs} has {len(taus)} epochs of those that arm {self.arm} replays\n"
                f"  kept:  everything, in {self._paths.root}\n"
                "  next:  bring a whole copy of it back"
            )
        paths = [[(a, b) for a, b in path] for path in zip(*taus, strict=True)]
        if not paths:  # simulated, or failed before its first epoch: nothing to replay
            return [[(1.0, 1.0)]]
        return [*paths[1:], paths[0]]

    def finish(self, number: int, result: TrialResult) -> None:
        self._record.tell(self._out.pop(number), result)
