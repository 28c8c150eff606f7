"""What a report says of one study, before it is a page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import yaml

from gsvae_tune.report.exhibits.exhibit import Exhibit, listed
from gsvae_tune.report.exhibits.gallery import SECTIONS, Section
from gsvae_tune.report.loaded import LoadedStudy
from gsvae_tune.report.page.grids import Grid, grids
from gsvae_tune.report.verdict import Comparison
from gsvae_tune.study.records import TrialState

# What the summary asks, and the exhibit whose finding answers it.
QUESTIONS = {
    "How much does the starting temperature matter, and where is it safe?": "sensitivity-start",
    "Which update rule?": "sensitivity-rules",
    "Which setting matters most?": "importance",
    "Did the two losses move the temperatures?": "traces-tau",
    "Can I believe the search?": "search-selection",
}


@dataclass(frozen=True)
class Answer:
    """One line of the summary."""

    question: str
    text: str
    exhibit: str  # where it comes from


@dataclass(frozen=True)
class Part:
    """A section of a study's report."""

    section: Section
    exhibits: list[Exhibit]


@dataclass(frozen=True)
class Content:
    """A study's report without its figures."""

    study: LoadedStudy
    parts: list[Part]

    @classmethod
    def of(cls, study: LoadedStudy) -> Content:
        return cls(study, [Part(one, list(one.exhibits(study))) for one in SECTIONS])

    @property
    def exhibits(self) -> list[Exhibit]:
        return [exhibit for part in self.parts for exhibit in part.exhibits]

    @property
    def state(self) -> str:
        """running, interrupted, searched, archive or finished."""
        if self.study.running:
            return "running"
        if self.study.verdict is not None:
            return "archive" if self.study.archive else "finished"
        return "interrupted" if any(missing(self.study)) else "searched"

    @property
    def tables(self) -> list[Grid]:
        return grids(self.study)

    @property
    def comparisons(self) -> list[Comparison]:
        return [] if self.study.verdict is None else self.study.verdict.comparisons

    @property
    def headline(self) -> str | None:
        """What was shown, in a sentence; None where nothing was compared."""
        verdict = self.study.verdict
        if verdict is None or not verdict.comparisons:
            return None
        shown = listed(f"{better} is better than {worse}" for better, worse in verdict.claims())
        found = f"Shown here: {shown}." if shown else "No arm was shown to be better than another."
        pairs = sorted({one.n for one in verdict.comparisons})
        return (
            f"{found} Each arm tried up to {self.study.config.search.trials} configurations; their "
            f"best met on {listed(pairs)} fresh seeds and a test split that nothing had seen."
            if verdict.reopened is None
            else found
        )

    @property
    def missing(self) -> list[str]:
        return list(missing(self.study))

    @property
    def configuration(self) -> str:
        """The study as YAML that `gsvae-tune run` takes."""
        whole = self.study.config.model_dump(mode="json", exclude_none=True)
        return yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=100)

    @property
    def facts(self) -> Iterator[tuple[str, str]]:
        recorded = self.study.recorded
        yield "begun", str(recorded.get("created", "-"))
        yield "last run", str(recorded.get("updated", "-"))
        yield "seed", str(self.study.config.seed)
        yield "configuration's hash", str(recorded.get("digest", "-"))[:16]
        data = recorded["data"]
        counts = data.get("images")
        images = counts if isinstance(counts, Mapping) else {}
        split = listed(f"{n:,} {name}" for name, n in images.items()) or "none"
        yield "images", f"{split}; SHA-256 {str(data.get('checksum'))[:16]}"
        yield "folder", str(self.study.paths.root)
        yield "hardware", _pairs(recorded.get("hardware"))
        yield "versions", _pairs(recorded.get("versions"))
        yield "source commit", str(recorded.get("git_commit") or "installed package")

    @property
    def commands(self) -> list[str]:
        """The commands that made it, then those that make this report and the tables again."""
        root = str(self.study.paths.root)
        made = self.study.recorded.get("commands")
        known = [str(one) for one in made] if isinstance(made, list) else []
        return [*known, f"gsvae-tune report {root}", f"gsvae-tune export {root}"]

    def answers(self, findings: Mapping[str, str]) -> list[Answer]:
        """Return the summary's lines.

        Args:
            findings: what each exhibit shows, by its key.
        """
        return [
            Answer(question, first_sentence(findings[key]), key)
            for question, key in QUESTIONS.items()
            if key in findings
        ]


def _pairs(value: Any) -> str:
    if not isinstance(value, Mapping):
        return "-"
    return ", ".join(f"{name} {one}" for name, one in value.items())


def first_sentence(text: str) -> str:
    """Return the text up to the first full stop that a capital letter follows."""
    return re.split(r"(?<=[a-z0-9%)\]][.!?])\s+(?=[A-Z])", text, maxsplit=1)[0]


def missing(study: LoadedStudy) -> Iterator[str]:
    """Say what a study still lacks, a sentence each; nothing for one that is finished."""
    config, trials = study.config, study.trials
    ended = partial(_ended, study)
    short = {
        arm: n for arm in study.searched_arms if (n := ended(arm, "search")) < config.search.trials
    }
    if short:
        counts = listed(f"{arm} {n} of {config.search.trials}" for arm, n in short.items())
        yield f"The search is not over: {counts} trials have ended."
    if config.protocol.until == "search" or study.verdict is not None:
        return
    arms = list(config.arms)
    wanted = config.protocol.top * len(arms)
    done = sum(ended(arm, "confirm") for arm in arms)
    if done < wanted and not (trials.phase == "confirm").any():
        yield "Nothing is confirmed on fresh seeds yet: every number is a search result."
    elif done < wanted:
        yield f"{done} of at most {wanted} confirmations on fresh seeds have ended."
    if config.protocol.until == "verdict":
        yield "The test split has not been measured on all of them: there is no verdict yet."


def _ended(study: LoadedStudy, arm: str, phase: str) -> int:
    of = study.trials[(study.trials.arm == arm) & (study.trials.phase == phase)]
    return int((of.state != TrialState.RUNNING.value).sum())
