"""The storage: which trials exist and how they ended, in Optuna's hands; reading it, writing it.

One Optuna study an arm and phase, "<study>/<arm>" and "<study>/<arm>/confirm": values of different
seeds never mix, and no sampler sees a confirmation.
"""

from __future__ import annotations

import itertools
import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState
from pydantic import SecretStr

from gsvae_tune.search.arms import Arm
from gsvae_tune.study.config import Phase, StudyConfig
from gsvae_tune.study.errors import InputError
from gsvae_tune.study.parameters import Scalar
from gsvae_tune.study.paths import StudyPaths, TrialPaths
from gsvae_tune.study.records import TrialResult, TrialState, finite, read_json, write_json

Storage = BaseStorage  # for those who know no optuna

Location = str | SecretStr | Storage | None  # a URL, what is open already, or None: the journal

READING_S = 5.0  # how long those that only read wait for a database

PHASES: tuple[Phase, ...] = get_args(Phase)
_DOCTOR = "gsvae-tune doctor {} --fix"
SOURCE = "source"  # of a confirmation: the number of the trial it confirms

STATES = {
    OptunaState.COMPLETE: TrialState.COMPLETE,
    OptunaState.PRUNED: TrialState.PRUNED,
    OptunaState.FAIL: TrialState.FAILED,
    OptunaState.RUNNING: TrialState.RUNNING,
    OptunaState.WAITING: TrialState.RUNNING,
}


@dataclass(frozen=True)
class Assignment:
    """One trial to train."""

    arm: str
    phase: Phase
    number: int
    params: dict[str, Scalar]  # as Optuna suggested them
    stratum: str  # "random", or the sampler's name


@dataclass(frozen=True)
class TrialRow:
    """One trial as the ledger knows it."""

    arm: str
    phase: Phase
    number: int  # of a confirmation: that of the trial it confirms
    state: TrialState
    value: float | None  # validation negative ELBO with one-hot codes, nats per example
    params: dict[str, Scalar]
    stratum: str
    error: str | None


def open_storage(
    url: str | SecretStr | None,
    paths: StudyPaths,
    *,
    must_exist: bool = False,
    patience_s: float = READING_S,
    notify: Callable[[str], None] | None = None,
) -> BaseStorage:
    """Open the storage: a journal in the study's folder, or a database.

    Args:
        url: of the database, with or without its password; None for the journal.
        paths: the study's folder.
        must_exist: for readers: a journal, or a database's tables, are not made where there are
            none.
        patience_s: how long an operation is tried again while the database cannot be reached.
        notify: is told when that begins and when it is over.

    Raises:
        InputError: the database cannot be opened, or the journal is missing.
        UnfinishedError: the database does not answer; later, each operation may raise it.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if url is None:
        if must_exist and not paths.journal.is_file():
            raise InputError(
                "is missing: it is the record of which trials there are",
                where=str(paths.journal),
                next_step="bring it back, or "
                f"{_DOCTOR.format(paths.root)} rebuilds it from the trials' folders",
            )
        lock = JournalFileOpenLock(str(paths.journal))
        try:
            return JournalStorage(JournalFileBackend(str(paths.journal), lock_obj=lock))
        except (
            ValueError,
            KeyError,
            TypeError,
            IndexError,
            AttributeError,
            RecursionError,
        ) as error:
            raise InputError(
                f"is damaged: {error}",
                where=str(paths.journal),
                legal="one JSON record a line, as Optuna wrote them",
                next_step=f"{_DOCTOR.format(paths.root)} rebuilds it from the trials' folders",
            ) from error
    from gsvae_tune.search.database import open_database  # SQLAlchemy: half a second

    plain = url.get_secret_value() if isinstance(url, SecretStr) else url
    return open_database(
        plain, str(paths.root), must_exist=must_exist, patience_s=patience_s, notify=notify
    )


def optuna_name(study: str, arm: str, phase: Phase = "search") -> str:
    return f"{study}/{arm}" if phase == "search" else f"{study}/{arm}/{phase}"


def number_of(trial: FrozenTrial) -> int:
    """Return a trial's number in its folder's name: a confirmation bears its original's."""
    source = trial.user_attrs.get(SOURCE, trial.number)
    return source if type(source) is int else trial.number  # it becomes part of a path


def read_trials(
    config: StudyConfig, paths: StudyPaths, storage: BaseStorage, owner: str
) -> Iterator[TrialRow]:
    """Yield every trial of every arm, of all phases, changing nothing.

    A trial whose result file is there counts as ended though Optuna may not have been told yet.

    Raises:
        InputError: as `refuse_foreign`.
    """
    for (arm, phase), study in refuse_foreign(config, paths, storage, owner).items():
        for trial in study.get_trials(deepcopy=False):
            yield _row(arm, phase, trial, paths)


def refuse_foreign(
    config: StudyConfig, paths: StudyPaths, storage: BaseStorage, owner: str
) -> dict[tuple[str, Phase], optuna.Study]:
    """Check, writing nothing, that storage and folder belong together; return the arms' studies.

    Raises:
        InputError: the storage holds another study under this name, or lacks trials that have
            folders (whose results would then be read as those of other settings).
    """
    known = set(optuna.get_all_study_names(storage))
    studies: dict[tuple[str, Phase], optuna.Study] = {}
    for arm, phase in itertools.product(config.arms, PHASES):
        name = optuna_name(config.name, arm, phase)
        recorded: set[int] = set()
        if name in known:
            study = studies[arm, phase] = optuna.load_study(study_name=name, storage=storage)
            _require_mark(study, config, owner)
            recorded = {number_of(trial) for trial in study.get_trials(deepcopy=False)}
        # Settings alone are no loss: the trial is suggested again.
        begun = [
            number
            for number in paths.numbers(arm, phase)
            if number not in recorded and paths.trial(arm, number, phase).begun
        ]
        if begun:
            folder = paths.trial(arm, max(begun), phase).root
            raise InputError(
                f"holds a trial, but the storage has only {len(recorded)} trials of this kind",
                where=str(folder),
                legal="the storage (or optuna.journal) that these trials were recorded in",
                next_step="bring it back, or use --name NAME for a new study; nothing was changed",
            )
    return studies


def _require_mark(study: optuna.Study, config: StudyConfig, owner: str) -> None:
    mark = {"digest": config.digest(), "owner": owner}
    if any(study.user_attrs.get(key, value) != value for key, value in mark.items()):
        raise InputError(
            f"the storage holds another study under the name {study.study_name}",
            where="storage",
            legal="a name that is free there, or a storage of its own",
            next_step="--name NAME",
        )


def _row(arm: str, phase: Phase, trial: FrozenTrial, paths: StudyPaths) -> TrialRow:
    state, value = STATES[trial.state], trial.value
    error = trial.user_attrs.get("error")
    number = number_of(trial)
    if state is TrialState.RUNNING:
        result = TrialResult.read(paths.trial(arm, number, phase).result)
        if result is not None:
            state, value, error = result.state, result.value, result.error
    if state is not TrialState.COMPLETE:
        value = None  # that of another budget is no value
    stratum = trial.user_attrs.get("stratum", "")
    return TrialRow(arm, phase, number, state, value, dict(trial.params), stratum, error)


class ArmRecord:
    """What the storage holds of one arm in one phase: an Optuna study and its trials' folders.

    Opening it tells the storage of every result that a killed driver left untold.

    Args:
        arm: its name.
        phase: search or confirm.
        config: the study.
        paths: its folder.
        storage: as `open_storage` gives it. This process must be its only writer.
        owner: the study's own id.
    """

    def __init__(
        self,
        arm: str,
        phase: Phase,
        config: StudyConfig,
        paths: StudyPaths,
        storage: BaseStorage,
        owner: str,
    ) -> None:
        self.arm, self.phase = arm, phase
        self._paths, self._storage = paths, storage
        self._study = optuna.create_study(
            study_name=optuna_name(config.name, arm, phase),
            storage=storage,
            direction="minimize",
            load_if_exists=True,
        )
        self._study_id = storage.get_study_id_from_name(self._study.study_name)
        self._claim(config, owner)
        self.interrupted: deque[FrozenTrial] = deque()
        for trial in self.trials():
            if not trial.state.is_finished():
                result = TrialResult.read(self.folder(trial).result)
                if result is None:
                    self.interrupted.append(trial)
                else:
                    self.tell(trial, result)

    def _claim(self, config: StudyConfig, owner: str) -> None:
        for key, value in (("digest", config.digest()), ("owner", owner)):
            if key not in self._study.user_attrs:
                self._study.set_user_attr(key, value)
        _require_mark(self._study, config, owner)  # read back: another driver may have come first

    def trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def folder(self, trial: FrozenTrial) -> TrialPaths:
        return self._paths.trial(self.arm, number_of(trial), self.phase)

    def add(self, trial: FrozenTrial, settings: Arm) -> None:
        """Record a trial whole, in one step, and what it is to train."""
        self._study.add_trial(trial)
        self.write_config(trial, settings)

    def assignment(self, trial: FrozenTrial) -> Assignment:
        stratum = trial.user_attrs["stratum"]
        return Assignment(self.arm, self.phase, number_of(trial), dict(trial.params), stratum)

    def write_config(self, trial: FrozenTrial, settings: Arm) -> None:
        """Write what a trial is to train, unless it stands there: all of it is known here."""
        folder = self.folder(trial)
        folder.root.mkdir(parents=True, exist_ok=True)
        wanted = asdict(self.assignment(trial)) | {"settings": settings.model_dump(mode="json")}
        try:
            stands = read_json(folder.config)
        except (OSError, ValueError):
            stands = None
        if stands != json.loads(json.dumps(finite(wanted))):
            write_json(folder.config, wanted)

    def tell(self, trial: FrozenTrial, result: TrialResult) -> FrozenTrial:
        """Enter a result into the storage; return the trial as it now is there."""
        number = trial.number
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        if result.error:
            self._storage.set_trial_user_attr(trial_id, "error", result.error)
        if result.state is TrialState.COMPLETE:
            self._study.tell(number, result.value)
        else:
            if result.state is TrialState.PRUNED and result.value is not None:
                self._storage.set_trial_intermediate_value(trial_id, result.epochs, result.value)
            pruned = result.state is TrialState.PRUNED
            self._study.tell(number, state=OptunaState.PRUNED if pruned else OptunaState.FAIL)
        return self._storage.get_trial(trial_id)


def mend_journal(paths: StudyPaths) -> None:
    """Undo what a killed writer left: its lock, and a torn last line.

    Optuna would append behind the torn line and never read the journal again. Call only as the
    only writer.
    """
    Path(f"{paths.journal}.lock").unlink(missing_ok=True)
    if paths.journal.is_file():
        with paths.journal.open("r+b") as file:
            content = file.read()
            if content.startswith(b"{"):  # else it is no journal, and said to be none
                file.truncate(content.rfind(b"\n") + 1)
