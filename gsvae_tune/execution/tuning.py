"""The search on Ray Tune. Nothing of Tune's own experiment is kept: its folder is temporary."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from ray import tune
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.tune.error import TuneError
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

from gsvae_tune.execution.halting import disk_full
from gsvae_tune.execution.progress import StudyProgress, View, Which
from gsvae_tune.execution.resources import TrialResources
from gsvae_tune.execution.searcher import CONFIRMING, PAUSE, LedgerSearcher
from gsvae_tune.search.ledger import Ledger
from gsvae_tune.study.config import StudyConfig
from gsvae_tune.study.errors import UnfinishedError
from gsvae_tune.study.faults import is_disk_full
from gsvae_tune.study.lease import Lease
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import TrialResult
from gsvae_tune.vae.data import Splits


def search(
    config: StudyConfig,
    paths: StudyPaths,
    splits: Splits,
    ledger: Ledger,
    lease: Lease,
    resources: TrialResources,
    progress: StudyProgress,
    view: View,
    notify: Callable[[str], None],
) -> int:
    """Run Tune over the ledger; return how many trials ended.

    ``notify`` is told what goes wrong beside the study.

    Raises:
        UnfinishedError: it stopped before the end.
    """
    searcher = LedgerSearcher(ledger, paths, lease, config.faults.give_up_after)
    term, shown = lease.term, config.model_copy(update={"storage": None})  # it may hold a password
    asha = config.search.scheduler == "asha"

    def train(assigned: dict[str, Any], *, splits: Splits) -> None:
        from gsvae_tune.execution.trial import run_trial  # torch, which the driver does without

        searching = assigned["phase"] == "search"
        run_trial(
            assigned,
            study=shown,
            splits=splits,
            paths=paths.trial(assigned["arm"], assigned["number"], assigned["phase"]),
            gpu_fraction=resources.gpus,
            every_epoch=bool(shown.tracking) or (asha and searching),
            # What carries no epoch by that name is no scheduler's business.
            report=tune.report if searching else lambda seen: tune.report({CONFIRMING: seen}),
            pause=lambda why: tune.report({PAUSE: why}),
            term=term,
        )

    scheduler = (
        # Past the last epoch, because it also stops (as if pruned) whatever reaches max_t.
        _Asha(searcher.causes, time_attr="epoch", max_t=config.training.epochs + 1)
        if asha
        else _Fifo(searcher.causes)
    )
    callback = _Shown(paths, progress, view)
    # Tune starts one process after another unless told that more may be waiting to start.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(resources.slots)
    scratch = _scratch(paths)
    try:
        with _trackers(config, paths, notify) as trackers, _errors_of_one_trial():
            tuner = tune.Tuner(
                tune.with_resources(
                    # Data goes to the object store once, whatever the number of trials.
                    tune.with_parameters(train, splits=splits),
                    {"cpu": resources.cpus, "gpu": resources.gpus},
                ),
                tune_config=tune.TuneConfig(
                    metric="value",
                    mode="min",
                    search_alg=searcher,
                    scheduler=scheduler,
                    num_samples=ledger.remaining,
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: str(trial.trial_id),
                ),
                run_config=tune.RunConfig(
                    name="search",
                    storage_path=str(scratch),
                    verbose=0,
                    failure_config=tune.FailureConfig(max_failures=config.faults.retries),
                    callbacks=[callback, *trackers],
                ),
            )
            tuner.fit()
    except (RayError, TuneError, OSError) as error:
        if is_disk_full(error):
            raise disk_full(paths, ledger.remaining, str(error)) from error
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise _unfinished(paths, f"stopped: {lines[-1]}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if searcher.halt is not None:
        raise searcher.halt
    if ledger.remaining:
        raise _unfinished(paths, f"ended with {ledger.remaining} trials to go")
    return callback.ended


def _trackers(
    config: StudyConfig, paths: StudyPaths, notify: Callable[[str], None]
) -> AbstractContextManager[list[tune.Callback]]:
    """Return what gives the callbacks of the tools that the study is tracked by."""
    if not config.tracking:
        return nullcontext([])
    from gsvae_tune.execution.tracking import tracked  # which imports what it tracks by

    return tracked(config, paths, notify)


def _scratch(paths: StudyPaths) -> Path:
    """Return a fresh temporary folder for Tune, and clear what killed runs of this study left."""
    # Named after the study's folder. (No user name: a container's user may have none.)
    prefix = f"gsvae-tune-{hashlib.sha256(str(paths.root).encode()).hexdigest()[:16]}-"
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)  # somebody else's stays
    return Path(tempfile.mkdtemp(prefix=prefix))


def _unfinished(paths: StudyPaths, how: str) -> UnfinishedError:
    return UnfinishedError(
        f"the search {how}\n"
        f"  kept:  every finished trial, in {paths.root}\n"
        "  next:  run the same command again to go on"
    )


@contextmanager
def _errors_of_one_trial() -> Iterator[None]:
    """Let every error of Ray's about one trial's process end, or retry, that trial alone.

    Tune (Ray 2.60) knows of dead actors; one that Ray's memory monitor has killed raises an error
    of another kind, which would end the whole search.
    """
    known = RayActorManager._actor_task_failed  # noqa: SLF001 - Tune offers no place to do this

    def failed(manager: Any, tracked_actor_task: Any, exception: Exception) -> None:
        is_other = not isinstance(exception, RayActorError | RayTaskError)
        if is_other and isinstance(exception, RayError):
            exception = RayActorError(error_msg=str(exception))
        known(manager, tracked_actor_task, exception)

    RayActorManager._actor_task_failed = failed  # noqa: SLF001
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = known  # noqa: SLF001


class _Hears:
    """Notes why Tune gives a trial up: a searcher is told only that it does."""

    def __init__(self, causes: dict[str, str], **settings: Any) -> None:
        super().__init__(**settings)
        self._causes = causes

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        try:
            self._causes[trial.trial_id] = Path(trial.error_file or "").read_text(encoding="utf-8")
        except OSError:
            self._causes[trial.trial_id] = ""
        super().on_trial_error(tune_controller, trial)  # type: ignore[misc]


class _Fifo(_Hears, FIFOScheduler):
    """Every trial to its end."""


class _Asha(_Hears, ASHAScheduler):
    """Weak trials stop early."""


def _which(trial: Any) -> Which:
    return Which(trial.config["arm"], trial.config["phase"], trial.config["number"])


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
        self._progress.started(_which(trial))
        self._view.changed()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        seen = result.get(CONFIRMING, result)
        if "epoch" in seen:
            self._progress.reported(_which(trial), seen)
        self._view.changed()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        which = _which(trial)
        folder = self._paths.trial(which.arm, which.number, which.phase)
        result = TrialResult.read(folder.result)
        if result is not None:
            self.ended += 1
            self._progress.ended(which, result)
            self._view.changed((which, result))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self.on_trial_complete(iteration, trials, trial)
