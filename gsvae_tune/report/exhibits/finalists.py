"""Who stands for each arm, and what a study still lacks before anybody can."""

from __future__ import annotations

from dataclasses import dataclass

from gsvae_tune.report.exhibits.exhibit import NothingToShow, listed
from gsvae_tune.report.loaded import LoadedStudy
from gsvae_tune.report.verdict import Verdict
from gsvae_tune.study.config import Phase
from gsvae_tune.study.records import TrialState


def judged(study: LoadedStudy) -> Verdict:
    """Return the verdict.

    Raises:
        NothingToShow: there is none yet, with what is still to go.
    """
    if study.verdict is None:
        raise NothingToShow(f"There is no verdict yet: {_to_go(study)}.")
    return study.verdict


def _to_go(study: LoadedStudy) -> str:
    """Say how much of the search, the confirmations and the test is still to come."""
    ended = study.trials[study.trials.state != TrialState.RUNNING.value]
    counts = {
        phase: ended[ended.phase == phase].groupby("arm").size() for phase in ("search", "confirm")
    }
    searched = {arm: int(counts["search"].get(arm, 0)) for arm in study.searched_arms}
    budget = study.config.search.trials
    missing = sum(max(0, budget - count) for count in searched.values())
    parts = []
    if missing:
        parts.append(f"{missing} of {budget * len(searched)} trials of the search")
    sound = {arm: len(study.searched(arm)) for arm in study.searched_arms}
    wanted = {
        arm: min(study.config.protocol.top, budget if missing else sound[study.original(arm)])
        for arm in study.arms
    }
    confirmed = {arm: int(counts["confirm"].get(arm, 0)) for arm in study.arms}
    left = sum(max(0, wanted[arm] - confirmed[arm]) for arm in study.arms)
    if left:
        parts.append(f"{left} of {sum(wanted.values())} confirmations")
    if study.config.protocol.until != "verdict":
        parts.append(f"(the study is to stop after its phase {study.config.protocol.until})")
    rest = f"{listed(parts[:2])} {' '.join(parts[2:])}".strip()
    return f"{rest} still to go" if missing or left else "the test split has not been measured"


@dataclass(frozen=True)
class Chosen:
    """The trial that stands for an arm."""

    arm: str
    phase: Phase
    number: int

    def __str__(self) -> str:
        return f"{self.arm} #{self.number}"


def chosen(study: LoadedStudy) -> list[Chosen]:
    """Return each arm's finalist; while there is no verdict, each searched arm's best trial."""
    if study.verdict is not None:
        return [
            Chosen(arm, "confirm", known.finalist.number)
            for arm in study.arms
            if (known := study.verdict.arms[arm]).finalist is not None
        ]
    best = {arm: study.best(arm) for arm in study.searched_arms}
    return [Chosen(arm, "search", number) for arm, number in best.items() if number is not None]


def described(study: LoadedStudy) -> str:
    if study.verdict is not None:
        return "Finalists, on fresh seeds"
    return "No verdict yet: each arm's best trial of the search so far, on the search's seeds"
