"""What is wrong with a study, one finding a thing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any

from gsvae_tune.search.adoption import Entries, Key
from gsvae_tune.search.storage import Storage
from gsvae_tune.study.config import StudyConfig
from gsvae_tune.study.paths import StudyPaths, TrialPaths

Mend = Callable[[], None]


class Severity(str, Enum):
    """How bad it is; the value is what is printed."""

    NOTE = "note"  # harmless: runs go on, results stand
    MENDABLE = "mendable"
    DAMAGE = "damage"  # something is lost, or only its owner can say what is right


class Stage(IntEnum):
    """When a finding is mended: what others are read from comes first."""

    LITTER = 0
    STORAGE = 1
    TRIALS = 2
    ENTRIES = 3
    TABLES = 4


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be."""

    code: str  # a stable name of this kind of finding
    study: str  # its folder
    subject: str  # a path in it, or a trial
    problem: str  # one sentence, without a full stop
    severity: Severity
    fix: str  # what --fix does, or what its owner can do
    done: bool = False  # --fix did it
    mend: Mend | None = field(default=None, repr=False, compare=False)
    stage: Stage = field(default=Stage.LITTER, repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "study": self.study,
            "subject": self.subject,
            "problem": self.problem,
            "severity": self.severity.value,
            "fix": self.fix,
            "done": self.done,
        }


@dataclass
class Case:
    """A study that is looked at: what is known of it so far, and what was found."""

    paths: StudyPaths
    url: str | None  # of its storage, None for the journal
    alive: bool  # a driver is at work in it
    config: StudyConfig | None = None
    owner: str = ""  # the study's own id
    storage: Storage | None = None  # a copy for reading, or the database
    entries: Entries | None = None  # what it holds; None where it cannot be read
    findings: list[Finding] = field(default_factory=list)

    def found(
        self,
        code: str,
        subject: str | Path,
        problem: str,
        severity: Severity,
        fix: str,
        mend: Mend | None = None,
        stage: Stage = Stage.LITTER,
    ) -> None:
        """Add a finding; while a driver is at work, what a run leaves behind is no fault yet."""
        if isinstance(subject, Path):
            subject = self.name(subject)
        if self.alive and (mend is not None or severity is Severity.MENDABLE):
            severity, mend = Severity.NOTE, None
        given = (code, str(self.paths.root), subject, problem, severity, fix)
        self.findings.append(Finding(*given, mend=mend, stage=stage))

    def name(self, path: Path) -> str:
        """Return a path as findings show it, from the study's folder on."""
        return str(path.relative_to(self.paths.root))

    def folder(self, key: Key) -> TrialPaths:
        arm, phase, number = key
        return self.paths.trial(arm, number, phase)

    def has(self, *codes: str) -> bool:
        return any(finding.code in codes for finding in self.findings)

    @property
    def study(self) -> StudyConfig:
        """The configuration, where it was read."""
        assert self.config is not None  # noqa: S101 - who calls this has seen to it
        return self.config

    @property
    def trains(self) -> bool:
        """Whether its trials have epochs and checkpoints; simulated ones have none."""
        return self.study.simulate is None


@dataclass(frozen=True)
class Report:
    """What was found in one study, what of it was mended first."""

    study: str
    folder: str
    driver: str | None  # who is at work in it now
    findings: list[Finding]

    @property
    def left(self) -> list[Finding]:
        """What is more than a note and was not mended."""
        return [one for one in self.findings if not one.done and one.severity is not Severity.NOTE]

    @property
    def mendable(self) -> bool:
        return any(one.mend is not None and not one.done for one in self.findings)

    def as_dict(self) -> dict[str, Any]:
        return {
            "study": self.study,
            "folder": self.folder,
            "driver": self.driver,
            "healthy": not self.left,
            "findings": [finding.as_dict() for finding in self.findings],
        }


def failed(finding: Finding, why: str) -> Finding:
    """Return a finding whose mending did not succeed."""
    fix = f"could not be mended: {why}; bring a whole copy back"
    return replace(finding, severity=Severity.DAMAGE, fix=fix, mend=None)
