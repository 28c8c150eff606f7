"""The sealed test split: each opening is written down before anything is seen.

The test split is opened once in a study, for the configurations that were confirmed. Whoever has
seen its losses and searches on has chosen by them; a second opening is refused unless a reason is
given, and then its results bear the mark.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone

from gsvae_tune.study.errors import InputError
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import keep_lines, read_json_lines

FIRST = "to judge the confirmed configurations"


@dataclass(frozen=True)
class Opening:
    """The test split was opened for one confirmed configuration."""

    time: str  # ISO 8601, UTC
    arm: str
    number: int
    reason: str
    again: bool  # the split had been opened before, for others or for this one
    host: str
    process: int

    @property
    def mark(self) -> str | None:
        """Why the split was opened again; None for a first opening."""
        return self.reason if self.again else None


def read_openings(paths: StudyPaths) -> list[Opening]:
    """Return every opening, oldest first."""
    return [Opening(**line) for line in read_json_lines(paths.openings)]


def refuse_second(paths: StudyPaths, reason: str | None, what: str) -> None:
    """Check that the test split is shut, or that there is a reason to open it again.

    Args:
        paths: the study's folder.
        reason: why again; None for a first opening.
        what: what would open it, for the message.

    Raises:
        InputError: it was opened, and no reason is given.
    """
    before = read_openings(paths)
    if before and not reason:
        raise InputError(
            f"the test split was opened on {before[0].time} for {len(before)} confirmed "
            f"configurations; {what} after that would be chosen by what it showed",
            where=str(paths.root),
            legal='--until confirm leaves it shut; --reopen-test "WHY" opens it again and marks '
            "the result, which then supports no claim",
            next_step="--seed 1 --name NAME for a new study; nothing was changed",
        )


def open_for(
    paths: StudyPaths, configurations: Iterable[tuple[str, int]], reason: str | None
) -> dict[tuple[str, int], Opening]:
    """Write down that the test split is opened; return each configuration's latest opening.

    One that was opened for and not finished (the run was killed) goes on under its opening.

    Args:
        paths: the study's folder.
        configurations: (arm, number) of the confirmed trials to be tested.
        reason: why again; None for a first opening.

    Raises:
        InputError: as `refuse_second`.
    """
    wanted = list(configurations)
    known = {(opening.arm, opening.number): opening for opening in read_openings(paths)}
    new = [which for which in wanted if which not in known]
    if new:
        refuse_second(paths, reason, "a configuration confirmed")
        again = bool(known)
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        text = reason if again and reason else FIRST
        for arm, number in new:
            opening = Opening(now, arm, number, text, again, platform.node(), os.getpid())
            known[arm, number] = opening
        keep_lines(paths.openings, map(asdict, known.values()))
    return {which: known[which] for which in wanted}
