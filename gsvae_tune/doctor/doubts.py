"""Reading one trial's records as a doubter: are they whole, and do they agree with each other?"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from gsvae_tune.study.config import StudyConfig
from gsvae_tune.study.records import ReplicateResult, TestResult, TrialResult, TrialState
from gsvae_tune.study.seeds import replicate_seed
from gsvae_tune.vae.epoch import EpochRecord

_NAMES = {field.name for field in fields(EpochRecord)}
_OPTIONAL = {"train_loss_relaxed", "train_loss_discrete"}
_PAIRS = _NAMES - {"epoch", "wall_s", "steps", "event"}


@dataclass(frozen=True)
class Epochs:
    """What can be read of an epochs.jsonl."""

    count: int = 0  # whole records, numbered 1, 2, ... without a gap
    size: int = 0  # bytes of those
    last: dict[str, Any] | None = None
    even: bool = True  # each has as many steps more than the one before
    torn: bool = False  # the last line has no end: its writer was killed
    fault: str | None = None  # what is wrong with the line behind the whole records
    strange: bool = False  # that line can be read and is no record: what reads it fails


def read_epochs(path: Path) -> Epochs:
    """Read a trial's records up to the first that is not sound.

    Raises:
        OSError: the file is there and cannot be read.
    """
    try:
        *lines, tail = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return Epochs()
    size, last, first, even = 0, None, 0, True
    for index, line in enumerate(lines):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            return Epochs(index, size, last, even, bool(tail), f"line {index + 1} cannot be read")
        problem = _strange(record)
        if problem is None and record["epoch"] != index + 1:
            problem = f"holds epoch {record['epoch']}"
        if problem is not None:
            return Epochs(index, size, last, even, bool(tail), f"line {index + 1} {problem}", True)
        first = record["steps"] if index == 0 else first
        even = even and record["steps"] == first * record["epoch"]
        last = record
        size += len(line) + 1
    return Epochs(len(lines), size, last, even, bool(tail))


def _strange(record: Any) -> str | None:
    """Say why a line is no record of an epoch, as those who read it take it to be."""
    if not isinstance(record, dict) or record.keys() != _NAMES:
        return "is no record of an epoch"
    if not all(_is_number(record[name]) for name in ("epoch", "steps", "wall_s")):
        return "has numbers that are none"
    event = record["event"]
    if not isinstance(event, list) or not all(isinstance(one, str) for one in event):
        return "has events that are no texts"
    for name in _PAIRS:
        pairs = record[name]
        if pairs is None and name in _OPTIONAL:
            continue
        if not isinstance(pairs, list) or len(pairs) != len(event) or not all(map(_is_pair, pairs)):
            return f"has a {name} that is not two numbers a replicate"
    return None


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(one is None or _is_number(one) for one in value)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def doubt_result(result: TrialResult, config: StudyConfig, phase: str) -> str | None:
    """Say why a result cannot be that of a trial in this phase; None where nothing says so."""
    doubts = (_ill_typed(result), _inconsistent(result, config, phase))
    return next(itertools.chain(*doubts), None)


def _ill_typed(result: TrialResult) -> Iterator[str]:
    whole = (result.epochs, result.steps)
    if not all(isinstance(n, int) and n >= 0 for n in whole) or not _is_number(result.wall_s):
        yield "has numbers that are none"
    if result.ended_s is not None and not _is_number(result.ended_s):
        yield "has a time that is no number"
    if not isinstance(result.device, str) or not isinstance(result.compiled, str):
        yield "has texts that are none"
    texts = (result.error, result.note)
    if not all(text is None or isinstance(text, str) for text in texts):
        yield "has texts that are none"
    if result.value is not None and not _is_number(result.value):
        yield "has a value that is no number"
    for row in result.replicates:
        numbers = (row.val_neg_elbo_nats, row.kl_nats, row.active_units)
        if not all(n is None or _is_number(n) for n in numbers) or not isinstance(row.steps, int):
            yield "has replicates whose numbers are none"
        flags = (row.diverged, row.collapsed)
        if row.best_branch not in ("a", "b", None) or not all(isinstance(f, bool) for f in flags):
            yield "has replicates without a legal branch or end"
        names = (row.ended, row.init_hash, row.order_hash, row.noise_hash)
        if not all(name is None or isinstance(name, str) for name in names):
            yield "has replicates whose texts are none"


def _inconsistent(result: TrialResult, config: StudyConfig, phase: str) -> Iterator[str]:
    if result.state is TrialState.COMPLETE and result.value is None:
        yield "is complete and has no value"
    if result.state is TrialState.RUNNING:
        yield "is of a trial that has not ended"
    seeds = [(row.replicate, row.seed) for row in result.replicates]
    count = config.replicates if phase == "search" else config.protocol.replicates
    own = [(r, replicate_seed(config.seed, phase, r)) for r in range(count)]
    if seeds and seeds != own:
        yield f"has other replicates or seeds than the study's {phase}"
    values = [row.val_neg_elbo_nats for row in result.replicates]
    if result.state is TrialState.COMPLETE and values and not _is_mean(result.value, values):
        yield "has a value that is not the mean of its replicates"


def _is_mean(value: float | None, values: list[float | None]) -> bool:
    known = [one for one in values if one is not None]
    if value is None or len(known) < len(values):
        return False
    return math.isclose(value, sum(known) / len(known), rel_tol=1e-9)


def unlike_epochs(result: TrialResult, epochs: Epochs | None) -> str | None:
    """Say what a result has otherwise than the last record of its trial; None where it agrees.

    Args:
        result: one that `doubt_result` says nothing about.
        epochs: the trial's; None for a simulated one, which has none.
    """
    if epochs is None or epochs.last is None or epochs.fault or epochs.count != result.epochs:
        return None  # epochs that are lacking are found elsewhere
    last = epochs.last
    differing = []
    if result.state is TrialState.COMPLETE:
        if len(result.replicates) != len(last["event"]):
            return "replicates"
        if any(_differs(row, last) for row in result.replicates):
            differing.append("losses")
        if result.wall_s != last["wall_s"]:
            differing.append("seconds")
    if result.steps != last["steps"]:
        differing.append("steps")
    return " and ".join(differing) or None


def _differs(row: ReplicateResult, last: dict[str, Any]) -> bool:
    if row.best_branch is None:
        return False
    branch = "ab".index(row.best_branch)
    names = ("val_neg_elbo_nats", "kl_nats", "active_units")
    return any(getattr(row, name) != last[name][row.replicate][branch] for name in names)


def doubt_test(test: TestResult, result: TrialResult | None, epochs: Epochs | None) -> str | None:
    """Say why a test.json cannot be that of its trial; None where nothing speaks against it."""
    for row in test.replicates:
        numbers = [value for name, value in vars(row).items() if name != "branch"]
        if not all(_is_number(value) for value in numbers):
            return "has numbers that are none"
    if result is None or unlike_epochs(result, epochs) is not None:
        return None  # it is not the test that is in doubt
    sound = [(r.replicate, r.seed, r.best_branch) for r in result.replicates if r.best_branch]
    if [(row.replicate, row.seed, row.branch) for row in test.replicates] != sound:
        return "has other replicates, seeds or branches than its result"
    if epochs is None or epochs.last is None or epochs.count != result.epochs:
        return None
    tau = epochs.last["tau"]
    if any(row.tau != tau[row.replicate]["ab".index(row.branch)] for row in test.replicates):
        return "has other temperatures than the last epoch"
    return None
