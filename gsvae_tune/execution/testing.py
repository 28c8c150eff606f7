"""The test phase: what confirmed models give on the sealed split, one Ray task a replicate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gsvae_tune.execution.resources import TrialResources
from gsvae_tune.study.config import StudyConfig
from gsvae_tune.study.errors import UnfinishedError
from gsvae_tune.study.openings import Opening
from gsvae_tune.study.paths import StudyPaths, TrialPaths
from gsvae_tune.study.records import (
    ReplicateResult,
    ReplicateTest,
    TestResult,
    TrialResult,
    read_json_lines,
)
from gsvae_tune.vae.data import Bytes, load_test_split

if TYPE_CHECKING:
    pass

Which = tuple[str, int]


def measure(
    config: StudyConfig,
    paths: StudyPaths,
    opened: Mapping[Which, Opening],
    resources: TrialResources,
    console: Console,
) -> None:
    """Measure confirmed configurations on the test split and write each one's test.json.

    Args:
        config: the study.
        paths: its folder.
        opened: (arm, number) -> the opening, which is written down already.
        resources: what a task gets.
        console: shows how far it is.

    Raises:
        UnfinishedError: a task failed; what is measured is kept.
    """
    images = ray.put(load_test_split(config.data, config.seed))
    task = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus)(_measure)
    running: dict[Any, tuple[Which, int]] = {}
    found: dict[Which, dict[int, ReplicateTest]] = {which: {} for which in opened}
    wanted = {which: _sound(paths.trial(*which, "confirm")) for which in opened}
    for which, replicates in wanted.items():
        for row in replicates:
            folder = paths.trial(*which, "confirm")
            running[task.remote(config, folder, images, row, resources.gpus)] = which, row.replicate
    with _bar(console) as bar:
        shown = bar.add_task("test split, replicates", total=len(running))
        while running:
            (ready,), _ = ray.wait(list(running), num_returns=1)
            which, replicate = running.pop(ready)
            try:
                found[which][replicate] = ray.get(ready)
            except (RayError, ValueError, OSError) as error:
                raise _unfinished(paths, which, error) from error
            bar.advance(shown)
            if len(found[which]) == len(wanted[which]):
                rows = [found[which][r] for r in sorted(found[which])]
                opening = opened[which]
                folder = paths.trial(*which, "confirm")
                TestResult(opening.time, opening.mark, rows).write(folder.test)


def _sound(folder: TrialPaths) -> list[ReplicateResult]:
    """Return the replicates that have a model to measure."""
    result = TrialResult.read(folder.result)
    assert result is not None  # noqa: S101 - it was confirmed
    return [row for row in result.replicates if row.best_branch is not None]


def _bar(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True)


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

    from gsvae_tune.execution.trial import device_for
    from gsvae_tune.vae import checkpoint
    from gsvae_tune.vae.evaluation import evaluate_test, rebuild

    device = device_for(gpu_fraction)
    state = checkpoint.load(folder.checkpoint)
    if state is None:
        raise ValueError(f"{folder.checkpoint} is missing: the confirmed model is gone")
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
