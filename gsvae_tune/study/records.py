"""Writing and reading a study's files: atomic JSON, append-only JSON lines, a trial's result.

Numbers that are not finite are written as null: JSON has no NaN, and other tools stop at it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO

from gsvae_tune.study.faults import Fault

Guard = AbstractContextManager[Any]  # around the moment in which a file is replaced


class TrialState(str, Enum):
    """How a trial ended; the value is what tables hold."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"
    RUNNING = "running"  # asked for and not ended: will be continued by the next run


@dataclass(frozen=True)
class ReplicateResult:
    """One replicate of a finished trial; losses in nats per example, lower is better."""

    replicate: int
    seed: int
    best_branch: str | None  # lower one-hot loss on the control split at the end
    val_neg_elbo_nats: float | None  # of best_branch, one-hot codes, validation split
    kl_nats: float | None  # of best_branch, validation split
    active_units: int | None  # of best_branch, validation split
    diverged: bool
    collapsed: bool
    ended: str | None  # why it ended early
    steps: int  # optimizer steps of each of its two members
    # What it shares with the same replicate of every other trial of its phase; see `paired`.
    init_hash: str | None = None  # of its initial weights
    order_hash: str | None = None  # of the order of its images, all epochs
    noise_hash: str | None = None  # of its Gumbel noise, the first step of each epoch


@dataclass(frozen=True)
class ReplicateTest:
    """One replicate of a confirmed trial on the sealed test split; nats per example.

    Of its better branch, which the control split had chosen before.
    """

    replicate: int
    seed: int
    branch: str
    tau: float  # of the last epoch
    test_neg_elbo_nats: float  # one-hot codes, one sample an image times evaluation_samples
    test_iwae_nats: float  # negative IWAE bound, one-hot codes
    iwae_samples: int
    test_kl_nats: float
    test_active_units: int
    code_perplexity: float  # categories in use, 1 to K, mean over latents
    vertex_share: float  # of relaxed samples, those within 0.2 of a one-hot code
    relaxed_gap_nats: float  # relaxed minus one-hot negative ELBO at `tau`


@dataclass(frozen=True)
class TestResult:
    """What a confirmed trial's `test.json` holds."""

    __test__ = False  # no test class, whatever its name makes pytest think

    opened: str  # when the test split was opened for it
    reopened: str | None  # why, where the split had been opened before
    replicates: list[ReplicateTest]

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> TestResult | None:
        """Return the result, or None where there is no readable one."""
        try:
            raw = read_json(path)
            replicates = [ReplicateTest(**row) for row in raw.pop("replicates")]
            return cls(**raw, replicates=replicates)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None


@dataclass(frozen=True)
class TrialResult:
    """What `result.json` holds."""

    state: TrialState
    value: float | None  # mean over replicates of val_neg_elbo_nats
    error: str | None
    epochs: int
    steps: int
    wall_s: float
    device: str
    replicates: list[ReplicateResult] = field(default_factory=list)
    compiled: str = ""  # "yes", or "no" and why not
    fault: Fault | None = None
    note: str | None = None  # what went wrong on the way and was mended
    ended_s: float | None = None  # when, in seconds since 1970; simulated: since the start

    def write(self, path: Path, guard: Guard | None = None) -> None:
        # The ledger is told next, and must know of no end that a power cut takes back. (Without a
        # claimant it is simulated, and can be again.)
        found = asdict(self) | {"fault": self.fault and self.fault.key}
        write_json(path, found, guard, lasting=guard is not None)

    @classmethod
    def read(cls, path: Path) -> TrialResult | None:
        """Return the result, or None where there is no readable one."""
        if not path.is_file():
            return None
        try:
            raw = read_json(path)
            replicates = [ReplicateResult(**row) for row in raw.pop("replicates")]
            raw["state"] = TrialState(raw["state"])
            raw["fault"] = Fault[raw["fault"].upper()] if raw.get("fault") else None
            return cls(**raw, replicates=replicates)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None  # damaged: the trial's checkpoint gives it again


def finite(value: Any) -> Any:
    """Return the same nested value with every non-finite number replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return value


def write_atomic(
    path: Path, content: bytes, guard: Guard | None = None, *, lasting: bool = False
) -> None:
    """Replace ``path`` by ``content``: readers see the old file or the new one, whole."""
    with atomic_file(path, guard, lasting=lasting) as file:
        file.write(content)


def _sync_names(folder: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


class atomic_file:  # noqa: N801 - used like a function, as contextlib's managers are
    """``with atomic_file(path) as file``: a binary file that takes its name when it is whole.

    Args:
        path: the name.
        guard: entered around the taking of the name; what it raises leaves the old file.
        previous: the name that the old file gets.
        lasting: the name too is on the disk, whatever happens to the machine, when this returns.
    """

    def __init__(
        self,
        path: Path,
        guard: Guard | None = None,
        *,
        previous: Path | None = None,
        lasting: bool = False,
    ) -> None:
        self._path, self._guard, self._previous = path, guard or nullcontext(), previous
        self._lasting = lasting
        # The process id keeps a dying driver's temporary file apart from its successor's.
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")

    def __enter__(self) -> BinaryIO:
        self._temporary.unlink(missing_ok=True)  # what was left, or laid, there is not written to
        self._file = self._temporary.open("xb")
        return self._file

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
                with self._guard:
                    if self._previous is not None and self._path.is_file():
                        self._path.replace(self._previous)
                    self._temporary.replace(self._path)
                if self._lasting:
                    _sync_names(self._path.parent)
        finally:
            try:
                self._file.close()
            finally:
                self._temporary.unlink(missing_ok=True)  # where it did not take the name


def write_json(
    path: Path, value: Any, guard: Guard | None = None, *, lasting: bool = False
) -> None:
    text = json.dumps(finite(value), indent=2, allow_nan=False, ensure_ascii=False)
    write_atomic(path, (text + "\n").encode(), guard, lasting=lasting)


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON, or nested beyond reason.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def json_line(value: Any) -> bytes:
    return (json.dumps(finite(value), allow_nan=False, separators=(",", ":")) + "\n").encode()


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield whole records; a torn last line (the writer was killed) ends the reading quietly."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                return
            if not isinstance(record, dict):
                return
            yield record


def keep_lines(
    path: Path,
    records: Iterable[dict[str, Any]],
    guard: Guard | None = None,
    *,
    lasting: bool = False,
) -> None:
    """Rewrite a JSON lines file to hold just ``records``."""
    write_atomic(path, b"".join(map(json_line, records)), guard, lasting=lasting)
