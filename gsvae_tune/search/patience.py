"""A storage that outlives its database: what cannot be done now is tried again, with backoff.

An operation may have been carried out although its answer was lost. This process is the only
writer, so before anything is repeated that would not come to the same, the storage is asked
whether it is there already: nothing is lost, and nothing recorded twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Sequence
from typing import Any, TypeVar

from optuna.distributions import BaseDistribution
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from gsvae_tune.study.errors import UnfinishedError
from gsvae_tune.study.faults import Fault

Answer = TypeVar("Answer")

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 15.0  # doubling in between


class Unreachable(Exception):  # noqa: N818 - it is a state of the database
    """The database does not answer, or cannot work now; trying again may help.

    Args:
        refusal: why it lets nobody in, in our own words; "" where it did not say so.
    """

    def __init__(self, refusal: str = "") -> None:
        super().__init__(refusal)
        self.refusal = refusal


class Patience:
    """Tries again until its time is up.

    Args:
        storage: which one, without a password.
        kept: the folder that holds everything finished.
        limit_s: seconds from the first failure of an operation to giving up.
        notify: is told when the storage is lost and when it is back.
    """

    def __init__(
        self, storage: str, kept: str, limit_s: float, notify: Callable[[str], None] | None
    ) -> None:
        self._storage, self._kept, self._limit_s = storage, kept, limit_s
        self._notify = notify or (lambda _: None)

    def __call__(self, call: Callable[[bool], Answer]) -> Answer:
        """Return what a call gives.

        Args:
            call: is told whether it was tried before, and may have been carried out then.

        Raises:
            UnfinishedError: the storage did not come back in time.
        """
        began: float | None = None
        wait = FIRST_WAIT_S
        while True:
            try:
                answer = call(began is not None)
            except Unreachable:
                now = time.monotonic()
            else:
                if began is not None:
                    seconds = time.monotonic() - began
                    self._notify(f"the storage answers again, after {seconds:.0f} s")
                return answer
            if began is None:
                began = now
                if self._limit_s:
                    self._notify(
                        f"{Fault.STORAGE_LOST.value}: {self._storage}; trying again for up to "
                        f"{self._limit_s:g} s"
                    )
            left = began + self._limit_s - now
            if left <= 0:
                # Outside of the handler: what a driver raises may hold the password.
                raise self._given_up(now - began)
            time.sleep(min(wait, left))
            wait = min(2 * wait, LONGEST_WAIT_S)

    def _given_up(self, seconds: float) -> UnfinishedError:
        return UnfinishedError(
            f"{Fault.STORAGE_LOST.value}: {self._storage}, tried for {seconds:.0f} s\n"
            f"  kept:  everything finished, in {self._kept}\n"
            "  next:  run the same command again when the storage answers"
        )


class PatientStorage(BaseStorage):
    """Passes everything on to a storage, patiently.

    Args:
        backend: the storage; raises `Unreachable`.
        patience: how long.
        settle: returns when no transaction that writes to a study is under way any more; one may
            be, of a connection that was lost.
    """

    def __init__(
        self, backend: BaseStorage, patience: Patience, settle: Callable[[int], None]
    ) -> None:
        self._backend, self._patience, self._settle = backend, patience, settle

    # What would not come to the same a second time.

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        def create(again: bool) -> int:
            try:
                return self._backend.create_new_study(directions, study_name)
            except DuplicatedStudyError:
                if not again or study_name is None:
                    raise
                return self._backend.get_study_id_from_name(study_name)

        return self._patience(create)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        before = self.get_n_trials(study_id)

        def create(again: bool) -> int:
            if again:
                self._settle(study_id)
                trials = self._backend.get_all_trials(study_id, deepcopy=False)
                if len(trials) > before:
                    return trials[before]._trial_id  # noqa: SLF001 - no public name
            return self._backend.create_new_trial(study_id, template_trial)

        return self._patience(create)

    def set_trial_state_values(
        self, trial_id: int, state: OptunaState, values: Sequence[float] | None = None
    ) -> bool:
        def write(again: bool) -> bool:
            try:
                return self._backend.set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                there = self._backend.get_trial(trial_id)
                wanted = None if values is None else list(values)
                if again and there.state is state and wanted in (None, there.values):
                    return True
                raise

        return self._patience(write)

    def delete_study(self, study_id: int) -> None:
        def delete(again: bool) -> None:
            try:
                self._backend.delete_study(study_id)
            except KeyError:
                if not again:
                    raise

        self._patience(delete)

    # What does.

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._patience(lambda _: self._backend.set_study_user_attr(study_id, key, value))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._patience(lambda _: self._backend.set_study_system_attr(study_id, key, value))

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        written = (trial_id, param_name, param_value_internal, distribution)
        self._patience(lambda _: self._backend.set_trial_param(*written))

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        written = (trial_id, step, intermediate_value)
        self._patience(lambda _: self._backend.set_trial_intermediate_value(*written))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._patience(lambda _: self._backend.set_trial_user_attr(trial_id, key, value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._patience(lambda _: self._backend.set_trial_system_attr(trial_id, key, value))

    # What reads.

    def get_study_id_from_name(self, study_name: str) -> int:
        return self._patience(lambda _: self._backend.get_study_id_from_name(study_name))

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._patience(lambda _: self._backend.get_study_name_from_id(study_id))

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._patience(lambda _: self._backend.get_study_directions(study_id))

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self._patience(lambda _: self._backend.get_study_user_attrs(study_id))

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._patience(lambda _: self._backend.get_study_system_attrs(study_id))

    def get_all_studies(self) -> list[FrozenStudy]:
        return self._patience(lambda _: self._backend.get_all_studies())

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        find = self._backend.get_trial_id_from_study_id_trial_number
        return self._patience(lambda _: find(study_id, trial_number))

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self._patience(lambda _: self._backend.get_trial(trial_id))

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[OptunaState] | None = None,
    ) -> list[FrozenTrial]:
        return self._patience(lambda _: self._backend.get_all_trials(study_id, deepcopy, states))

    def remove_session(self) -> None:
        self._backend.remove_session()
