"""The search on Ray Tune. Nothing of Tune's own experiment is kept: its folder is temporary."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ray import tune
from ray.exceptions import RayError
from ray.tune.error import TuneError
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

from gsvae_tune.execution.progress import StudyProgress, View, Which
from gsvae_tune.execution.resources import TrialResources
from gsvae_tune.execution.searcher import LedgerSearcher
from gsvae_tune.search.ledger import Ledger
from gsvae_tune.study.config import StudyConfig
from gsvae_tune.study.errors import UnfinishedError
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import TrialResult
from gsvae_tune.vae.data import Splits

_CONFIRMING = "confirming"  # key of what a confirmation reports
_RETRIES = 2  # of a trial whose process died; each goes on from its own checkpoint


def search(
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

        searching = assigned["phase"] == "search"
        run_trial(
            assigned,
            study=config,
            splits=splits,
            paths=paths.trial(assigned["arm"], assigned["number"], assigned["phase"]),
            gpu_fraction=resources.gpus,
            every_epoch=asha and searching,
            # What carries no epoch by that name is no scheduler's business.
            report=tune.report if searching else lambda seen: tune.report({_CONFIRMING: seen}),
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
        seen = result.get(_CONFIRMING, result)
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
