"""The test phase: what confirmed models give on the sealed split, one Ray task a replicate."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typing_extensions import Self

from gsvae_tune.execution.progress import PLAIN_S, duration
from gsvae_tune.execution.resources import TrialResources
from gsvae_tune.execution.retraining import is_lost, train_again
from gsvae_tune.study.config import StudyConfig
from gsvae_tune.study.errors import UnfinishedError
from gsvae_tune.study.lease import Lease
from gsvae_tune.study.openings import Opening
from gsvae_tune.study.paths import StudyPaths, TrialPaths
from gsvae_tune.study.records import (
    ReplicateResult,
    ReplicateTest,
    TestResult,
    TrialResult,
    read_json_lines,
)
from gsvae_tune.study.studyfile import read_study
from gsvae_tune.vae.data import load_splits, load_test_split, require_checksum
from gsvae_tune.vae.files import Bytes

Which = tuple[str, int]


def measure(
    config: StudyConfig,
    paths: StudyPaths,
    lease: Lease,
    opened: Mapping[Which, Opening],
    resources: TrialResources,
    console: Console,
) -> None:
    """Measure confirmed configurations on the test split and write each one's test.json.

    Args:
        config: the study.
        paths: its folder.
        lease: this process's right to drive the study.
        opened: (arm, number) -> the opening, which is written down already.
        resources: what a task gets.
        console: shows how far it is.

    Raises:
        UnfinishedError: a task failed, or the study was taken over; what is measured is kept.
        InputError: the images are not those the study began with.
    """
    config = config.model_copy(update={"storage": None})  # workers need no password
    share = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus)
    checksum = read_study(paths)["data"]["checksum"]
    test_split = load_test_split(config.data, config.seed, checksum)
    lost = [which for which in opened if is_lost(paths.trial(*which, "confirm"))]
    if lost:
        splits = load_splits(config.data, config.seed)
        require_checksum(splits.checksum, checksum)
        task = functools.partial(share(train_again).remote, config, ray.put(splits))
        _bring_back(paths, lease.term, lost, task, resources.gpus, console)
    images = ray.put(test_split)
    task = share(_measure)
    running: dict[Any, tuple[Which, int]] = {}
    found: dict[Which, dict[int, ReplicateTest]] = {which: {} for which in opened}
    wanted = {which: _sound(paths.trial(*which, "confirm")) for which in opened}
    for which, replicates in wanted.items():
        for row in replicates:
            folder = paths.trial(*which, "confirm")
            running[task.remote(config, folder, images, row, resources.gpus)] = which, row.replicate
    with _Bar(console, len(running)) as bar:
        while running:
            (ready,), _ = ray.wait(list(running), num_returns=1)
            which, replicate = running.pop(ready)
            try:
                found[which][replicate] = ray.get(ready)
            except (RayError, ValueError, OSError) as error:
                raise _unfinished(paths, which, error) from error
            bar.advance()
            if len(found[which]) == len(wanted[which]):
                rows = [found[which][r] for r in sorted(found[which])]
                opening = opened[which]
                folder = paths.trial(*which, "confirm")
                lease.check()
                TestResult(opening.time, opening.mark, rows).write(folder.test)


def _bring_back(
    paths: StudyPaths,
    term: int,
    lost: Sequence[Which],
    task: Callable[..., Any],
    gpu_fraction: float,
    console: Console,
) -> None:
    """Train confirmed models again that are lost."""
    names = ", ".join(f"{arm} #{number}" for arm, number in lost)
    console.print(
        f"lost on disk, and trained again: the confirmed models of {names}", highlight=False
    )
    for which in lost:
        folder = paths.trial(*which, "confirm")
        try:
            ray.get(task(folder, gpu_fraction, term))
        except (RayError, ValueError, OSError) as error:
            raise _unfinished(paths, which, error) from error


def _sound(folder: TrialPaths) -> list[ReplicateResult]:
    """Return the replicates that have a model to measure."""
    result = TrialResult.read(folder.result)
    assert result is not None  # noqa: S101 - it was confirmed
    return [row for row in result.replicates if row.best_branch is not None]


class _Bar:
    """How many replicates are measured: a bar in a terminal, a line now and then in a log."""

    def __init__(self, console: Console, total: int) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=console, transient=True)
        self._task = self._progress.add_task("test split, replicates", total=total)
        self._console, self._total, self._done = console, total, 0
        self._began = self._said = time.monotonic()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self) -> None:
        self._done += 1
        self._progress.advance(self._task)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._said > PLAIN_S:
            left_s = (now - self._began) / self._done * (self._total - self._done)
            count = f"{self._done} of {self._total} replicates"
            self._console.print(
                f"test split: {count}, about {duration(left_s)} left", highlight=False
            )
            self._said = now


def _unfinished(paths: StudyPaths, which: Which, error: Exception) -> UnfinishedError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return UnfinishedError(
        f"the test of {which[0]} #{which[1]} stopped: {lines[-1]}\n"
        f"  kept:  everything searched, confirmed and tested so far, in {paths.root}\n"
        "  next:  run the same command again to go on"
    )


def _measure(
    config: StudyConfig,
    folder: TrialPaths,
    images: Bytes,
    row: ReplicateResult,
    gpu_fraction: float,
) -> ReplicateTest:
    """Measure one replicate's better branch on the test images, in a worker."""
    import torch

    from gsvae_tune.execution.memory import device_for
    from gsvae_tune.vae import checkpoint
    from gsvae_tune.vae.evaluation import evaluate_test, rebuild

    device = device_for(gpu_fraction)
    state = checkpoint.load(folder.checkpoint)
    assert state is not None  # noqa: S101 - it was looked at before
    assert row.best_branch is not None  # noqa: S101 - it is sound
    *_, last = read_json_lines(folder.epochs)
    tau = last["tau"]
    model = rebuild(
        config.model, images.shape[1], len(tau), config.training.precision, state["model"]
    )
    (found,) = evaluate_test(
        model.to(device),
        torch.tensor(images, device=device),
        [row.seed],
        [row.best_branch],
        [tau[row.replicate]["ab".index(row.best_branch)]],
        samples=config.training.evaluation_samples,
        iwae_samples=config.protocol.iwae_samples,
        replicates=[row.replicate],
    )
    return found
