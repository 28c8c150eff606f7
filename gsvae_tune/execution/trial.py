"""One trial, start to end, in its own folder. No Ray here: `report` is how it tells the outside.

The folder is the only record: config.json says what to train, checkpoint.pt where to go on,
epochs.jsonl what happened, result.json how it ended. Running a trial again continues it; running
a finished one reads its result.
"""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from gsvae_tune.execution.memory import device_for, host_limit, is_out_of_memory, what_fits
from gsvae_tune.execution.restoring import read_notes, restore, save
from gsvae_tune.search.arms import arm_of
from gsvae_tune.study.config import StudyConfig
from gsvae_tune.study.faults import Fault, is_disk_full
from gsvae_tune.study.fence import Claim, FencedError
from gsvae_tune.study.paths import TrialPaths
from gsvae_tune.study.records import (
    TrialResult,
    TrialState,
    json_line,
    read_json,
    read_json_lines,
    write_atomic,
)
from gsvae_tune.study.seeds import replicate_seed
from gsvae_tune.vae.data import Splits
from gsvae_tune.vae.epoch import EpochRecord
from gsvae_tune.vae.memory import keep_freed_memory
from gsvae_tune.vae.training import PairTraining

Report = Callable[[dict[str, Any]], None]

ASSIGNED = ("arm", "phase", "number", "params")  # what a trial is handed out by
_REPORT_S = 0.5  # the live table needs no more


class _TimeLimitError(Exception):
    """The trial has trained for as long as it may."""


def run_trial(
    assigned: Mapping[str, Any],
    *,
    study: StudyConfig,
    splits: Splits,
    paths: TrialPaths,
    gpu_fraction: float,
    every_epoch: bool,
    report: Report,
    pause: Callable[[str], None],
    term: int,
) -> TrialResult | None:
    """Train what is left of a trial, write its result and return it.

    A trial that fails by an exception of its own writes that as its result: one bad
    configuration never stops a study. Where the disk is full, it calls ``pause`` and returns
    None: what it lacks is not its fault, and it goes on when the study does.

    Args:
        assigned: arm, phase, number and params as the ledger handed them out.
        study: the study.
        splits: the images.
        paths: the trial's folder; its config.json must be there.
        gpu_fraction: this trial's share of a GPU's memory, enforced; 0 trains on the CPU.
        every_epoch: report each epoch (schedulers need it), else about twice a second.
        report: called with the progress of an epoch.
        pause: called with why the trial cannot go on, nor any other.
        term: of the driver that handed the trial out.

    Raises:
        RuntimeError: config.json is not what the search suggested.
        FencedError: another process took the trial over.
        OSError: the folder cannot be written.
    """
    try:
        return _run(assigned, study, splits, paths, gpu_fraction, every_epoch, report, term)
    except OSError as error:
        if not is_disk_full(error):
            raise  # the disk's fault and not the configuration's: Tune tries again
        pause(str(error))
        return None


def _run(
    assigned: Mapping[str, Any],
    study: StudyConfig,
    splits: Splits,
    paths: TrialPaths,
    gpu_fraction: float,
    every_epoch: bool,
    report: Report,
    term: int,
) -> TrialResult:
    config = read_json(paths.config)
    config = {"phase": "search"} | config  # as it was before there were phases
    seen = {key: config[key] for key in ASSIGNED}
    if seen != dict(assigned):
        raise RuntimeError(f"{paths.config} says {seen}, the search suggested {dict(assigned)}")
    claim = Claim(paths, term).take()
    finished = TrialResult.read(paths.result)
    if finished is not None:
        return finished
    started = time.perf_counter()
    keep_freed_memory()
    device = device_for(gpu_fraction)
    memory: Fault | None = None
    try:
        with host_limit(study.faults.trial_memory_gb if device.type == "cpu" else None):
            result = _train(config, study, splits, paths, device, every_epoch, report, claim)
    except FencedError:
        raise
    except Exception as error:
        memory = is_out_of_memory(error)
        if isinstance(error, OSError) and memory is None:
            raise
        write_atomic(paths.error, traceback.format_exc().encode(), claim)
        wall_s = time.perf_counter() - started
        result = replace(_failed(error, paths), wall_s=wall_s, device=str(device))
    if memory is not None:  # asked only now: the exception held on to the training's memory
        given = f"on {gpu_fraction:g} of a GPU; " if memory is Fault.DEVICE_MEMORY else ""
        limit = study.faults.trial_memory_gb
        fits = what_fits(memory, lambda: _training(config, study, splits, device), device, limit)
        result = replace(result, error=memory.says(given + fits), fault=memory)
    note = read_notes(paths).strip() or None
    result = replace(result, note=note, ended_s=time.time())
    result.write(paths.result, claim)
    with claim:  # what went before the end has served
        paths.previous.unlink(missing_ok=True)
    return result


def _failed(error: Exception, paths: TrialPaths) -> TrialResult:
    """Return the end of a trial by an exception, as far as it got."""
    fault, text = Fault.ERROR, f"{type(error).__name__}: {error}".splitlines()[0]
    if isinstance(error, _TimeLimitError):
        fault, text = Fault.TIME_LIMIT, Fault.TIME_LIMIT.says(str(error))
    last = list(read_json_lines(paths.epochs))[-1:]
    return TrialResult(
        state=TrialState.FAILED,
        value=None,
        error=text,
        epochs=last[0]["epoch"] if last else 0,
        steps=last[0]["steps"] if last else 0,
        wall_s=0.0,
        device="",
        fault=fault,
    )


def _train(
    config: Mapping[str, Any],
    study: StudyConfig,
    splits: Splits,
    paths: TrialPaths,
    device: torch.device,
    every_epoch: bool,
    report: Report,
    claim: Claim,
) -> TrialResult:
    build = lambda: _training(config, study, splits, device)  # noqa: E731
    training, last = restore(build, config, paths, claim)
    saved = reported = time.monotonic()
    limit_s = study.faults.trial_limit_s

    def between_steps() -> None:
        nonlocal saved, reported
        now = time.monotonic()
        if now - saved >= study.training.checkpoint_s:
            os.fsync(records.fileno())  # a checkpoint is never ahead of its records
            save(training, config, paths, claim)
            saved = now
        if limit_s is not None and training.wall_s > limit_s:
            raise _TimeLimitError(
                f"{limit_s:g} s (faults.trial_limit_s), after {training.trained:.1f} of "
                f"{study.training.epochs} epochs"
            )
        if not every_epoch and now - reported >= _REPORT_S:
            report(progress(training, last))
            reported = now

    with claim:  # a successor replaces this file: what is open stays ours and is read by nobody
        records = paths.epochs.open("ab", buffering=0)
    with records:
        for record in training.epochs(between_steps):
            last = record
            records.write(json_line(last.as_dict()))
            # The last epoch is told by the result: a scheduler could stop a whole trial there.
            if every_epoch and last.epoch < study.training.epochs:
                report(progress(training, last))
        os.fsync(records.fileno())
    if last is None:
        raise RuntimeError("the trial has no epoch to report")
    save(training, config, paths, claim, with_optimizer=False)
    return _result(training, last, device)


def _training(
    config: Mapping[str, Any], study: StudyConfig, splits: Splits, device: torch.device
) -> PairTraining:
    method = arm_of(config["arm"], study.method(config["arm"]))
    arm = method.model_validate_json(json.dumps(config["settings"]))
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
    values = [row.val_neg_elbo_nats for row in replicates if row.val_neg_elbo_nats is not None]
    sound = len(values) == len(replicates) and bool(np.isfinite(values).all())
    error, fault = None, None
    if not sound:
        fault = Fault.DIVERGED
        where = "on the validation split, at the end"
        if ends := [end for end in training.controller.ended if end is not None]:
            first = min(ends, key=lambda end: end.epoch)
            where = f"in {len(ends)} of {len(replicates)} replicates, first in branch "
            where += f"{first.branch} after epoch {first.epoch}"
        error = fault.says(where)
    elif all(row.collapsed for row in replicates):
        fault = Fault.COLLAPSED  # a poor value, but a value
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
        fault=fault,
    )
