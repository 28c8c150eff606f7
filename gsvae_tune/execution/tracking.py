"""Trials as they train, in TensorBoard, MLflow or Weights & Biases, beside the study's own records.

Ray's own callbacks write them. Here is where to and under which names, that no epoch is told
twice, and that none of it can hold up or end a study: each tool works in a thread of its own, and
one that fails is given up with a note.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
import math
import netrc
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from ray.air.constants import TRAINING_ITERATION
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune import Callback
from ray.tune.logger import LoggerCallback, TBXLoggerCallback

from gsvae_tune.execution.progress import Which
from gsvae_tune.execution.searcher import CONFIRMING
from gsvae_tune.study.config import StudyConfig, Tracker
from gsvae_tune.study.errors import InputError
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import TrialResult, TrialState, read_json_lines
from gsvae_tune.study.studyfile import read_study

_PACKAGES: dict[Tracker, str] = {
    "tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb",
}  # fmt: skip
_METRICS = ("epoch", "value", "tau_a", "tau_b")
_PATIENCE_S = 30.0  # a tool gets so long to write what is left after the last trial ...
_HASTE_S = 3.0  # ... and so long after an interruption
_MOST = 100_000  # epochs that wait for a tool; beyond that it does not keep up
_SEND_S = 2.0  # MLflow takes 50 ms for an epoch alone, and not much more for a hundred at once
_MLFLOW_URI = "MLFLOW_TRACKING_URI"
_TAG = "gsvae_tune.trial"
_LOUD = ("ray.tune.logger.tensorboardx", "ray.air._internal.mlflow", "mlflow", "alembic", "wandb")


def require_packages(tracking: Iterable[Tracker]) -> None:
    """Check, before anything is run, that what the study is to be tracked by is installed.

    Raises:
        InputError: it is not.
    """
    for tool in tracking:
        if importlib.util.find_spec(_PACKAGES[tool]) is None:
            raise InputError(
                f'"{tool}" needs the package {_PACKAGES[tool]}, which is not installed',
                where="tracking (--track)",
                next_step="pip install -e '.[tracking]', or leave it out",
            )


@contextlib.contextmanager
def tracked(
    config: StudyConfig, paths: StudyPaths, notify: Callable[[str], None]
) -> Iterator[list[Callback]]:
    """Give the callbacks for Tune that track a study; wait a while at the end for what is left.

    Args:
        config: the study.
        paths: its folder; everything is written below ``paths.tracking``.
        notify: is told, once, when a tool fails.
    """
    paths.refuse_links()
    tools = [Tracking(tool, config, paths, notify) for tool in dict.fromkeys(config.tracking)]
    patience_s = _HASTE_S
    try:
        yield [*tools]
        patience_s = _PATIENCE_S
    finally:
        for tool in tools:
            tool.stop()
        deadline = time.monotonic() + patience_s
        for tool in tools:
            tool.wait(deadline - time.monotonic())


@dataclass(frozen=True, eq=False)
class _Trial:
    """A trial as Ray's callbacks ask for it."""

    trial_id: str
    name: str  # pair/3, or pair/3-confirm
    experiment_dir_name: str  # W&B groups by it
    config: dict[str, Any]
    local_path: str

    @property
    def evaluated_params(self) -> dict[str, Any]:
        return self.config

    def init_local_path(self) -> None:
        Path(self.local_path).mkdir(parents=True, exist_ok=True)

    def __str__(self) -> str:
        return self.name


class Tracking(Callback):
    """One tool, told by Tune of every trial, epoch and end. No call waits for the tool."""

    def __init__(
        self,
        tool: Tracker,
        config: StudyConfig,
        paths: StudyPaths,
        notify: Callable[[str], None],
    ) -> None:
        self._tool, self._config, self._paths, self._notify = tool, config, paths, notify
        self._study_id = read_study(paths)["id"]  # what two studies of one name differ in
        self._trials: dict[Which, _Trial] = {}
        self._told: dict[Which, int] = {}  # the last epoch
        self._jobs: queue.Queue[Callable[[LoggerCallback], None] | None] = queue.Queue(_MOST)
        self._given_up = False
        self._thread = threading.Thread(target=self._work, name=f"tracking-{tool}", daemon=True)
        self._thread.start()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune stores a copy of its callbacks in the experiment that we throw away

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        which, params = _which(trial), dict(trial.config["params"])
        self._do(lambda logger: self._begin(logger, which, params))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        seen = {**result.get(CONFIRMING, result)}
        if seen.get("epoch"):  # and not why it pauses, nor what is before the first epoch's end
            which = _which(trial)
            self._do(lambda logger: self._tell(logger, which, seen))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        which = _which(trial)
        self._do(lambda logger: self._end(logger, which))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self.on_trial_complete(iteration, trials, trial)

    def stop(self) -> None:
        """Let the tool end when it has written what it was told."""
        with contextlib.suppress(queue.Full):
            self._jobs.put_nowait(None)

    def wait(self, patience_s: float) -> None:
        """Wait for its end, at most so many seconds."""
        self._thread.join(max(0.0, patience_s))
        if self._thread.is_alive():
            self._give_up("has not written everything in time")

    def _do(self, job: Callable[[LoggerCallback], None]) -> None:
        if self._given_up:
            return
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            self._give_up("does not keep up")

    def _give_up(self, why: str) -> None:
        if not self._given_up:
            self._given_up = True
            self._notify(f"note: tracking by {self._tool} {why}; the study itself is not affected")

    def _work(self) -> None:
        try:
            logger = _logger(self._tool, self._config, self._paths)
            while (job := self._jobs.get()) is not None and not self._given_up:
                job(logger)
            logger.on_experiment_end([])
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not the study's business
            first = (str(error).strip().splitlines() or [""])[0][:200]
            self._give_up(f"ended: {type(error).__name__}: {first}")

    def _begin(self, logger: LoggerCallback, which: Which, params: dict[str, Any]) -> None:
        if which not in self._trials:
            confirming = "" if which.phase == "search" else f"-{which.phase}"
            name = f"{which.arm}/{which.number}{confirming}"
            own = self._tool == "tensorboard"  # a folder a trial; the others sort for themselves
            self._trials[which] = _Trial(
                trial_id=f"{self._study_id}-{name.replace('/', '-')}",
                name=name,
                experiment_dir_name=self._config.name,
                config={"arm": which.arm, "phase": which.phase} | params,
                local_path=str(_folder(self._tool, self._paths) / (name if own else "")),
            )
        logger.log_trial_start(self._trials[which])

    def _tell(self, logger: LoggerCallback, which: Which, seen: Mapping[str, Any]) -> None:
        if seen["epoch"] <= self._told.get(which, 0):
            return  # its process died: the epochs since its checkpoint are trained again
        self._told[which] = seen["epoch"]
        found = {name: seen.get(name) for name in _METRICS}
        sound = {key: one for key, one in found.items() if one is not None and math.isfinite(one)}
        step = {TRAINING_ITERATION: seen["epoch"]}
        logger.log_trial_result(0, self._trials[which], sound | step)

    def _end(self, logger: LoggerCallback, which: Which) -> None:
        """Tell the last epoch, with the value that ranks the trial, and how it ended."""
        folder = self._paths.trial(which.arm, which.number, which.phase)
        result = TrialResult.read(folder.result)
        if result is None:
            return  # it pauses: the next run goes on with it
        last = list(read_json_lines(folder.epochs))[-1:]
        if last and last[0]["epoch"] >= self._told.get(which, 0):
            self._told.pop(which, None)
            self._tell(logger, which, _at_end(result, last[0]))
        failed = result.state is TrialState.FAILED
        logger.log_trial_end(self._trials[which], failed=failed)


def _which(trial: Any) -> Which:
    return Which(trial.config["arm"], trial.config["phase"], trial.config["number"])


def _at_end(result: TrialResult, record: Mapping[str, Any]) -> dict[str, Any]:
    pairs = np.array(record["tau"], dtype=float)  # (replicates, 2)
    tau_a, tau_b = np.exp(np.log(pairs).mean(axis=0)).tolist()
    return {"epoch": record["epoch"], "value": result.value, "tau_a": tau_a, "tau_b": tau_b}


def _folder(tool: Tracker, paths: StudyPaths) -> Path:
    return paths.tracking / tool


def _logger(tool: Tracker, config: StudyConfig, paths: StudyPaths) -> LoggerCallback:
    """Return Ray's callback for a tool, ready to be told of trials."""
    folder = _folder(tool, paths)
    folder.mkdir(parents=True, exist_ok=True)
    made: LoggerCallback
    if tool == "tensorboard":
        made = _TensorBoard()
    elif tool == "mlflow":
        made = _MLflow(config.name, folder)
    else:
        made = _wandb(config.name, folder.parent)  # it makes the folder wandb itself
    for name in _LOUD:  # their failures come as exceptions, and end in one note
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    made.setup()
    return made


class _TensorBoard(TBXLoggerCallback):
    """An interrupted trial goes on in its folder: what is told again takes the place of the old."""

    def __init__(self) -> None:
        super().__init__()
        self._plain_writer: Any = self._summary_writer_cls

    def log_trial_start(self, trial: _Trial) -> None:
        pass  # only its first report tells from where it goes on

    def log_trial_result(self, iteration: int, trial: _Trial, result: dict[str, Any]) -> None:
        if trial not in self._trial_writer:
            self._summary_writer_cls = functools.partial(
                self._plain_writer, purge_step=result[TRAINING_ITERATION]
            )
            super().log_trial_start(trial)
        super().log_trial_result(iteration, trial, result)

    def on_experiment_end(self, trials: list[Any], **_: Any) -> None:
        for writer in self._trial_writer.values():
            writer.close()


class _MLflow(MLflowLoggerCallback):
    """A run a trial, found again by its tag when an interrupted one goes on."""

    def __init__(self, study: str, folder: Path) -> None:
        self._study, self._folder = study, folder
        given = os.environ.get(_MLFLOW_URI)
        if not given and set("?#%") & set(str(folder)):
            raise ValueError("no path with ?, # or % can stand in MLflow's address of a file")
        self._own = None if given else f"sqlite:///{folder / 'mlflow.db'}"
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read at import
        super().__init__(tracking_uri=given or self._own, experiment_name=study)
        self._waiting: dict[str, list[Any]] = {}  # metrics by run
        self._sent = time.monotonic()
        self._logged: dict[_Trial, float] = {}  # the last epoch that an earlier run of ours told
        self._open: set[_Trial] = set()

    def setup(self) -> None:
        if self._own is not None:
            from mlflow.tracking import MlflowClient

            client = MlflowClient(tracking_uri=self._own)
            if client.get_experiment_by_name(self._study) is None:
                # Else artifacts would go to wherever the command is given.
                place = (self._folder / "artifacts").as_uri()
                client.create_experiment(self._study, artifact_location=place)
        super().setup()
        if self._own is not None:  # MLflow has put it there; the next study has one of its own
            os.environ.pop(_MLFLOW_URI, None)
        self._client = self.mlflow_util._get_client()  # noqa: SLF001 - set up as Ray's own calls are

    def log_trial_start(self, trial: _Trial) -> None:
        self._open.add(trial)
        if trial not in self._trial_runs:
            asked = f"tags.`{_TAG}` = '{trial.trial_id}'"
            found = self._client.search_runs([self.mlflow_util.experiment_id], asked, max_results=1)
            for run in found:
                self._trial_runs[trial] = run.info.run_id
                self._logged[trial] = run.data.metrics.get("epoch", 0.0)
                self._client.update_run(run.info.run_id, status="RUNNING")
            self.tags = {_TAG: trial.trial_id}  # of the run that is made next
        super().log_trial_start(trial)

    def log_trial_result(self, iteration: int, trial: _Trial, result: dict[str, Any]) -> None:
        from mlflow.entities import Metric

        step, now_ms = result[TRAINING_ITERATION], round(1000 * time.time())
        if step > self._logged.get(trial, 0.0):
            self._waiting.setdefault(self._trial_runs[trial], []).extend(
                Metric(name, float(result[name]), now_ms, step)
                for name in _METRICS
                if name in result
            )
        if time.monotonic() - self._sent > _SEND_S:
            self._send()

    def _send(self) -> None:
        for run, metrics in self._waiting.items():
            for start in range(0, len(metrics), 1000):  # as many as MLflow takes at once
                self._client.log_batch(run, metrics=metrics[start : start + 1000])
        self._waiting, self._sent = {}, time.monotonic()

    def log_trial_end(self, trial: _Trial, failed: bool = False) -> None:
        self._send()
        self._open.discard(trial)
        super().log_trial_end(trial, failed)

    def on_experiment_end(self, trials: list[Any], **_: Any) -> None:
        self._send()
        for trial in self._open:
            self._client.set_terminated(self._trial_runs[trial], status="KILLED")


def _wandb(study: str, folder: Path) -> LoggerCallback:
    """Return W&B's callback; without a key it writes files that `wandb sync` sends later."""
    import ray
    from ray.air.integrations.wandb import WandbLoggerCallback
    from ray.air.util.node import _force_on_current_node

    if not _has_wandb_key():
        os.environ.setdefault("WANDB_MODE", "offline")
    # A worker of Ray's may have an older environment than this process.
    shown = {name: os.environ[name] for name in os.environ if name.startswith("WANDB_")}

    class Wandb(WandbLoggerCallback):
        def setup(self) -> None:
            # Like Ray's own, but it asks wandb for no key, which warns on the terminal, and makes
            # no actor that is restarted for ever, of which Ray itself warns.
            place = _force_on_current_node()
            actor = ray.remote(num_cpus=0, runtime_env={"env_vars": shown}, **place)
            self._remote_logger_class = actor(self._logger_actor_cls)

        def on_experiment_end(self, trials: list[Any], **_: Any) -> None:
            for trial in list(self._trial_queues):  # interrupted ones too
                self._signal_logging_actor_stop(trial=trial)
            if self._trial_logging_futures:
                super().on_experiment_end(trials)

    return Wandb(
        project=os.environ.get("WANDB_PROJECT") or "gsvae-tune", group=study, dir=str(folder),
        resume="allow", upload_timeout=int(_PATIENCE_S) - 5,
    )  # fmt: skip


def _has_wandb_key() -> bool:
    """Whether this user has a key for W&B, as `wandb login` leaves it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False
