"""Running a study: open or continue its folder, search, confirm, test; leave everything on disk.

Nothing of Tune's own experiment is kept: its folder is temporary. What exists is in Optuna's
storage and in the trials' folders, so running a study again is resuming it, in whichever phase.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console

from gsvae_tune.execution.cluster import interruptible, running_ray
from gsvae_tune.execution.halting import disk_full
from gsvae_tune.execution.objectives import Objective, load_objective
from gsvae_tune.execution.progress import ArmProgress, StudyProgress, Which, make_view
from gsvae_tune.execution.resources import TrialResources, plan
from gsvae_tune.search.confirm import choose, count_searched, searched_arms
from gsvae_tune.search.ledger import Ledger
from gsvae_tune.search.storage import (
    Assignment,
    Storage,
    TrialRow,
    mend_journal,
    open_storage,
    read_trials,
)
from gsvae_tune.study.config import StudyConfig
from gsvae_tune.study.errors import InputError
from gsvae_tune.study.faults import is_disk_full
from gsvae_tune.study.lease import Lease, driver_lease
from gsvae_tune.study.openings import open_for, refuse_second
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import TestResult, TrialResult, TrialState
from gsvae_tune.study.studyfile import DataFacts, check_study, write_study
from gsvae_tune.vae.data import Splits, load_splits

if TYPE_CHECKING:
    from gsvae_tune.execution.simulation import Simulated

_QUICK_S = 1.5  # a user's own images show within this time whether they can be read


@dataclass(frozen=True)
class Run:
    """What a run did."""

    paths: StudyPaths
    trained: int  # trials and confirmations that ended in this run
    tested: int = 0  # confirmed configurations that this run measured on the test split
    simulated: Simulated | None = None


class _Machine:
    """Ray, started when it is first needed and stopped with the run."""

    def __init__(self, config: StudyConfig, stack: ExitStack) -> None:
        self._config, self._stack = config, stack
        self._found: tuple[float, float] | None = None

    def start(self) -> None:
        if self._found is None:
            self._found = self._stack.enter_context(running_ray(self._config.resources))
            self._stack.enter_context(interruptible())  # ray.init takes the signal for itself

    @property
    def resources(self) -> TrialResources:
        self.start()
        assert self._found is not None  # noqa: S101 - just started
        return plan(self._config.resources, *self._found)


@dataclass(frozen=True)
class _Study:
    """A study that is open and held by this process."""

    config: StudyConfig
    paths: StudyPaths
    lease: Lease
    storage: Storage
    owner: str
    console: Console

    def rows(self) -> list[TrialRow]:
        return list(read_trials(self.config, self.paths, self.storage, self.owner))


def run_study(config: StudyConfig, console: Console, command: str | None = None) -> Run:
    """Search, confirm and test until nothing is left; call again to go on after an interruption.

    Args:
        config: the study.
        console: on which it is shown how far it is.
        command: what the user typed, without passwords; study.json keeps it for the reader.

    Raises:
        InputError: data, folder, storage or resources are not usable, the folder holds another
            study, or the test split is open and more is to be searched.
        UnfinishedError: something stopped the run; everything finished is kept.
        KeyboardInterrupt: on Ctrl-C and on SIGTERM; everything finished is kept.
    """
    paths = StudyPaths.of(config.out, config.name)
    try:
        return _run(config, paths, console, command)
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(paths, 0, str(error)) from error
        raise


def _run(config: StudyConfig, paths: StudyPaths, console: Console, command: str | None) -> Run:
    objective = load_objective(config) if config.simulate else None
    _check_tracking(config, console)
    with ExitStack() as stack:
        stack.enter_context(interruptible())
        lease = stack.enter_context(driver_lease(paths, lambda text: _say(console, text)))
        thread = stack.enter_context(ThreadPoolExecutor(1))
        loading = thread.submit(_load, config)
        thread.submit(_import_what_trains, config)
        machine = _Machine(config, stack)
        if objective is None and not paths.exists() and not _failed_at_once(config, loading):
            machine.start()  # a new study will train: Ray starts while the data load
        splits = loading.result()
        facts = splits or NoData()
        study = _open(config, paths, lease, facts, console)
        write_study(paths, config, facts, study.owner, command)
        ledger = Ledger(config, paths, study.storage, study.owner)
        trained, tested, simulated = 0, 0, None
        if ledger.remaining and objective is not None:
            simulated = _simulate(study, ledger, objective)
            trained = simulated.trials
        elif ledger.remaining:
            assert splits is not None  # noqa: S101 - there is something to train
            trained = _train(study, ledger, splits, machine.resources)
        if config.protocol.until == "verdict":
            tested = _test(study, objective, lambda: machine.resources)
        return Run(paths, trained, tested, simulated)


def _check_tracking(config: StudyConfig, console: Console) -> None:
    if config.tracking and config.simulate:
        _say(console, "note: tracking does nothing here: a simulated study trains nothing")
    elif config.tracking:
        from gsvae_tune.execution.tracking import require_packages

        require_packages(config.tracking)


@dataclass(frozen=True)
class NoData:
    """What study.json says of the images of a simulated study."""

    checksum: str = "none: simulated"
    counts: dict[str, int] = field(default_factory=dict)


def _load(config: StudyConfig) -> Splits | None:
    """Load the data; None to simulate."""
    if config.simulate:
        return None
    splits = load_splits(config.data, config.seed)
    if len(splits.train) < config.training.batch_size:
        raise InputError(
            f"training.batch_size: {config.training.batch_size} is more than the "
            f"{len(splits.train)} training images",
            where=config.name,
            legal=f"at most {len(splits.train)}",
        )
    return splits


def _import_what_trains(config: StudyConfig) -> None:
    """Import, while Ray starts, what takes long to import."""
    if not config.simulate:
        import gsvae_tune.execution.tuning  # noqa: F401


def _failed_at_once(config: StudyConfig, loading: Future[Splits | None]) -> bool:
    """Whether the images are found wanting before Ray is started, which cannot be called off."""
    if config.data.source != "digits":
        wait([loading], timeout=_QUICK_S)
    return loading.done() and loading.exception() is not None


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _open(
    config: StudyConfig, paths: StudyPaths, lease: Lease, facts: DataFacts, console: Console
) -> _Study:
    """Check that all that is there is this study's."""
    owner = check_study(paths, config, facts)
    if config.storage is None:
        mend_journal(paths)
    storage = open_storage(
        config.storage,
        paths,
        patience_s=config.faults.storage_patience_s,
        notify=lambda text: _say(console, text),
    )
    study = _Study(config, paths, lease, storage, owner, console)
    before = study.rows()
    if config.protocol.until == "verdict":
        searched = count_searched(before)
        refuse_second(
            paths, config.protocol.reopen_test, searched + _trials_to_search(config, before)
        )
    return study


def _trials_to_search(config: StudyConfig, rows: list[TrialRow]) -> int:
    """Return how many trials the budget asks for that have not ended."""
    ended = [r.arm for r in rows if r.phase == "search" and r.state is not TrialState.RUNNING]
    return sum(max(0, config.search.trials - ended.count(arm)) for arm in searched_arms(config))


def _arms_so_far(study: _Study) -> dict[str, ArmProgress]:
    """Return where every arm stands."""
    protocol = study.config.protocol
    to_confirm = 0 if protocol.until == "search" else protocol.top
    searched = searched_arms(study.config)
    arms = {
        name: ArmProgress(study.config.search.trials if name in searched else 0, to_confirm)
        for name in study.config.arms
    }
    for row in study.rows():
        arm = arms[row.arm]
        if row.state is not TrialState.RUNNING:
            arm.add(Which(row.arm, row.phase, row.number), row.state, row.value)
        if row.phase == "search":
            arm.budget = max(arm.budget, row.number + 1)
    for arm in arms.values():
        arm.to_confirm = max(arm.to_confirm, arm.confirmed)
    return arms


def _train(study: _Study, ledger: Ledger, splits: Splits, resources: TrialResources) -> int:
    """Search and confirm on Ray Tune; return how many trials ended."""
    from gsvae_tune.execution.tuning import search

    progress = StudyProgress(study.config, _arms_so_far(study), resources.slots)
    _announce(study, resources)
    with make_view(progress, study.console) as view:
        return search(
            study.config, study.paths, splits, ledger, study.lease, resources, progress, view,
            lambda text: _say(study.console, text),
        )  # fmt: skip


def _simulate(study: _Study, ledger: Ledger, objective: Objective) -> Simulated:
    """Search and confirm in simulated time."""
    from gsvae_tune.execution.searcher import LedgerSearcher
    from gsvae_tune.execution.simulation import simulate

    assert study.config.simulate is not None  # noqa: S101 - there is an objective
    slots = study.config.simulate.slots
    progress = StudyProgress(study.config, _arms_so_far(study), slots)
    _note_lookahead(study, slots)
    with make_view(progress, study.console) as view:

        def started(assignment: Assignment) -> None:
            progress.started(_which(assignment))

        def ended(assignment: Assignment, result: TrialResult) -> None:
            progress.ended(_which(assignment), result)
            view.changed()  # and no line for each of thousands

        give_up_after = study.config.faults.give_up_after
        searcher = LedgerSearcher(ledger, study.paths, study.lease, give_up_after)
        return simulate(searcher, objective, slots, study.paths, started, ended, _clock(study))


def _clock(study: _Study) -> float:
    """Return where simulated time goes on: at the latest end of a trial so far."""
    ended = [row for row in study.rows() if row.state is not TrialState.RUNNING]
    folders = (study.paths.trial(row.arm, row.number, row.phase) for row in ended)
    results = filter(None, (TrialResult.read(folder.result) for folder in folders))
    return max((result.ended_s or 0.0 for result in results), default=0.0)


def _which(assignment: Assignment) -> Which:
    return Which(assignment.arm, assignment.phase, assignment.number)


def _test(
    study: _Study, objective: Objective | None, resources: Callable[[], TrialResources]
) -> int:
    """Open the test split for the confirmed configurations that were not measured on it yet."""
    rows = study.rows()
    confirmed = {(row.arm, row.number): row for row in rows if row.phase == "confirm"}
    waiting: dict[tuple[str, int], TrialRow] = {}
    for arm, numbers in choose(study.config, rows).items():
        for which in [(arm, number) for number in numbers]:
            folder = study.paths.trial(*which, "confirm")
            result = TrialResult.read(folder.result)
            if result and result.replicates and TestResult.read(folder.test) is None:
                waiting[which] = confirmed[which]
    if not waiting:
        return 0
    reason = study.config.protocol.reopen_test
    study.lease.check()
    opened = open_for(study.paths, waiting, reason, count_searched(rows))
    if objective is None:
        from gsvae_tune.execution.testing import measure

        measure(study.config, study.paths, study.lease, opened, resources(), study.console)
    else:
        for which, row in waiting.items():
            found = objective.test(
                Assignment(row.arm, row.phase, row.number, row.params, row.stratum)
            )
            folder = study.paths.trial(*which, "confirm")
            TestResult(opened[which].time, opened[which].mark, found).write(folder.test)
    return len(opened)


def _announce(study: _Study, resources: TrialResources) -> None:
    config, protocol = study.config, study.config.protocol
    share = f", {resources.gpus:g} GPU" if resources.gpus else ""
    confirmed = (
        ""
        if protocol.until == "search"
        else f", then the best {protocol.top} of each arm on {protocol.replicates} fresh replicates"
    )
    study.console.print(
        f"{len(searched_arms(config))} arms x {config.search.trials} trials x {config.replicates} "
        f"replicates x {config.training.epochs} epochs{confirmed}; {resources.slots} at once "
        f"({resources.cpus:g} CPU{share} each)",
        highlight=False,
        soft_wrap=True,
    )
    resumed = sum(row.state is TrialState.RUNNING for row in study.rows())
    if resumed:
        study.console.print(f"going on with {resumed} interrupted trials", highlight=False)
    _note_lookahead(study, resources.slots)


def _note_lookahead(study: _Study, slots: int) -> None:
    arms = len(searched_arms(study.config))
    usable = study.config.search.lookahead * arms
    if usable < slots:
        study.console.print(
            f"note: search.lookahead {study.config.search.lookahead} lets {usable} of {slots} "
            f"slots work; begin a study with at least --set search.lookahead={-(-slots // arms)}, "
            "more where trials differ in length",
            highlight=False,
        )
