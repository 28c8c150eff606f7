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
    searched: int  # trials of the search that had ended, all arms together
    host: str
    process: int

    @property
    def mark(self) -> str | None:
        """Why the split was opened again; None for a first opening."""
        return self.reason if self.again else None


def read_openings(paths: StudyPaths) -> list[Opening]:
    """Return every opening, oldest first.

    Raises:
        InputError: the file is damaged, or missing though something was measured.
    """
    tested = {path.parent for path in paths.trials.glob("*/confirm-*/test.json")}
    if not paths.openings.is_file() and tested:
        problem = "is missing: it is the record of who saw the test split, and it was seen"
        raise InputError(problem, where=str(paths.openings), next_step="bring it back")
    try:
        openings = [Opening(**line) for line in read_json_lines(paths.openings)]
        known = {paths.trial(one.arm, one.number, "confirm").root for one in openings}
        if unknown := sorted(map(str, tested - known)):
            raise TypeError(f"it lacks what was measured in {unknown[0]}")  # noqa: TRY301
        return openings  # noqa: TRY300
    except TypeError as error:
        raise InputError(
            f"is damaged: {error}", where=str(paths.openings), next_step="bring back a whole copy"
        ) from error


def reopened(paths: StudyPaths, searched: int) -> str | None:
    """Return why what the test split says is no evidence any more; None where it still is.

    Args:
        paths: the study's folder.
        searched: trials of the search that have ended, all arms together.
    """
    openings = read_openings(paths)
    again = [opening.reason for opening in openings if opening.again]
    if again:
        return again[-1]
    if openings and searched > openings[0].searched:
        return "the search went on after it"
    return None


def refuse_second(paths: StudyPaths, reason: str | None, searched: int) -> None:
    """Check that nothing was searched since the test split was opened, or that a reason is given.

    Args:
        paths: the study's folder.
        reason: why again; None for a first opening.
        searched: trials of the search that will have ended, all arms together.

    Raises:
        InputError: it was opened, and no reason is given.
    """
    before = read_openings(paths)
    if before and searched > before[0].searched and not reason:
        raise InputError(
            f"the test split was opened on {before[0].time}, after {before[0].searched} trials; "
            f"what {searched - before[0].searched} more find would be chosen by what it showed",
            where=str(paths.root),
            legal='--until confirm leaves it shut; --reopen-test "WHY" opens it again and marks '
            "the result, which then supports no claim",
            next_step="--seed 1 --name NAME for a new study",
        )


def open_for(
    paths: StudyPaths,
    configurations: Iterable[tuple[str, int]],
    reason: str | None,
    searched: int,
) -> dict[tuple[str, int], Opening]:
    """Write down that the test split is opened; return each configuration's latest opening.

    One that was opened for and not finished (the run was killed) goes on under its opening.

    Args:
        paths: the study's folder.
        configurations: (arm, number) of the confirmed trials to be tested.
        reason: why again; None for a first opening.
        searched: trials of the search that have ended, all arms together.

    Raises:
        InputError: as `refuse_second`.
    """
    wanted = list(configurations)
    known = {(opening.arm, opening.number): opening for opening in read_openings(paths)}
    new = [which for which in wanted if which not in known]
    if new:
        refuse_second(paths, reason, searched)
        again = bool(known)
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        text = reason if again and reason else FIRST
        for arm, number in new:
            who = (platform.node(), os.getpid())
            opening = Opening(now, arm, number, text, again, searched, *who)
            known[arm, number] = opening
        keep_lines(paths.openings, map(asdict, known.values()), lasting=True)
    return {which: known[which] for which in wanted}
