"""When a study stops before its end, with all kept: why, and what it takes to go on."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from gsvae_tune.study.errors import UnfinishedError
from gsvae_tune.study.faults import Fault
from gsvae_tune.study.paths import StudyPaths, TrialPaths
from gsvae_tune.study.records import TrialResult, TrialState

_MB = 1e6
# In what Ray says of a process that its memory monitor has killed. (Of every process that was
# killed it says that the kernel's may have done so.)
_KILLED_FOR_MEMORY = ("running low on memory", "NODE_OUT_OF_MEMORY")


def disk_full(paths: StudyPaths, remaining: int, detail: str) -> UnfinishedError:
    """Return the end of a run whose disk is full: how much it takes to go on.

    Args:
        paths: the study's folder.
        remaining: trials still to be handed out.
        detail: what the file system said.
    """
    return UnfinishedError(
        f"{Fault.DISK_FULL.says(detail)}\n"
        f"  kept:  every finished trial, and the others up to their last checkpoint, in "
        f"{paths.root}\n"
        f"  needs: {_needed(paths, remaining)}; {_free(paths.root)}\n"
        "  next:  make room, then run the same command again to go on"
    )


def _needed(paths: StudyPaths, remaining: int) -> str:
    folders = [path for path in paths.trials.glob("*/*") if path.is_dir()]
    sizes = {path: sum(_size(file) for file in path.iterdir()) for path in folders}
    ended = [size for path, size in sizes.items() if TrialPaths(path).result.is_file()]
    going = len(sizes) - len(ended)
    largest = max(sizes.values(), default=0)
    # A running trial keeps two checkpoints and writes a third.
    more = 3 * largest * max(1, going) + remaining * (max(ended, default=largest))
    trials = "1 trial" if going + remaining == 1 else f"{going + remaining} trials"
    return f"about {max(1, round(more / _MB))} MB for the {trials} to go"


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0  # replaced meanwhile


def _free(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free / _MB:.0f} MB are free"
    except OSError:
        return "how much is free is unknown"


def first_all_alike(paths: StudyPaths, first: Sequence[TrialResult]) -> UnfinishedError | None:
    """Return the end of a run whose first trials all failed in one way; None for another run."""
    faults = {result.fault if result.state is TrialState.FAILED else None for result in first}
    if len(faults) != 1 or None in faults:
        return None
    return UnfinishedError(
        f"{Fault.ALL_ALIKE.value} ({len(first)} of {len(first)}): {first[-1].error}\n"
        f"  kept:  their records, in {paths.root}\n"
        "  next:  mend the cause; a study of its own then: --name NAME. Running this one again "
        "goes on\n         with the trials that are left, --set faults.give_up_after=0 whatever "
        "fails"
    )


def died(cause: str) -> tuple[Fault, str]:
    """Return what killed a trial's process as often as it may be taken up again, and its words.

    Args:
        cause: Ray's account of it.
    """
    lines = [line.strip() for line in cause.splitlines() if line.strip()]
    if any(sign in cause for sign in _KILLED_FOR_MEMORY):
        return Fault.HOST_MEMORY, (
            "killed to keep the machine alive; fewer trials at once (--cpus-per-trial), fewer "
            "replicates or a smaller batch may fit"
        )
    return Fault.NODE_LOST, lines[-1][:300] if lines else "(faults.retries sets how often)"
