"""Running a study: open or continue its folder, search on Ray Tune, leave everything on disk.

Nothing of Tune's own experiment is kept: its folder is temporary. What exists is in Optuna's
storage and in the trials' folders, so running a study again is resuming it.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console

from gsvae_tune.execution.cluster import interruptible, running_ray
from gsvae_tune.execution.objectives import Objective, load_objective
from gsvae_tune.execution.progress import ArmProgress, StudyProgress, make_view
from gsvae_tune.execution.resources import TrialResources, plan
from gsvae_tune.search.ledger import (
    Ledger,
    mend_journal,
    open_storage,
    read_trials,
    refuse_foreign,
)
from gsvae_tune.study.config import StudyConfig
from gsvae_tune.study.errors import InputError
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import TrialResult, TrialState
from gsvae_tune.study.studyfile import DataFacts, check_study, driver_lock, write_study
from gsvae_tune.vae.data import Splits, load_splits

if TYPE_CHECKING:
    from gsvae_tune.execution.simulation import Simulated

_QUICK_S = 0.05  # data that are not there show within this time


@dataclass(frozen=True)
class Run:
    """What a run did."""

    paths: StudyPaths
    trained: int  # trials that ended in this run
    simulated: Simulated | None = None


def run_study(config: StudyConfig, console: Console) -> Run:
    """Search until every arm has its trials; call again to go on after any interruption.

    Raises:
        InputError: data, folder, storage or resources are not usable, or the folder holds
            another study.
        UnfinishedError: Ray stopped; everything finished is kept.
        KeyboardInterrupt: on Ctrl-C and on SIGTERM; everything finished is kept.
    """
    paths = StudyPaths.of(config.out, config.name)
    objective = load_objective(config) if config.simulate else None
    with ExitStack() as stack:
        stack.enter_context(interruptible())
        stack.enter_context(driver_lock(paths))
        loading = stack.enter_context(ThreadPoolExecutor(1)).submit(_load, config)
        machine = None
        if objective is None and not paths.exists() and not _failed_at_once(loading):
            # A new study will train: Ray starts while the data load.
            machine = stack.enter_context(running_ray(config.resources))
            stack.enter_context(interruptible())  # ray.init takes the signal for itself
        splits = loading.result()
        facts: DataFacts = splits or NoData()
        owner = check_study(paths, config, facts)
        if config.storage is None:
            mend_journal(paths)
        storage = open_storage(config.storage, paths)
        refuse_foreign(config, paths, storage, owner)
        write_study(paths, config, facts, owner)  # from here on the folder is this study's
        ledger = Ledger(config, paths, storage, owner)
        arms = {name: ArmProgress(config.search.trials) for name in config.arms}
        before = list(read_trials(config, paths, storage, owner))
        for row in before:
            if row.state is not TrialState.RUNNING:
                arms[row.arm].add(row.number, row.state, row.value)
            arms[row.arm].budget = max(arms[row.arm].budget, row.number + 1)
        resumed = sum(row.state is TrialState.RUNNING for row in before)
        if not ledger.remaining:
            return Run(paths, 0)
        if objective is not None:
            return _simulate(config, paths, ledger, objective, arms, console)
        assert splits is not None  # noqa: S101 - there is something to train
        if machine is None:
            machine = stack.enter_context(running_ray(config.resources))
            stack.enter_context(interruptible())
        from gsvae_tune.execution.tuning import search

        resources = plan(config.resources, *machine)
        progress = StudyProgress(config.name, arms, config.training.epochs, resources.slots)
        _announce(console, config, resources, resumed)
        with make_view(progress, console) as view:
            ended = search(config, paths, splits, ledger, resources, progress, view)
        return Run(paths, ended)


@dataclass(frozen=True)
class NoData:
    """What study.json says of the images of a simulated study."""

    checksum: str = "none: simulated"
    counts: dict[str, int] = field(default_factory=dict)


def _load(config: StudyConfig) -> Splits | None:
    """Load the data and, for later, the modules that take long to import; None to simulate."""
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
    import gsvae_tune.execution.tuning  # noqa: F401

    return splits


def _failed_at_once(loading: Future[Splits | None]) -> bool:
    wait([loading], timeout=_QUICK_S)
    return loading.done() and loading.exception() is not None


def _simulate(
    config: StudyConfig,
    paths: StudyPaths,
    ledger: Ledger,
    objective: Objective,
    arms: dict[str, ArmProgress],
    console: Console,
) -> Run:
    """Search in simulated time."""
    from gsvae_tune.execution.searcher import LedgerSearcher
    from gsvae_tune.execution.simulation import simulate

    assert config.simulate is not None  # noqa: S101 - there is an objective
    slots = config.simulate.slots
    progress = StudyProgress(config.name, arms, config.training.epochs, slots)
    _note_lookahead(console, config, slots)
    with make_view(progress, console) as view:

        def ended(arm: str, number: int, result: TrialResult) -> None:
            progress.ended(arm, number, result)
            view.changed()  # and no line for each of thousands

        searcher = LedgerSearcher(ledger, paths)
        done = simulate(searcher, objective, slots, paths, progress.started, ended)
    return Run(paths, done.trials, done)


def _announce(
    console: Console, config: StudyConfig, resources: TrialResources, resumed: int
) -> None:
    share = f", {resources.gpus:g} GPU" if resources.gpus else ""
    console.print(
        f"{len(config.arms)} arms x {config.search.trials} trials x {config.replicates} replicates "
        f"x {config.training.epochs} epochs; {resources.slots} trials at once "
        f"({resources.cpus:g} CPU{share} each)",
        highlight=False,
    )
    if resumed:
        console.print(f"going on with {resumed} interrupted trials", highlight=False)
    _note_lookahead(console, config, resources.slots)


def _note_lookahead(console: Console, config: StudyConfig, slots: int) -> None:
    usable = config.search.lookahead * len(config.arms)
    if usable < slots:
        console.print(
            f"note: search.lookahead {config.search.lookahead} lets {usable} of {slots} slots "
            f"work; begin a study with at least --set search.lookahead="
            f"{-(-slots // len(config.arms))}, more where trials differ in length",
            highlight=False,
        )
