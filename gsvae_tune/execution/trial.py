"""One trial, start to end, in its own folder. No Ray here: `report` is how it tells the outside.

The folder is the only record: config.json says what to train, checkpoint.pt where to go on,
epochs.jsonl what happened, result.json how it ended. Running a trial again continues it; running
a finished one reads its result.
"""

from __future__ import annotations

import json
import math
import os
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from gsvae_tune.execution.resources import one_of
from gsvae_tune.search.arms import ARMS
from gsvae_tune.study.config import StudyConfig
from gsvae_tune.study.paths import TrialPaths
from gsvae_tune.study.records import (
    TrialResult,
    TrialState,
    json_line,
    keep_lines,
    read_json,
    read_json_lines,
)
from gsvae_tune.study.seeds import replicate_seed
from gsvae_tune.vae import checkpoint
from gsvae_tune.vae.data import Splits
from gsvae_tune.vae.epoch import EpochRecord
from gsvae_tune.vae.memory import keep_freed_memory
from gsvae_tune.vae.training import PairTraining

Report = Callable[[dict[str, Any]], None]

_REPORT_S = 0.5  # the live table needs no more
_HEADROOM = 1.05  # memory over what a rehearsal took


def run_trial(
    assigned: Mapping[str, Any],
    *,
    study: StudyConfig,
    splits: Splits,
    paths: TrialPaths,
    gpu_fraction: float,
    every_epoch: bool,
    report: Report,
) -> TrialResult:
    """Train what is left of a trial, write its result and return it.

    A trial that fails by an exception of its own writes that as its result: one bad
    configuration never stops a study.

    Args:
        assigned: arm, phase, number and params as the ledger handed them out.
        study: the study.
        splits: the images.
        paths: the trial's folder; its config.json must be there.
        gpu_fraction: this trial's share of a GPU's memory, enforced; 0 trains on the CPU.
        every_epoch: report each epoch (schedulers need it), else about twice a second.
        report: called with the progress of an epoch.

    Raises:
        RuntimeError: config.json is not what the search suggested.
        OSError: the folder cannot be written.
    """
    config = read_json(paths.config)
    config = {"phase": "search"} | config  # as it was before there were phases
    seen = {key: config[key] for key in ("arm", "phase", "number", "params")}
    if seen != dict(assigned):
        raise RuntimeError(f"{paths.config} says {seen}, the search suggested {dict(assigned)}")
    finished = TrialResult.read(paths.result)
    if finished is not None:
        return finished
    started = time.perf_counter()
    keep_freed_memory()
    device = device_for(gpu_fraction)
    out_of_memory = False
    try:
        result = _train(config, study, splits, paths, device, every_epoch, report)
    except OSError:
        raise  # the disk's fault and not the configuration's: Tune tries again
    except Exception as error:  # noqa: BLE001 - becomes the trial's recorded end
        paths.error.write_text(traceback.format_exc(), encoding="utf-8")
        message = f"{type(error).__name__}: {error}".splitlines()[0]
        out_of_memory = isinstance(error, torch.OutOfMemoryError)
        last = list(read_json_lines(paths.epochs))[-1:]
        result = TrialResult(
            state=TrialState.FAILED,
            value=None,
            error=message,
            epochs=last[0]["epoch"] if last else 0,
            steps=last[0]["steps"] if last else 0,
            wall_s=time.perf_counter() - started,
            device=str(device),
        )
    if out_of_memory:  # asked only now: the exception held on to the training's memory
        fits = _what_fits(lambda: _training(config, study, splits, device), device)
        result = replace(result, error=f"out of memory on {gpu_fraction:g} of a GPU; {fits}")
    result.write(paths.result)
    return result


def _what_fits(build: Callable[[], PairTraining], device: torch.device) -> str:
    """Say which fraction of the GPU a trial needs, by rehearsing it with all that is free."""
    if device.type == "cuda":
        try:
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction(1.0)
            torch.cuda.reset_peak_memory_stats()
            build().rehearse()
            needed = torch.cuda.max_memory_reserved() * _HEADROOM
            fraction = needed / torch.cuda.get_device_properties(device).total_memory
            if fraction <= 1.0:
                return f"--gpus-per-trial {one_of(math.floor(1.0 / fraction)):g} would fit"
        except torch.OutOfMemoryError:
            pass
    return "fewer replicates or a smaller batch may fit"


def _train(
    config: Mapping[str, Any],
    study: StudyConfig,
    splits: Splits,
    paths: TrialPaths,
    device: torch.device,
    every_epoch: bool,
    report: Report,
) -> TrialResult:
    training, last = _restore(lambda: _training(config, study, splits, device), paths)
    saved = reported = time.monotonic()

    def between_steps() -> None:
        nonlocal saved, reported
        now = time.monotonic()
        if now - saved >= study.training.checkpoint_s:
            os.fsync(records.fileno())  # a checkpoint is never ahead of its records
            checkpoint.save(paths.checkpoint, training.state_dict())
            saved = now
        if not every_epoch and now - reported >= _REPORT_S:
            report(progress(training, last))
            reported = now

    with paths.epochs.open("ab", buffering=0) as records:
        for record in training.epochs(between_steps):
            last = record
            records.write(json_line(last.as_dict()))
            # The last epoch is told by the result: a scheduler could stop a whole trial there.
            if every_epoch and last.epoch < study.training.epochs:
                report(progress(training, last))
        os.fsync(records.fileno())
    if last is None:
        raise RuntimeError("the trial has no epoch to report")
    checkpoint.save(paths.checkpoint, training.state_dict(with_optimizer=False))
    return _result(training, last, device)


def _training(
    config: Mapping[str, Any], study: StudyConfig, splits: Splits, device: torch.device
) -> PairTraining:
    arm = ARMS[study.method(config["arm"])].model_validate_json(json.dumps(config["settings"]))
    searching = config["phase"] == "search"
    count = study.replicates if searching else study.protocol.replicates
    seeds = [replicate_seed(study.seed, config["phase"], r) for r in range(count)]
    steps = study.training.steps_per_epoch(len(splits.train))
    return PairTraining(
        splits,
        study.model,
        study.training,
        seeds,
        arm.controller(seeds, max(1, steps), study.training.epochs),
        learning_rate=arm.learning_rate,
        estimator=arm.estimator,
        rao_samples=arm.rao_samples,
        tau_forward=arm.tau_forward,
        signal=arm.told,
        device=device,
    )


def _restore(
    build: Callable[[], PairTraining], paths: TrialPaths
) -> tuple[PairTraining, EpochRecord | None]:
    """Go on from the checkpoint if there is a good one; return the last epoch's record too.

    A damaged checkpoint, or one whose records are not there, means starting again.
    """
    records = list(read_json_lines(paths.epochs))
    training = build()
    damage = _load(training, paths, records)
    if damage is not None:
        paths.error.write_text(f"started again from epoch 0: {damage}\n", encoding="utf-8")
        training = build()  # the other may be half loaded
    kept = records[: training.epoch]
    keep_lines(paths.epochs, kept)
    return training, EpochRecord.from_dict(kept[-1]) if kept else None


def _load(training: PairTraining, paths: TrialPaths, records: list[dict[str, Any]]) -> str | None:
    """Load the checkpoint, if there is one; return what is wrong with it."""
    try:
        state = checkpoint.load(paths.checkpoint)
        if state is not None:
            training.load_state_dict(state)
    except (ValueError, KeyError, TypeError, IndexError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    if [r["epoch"] for r in records][: training.epoch] != [*range(1, training.epoch + 1)]:
        return f"{paths.epochs} lacks epochs that {paths.checkpoint} has"
    return None


def device_for(gpu_fraction: float) -> torch.device:
    """Return where to compute; a share of a GPU comes with that share of its memory."""
    if gpu_fraction > 0 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(min(1.0, gpu_fraction))
        return torch.device("cuda")
    return torch.device("cpu")


def progress(training: PairTraining, last: EpochRecord | None) -> dict[str, Any]:
    """Return what the live table and a scheduler want to know.

    `epoch` counts finished epochs, `trained` the share of the one under way too (`done` would
    stop the trial: Tune reads it); temperatures are geometric means over replicates; `value` is
    the better branch's, None before the first epoch.
    """
    tau_a, tau_b = np.exp(np.log(training.controller.tau).mean(axis=0)).tolist()
    value = None if last is None else float(np.mean(np.min(last.val_neg_elbo_nats, axis=1)))
    return {
        "epoch": training.epoch,
        "trained": training.trained,
        "value": value,
        "tau_a": tau_a,
        "tau_b": tau_b,
    }


def _result(training: PairTraining, last: EpochRecord, device: torch.device) -> TrialResult:
    replicates = training.results(last)
    lost = [row for row in replicates if row.diverged]
    values = [row.val_neg_elbo_nats for row in replicates if row.val_neg_elbo_nats is not None]
    sound = len(values) == len(replicates) and bool(np.isfinite(values).all())
    error = None
    if lost:
        error = f"{len(lost)} of {len(replicates)} replicates: {lost[0].ended}"
    elif not sound:
        error = "the validation loss is not finite"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return TrialResult(
        state=TrialState.COMPLETE if sound else TrialState.FAILED,
        value=float(np.mean(values)) if sound else None,
        error=error,
        epochs=last.epoch,
        steps=last.steps,
        wall_s=last.wall_s,
        device=name,
        compiled=training.compiled,
        replicates=replicates,
    )
