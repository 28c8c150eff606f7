"""A trial's result from what else is known of it: its checkpoint and epochs, or the ledger."""

from __future__ import annotations

import math
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from gsvae_tune.doctor.doubts import Epochs
from gsvae_tune.search.storage import Assignment, TrialRow
from gsvae_tune.study.config import StudyConfig
from gsvae_tune.study.faults import Fault
from gsvae_tune.study.paths import TrialPaths
from gsvae_tune.study.records import TrialResult, TrialState, read_json


def rebuild_result(
    config: StudyConfig, folder: TrialPaths, row: TrialRow, epochs: Epochs
) -> TrialResult:
    """Return the result that a trial ended with.

    Args:
        config: the study.
        folder: the trial's.
        row: what the ledger has of it; it ended.
        epochs: its records.

    Raises:
        ValueError: what is left does not give it, or gives another than the ledger has.
        UserError: the images, or the table of a simulated study, are not here.
    """
    if config.simulate is not None:
        found = _simulated(config, row)
    elif folder.checkpoint.is_file() and epochs.count and epochs.fault is None:
        try:
            found = _from_checkpoint(config, folder, epochs.size)
        except ValueError:
            if row.state is TrialState.COMPLETE:
                raise
            found = _from_ledger(row, epochs)
    else:
        found = _from_ledger(row, epochs)
    if row.state is not TrialState.COMPLETE and not agrees(found, row):
        found = _from_ledger(row, epochs)
    if not agrees(found, row):
        raise ValueError("what is left gives another result than the ledger has")
    return found


def agrees(result: TrialResult, row: TrialRow) -> bool:
    """Whether a result is the one that the ledger was told of."""
    if result.state is not row.state:
        return False
    if row.state is not TrialState.COMPLETE:
        return True
    return (
        result.value is not None
        and row.value is not None
        and math.isclose(result.value, row.value, rel_tol=1e-9)
    )


def _simulated(config: StudyConfig, row: TrialRow) -> TrialResult:
    from gsvae_tune.execution.objectives import load_objective

    assigned = Assignment(row.arm, row.phase, row.number, row.params, row.stratum)
    return load_objective(config)(assigned)


def _from_ledger(row: TrialRow, epochs: Epochs) -> TrialResult:
    """Return the result of a trial that was stopped, as whoever stopped it wrote it."""
    if row.state is TrialState.COMPLETE:
        raise ValueError("its checkpoint is not there to give its replicates again")
    last: dict[str, Any] = epochs.last or {"epoch": 0, "steps": 0, "wall_s": 0.0}
    return TrialResult(
        state=row.state,
        value=row.value if row.state is TrialState.PRUNED else None,
        error=row.error,
        epochs=last["epoch"],
        steps=last["steps"],
        wall_s=last["wall_s"],
        device="",
        fault=_fault(row),
        note="written anew by gsvae-tune doctor from the ledger",
    )


def _fault(row: TrialRow) -> Fault | None:
    """Return the kind of fault that an error's text begins with."""
    if row.state is not TrialState.FAILED:
        return None
    named = (fault for fault in Fault if (row.error or "").startswith(fault.value))
    return next(named, Fault.ERROR)


def _from_checkpoint(config: StudyConfig, folder: TrialPaths, size: int) -> TrialResult:
    """Return what a trial gives whose checkpoint is at its end: nothing is trained.

    In a copy of the folder: whatever happens there, the trial's own files stay as they are.

    Args:
        config: the study.
        folder: the trial's.
        size: of its whole records, in bytes.
    """
    from gsvae_tune.execution.trial import ASSIGNED, run_trial

    def refuse(_: object) -> None:
        raise _TrainsError

    assigned = read_json(folder.config)
    with tempfile.TemporaryDirectory(prefix="gsvae-tune-doctor-") as scratch:
        copy = TrialPaths(Path(scratch))
        for path in (folder.config, folder.checkpoint, folder.notes):
            if path.is_file():
                shutil.copy2(path, copy.root / path.name)
        before = folder.epochs.read_bytes()[:size]
        copy.epochs.write_bytes(before)
        try:
            result = run_trial(
                {key: assigned[key] for key in ASSIGNED},
                study=_alone(config),
                splits=_splits(config.data.model_dump_json(), config.seed),
                paths=copy,
                gpu_fraction=0.0,
                every_epoch=True,
                report=refuse,
                pause=refuse,
                term=1,
            )
        except _TrainsError:
            result = None
        if result is None or copy.epochs.read_bytes() != before:
            raise ValueError("its checkpoint is not that of its end")
        return result


def _alone(config: StudyConfig) -> StudyConfig:
    """Return the study as one that ends a trial without training: nothing is compiled for it."""
    training = config.training.model_copy(update={"compile": False})
    return config.model_copy(update={"training": training})


class _TrainsError(BaseException):
    """The trial would train: no `Exception`, which it would take for its own end."""


@lru_cache(maxsize=1)
def _splits(data: str, seed: int) -> Any:
    from gsvae_tune.study.config import DataConfig
    from gsvae_tune.vae.data import load_splits

    return load_splits(DataConfig.model_validate_json(data), seed)
