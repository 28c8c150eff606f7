"""The study's tables, rebuilt from the ledger and the trials' folders at any time.

trials      one row a trial
replicates  one row a (trial, replicate)
epochs      one row a (trial, replicate, branch, epoch)

A confirmation (phase confirm) bears the number of the trial that it trains again on fresh seeds.
Losses are nats per example, lower is better. Columns of the test split are empty until the test
phase has opened it, and for every trial of the search. `columns` explains each of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

from gsvae_tune.report.columns import types
from gsvae_tune.search.storage import PHASES, TrialRow
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import (
    TestResult,
    TrialResult,
    TrialState,
    atomic_file,
    finite,
    read_json_lines,
)

# Types of the columns every study has, so that an empty or partial study gives the same table.
TRIALS, REPLICATES, EPOCHS = (types(name) for name in ("trials", "replicates", "epochs"))

# In a trial's epoch record these are pairs per replicate; the rest of a row comes from its place.
_PAIRS = [name for name in EPOCHS if name in (
    "tau", "train_loss_relaxed", "train_loss_discrete", "control_loss_discrete",
    "control_loss_relaxed", "control_kl_nats", "val_neg_elbo_nats", "kl_nats", "active_units",
)]  # fmt: skip


def build(trials: Iterable[TrialRow], paths: StudyPaths) -> dict[str, pd.DataFrame]:
    """Return the three tables by name."""
    rows: dict[str, list[dict[str, Any]]] = {"trials": [], "replicates": [], "epochs": []}
    ordered = sorted(trials, key=lambda row: (row.arm, PHASES.index(row.phase), row.number))
    for trial in ordered:
        key = {"arm": trial.arm, "phase": trial.phase, "number": trial.number}
        folder = paths.trial(trial.arm, trial.number, trial.phase)
        result = TrialResult.read(folder.result)
        rows["trials"].append(
            key
            | {
                "stratum": trial.stratum,
                "state": trial.state.value,
                "value": trial.value,
                "epochs": result.epochs if result else None,
                "steps": result.steps if result else None,
                "wall_s": result.wall_s if result else None,
                "ended_s": result.ended_s if result else None,
                "device": result.device if result else None,
                "compiled": result.compiled if result else None,
                "fault": result.fault.key if result and result.fault else None,
                "error": trial.error or _unreadable(trial, result),
                "note": result.note if result else None,
            }
            | {f"param_{name}": value for name, value in trial.params.items()}
        )
        tested = _tested(TestResult.read(folder.test))
        for replicate in result.replicates if result else []:
            measured = tested.get(replicate.replicate, {})
            rows["replicates"].append(key | vars(replicate) | measured)
        for record in read_json_lines(folder.epochs):
            try:
                rows["epochs"] += _epoch_rows(key, record)
            except (KeyError, TypeError, IndexError):
                break  # damaged: what comes after it is no continuation
    return {
        "trials": _frame(rows["trials"], TRIALS),
        "replicates": _frame(rows["replicates"], REPLICATES),
        "epochs": _frame(rows["epochs"], EPOCHS),
    }


def _tested(test: TestResult | None) -> dict[int, dict[str, Any]]:
    """Return the columns of the test split by replicate."""
    if test is None:
        return {}
    apart = {"replicate", "seed", "branch"}
    return {
        row.replicate: {key: value for key, value in vars(row).items() if key not in apart}
        | {"test_reopened": test.reopened}
        for row in test.replicates
    }


def _unreadable(trial: TrialRow, result: TrialResult | None) -> str | None:
    """Say where a trial that ended has no rows in the table of replicates."""
    if result is not None or trial.state is TrialState.RUNNING:
        return None
    return "its result.json is missing or damaged: its replicates are not in the tables"


def _epoch_rows(key: dict[str, Any], record: dict[str, Any]) -> list[dict[str, Any]]:
    shared = key | {name: record[name] for name in ("epoch", "steps", "wall_s")}
    return [
        shared
        | {"replicate": replicate, "branch": "ab"[branch], "event": event}
        | {name: record[name] and record[name][replicate][branch] for name in _PAIRS}
        for replicate, event in enumerate(record["event"])
        for branch in range(2)
    ]


def _frame(rows: list[dict[str, Any]], types: dict[str, str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    own = sorted(name for name in frame.columns if name not in types)
    columns = {
        name: pd.Series(frame.get(name), index=frame.index, dtype=kind)
        for name, kind in types.items()
    }
    return pd.DataFrame(columns | {name: frame[name] for name in own})


def write(
    tables: dict[str, pd.DataFrame], paths: StudyPaths, formats: Iterable[str] = ("parquet",)
) -> list[tuple[str, Path]]:
    """Write the tables, each file replaced whole; return each table's name and each file.

    Args:
        tables: by name.
        paths: of the study.
        formats: of `FORMATS`. Only parquet keeps types; csv has nothing where a value is missing
            or a text is empty, json has null where one is missing or not finite.
    """
    paths.refuse_links()
    paths.tables.mkdir(parents=True, exist_ok=True)
    written = []
    for name, frame in tables.items():
        for kind in formats:
            path = paths.table(name, kind)
            with atomic_file(path) as file:
                FORMATS[kind](frame, file)
            written.append((name, path))
    return written


def _write_parquet(frame: pd.DataFrame, file: BinaryIO) -> None:
    frame.to_parquet(file, index=False, compression="zstd")  # half of the default's size


def _write_csv(frame: pd.DataFrame, file: BinaryIO) -> None:
    # Lines end as RFC 4180 has it: then a text that holds either character is quoted.
    frame.to_csv(file, index=False, encoding="utf-8", errors="replace", lineterminator="\r\n")


def _write_json(frame: pd.DataFrame, file: BinaryIO) -> None:
    """Write a list of records, a line each. (pandas's own has 15 digits, a number needs 17.)"""
    file.write(b"[")
    for start in range(0, len(frame), _AT_ONCE):
        part = frame.iloc[start : start + _AT_ONCE].astype(object)
        for place, record in enumerate(part.where(part.notna(), None).to_dict("records"), start):
            text = json.dumps(finite(record), ensure_ascii=False, allow_nan=False)
            file.write((",\n" if place else "\n").encode() + text.encode(errors="replace"))
    file.write(b"\n]\n")


_AT_ONCE = 10_000  # rows
FORMATS: dict[str, Callable[[pd.DataFrame, BinaryIO], None]] = {
    "parquet": _write_parquet, "csv": _write_csv, "json": _write_json,
}  # fmt: skip
