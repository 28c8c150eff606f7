"""Running a study: open or continue its folder, search on Ray Tune, leave everything on disk.

Nothing of Tune's own experiment is kept: its folder is temporary. What exists is in Optuna's
storage and in the trials' folders, so running a study again is resuming it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune.error import TuneError
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from rich.console import Console

from gsvae_tune.execution import environment
from gsvae_tune.execution.progress import ArmProgress, StudyProgress, View, make_view
from gsvae_tune.execution.resources import TrialResources, plan
from gsvae_tune.execution.searcher import LedgerSearcher
from gsvae_tune.search.ledger import (
    Ledger,
    mend_journal,
    open_storage,
    read_trials,
    refuse_foreign,
)
from gsvae_tune.study.config import ResourcesConfig, StudyConfig
from gsvae_tune.study.errors import InputError, UnfinishedError
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import TrialResult, TrialState
from gsvae_tune.study.studyfile import check_study, driver_lock, write_study
from gsvae_tune.vae.data import Splits, load_splits

_RETRIES = 2  # of a trial whose process died; each goes on from its own checkpoint


@dataclass(frozen=True)
class Run:
    """What a run did."""

    paths: StudyPaths
    trained: int  # trials that ended in this run


def run_study(config: StudyConfig, console: Console) -> Run:
    """Search until every arm has its trials; call again to go on after any interruption.

    Raises:
        InputError: data, folder, storage or resources are not usable, or the folder holds
            another study.
        UnfinishedError: Ray stopped; everything finished is kept.
        KeyboardInterrupt: on Ctrl-C and on SIGTERM; everything finished is kept.
    """
    paths = StudyPaths.of(config.out, config.name)
    splits = load_splits(config.data, config.seed)
    if len(splits.train) < config.training.batch_size:
        raise InputError(
            f"training.batch_size: {config.training.batch_size} is more than the "
            f"{len(splits.train)} training images",
            where=config.name,
            legal=f"at most {len(splits.train)}",
        )
    with driver_lock(paths):
        owner = check_study(paths, config, splits)
        if config.storage is None:
            mend_journal(paths)
        storage = open_storage(config.storage, paths)
        refuse_foreign(config, paths, storage, owner)
        write_study(paths, config, splits, owner)  # from here on the folder is this study's
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
        with _ray(config.resources) as (cpus, gpus), _interruptible():
            resources = plan(config.resources, cpus, gpus)
            progress = StudyProgress(config.name, arms, config.training.epochs, resources.slots)
            _announce(console, config, resources, resumed)
            with make_view(progress, console) as view:
                ended = _search(config, paths, splits, ledger, resources, progress, view)
    return Run(paths, ended)


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
    usable = config.search.lookahead * len(config.arms)
    if usable < resources.slots:
        console.print(
            f"note: search.lookahead {config.search.lookahead} lets {usable} of "
            f"{resources.slots} slots work; a study that begins with "
            f"--set search.lookahead={-(-resources.slots // len(config.arms))} uses all",
            highlight=False,
        )


def _search(
    config: StudyConfig,
    paths: StudyPaths,
    splits: Splits,
    ledger: Ledger,
    resources: TrialResources,
    progress: StudyProgress,
    view: View,
) -> int:
    """Run Tune over the ledger; return how many trials ended."""
    asha = config.search.scheduler == "asha"

    def train(assigned: dict[str, Any], *, splits: Splits) -> None:
        from gsvae_tune.execution.trial import run_trial  # torch, which the driver does without

        run_trial(
            assigned,
            study=config,
            splits=splits,
            paths=paths.trial(assigned["arm"], assigned["number"]),
            gpu_fraction=resources.gpus,
            every_epoch=asha,
            report=tune.report,
        )

    scheduler = (
        # Past the last epoch, because it also stops (as if pruned) whatever reaches max_t.
        ASHAScheduler(time_attr="epoch", max_t=config.training.epochs + 1)
        if asha
        else FIFOScheduler()
    )
    callback = _Shown(paths, progress, view)
    # Tune starts one process after another unless told that more may be waiting to start.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(resources.slots)
    # Named after the study, so that the next run clears what a killed one left. (No user name: a
    # container's user may have none.)
    place = hashlib.sha256(str(paths.root).encode()).hexdigest()[:16]
    scratch = Path(tempfile.gettempdir()) / f"gsvae-tune-{place}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700)
    tuner = tune.Tuner(
        tune.with_resources(
            # Data goes to the object store once, whatever the number of trials.
            tune.with_parameters(train, splits=splits),
            {"cpu": resources.cpus, "gpu": resources.gpus},
        ),
        tune_config=tune.TuneConfig(
            metric="value",
            mode="min",
            search_alg=LedgerSearcher(ledger, paths),
            scheduler=scheduler,
            num_samples=ledger.remaining,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            name="search",
            storage_path=str(scratch),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=_RETRIES),
            callbacks=[callback],
        ),
    )
    try:
        tuner.fit()
    except (RayError, TuneError, OSError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UnfinishedError(
            f"the search stopped: {lines[-1]}\n"
            f"  kept:  every finished trial, in {paths.root}\n"
            "  next:  run the same command again to go on"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if ledger.remaining:
        raise UnfinishedError(
            f"the search ended with {ledger.remaining} trials to go\n"
            f"  kept:  every finished trial, in {paths.root}\n"
            "  next:  run the same command again to go on"
        )
    return callback.ended


class _Shown(TrialProgressCallback):
    """Tells the progress what Tune sees.

    It takes the place of Tune's own callback of this kind, which prints a line for each trial
    however quiet it is asked to be.
    """

    def __init__(self, paths: StudyPaths, progress: StudyProgress, view: View) -> None:
        super().__init__()
        self._paths, self._progress, self._view = paths, progress, view
        self.ended = 0

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune stores a copy of its callbacks in the experiment that we throw away

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._progress.started(trial.config["arm"], trial.config["number"])
        self._view.changed()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        if "epoch" in result:
            self._progress.reported(trial.config["arm"], trial.config["number"], result)
        self._view.changed()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        arm, number = trial.config["arm"], trial.config["number"]
        result = TrialResult.read(self._paths.trial(arm, number).result)
        if result is not None:
            self.ended += 1
            self._progress.ended(arm, number, result)
            self._view.changed((arm, number, result))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self.on_trial_complete(iteration, trials, trial)


@contextmanager
def _ray(wanted: ResourcesConfig) -> Iterator[tuple[float, float]]:
    """Start Ray here or join the cluster that RAY_ADDRESS names; give its CPUs and GPUs."""
    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    owned = not ray.is_initialized()
    if owned:
        with _uninterrupted():
            if environment.on_cluster():
                ray.init(**quiet)
            else:
                ray.init(
                    num_cpus=wanted.cpus,
                    num_gpus=wanted.gpus,
                    include_dashboard=False,
                    **quiet,
                )
    try:
        found = ray.cluster_resources()
        yield found.get("CPU", 0.0), found.get("GPU", 0.0)
    finally:
        if owned:
            with _uninterrupted():
                ray.shutdown()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait: Ray's native code has crashed when interrupted as it starts or ends."""
    came: list[int] = []
    try:
        previous = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if came:
            raise KeyboardInterrupt


@contextmanager
def _interruptible() -> Iterator[None]:
    """Treat SIGTERM (a batch system's warning) like Ctrl-C; after ray.init, which also takes it."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        previous = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread: signals are somebody else's
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
