"""Every file name a study writes, in one place (the study folder's contract)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gsvae_tune.study.config import Phase
from gsvae_tune.study.errors import InputError


@dataclass(frozen=True)
class TrialPaths:
    """The folder of one trial: the only record of its epochs and of its checkpoint."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.json"

    @property
    def epochs(self) -> Path:
        return self.root / "epochs.jsonl"

    @property
    def checkpoint(self) -> Path:
        return self.root / "checkpoint.pt"

    @property
    def previous(self) -> Path:
        """The checkpoint before the newest, while the trial runs."""
        return self.root / "checkpoint.previous.pt"

    @property
    def claim(self) -> Path:
        """Which process may write here (see `fence`)."""
        return self.root / "claim.json"

    @property
    def lock(self) -> Path:
        """Held around each write of the claimant."""
        return self.root / "claim.lock"

    @property
    def notes(self) -> Path:
        """What went wrong and was mended, a line each."""
        return self.root / "notes.txt"

    @property
    def result(self) -> Path:
        return self.root / "result.json"

    @property
    def error(self) -> Path:
        """Traceback of a trial that failed by an exception."""
        return self.root / "error.txt"

    @property
    def test(self) -> Path:
        """What a confirmed trial gave on the test split."""
        return self.root / "test.json"

    @property
    def begun(self) -> bool:
        """Whether anything was trained here."""
        return self.epochs.is_file() or self.result.is_file()


@dataclass(frozen=True)
class StudyPaths:
    """The folder of one study, ``<out>/<study>``."""

    root: Path

    @classmethod
    def of(cls, out: str, name: str) -> StudyPaths:
        return cls(expand(out, "out").absolute() / name)

    @property
    def study(self) -> Path:
        return self.root / "study.json"

    @property
    def lock(self) -> Path:
        return self.root / "driver.lock"

    @property
    def holder(self) -> Path:
        """Who drives the study, or did last (see `lease`)."""
        return self.root / "driver.json"

    @property
    def journal(self) -> Path:
        return self.root / "optuna.journal"

    @property
    def copied_journal(self) -> Path:
        """The journal of a study that went on in a database: a backup."""
        return self.root / "optuna.journal.copied"

    @property
    def trials(self) -> Path:
        return self.root / "trials"

    @property
    def tables(self) -> Path:
        return self.root / "tables"

    def table(self, name: str, kind: str = "parquet") -> Path:
        return self.tables / f"{name}.{kind}"

    @property
    def report(self) -> Path:
        return self.root / "report"

    @property
    def page(self) -> Path:
        """The report, one HTML file that needs nothing beside itself."""
        return self.report / "report.html"

    @property
    def figures(self) -> Path:
        """The report's figures, as files."""
        return self.report / "figures"

    @property
    def tracking(self) -> Path:
        """What `tracking` writes: a folder a tool."""
        return self.root / "tracking"

    @property
    def openings(self) -> Path:
        """Each opening of the test split: when, for what, why."""
        return self.root / "test-openings.jsonl"

    @property
    def verdict(self) -> Path:
        return self.root / "verdict.json"

    def trial(self, arm: str, number: int, phase: Phase = "search") -> TrialPaths:
        """Return a trial's folder; a confirmation is numbered like the trial it confirms."""
        prefix = "" if phase == "search" else f"{phase}-"
        return TrialPaths(self.trials / arm / f"{prefix}{number}")

    def numbers(self, arm: str, phase: Phase) -> list[int]:
        """Return the numbers of an arm's trials that have a folder."""
        prefix = self.trial(arm, 0, phase).root.name[:-1]
        names = [path.name.removeprefix(prefix) for path in (self.trials / arm).glob(f"{prefix}*")]
        return [int(name) for name in names if name.isdecimal()]

    def refuse_links(self) -> None:
        """Check that nothing in here that is written into leads out of here.

        Raises:
            InputError: a folder or the journal is a symbolic link.
        """
        arms = [path for path in self.trials.glob("*") if path.is_dir()]
        within = (path for arm in arms for path in arm.glob("*"))
        own = (self.journal, self.tables, self.report, self.figures, self.trials, self.tracking)
        for path in (*own, *self.tracking.glob("*"), *arms, *within):
            if path.is_symlink():
                raise InputError(
                    f"is a link to {path.readlink()}",
                    where=str(path),
                    legal="a study keeps what it writes in its own folder; --out DIR puts the "
                    "whole study elsewhere",
                    next_step="if it is yours, move what it leads to here",
                )

    def exists(self) -> bool:
        return self.study.is_file()


def expand(path: str, where: str) -> Path:
    """Return a user's path with ~ written out.

    Raises:
        InputError: it cannot be a path; ``where`` is the key or flag it came from.
    """
    try:
        if "\0" in path:
            raise ValueError("it holds a NUL")  # noqa: TRY301 - said like the others
        expanded = Path(path).expanduser()
        expanded.exists()  # raises for what no file system takes
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(f"{path[:80]!r} is no usable path: {error}", where=where) from error
    return expanded


def find_studies(folder: Path) -> Iterator[StudyPaths]:
    """Yield ``folder`` itself if it is a study, else the studies directly inside it."""
    if StudyPaths(folder).exists():
        yield StudyPaths(folder)
    elif folder.is_dir():
        for child in sorted(folder.iterdir()):
            if StudyPaths(child).exists():
                yield StudyPaths(child)
