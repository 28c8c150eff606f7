"""Where a trial goes on: from its newest good checkpoint, or from the start."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gsvae_tune.execution.memory import is_out_of_memory
from gsvae_tune.study.paths import TrialPaths
from gsvae_tune.study.records import Guard, keep_lines, read_json_lines, write_atomic
from gsvae_tune.vae import checkpoint
from gsvae_tune.vae.epoch import EpochRecord
from gsvae_tune.vae.training import PairTraining

_TRIAL = "trial"  # key under which a checkpoint says whose it is


def save(
    training: PairTraining,
    config: Mapping[str, Any],
    paths: TrialPaths,
    claim: Guard,
    *,
    with_optimizer: bool = True,
) -> None:
    """Write a trial's checkpoint, keeping the one before.

    Args:
        training: what to save.
        config: the trial's config.json: a checkpoint of other settings is not gone on from.
        paths: its folder.
        claim: on the folder.
        with_optimizer: for going on training.
    """
    state = training.state_dict(with_optimizer=with_optimizer) | {_TRIAL: _text(config)}
    checkpoint.save(paths.checkpoint, state, claim, previous=paths.previous)


def restore(
    build: Callable[[], PairTraining],
    config: Mapping[str, Any],
    paths: TrialPaths,
    claim: Guard,
) -> tuple[PairTraining, EpochRecord | None]:
    """Return the training as the newest good checkpoint left it, and its last epoch's record.

    What was wrong with a checkpoint, and where the trial went on, is noted in its folder.
    """
    records = list(read_json_lines(paths.epochs))
    troubles: list[str] = []
    damaged: list[Path] = []
    for path in (paths.checkpoint, paths.previous):
        training = build()
        try:
            loaded = _load(training, path, config, records)
        except (ValueError, KeyError, TypeError, IndexError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise  # nothing is wrong with the file
            troubles.append(str(error) if isinstance(error, ValueError) else repr(error))
            damaged.append(path)
            continue
        if loaded:
            break
    else:
        training = build()  # the last may be half loaded
    if troubles:
        text = "; ".join(troubles).replace(f"{paths.root}{os.sep}", "")
        note(paths, claim, f"{text}; went on from epoch {training.epoch}")
        _set_aside(damaged, claim)
    kept = records[: training.epoch]
    keep_lines(paths.epochs, kept, claim)
    return training, EpochRecord.from_dict(kept[-1]) if kept else None


def _set_aside(damaged: list[Path], claim: Guard) -> None:
    """Rename damaged checkpoints: the next save must not make one the checkpoint before it."""
    with claim:
        for path in damaged:
            if path.is_file():
                path.replace(path.with_name(f"{path.name}.damaged"))


def _load(
    training: PairTraining,
    path: Path,
    config: Mapping[str, Any],
    records: list[dict[str, Any]],
) -> bool:
    """Load a checkpoint; return whether there is one.

    Raises:
        ValueError and others: it is damaged or foreign, or its records are not there.
    """
    state = checkpoint.load(path)
    if state is None:
        return False
    check_whose(state, config, path)
    training.load_state_dict(state)
    if [r["epoch"] for r in records][: training.epoch] != [*range(1, training.epoch + 1)]:
        raise ValueError(f"epochs.jsonl lacks epochs that {path} has")
    return True


def check_whose(state: Mapping[str, Any], config: Mapping[str, Any], path: Path) -> None:
    """Check that a checkpoint is of a trial of these settings.

    Raises:
        ValueError: it is another's.
    """
    if state.get(_TRIAL) != _text(config):
        raise ValueError(f"{path} is of another trial")


def note(paths: TrialPaths, claim: Guard, text: str) -> None:
    """Add a line to what the trial's result will say went wrong."""
    write_atomic(paths.notes, (read_notes(paths) + " ".join(text.split()) + "\n").encode(), claim)


def read_notes(paths: TrialPaths) -> str:
    try:
        return paths.notes.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


def _text(config: Mapping[str, Any]) -> str:
    whole = {"phase": "search"} | dict(config)  # as it was before there were phases
    return json.dumps(whole, sort_keys=True)
