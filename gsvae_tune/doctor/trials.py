"""One trial's folder against the ledger, and its files against each other."""

from __future__ import annotations

import json
from functools import cache, partial
from pathlib import Path
from typing import Any

from gsvae_tune.doctor.doubts import Epochs, doubt_result, doubt_test, read_epochs, unlike_epochs
from gsvae_tune.doctor.findings import Case, Severity, Stage
from gsvae_tune.doctor.mends import (
    keep_start,
    replace_result,
    rewrite_config,
    set_aside,
    use_previous,
)
from gsvae_tune.doctor.rebuilding import agrees, rebuild_result
from gsvae_tune.search.adoption import Key, differs, read_recorded, settings_of
from gsvae_tune.search.storage import TrialRow
from gsvae_tune.study.openings import Opening
from gsvae_tune.study.paths import TrialPaths
from gsvae_tune.study.records import TestResult, TrialResult, TrialState, read_json

_BACK = "bring it back from a copy"
_GOES_ON = "the command that began the study"


class TrialCheck:
    """The checks of one trial.

    Args:
        case: the study, its configuration read.
        key: the trial.
        row: what the ledger has of it; None where it does not know it.
        openings: of the test split; None where they cannot be read.
    """

    def __init__(
        self, case: Case, key: Key, row: TrialRow | None, openings: list[Opening] | None
    ) -> None:
        self.case, self.key, self.row = case, key, row
        self.folder: TrialPaths = case.folder(key)
        self.ended = row is not None and row.state is not TrialState.RUNNING
        self._openings = openings
        self._epochs: Epochs | None = None  # of a simulated trial there are none
        self._result: TrialResult | None = None  # one that nothing speaks against
        self.untold = False  # it has a result that the ledger was not told of
        self.ledger_is_wrong = False

    def run(self) -> None:
        """Look at everything; what is wrong goes to the case."""
        if not self.folder.root.is_dir() and not self.ended:
            return  # recorded a moment before the kill: its folder is made by the next run
        self._check_config()
        if self.case.trains:
            self._epochs = read_epochs(self.folder.epochs)
        self._check_result()
        self._check_epochs()
        self._check_checkpoint()
        self._check_test()

    # config.json --------------------------------------------------------------------------------

    def _check_config(self) -> None:
        case, path, row = self.case, self.folder.config, self.row
        if row is None:
            return  # whether it fits is asked when it is to be entered
        try:
            recorded = read_recorded(case.paths, self.key)
        except ValueError as error:
            if path.exists() or self.ended:
                self._rewrite("config-damaged" if path.exists() else "config-missing", str(error))
            return
        expected = self._settings(row.params)
        if recorded.params == row.params:
            if expected is not None and differs(recorded.settings, expected):
                self._rewrite("config-damaged", "has settings that do not follow from its params")
            elif recorded.stratum != row.stratum:
                said = f"has stratum {recorded.stratum!r}, the ledger {row.stratum!r}"
                self._rewrite("config-damaged", said)
            return
        own = self._settings(recorded.params)
        problem = "has other params than the ledger"
        if expected is not None and not differs(recorded.settings, expected):
            self._rewrite("config-damaged", f"{problem}, whose settings it has")
        elif own is not None and not differs(recorded.settings, own):
            self._doubt_ledger(problem)
        else:
            self._rewrite("config-damaged", problem)

    def _settings(self, params: dict[str, Any]) -> dict[str, Any] | None:
        try:
            return settings_of(self.case.study, self.key[0], params)
        except ValueError:
            return None

    def _rewrite(self, code: str, problem: str) -> None:
        case, row = self.case, self.row
        assert row is not None  # noqa: S101 - the caller has seen to it
        if self._settings(row.params) is None:
            fix = f"{_BACK}; nothing that was measured depends on it"
            case.found(code, self.folder.config, problem, Severity.DAMAGE, fix)
            return
        mend = partial(rewrite_config, case.study, case.paths, row)
        fix = "written anew from the ledger"
        severity = Severity.MENDABLE
        case.found(code, self.folder.config, problem, severity, fix, mend, Stage.TRIALS)

    def _doubt_ledger(self, problem: str) -> None:
        """Note that the folder is sound and the ledger says something else."""
        self.ledger_is_wrong = True
        path = self.folder.root
        if self.case.url is None:
            fix = "the journal is written anew from the folders"
            severity = Severity.MENDABLE  # once for all of them
        else:
            fix = "bring a whole copy of the database back"
            severity = Severity.DAMAGE
        problem += "; the folder's files agree with each other"
        self.case.found("ledger-differs", path, problem, severity, fix)

    # result.json --------------------------------------------------------------------------------

    def _check_result(self) -> None:
        case, path = self.case, self.folder.result
        found = TrialResult.read(path)
        if found is None:
            if self.ended:
                there = path.exists()
                problem = "cannot be read" if there else "is missing, though the ledger has its end"
                self._rebuild("result-damaged" if there else "result-missing", problem)
            elif path.exists():
                self._shelve("cannot be read")
            return
        doubt = doubt_result(found, case.study, self.key[1])
        unlike = None if doubt else unlike_epochs(found, self._epochs)
        if self.ended:
            self._check_told(found, doubt, unlike)
            return
        if self.row is not None and self._epochs and self._epochs.count < found.epochs:
            # Records are on the disk before the result is written.
            doubt = doubt or f"counts {found.epochs} epochs, there are {self._epochs.count}"
        if doubt is None and unlike is None:
            self._result, self.untold = found, self.row is not None
        else:
            self._shelve(doubt or f"has other {unlike} than the last epoch")

    def _check_told(self, found: TrialResult, doubt: str | None, unlike: str | None) -> None:
        """Compare a result with what the ledger was told."""
        row, path = self.row, self.folder.result
        assert row is not None  # noqa: S101 - it ended
        told = "none" if row.value is None else f"{row.value:.6g}"
        differs_ = f"the ledger has another end: {row.state.value}, value {told}"
        problem = f"has other {unlike} than the last epoch"
        if doubt is not None:
            self._rebuild("result-damaged", doubt)
        elif not agrees(found, row):
            records = self._epochs
            if unlike is None and records and records.last and records.count == found.epochs:
                self._result = found
                self._doubt_ledger(differs_)
            else:
                self._rebuild("result-damaged", differs_)
        elif unlike is None:
            self._result = found
        elif "losses" not in unlike and self._checkpoint_backs_epochs():
            self._rebuild("result-damaged", problem)
        else:
            self._result = found
            fix = "bring a copy of either back; the ledger has this result's value"
            self.case.found("result-differs", path, problem, Severity.DAMAGE, fix)

    def _checkpoint_backs_epochs(self) -> bool:
        """Whether steps and seconds of the last epoch are those that the checkpoint has."""
        state, epochs = _state(self.folder), self._epochs
        return (
            epochs is not None
            and epochs.last is not None
            and epochs.even
            and (state.get("epoch"), state.get("wall_s")) == (epochs.count, epochs.last["wall_s"])
        )

    def _shelve(self, problem: str) -> None:
        fix = "set aside; the next run writes it again"
        if self.row is None:
            fix = "set aside; the trial goes on from its checkpoint"
        path = self.folder.result
        mend = partial(_aside, path)
        severity = Severity.MENDABLE
        self.case.found("result-damaged", path, problem, severity, fix, mend, Stage.TRIALS)

    def _rebuild(self, code: str, problem: str) -> None:
        case, row, path = self.case, self.row, self.folder.result
        assert row is not None  # noqa: S101 - it ended
        epochs = self._epochs or Epochs()
        complete = row.state is TrialState.COMPLETE
        whole = epochs.count > 0 and epochs.fault is None
        if case.trains and complete and not (whole and self.folder.checkpoint.is_file()):
            fix = f"{_BACK}; its checkpoint and epochs are not whole either"
            case.found(code, path, problem, Severity.DAMAGE, fix)
            return
        rebuild = partial(rebuild_result, case.study, self.folder, row, epochs)
        mend = partial(replace_result, path, rebuild)
        source = "its checkpoint and epochs" if case.trains else "the simulation"
        fix = f"written anew from {source if complete else 'the ledger and its epochs'}"
        case.found(code, path, problem, Severity.MENDABLE, fix, mend, Stage.TRIALS)

    # epochs.jsonl -------------------------------------------------------------------------------

    def _check_epochs(self) -> None:
        case, path, epochs = self.case, self.folder.epochs, self._epochs
        if epochs is None:
            return
        wanted = self._result.epochs if self._result is not None else 0
        lacking = epochs.count < wanted
        cut = partial(keep_start, path, epochs.size)
        code, fault, severity = "epochs-damaged", epochs.fault or "", Severity.MENDABLE
        if epochs.strange or (fault and self._result is not None and not lacking):
            fix = "set aside, and the records before it kept"
            case.found(code, path, fault, severity, fix, cut, Stage.TRIALS)
        elif fault and not self.ended:
            fix = "nothing: the next run trains again from the last checkpoint before it"
            case.found(code, path, fault, Severity.NOTE, fix)
        elif fault and not lacking:
            case.found(code, path, fault, Severity.DAMAGE, _BACK)
        elif epochs.torn and not lacking:
            fix = "cut to whole records; the file as it is is set aside"
            problem = "has a torn last line: its writer was killed"
            severity = severity if self.ended else Severity.NOTE
            case.found("epochs-torn", path, problem, severity, fix, cut, Stage.TRIALS)
        if lacking:
            problem = f"has {epochs.count} of {wanted} epochs" + (f": {fault}" if fault else "")
            fix = f"{_BACK}; its result stands, the table of epochs lacks the others"
            case.found("epochs-missing", path, problem, Severity.DAMAGE, fix)

    # checkpoint.pt ------------------------------------------------------------------------------

    def _check_checkpoint(self) -> None:
        case, folder = self.case, self.folder
        if not case.trains:
            return
        good = examined(folder.checkpoint) is None
        if self._result is not None or self.ended:
            self._check_model(good=good)
            if folder.previous.is_file() and good and folder.checkpoint.is_file():
                fix = "nothing: it may be deleted"
                problem = "is left of a trial that has ended"
                case.found("previous-left", folder.previous, problem, Severity.NOTE, fix)
            return
        usable = folder.previous.is_file() and examined(folder.previous) is None
        mend = partial(use_previous, folder.checkpoint, folder.previous if usable else None)
        where = "the one before takes its place" if usable else "the trial begins again"
        if not good:
            problem = "is damaged: its checksum is another, or is missing"
            fix = f"set aside; {where}"
            path, severity = folder.checkpoint, Severity.MENDABLE
            case.found("checkpoint-damaged", path, problem, severity, fix, mend, Stage.TRIALS)
        elif not folder.checkpoint.is_file() and usable:
            problem = "is missing, the one before is there"
            path, severity = folder.checkpoint, Severity.NOTE
            case.found("checkpoint-missing", path, problem, severity, where, mend, Stage.TRIALS)
        if folder.previous.is_file() and not usable:
            problem = "is damaged: its checksum is another, or is missing"
            aside = partial(_aside, folder.previous)
            path, severity = folder.previous, Severity.MENDABLE
            fix = "set aside"
            case.found("previous-damaged", path, problem, severity, fix, aside, Stage.TRIALS)

    def _check_model(self, *, good: bool) -> None:
        """Look at the model that a trial ended with."""
        case, path = self.case, self.folder.checkpoint
        confirmed = self.key[1] == "confirm"
        problem = "" if good else "is damaged: its checksum is another, or is missing"
        there = path.is_file()
        if there and good and confirmed:
            problem = _foreign(self.folder) or ""
        elif not there and confirmed and self._result is not None and self._result.replicates:
            problem = "is missing: the confirmed model"
        if not problem:
            return
        if not confirmed:
            fix = "nothing: the model is lost, its result stands"
            case.found("checkpoint-damaged", path, problem, Severity.NOTE, fix)
            return
        fix = (
            "nothing: the model is lost, its results stand"
            if self.folder.test.exists()
            else "nothing: a run trains it again, to the same end, before it is tested"
        )
        code = "checkpoint-damaged" if there else "checkpoint-missing"
        case.found(code, path, problem, Severity.NOTE, fix)

    # test.json ----------------------------------------------------------------------------------

    def _check_test(self) -> None:
        case, path = self.case, self.folder.test
        if self.key[1] != "confirm" or self._openings is None:
            return
        arm, _, number = self.key
        opening = next((o for o in self._openings if (o.arm, o.number) == (arm, number)), None)
        if not path.exists():
            sound = self._result is not None and self._result.replicates
            if opening is None or not sound:
                return
            judged = case.paths.verdict.exists()
            severity = Severity.DAMAGE if judged else Severity.NOTE
            problem = "is missing, though the test split was opened for it"
            fix = f"{_GOES_ON} measures it under the same opening"
            case.found("test-missing", path, problem, severity, fix)
            return
        test = TestResult.read(path)
        if opening is None:
            problem = "was measured without an opening written down"
            fix = f"bring {case.paths.openings.name} back, or move this file out of the study"
            case.found("test-unopened", path, problem, Severity.DAMAGE, fix)
            return
        problem_ = (
            "cannot be read" if test is None else doubt_test(test, self._result, self._epochs)
        )
        if test is not None and problem_ is None:
            if (test.opened, test.reopened) == (opening.time, opening.mark):
                return
            problem_ = "was measured under another opening than the one written down"
        mend = partial(_aside, path)
        fix = f"set aside; {_GOES_ON} measures it under the same opening"
        severity = Severity.MENDABLE
        case.found("test-damaged", path, problem_ or "", severity, fix, mend, Stage.TRIALS)


def _aside(path: Path) -> None:
    set_aside(path)


@cache
def _examined(path: Path, _size: int, _changed_ns: int) -> str | None:
    from gsvae_tune.vae.checkpoint import examine  # torch, which simulated studies do without

    return examine(path)


def examined(path: Path) -> str | None:
    """Return what is wrong with a checkpoint by its checksum; each file is read once."""
    if not path.is_file():
        return None
    now = path.stat()
    return _examined(path, now.st_size, now.st_mtime_ns)


def _state(folder: TrialPaths) -> dict[str, Any]:
    """Return what a checkpoint holds, nothing where it cannot be read."""
    from gsvae_tune.vae import checkpoint

    try:
        return checkpoint.load(folder.checkpoint) or {}
    except (OSError, ValueError):
        return {}


def _foreign(folder: TrialPaths) -> str | None:
    """Say so, if a checkpoint is not this trial's."""
    try:
        config = read_json(folder.config)
        whose = json.loads(_state(folder)["trial"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # of a version that does not say, or said elsewhere
    return None if whose == config else "is of another trial"
