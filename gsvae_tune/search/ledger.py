"""The ledger: Optuna's storage is the only record of which trials exist and how they ended.

Suggestions do not depend on timing: the sampler is shown results in turn (`search.view`), so the
same seed gives the same trials on one slot or eight, and across an interruption. A trial is
recorded whole, with its settings, in one step; one whose result file is there but untold (the
driver was killed in between) is told when the ledger is opened.
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
from gsvae_tune.search.view import SamplerView, as_running
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
        # Settings alone are no loss: the trial is suggested again.
        begun = [n for n in numbers if n >= count and paths.trial(arm, n).begun]
        if begun:
            raise InputError(
                f"holds trial {max(begun)}, but the storage has only {count} trials of this arm",
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
        self._study_id = storage.get_study_id_from_name(self._study.study_name)
        self._claim(config, owner)
        self._unfinished: set[int] = set()
        self.interrupted: deque[FrozenTrial] = deque()
        for trial in self._study.get_trials(deepcopy=False):
            if not trial.state.is_finished():
                result = TrialResult.read(paths.trial(name, trial.number).result)
                if result is None:
                    self._unfinished.add(trial.number)
                    self.interrupted.append(trial)
                else:
                    self._tell(trial.number, result)
        trials = self._study.get_trials(deepcopy=False)
        self.asked = len(trials)
        self._random = sum(t.user_attrs.get("stratum") == RANDOM_STRATUM for t in trials)
        self._view = SamplerView(config.search.lookahead, trials)

    def _claim(self, config: StudyConfig, owner: str) -> None:
        for key, value in (("digest", config.digest()), ("owner", owner)):
            if key not in self._study.user_attrs:
                self._study.set_user_attr(key, value)
        _require_mark(self._study, config, owner)  # read back: another driver may have come first

    @property
    def remaining(self) -> int:
        return len(self.interrupted) + max(0, self._search.trials - self.asked)

    def next(self) -> Assignment | None:
        if self.interrupted:  # handed out again under its own number
            trial = self.interrupted.popleft()
            if not self._paths.trial(self.name, trial.number).config.is_file():
                self._write_config(trial)
            return self._assignment(trial)
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
            self._space.suggest,
            lambda: self._study.get_trials(deepcopy=False),
        )
        trial = as_running(suggested)
        trial.number = self.asked
        trial.set_user_attr("stratum", stratum)
        self._study.add_trial(trial)
        self.asked += 1
        self._random += stratum == RANDOM_STRATUM
        self._unfinished.add(trial.number)
        self._write_config(trial)
        return self._assignment(trial)

    def _assignment(self, trial: FrozenTrial) -> Assignment:
        stratum = trial.user_attrs["stratum"]
        return Assignment(self.name, trial.number, dict(trial.params), stratum)

    def _write_config(self, trial: FrozenTrial) -> None:
        folder = self._paths.trial(self.name, trial.number)
        folder.root.mkdir(parents=True, exist_ok=True)
        config = {
            "arm": self.name,
            "number": trial.number,
            "stratum": trial.user_attrs["stratum"],
            "params": trial.params,
            "settings": self._space.settings(trial.params).model_dump(mode="json"),
        }
        write_json(folder.config, config)

    def finish(self, number: int, result: TrialResult) -> None:
        self._unfinished.discard(number)
        self._view.finished(self._tell(number, result))

    def _tell(self, number: int, result: TrialResult) -> FrozenTrial:
        """Enter a result into the storage; return the trial as it now is there."""
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
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)
