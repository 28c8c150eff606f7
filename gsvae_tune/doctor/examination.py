"""Looking at a whole study, and mending what is safe to mend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from gsvae_tune.doctor import checks
from gsvae_tune.doctor.findings import Case, Finding, Report, Severity, Stage, failed
from gsvae_tune.doctor.mends import rebuild_journal
from gsvae_tune.doctor.outcomes import check_outcomes
from gsvae_tune.doctor.trials import TrialCheck
from gsvae_tune.search.adoption import Key, adopt, find_orphans, tell_results
from gsvae_tune.search.storage import PHASES, open_storage
from gsvae_tune.study.errors import UserError
from gsvae_tune.study.lease import driver_lease, is_running, read_holder
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import TrialState

Progress = Callable[[str, int, int], None]  # what is looked at, how many of how many

_SHOWN = 5  # numbers of trials in a sentence


def examine(paths: StudyPaths, url: str | None, progress: Progress) -> Report:
    """Check a study, changing nothing.

    Args:
        paths: its folder.
        url: of its storage, None for the journal.
        progress: is told how far it is.
    """
    alive = is_running(paths)
    return _report(_examine(paths, url, progress, alive=alive))


def treat(
    paths: StudyPaths, url: str | None, progress: Progress, say: Callable[[str], None]
) -> Report:
    """Check a study, mend what is safe to mend, and check again.

    Args:
        paths: its folder.
        url: of its storage, None for the journal.
        progress: is told how far it is.
        say: is told when a dead driver's study is taken over.
    """
    before = examine(paths, url, progress)
    if not before.mendable:
        return before
    try:
        with driver_lease(paths, say):
            return _treat(paths, url, progress)
    except UserError as error:  # a run began, or the folder cannot be written
        problem = str(error).splitlines()[0]
        refused = Finding(
            "fix-refused", str(paths.root), ".", problem, Severity.NOTE, "try again when it is not"
        )
        return replace(before, findings=[*before.findings, refused])


def _treat(paths: StudyPaths, url: str | None, progress: Progress) -> Report:
    """Mend stage by stage: what comes later is read from what was mended before."""
    mended: list[Finding] = []
    mended_once: set[tuple[str, str, str]] = set()
    tried: dict[tuple[str, str, str], str] = {}  # what could not be mended, and why
    while True:
        case = _examine(paths, url, progress, alive=False)
        now = [
            failed(one, tried[_which(one)]) if _which(one) in tried else one
            for one in case.findings
            if one.code != "driver-dead"  # this process took its place
        ]
        waiting = [one for one in now if one.mend is not None]
        if not waiting:
            return replace(_report(case), findings=[*mended, *now])
        stage = min(one.stage for one in waiting)
        progressed = False
        for number, one in enumerate(waiting):
            if one.stage is not stage:
                continue
            progress("mending", number, len(waiting))
            assert one.mend is not None  # noqa: S101 - it is waiting
            try:
                one.mend()
            except (UserError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
                tried[_which(one)] = (str(error).splitlines() or [type(error).__name__])[0]
            else:
                mended.append(replace(one, done=True))
                mended_once.add(_which(one))
                progressed = True
        if progressed:  # what could not be mended may be now, but for what is found again
            tried = dict.fromkeys(mended_once, "it is found again")


def _which(finding: Finding) -> tuple[str, str, str]:
    return finding.code, finding.subject, finding.problem


def _report(case: Case) -> Report:
    holder = read_holder(case.paths)
    driver = str(holder or "a process") if case.alive else None
    name = case.config.name if case.config else case.paths.root.name
    return Report(name, str(case.paths.root), driver, case.findings)


def _examine(paths: StudyPaths, url: str | None, progress: Progress, *, alive: bool) -> Case:
    case = Case(paths, url, alive)
    progress("study.json and the journal", 0, 1)
    checks.check_driver(case)
    checks.check_folder(case)
    checks.check_study_file(case)
    if case.config is not None:
        checks.check_storage(case)
        if case.entries is not None:
            _check_trials(case, progress)
    _leave_alone(case)
    return case


def _leave_alone(case: Case) -> None:
    """Take the mends from what is reached through a link out of the study."""
    for index, one in enumerate(case.findings):
        path = case.paths.root / one.subject
        if one.mend is not None and (path.is_symlink() or checks.leads_out(case, path)):
            fix = "nothing is mended behind a link; put a copy in its place"
            case.findings[index] = replace(one, mend=None, fix=fix)


def _check_trials(case: Case, progress: Progress) -> None:
    """Check every trial that the ledger or a folder knows, then what is made from them."""
    config, paths, entries = case.study, case.paths, case.entries
    assert entries is not None  # noqa: S101 - the caller has seen to it
    openings = checks.check_openings(case)
    for name in checks.known_arms(config, paths):
        fix = "nothing reads it; move it out of the study"
        case.found("arm-unknown", paths.trials / name, "is no arm", Severity.NOTE, fix)
    adoptable, refused = find_orphans(config, paths, entries)
    keys: list[Key] = [*entries, *adoptable, *refused]
    untold: dict[tuple[str, str], int] = {}
    unsound: set[tuple[str, str]] = set()
    wrong, unfinished = False, 0
    for number, key in enumerate(keys):
        progress("trials", number, len(keys))
        known = len(case.findings)
        check = TrialCheck(case, key, entries.get(key), openings)
        _run(case, check)
        wrong |= check.ledger_is_wrong
        side = key[:2]
        untold[side] = untold.get(side, 0) + check.untold
        if any(one.stage is Stage.TRIALS for one in case.findings[known:]):
            unsound.add(side)
        unfinished += not check.ended and not check.untold
    progress("tables", 0, 1)
    _check_orphans(case, adoptable, refused)
    if wrong and case.url is None:
        _rewrite_journal(case)
    if case.has("journal-missing", "journal-damaged", "trial-unknown", "ledger-differs"):
        return  # the tables are looked at when the ledger is whole
    for (arm, phase), count in untold.items():
        if count and (arm, phase) not in unsound:
            _note_untold(case, arm, phase, count)
    if unfinished and not case.alive:
        problem = f"{unfinished} trials have begun and not ended"
        fix = "the command that began the study goes on with them"
        case.found("unfinished", "trials", problem, Severity.NOTE, fix)
    check_outcomes(case, unfinished=bool(unfinished or any(untold.values()) or case.alive))


def _run(case: Case, check: TrialCheck) -> None:
    """Check one trial; what cannot be looked at hides nothing of the others."""
    try:
        check.run()
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
        fix = "see to the disk and the rights of its files"
        severity = Severity.NOTE if case.alive else Severity.DAMAGE  # files come and go then
        case.found("trial-unreadable", check.folder.root, problem, severity, fix)
    except Exception as error:  # noqa: BLE001 - of a damage that no check thought of
        problem = f"makes no sense: {type(error).__name__}: {error}"
        fix = "bring its files back from a copy"
        case.found("trial-strange", check.folder.root, problem, Severity.DAMAGE, fix)


def _note_untold(case: Case, arm: str, phase: str, count: int) -> None:
    def tell() -> None:
        storage = open_storage(case.url, case.paths)
        (own,) = [known for known in PHASES if known == phase]
        tell_results(case.study, case.paths, storage, case.owner, arm, own)

    problem = f"{count} results of {arm} ({phase}) are in their folders and not yet in the ledger"
    fix = "entered into the ledger"
    case.found("result-untold", f"trials/{arm}", problem, Severity.NOTE, fix, tell, Stage.ENTRIES)


def _check_orphans(case: Case, adoptable: list[Key], refused: dict[Key, str]) -> None:
    """Say which trials have folders and are not in the ledger."""
    for key, why in refused.items():
        folder = case.folder(key).root
        problem = f"holds a trial that the ledger does not have; {why}"
        fix = "bring the ledger's copy back, or move this folder out of the study"
        case.found("trial-unknown", folder, problem, Severity.DAMAGE, fix)
    mend = partial(adopt, case.study, case.paths, case.url, case.owner, adoptable)
    journal = case.paths.journal
    if case.url is None and not journal.exists():
        if adoptable:
            fix = f"written anew from the folders of {len(adoptable)} trials"
            severity = Severity.MENDABLE
            case.found("journal-missing", journal, "is missing", severity, fix, mend, Stage.ENTRIES)
        elif refused:
            fix = "bring it back from a copy"
            case.found("journal-missing", journal, "is missing", Severity.DAMAGE, fix)
    elif adoptable and not case.has("journal-damaged"):
        names = [case.name(case.folder(key).root) for key in adoptable]
        shown = ", ".join(names[1:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
        problem = "holds a trial that the ledger does not have"
        problem += f"; so do {shown}" if shown else ""
        fix = "entered into the ledger again, with its result"
        severity = Severity.MENDABLE
        subject = Path(case.paths.root, names[0])
        case.found("trial-unknown", subject, problem, severity, fix, mend, Stage.ENTRIES)


def _rewrite_journal(case: Case) -> None:
    """Let the journal be written anew, where it differs from folders that are sound."""
    assert case.entries is not None  # noqa: S101 - the caller has seen to it
    ended = {key for key, row in case.entries.items() if row.state is not TrialState.RUNNING}
    mend = partial(rebuild_journal, case.study, case.paths, case.owner, ended)
    first = next(index for index, one in enumerate(case.findings) if one.code == "ledger-differs")
    case.findings[first] = replace(case.findings[first], mend=mend, stage=Stage.ENTRIES)
