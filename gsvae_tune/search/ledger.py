"""The ledger: Optuna's storage is the only record of which trials exist and how they ended.

Suggestions do not depend on timing. Trial n of an arm is suggested from the results of exactly the
trials numbered up to n - lookahead: results of later ones, should they be in, are withheld from
Optuna until their turn. So the same seed gives the same trials on one slot or eight, and across an
interruption; a trial whose result file is there but untold is told when its turn comes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from gsvae_tune.search.samplers import make_sampler
from gsvae_tune.search.space import ArmSpace
from gsvae_tune.study.config import StudyConfig
from gsvae_tune.study.errors import InputError
from gsvae_tune.study.parameters import Scalar
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import TrialResult, TrialState, write_json
from gsvae_tune.study.seeds import derive

RANDOM_STRATUM = "random"

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
    number: int
    params: dict[str, Scalar]  # as Optuna suggested them
    stratum: str  # "random", or the sampler's name


@dataclass(frozen=True)
class TrialRow:
    """One trial as the ledger knows it."""

    arm: str
    number: int
    state: TrialState
    value: float | None  # validation negative ELBO with one-hot codes, nats per example
    params: dict[str, Scalar]
    stratum: str
    error: str | None


def open_storage(url: str | None, paths: StudyPaths, *, must_exist: bool = False) -> BaseStorage:
    """Open the storage: a journal in the study's folder, or a database.

    Args:
        url: of the database, None for the journal.
        paths: the study's folder.
        must_exist: for readers: a journal is not made where there is none.

    Raises:
        InputError: the database cannot be opened, or the journal is missing.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if url is None:
        if must_exist and not paths.journal.is_file():
            raise InputError(
                "is missing: it is the record of which trials there are",
                where=str(paths.journal),
                next_step="bring it back; the trials' folders beside it are kept",
            )
        lock = JournalFileOpenLock(str(paths.journal))
        try:
            return JournalStorage(JournalFileBackend(str(paths.journal), lock_obj=lock))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"is damaged: {error}",
                where=str(paths.journal),
                legal="one JSON record a line, as Optuna wrote them",
                next_step="bring back a whole copy; the trials' folders beside it are kept",
            ) from error
    try:
        if must_exist and url.startswith("sqlite:///") and not Path(url[10:]).is_file():
            raise FileNotFoundError(url[10:])  # noqa: TRY301 - SQLite would make an empty one
        return RDBStorage(url)
    except Exception as error:  # SQLAlchemy, the driver and Optuna raise kinds of their own
        raise InputError(
            f"cannot open {without_password(url)}: {type(error).__name__}",
            where="storage",
            legal="a reachable database, e.g. sqlite:///trials.db or postgresql://user@host/name "
            "with its driver installed",
        ) from error


def without_password(url: str) -> str:
    """Return the URL with the password, if any, replaced by stars."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "(a text that is no URL)"


def optuna_name(study: str, arm: str) -> str:
    return f"{study}/{arm}"


def read_trials(
    config: StudyConfig, paths: StudyPaths, storage: BaseStorage, owner: str
) -> Iterator[TrialRow]:
    """Yield every trial of every arm, changing nothing.

    A trial whose result file is there counts as ended though Optuna may not have been told yet.

    Raises:
        InputError: as `refuse_foreign`.
    """
    for arm, study in refuse_foreign(config, paths, storage, owner).items():
        for trial in study.get_trials(deepcopy=False):
            yield _row(arm, trial, paths)


def refuse_foreign(
    config: StudyConfig, paths: StudyPaths, storage: BaseStorage, owner: str
) -> dict[str, optuna.Study]:
    """Check, writing nothing, that storage and folder belong together; return the arms' studies.

    Raises:
        InputError: the storage holds another study under this name, or lacks trials that have
            folders (whose results would then be read as those of other settings).
    """
    known = {summary.study_name for summary in optuna.get_all_study_summaries(storage)}
    studies = {}
    for arm in config.arms:
        name, count = optuna_name(config.name, arm), 0
        if name in known:
            studies[arm] = optuna.load_study(study_name=name, storage=storage)
            _require_mark(studies[arm], config, owner)
            count = len(studies[arm].get_trials(deepcopy=False))
        folder = paths.trials / arm
        numbers = [int(p.name) for p in folder.glob("*") if p.name.isdecimal()]
        if numbers and max(numbers) >= count:
            raise InputError(
                f"holds trial {max(numbers)}, but the storage has only {count} trials of this arm",
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


def _row(arm: str, trial: FrozenTrial, paths: StudyPaths) -> TrialRow:
    state, value = STATES[trial.state], trial.value
    error = trial.user_attrs.get("error")
    if state is TrialState.RUNNING:
        result = TrialResult.read(paths.trial(arm, trial.number).result)
        if result is not None:
            state, value, error = result.state, result.value, result.error
    if state is not TrialState.COMPLETE:
        value = None  # that of another budget is no value
    stratum = trial.user_attrs.get("stratum", "")
    return TrialRow(arm, trial.number, state, value, dict(trial.params), stratum, error)


class Ledger:
    """Hands out trials and takes results, arm by arm.

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
        self._arms = [_ArmLedger(name, config, paths, storage, owner) for name in config.arms]
        self._by_name = {arm.name: arm for arm in self._arms}

    @property
    def remaining(self) -> int:
        """Trials still to be handed out, interrupted ones included."""
        return sum(arm.remaining for arm in self._arms)

    def next(self) -> Assignment | None:
        """Return the next trial, or None: all are out, or the next ones wait for results.

        Interrupted trials come first; then the arm that has asked for fewest.
        """
        for arm in sorted(self._arms, key=lambda arm: (not arm.interrupted, arm.asked)):
            if (assignment := arm.next()) is not None:
                return assignment
        return None

    def finish(self, arm: str, number: int, result: TrialResult) -> None:
        """Take a trial's result; it must be in the trial's folder already."""
        self._by_name[arm].finish(number, result)


class _ArmLedger:
    """One arm's side of the ledger."""

    def __init__(
        self,
        name: str,
        config: StudyConfig,
        paths: StudyPaths,
        storage: BaseStorage,
        owner: str,
    ) -> None:
        self.name = name
        self._paths = paths
        self._storage = storage
        self._search = config.search
        self._space = ArmSpace(name, config.arms[name], "study")
        self._seed = derive(config.seed, "sampler", name)
        self._plan: list[dict[str, Scalar]] | None = None
        if config.search.sampler == "grid":
            grid = self._space.grid(config.search.grid_points)
            self._plan = sorted(grid, key=lambda params: derive(self._seed, repr(params)))
        self._study = optuna.create_study(
            study_name=optuna_name(config.name, name),
            storage=storage,
            direction="minimize",
            load_if_exists=True,
        )
        self._claim(config, owner)
        trials = self._study.get_trials(deepcopy=False)
        self.asked = len(trials)
        self._random = sum(t.user_attrs.get("stratum") == RANDOM_STRATUM for t in trials)
        self._unfinished: set[int] = set()
        self._untold: dict[int, TrialResult] = {}
        self.interrupted: deque[FrozenTrial] = deque()
        for trial in trials:
            if not trial.state.is_finished():
                result = TrialResult.read(paths.trial(name, trial.number).result)
                if result is None:
                    self._unfinished.add(trial.number)
                    self.interrupted.append(trial)
                else:
                    self._untold[trial.number] = result
        self._tell_if_all_asked()

    def _claim(self, config: StudyConfig, owner: str) -> None:
        for key, value in (("digest", config.digest()), ("owner", owner)):
            if key not in self._study.user_attrs:
                self._study.set_user_attr(key, value)
        _require_mark(self._study, config, owner)  # read back: another driver may have come first

    @property
    def remaining(self) -> int:
        return len(self.interrupted) + max(0, self._search.trials - self.asked)

    def next(self) -> Assignment | None:
        if self.interrupted:
            return self._resume(self.interrupted.popleft())
        if self.asked >= self._search.trials:
            return None
        horizon = self.asked - self._search.lookahead
        if any(number <= horizon for number in self._unfinished):
            return None
        self._tell(up_to=horizon)
        return self._ask()

    def _next_stratum(self) -> str:
        wanted = math.ceil(self._search.random_fraction * self._search.trials)
        planned = self._plan is not None
        return self._search.sampler if planned or self._random >= wanted else RANDOM_STRATUM

    def _ask(self) -> Assignment:
        stratum = self._next_stratum()
        self._study.sampler = make_sampler(stratum, self._seed, self.asked, self._plan)
        trial = self._study.ask()
        trial.set_user_attr("stratum", stratum)
        self.asked += 1
        self._random += stratum == RANDOM_STRATUM
        self._unfinished.add(trial.number)
        return self._assign(trial.number, self._space.suggest(trial), stratum)

    def _resume(self, frozen: FrozenTrial) -> Assignment:
        """Hand an interrupted trial out again under its own number."""
        stratum = frozen.user_attrs.get("stratum")
        if stratum is None:  # killed inside ask(): it is the newest trial, and counts anew
            stratum = self._next_stratum()
            self._random += stratum == RANDOM_STRATUM
        if self._paths.trial(self.name, frozen.number).config.is_file():
            return Assignment(self.name, frozen.number, dict(frozen.params), stratum)
        # Killed between ask() and the folder: settings suggested already are read back.
        self._study.sampler = make_sampler(stratum, self._seed, frozen.number, self._plan)
        trial = optuna.Trial(self._study, self._trial_id(frozen.number))
        trial.set_user_attr("stratum", stratum)
        return self._assign(frozen.number, self._space.suggest(trial), stratum)

    def _assign(self, number: int, params: dict[str, Scalar], stratum: str) -> Assignment:
        folder = self._paths.trial(self.name, number)
        folder.root.mkdir(parents=True, exist_ok=True)
        config = {
            "arm": self.name,
            "number": number,
            "stratum": stratum,
            "params": params,
            "settings": self._space.settings(params).model_dump(mode="json"),
        }
        write_json(folder.config, config)
        return Assignment(self.name, number, params, stratum)

    def finish(self, number: int, result: TrialResult) -> None:
        self._unfinished.discard(number)
        self._untold[number] = result
        self._tell_if_all_asked()

    def _tell_if_all_asked(self) -> None:
        if self.asked >= self._search.trials and not self._unfinished:
            self._tell(up_to=self.asked)

    def _tell(self, up_to: int) -> None:
        for number in sorted(number for number in self._untold if number <= up_to):
            result = self._untold.pop(number)
            trial_id = self._trial_id(number)
            if result.error:
                self._storage.set_trial_user_attr(trial_id, "error", result.error)
            if result.state is TrialState.COMPLETE:
                self._study.tell(number, result.value)
                continue
            if result.state is TrialState.PRUNED and result.value is not None:
                self._storage.set_trial_intermediate_value(trial_id, result.epochs, result.value)
            pruned = result.state is TrialState.PRUNED
            self._study.tell(number, state=OptunaState.PRUNED if pruned else OptunaState.FAIL)

    def _trial_id(self, number: int) -> int:
        study_id = self._storage.get_study_id_from_name(self._study.study_name)
        return self._storage.get_trial_id_from_study_id_trial_number(study_id, number)


def mend_journal(paths: StudyPaths) -> None:
    """Undo what a killed writer left: its lock, and a torn last line.

    Optuna would append behind the torn line and never read the journal again. Call only as the
    only writer.
    """
    Path(f"{paths.journal}.lock").unlink(missing_ok=True)
    if paths.journal.is_file():
        with paths.journal.open("r+b") as file:
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)
