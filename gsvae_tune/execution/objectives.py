"""What a simulated trial gives instead of training: a recorded table's, or a formula's.

A simulated study tries out searches, schedules and budgets; what it finds says nothing about tau.

Around what the table or formula gives for a configuration, replicates spread: a part that depends
on the seed alone, shared by all trials (which pairing removes), and a part of each trial's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from gsvae_tune.search.confirm import original
from gsvae_tune.search.storage import Assignment
from gsvae_tune.search.studies import VALLEY
from gsvae_tune.study.config import StudyConfig
from gsvae_tune.study.errors import InputError
from gsvae_tune.study.parameters import Scalar
from gsvae_tune.study.paths import expand
from gsvae_tune.study.records import ReplicateResult, ReplicateTest, TrialResult, TrialState
from gsvae_tune.study.seeds import derive, replicate_seed

_PARAMETER = "param_"
_DEVICE = "simulated"
_SHARED_NATS = 0.3  # standard deviation of what a seed does to every trial
_SPLIT_SHARE = 0.3  # a split's own noise, as a share of the spread of replicates

Configuration = Callable[[Assignment], TrialResult]  # what a trial gives, all replicates alike


class Objective:
    """What simulated trials give.

    Args:
        config: the study, with `simulate`.
        configuration: what a trial gives, all replicates alike.
        recorded: what it gives a trial of the search has its replicates' spread in it already.
    """

    def __init__(
        self, config: StudyConfig, configuration: Configuration, *, recorded: bool
    ) -> None:
        assert config.simulate is not None  # noqa: S101 - the caller asked
        self._config, self._simulate, self._configuration = config, config.simulate, configuration
        self._recorded = recorded

    def __call__(self, assignment: Assignment) -> TrialResult:
        """Return how a trial of the search or a confirmation ends."""
        result = self._configuration(assignment)
        if result.value is None or (self._recorded and assignment.phase == "search"):
            return result
        losses = self._losses(assignment, result.value)
        value = float(np.mean(losses["validation"]))
        seeds = self._seeds(assignment)
        replicates = [
            _replicate(index, seed, loss, result.steps)
            for index, (seed, loss) in enumerate(zip(seeds, losses["validation"], strict=True))
        ]
        share = len(seeds) / self._config.replicates
        return replace(result, value=value, replicates=replicates, wall_s=share * result.wall_s)

    def test(self, assignment: Assignment) -> list[ReplicateTest]:
        """Return what a confirmed trial gives on the test split."""
        result = self._configuration(assignment)
        assert result.value is not None  # noqa: S101 - it was confirmed
        losses = self._losses(assignment, result.value)["test"]
        return [
            ReplicateTest(
                replicate=index, seed=seed, branch="a", tau=1.0, test_neg_elbo_nats=loss,
                test_iwae_nats=loss, iwae_samples=1, test_kl_nats=1.0, test_active_units=1,
                code_perplexity=1.0, vertex_share=1.0, relaxed_gap_nats=0.0,
            )
            for index, (seed, loss) in enumerate(zip(self._seeds(assignment), losses, strict=True))
        ]  # fmt: skip

    def _seeds(self, assignment: Assignment) -> list[int]:
        searching = assignment.phase == "search"
        count = self._config.replicates if searching else self._config.protocol.replicates
        return [replicate_seed(self._config.seed, assignment.phase, r) for r in range(count)]

    def _losses(self, assignment: Assignment, value: float) -> dict[str, list[float]]:
        """Return each replicate's loss on the validation and the test split."""
        spread = self._simulate.spread_nats
        base = value + self._simulate.effects.get(assignment.arm, 0.0)
        losses: dict[str, list[float]] = {"validation": [], "test": []}
        for seed in self._seeds(assignment):
            shared = np.random.default_rng([seed, 0]).standard_normal(3)
            key = derive(seed, assignment.arm, assignment.number)
            own = np.random.default_rng([key, 1]).standard_normal(3)
            for index, split in enumerate(losses, start=1):
                common = _SHARED_NATS * (shared[0] + _SPLIT_SHARE * shared[index])
                apart = spread * (own[0] + _SPLIT_SHARE * own[index])
                losses[split].append(float(base + common + apart))
        return losses


def _replicate(index: int, seed: int, loss: float, steps: int) -> ReplicateResult:
    shares = {
        f"{what}_hash": f"{derive(seed, what):016x}"[:16] for what in ("init", "order", "noise")
    }
    return ReplicateResult(
        replicate=index, seed=seed, best_branch="a", val_neg_elbo_nats=loss, kl_nats=None,
        active_units=None, diverged=False, collapsed=False, ended=None, steps=steps, **shares,
    )  # fmt: skip


def load_objective(config: StudyConfig) -> Objective:
    """Return the objective that `simulate.table` names.

    Raises:
        InputError: the table is missing, unreadable, or lacks an arm or a column.
    """
    assert config.simulate is not None  # noqa: S101 - the caller asked
    table = config.simulate.table
    return Objective(config, _configuration(config, table), recorded=table != VALLEY)


def _configuration(config: StudyConfig, table: str) -> Configuration:
    if table == VALLEY:
        return _valley(config)
    path = expand(table, "simulate.table")
    rows = _read(path)
    recorded = {
        arm: _Recorded([r for r in rows if r["arm"] == original(config, arm)])
        for arm in config.arms
    }
    for arm, found in recorded.items():
        if not found.rows:
            known = sorted({str(row["arm"]) for row in rows})
            raise InputError(
                f"has no finished trial of arm {arm}",
                where=str(path),
                legal=f"a table with every arm of the study; it has: {', '.join(known) or 'none'}",
            )
    return lambda assignment: recorded[assignment.arm].nearest(assignment.params)


def _valley(config: StudyConfig) -> Configuration:
    """Lowest at tau 0.5 and learning rate 3e-3; trials of about a minute."""

    def configuration(assignment: Assignment) -> TrialResult:
        # Searched trials differ in length, so that they end out of turn; confirmations do not: one
        # or two of them stand for an arm, and would make its compute unequal by chance.
        seed = derive(config.seed, "valley", assignment.arm, assignment.number)
        spread = 0.1 if assignment.phase == "search" else 0.0
        lasts = math.exp(spread * np.random.default_rng(seed).standard_normal())
        tau = float(assignment.params.get("tau_start", assignment.params.get("tau_a", 1.0)))
        rate = float(assignment.params.get("learning_rate", 1e-3))
        value = 20.0 + 0.3 * math.log(tau / 0.5) ** 2 + 2.0 * math.log10(rate / 3e-3) ** 2
        return TrialResult(
            state=TrialState.COMPLETE,
            value=value,
            error=None,
            epochs=config.training.epochs,
            steps=config.training.epochs,
            wall_s=60.0 * lasts,
            device=_DEVICE,
        )

    return configuration


def _read(path: Path) -> list[dict[str, Any]]:
    """Return the finished trials of a table as `gsvae-tune export` writes it."""
    from pyarrow import ArrowException, csv, parquet

    try:
        if path.suffix == ".csv":
            absent = csv.ConvertOptions(strings_can_be_null=True)  # an empty cell is no text
            table = csv.read_csv(path, convert_options=absent)
        else:
            table = parquet.read_table(path)
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
    rows = [
        row
        for row in table.to_pylist()
        if row["state"] in ended and row.get("phase", "search") == "search"
    ]
    for index, row in enumerate(rows):
        _check(row, f"{path}, finished trial {index + 1}")
    return rows


def _check(row: Mapping[str, Any], where: str) -> None:
    complete = row["state"] == TrialState.COMPLETE.value
    wrong = {
        "wall_s": not (_is_number(row["wall_s"]) and row["wall_s"] >= 0),
        "value": not _is_number(row["value"]) and (complete or row["value"] is not None),
        "epochs": not _is_count(row.get("epochs")),
        "steps": not _is_count(row.get("steps")),
    } | {
        key: not (value is None or isinstance(value, bool | int | float | str))
        for key, value in row.items()
        if key.startswith(_PARAMETER)
    }
    for key, is_wrong in wrong.items():
        if is_wrong:
            raise InputError(
                f"{key}: {row[key]!r}",
                where=where,
                legal="wall_s: seconds, at least 0; value: a number where complete; epochs and "
                "steps: whole numbers or nothing; settings: numbers or texts",
            )


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: object) -> bool:
    return value is None or (_is_number(value) and value == int(value) and value >= 0)


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
            both_absent = np.isnan(positions) & (params.get(name) is None)
            distance += np.where(both_absent, 0.0, np.nan_to_num(np.minimum(gap, 1.0), nan=1.0))
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
    numbers = [value for value in values if _is_number(value)]
    if not numbers or len(numbers) < len(values):
        codes = {repr(value): float(code) for code, value in enumerate(dict.fromkeys(values))}
        return lambda value: math.nan if value is None else codes.get(repr(value), -1.0)
    low, high = float(min(numbers)), float(max(numbers))
    decades = low > 0 and high > 10 * low  # such a range is searched on a logarithmic scale
    width = math.log(high / low) if decades else high - low or 1.0

    def place(value: Scalar | None) -> float:
        if not _is_number(value):
            return math.nan  # absent, or of another kind
        return math.log(max(value, 1e-300) / low) / width if decades else (value - low) / width

    return place
