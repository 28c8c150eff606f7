"""What a simulated trial gives instead of training: a recorded table's, or a formula's.

A simulated study tries out searches, schedules and budgets; what it finds says nothing about tau.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gsvae_tune.search.ledger import Assignment
from gsvae_tune.study.config import StudyConfig
from gsvae_tune.study.errors import InputError
from gsvae_tune.study.parameters import Scalar
from gsvae_tune.study.paths import expand
from gsvae_tune.study.records import TrialResult, TrialState
from gsvae_tune.study.seeds import derive

Objective = Callable[[Assignment], TrialResult]

VALLEY = "valley"
_PARAMETER = "param_"
_DEVICE = "simulated"


def load_objective(config: StudyConfig) -> Objective:
    """Return the objective that `simulate.table` names.

    Raises:
        InputError: the table is missing, unreadable, or lacks an arm or a column.
    """
    assert config.simulate is not None  # noqa: S101 - the caller asked
    if config.simulate.table == VALLEY:
        return _valley(config)
    path = expand(config.simulate.table, "simulate.table")
    rows = _read(path)
    recorded = {arm: _Recorded([r for r in rows if r["arm"] == arm]) for arm in config.arms}
    for arm, table in recorded.items():
        if not table.rows:
            known = sorted({str(row["arm"]) for row in rows})
            raise InputError(
                f"has no finished trial of arm {arm}",
                where=str(path),
                legal=f"a table with every arm of the study; it has: {', '.join(known) or 'none'}",
            )
    return lambda assignment: recorded[assignment.arm].nearest(assignment.params)


def _valley(config: StudyConfig) -> Objective:
    """Lowest at tau 0.5 and learning rate 3e-3, with noise; trials of about a minute."""

    def objective(assignment: Assignment) -> TrialResult:
        seed = derive(config.seed, "valley", assignment.arm, assignment.number)
        random = np.random.default_rng(seed)
        tau = float(assignment.params.get("tau_start", 1.0))
        rate = float(assignment.params.get("learning_rate", 1e-3))
        value = 20.0 + 0.3 * math.log(tau / 0.5) ** 2 + 2.0 * math.log10(rate / 3e-3) ** 2
        return TrialResult(
            state=TrialState.COMPLETE,
            value=value + 0.05 * random.standard_normal(),
            error=None,
            epochs=config.training.epochs,
            steps=0,
            wall_s=60.0 * math.exp(0.3 * random.standard_normal()),
            device=_DEVICE,
        )

    return objective


def _read(path: Path) -> list[dict[str, Any]]:
    """Return the finished trials of a table as `gsvae-tune export` writes it."""
    from pyarrow import ArrowException, csv, parquet

    try:
        table = csv.read_csv(path) if path.suffix == ".csv" else parquet.read_table(path)
    except (OSError, ArrowException) as error:
        raise InputError(
            f"cannot be read: {str(error).splitlines()[0]}",
            where=str(path),
            legal=f"{VALLEY}, or a .parquet or .csv of trials, as in a study's tables folder",
        ) from error
    lacking = {"arm", "state", "value", "wall_s"} - set(table.column_names)
    if lacking:
        raise InputError(
            f"lacks the columns {', '.join(sorted(lacking))}",
            where=str(path),
            legal="a table of trials, like a study's tables/trials.parquet",
        )
    ended = {state.value for state in TrialState} - {TrialState.RUNNING.value}
    return [row for row in table.to_pylist() if row["state"] in ended and row["wall_s"] is not None]


class _Recorded:
    """One arm's recorded trials, found by the settings nearest to those asked for."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows
        self._columns: dict[str, np.ndarray] = {}
        self._place: dict[str, Callable[[Scalar | None], float]] = {}
        for key in [key for key in (rows[0] if rows else ()) if key.startswith(_PARAMETER)]:
            name = key.removeprefix(_PARAMETER)
            values = [row[key] for row in rows]
            place = _scale([value for value in values if value is not None])
            self._place[name] = place
            self._columns[name] = np.array([place(value) for value in values])

    def nearest(self, params: Mapping[str, Scalar]) -> TrialResult:
        distance = np.zeros(len(self.rows))
        for name, positions in self._columns.items():
            gap = np.abs(positions - self._place[name](params.get(name)))
            # Absent (nan) on both sides is no difference, on one side a whole one.
            absent = np.isnan(positions) & (params.get(name) is None)
            distance += np.where(absent, 0.0, np.nan_to_num(np.minimum(gap, 1.0), nan=1.0))
        row = self.rows[int(np.argmin(distance))]
        return TrialResult(
            state=TrialState(row["state"]),
            value=row["value"],
            error=row.get("error"),
            epochs=int(row.get("epochs") or 0),
            steps=int(row.get("steps") or 0),
            wall_s=float(row["wall_s"]),
            device=_DEVICE,
        )


def _scale(values: list[Scalar]) -> Callable[[Scalar | None], float]:
    """Return the position of a value: numbers in [0, 1] over the recorded range, choices apart."""
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if not values or not numeric:
        codes = {repr(value): float(code) for code, value in enumerate(dict.fromkeys(values))}
        return lambda value: math.nan if value is None else codes.get(repr(value), -1.0)
    low, high = float(min(values)), float(max(values))
    if low > 0 and high > 10 * low:  # a range over decades is searched on a logarithmic scale
        width = math.log(high / low)
        return lambda v: math.nan if v is None else math.log(max(float(v), 1e-300) / low) / width
    width = high - low or 1.0
    return lambda value: math.nan if value is None else (float(value) - low) / width
