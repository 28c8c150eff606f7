"""What is checked of a study as a whole: its own file, its driver, its storage, its folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from gsvae_tune.doctor.findings import Case, Severity, Stage
from gsvae_tune.doctor.mends import keep_start, remove
from gsvae_tune.search.adoption import read_entries, read_journal
from gsvae_tune.search.storage import Storage, mend_journal, open_storage
from gsvae_tune.study.config import FORMAT_VERSION, StudyConfig
from gsvae_tune.study.errors import InputError, UserError
from gsvae_tune.study.lease import read_holder
from gsvae_tune.study.loading import parse
from gsvae_tune.study.openings import Opening
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import read_json, write_json

_TEMPORARY = re.compile(r"^\..+\.\d+\.tmp$")
_ROOM_BYTES = 2**30  # less than this left of the disk is noted
_BACK = "bring it back from a copy"


def looks_like_study(folder: Path) -> bool:
    """Whether a folder is a study's, be its study.json there or not."""
    paths = StudyPaths(folder)
    return paths.study.exists() or paths.journal.is_file() or paths.trials.is_dir()


# study.json -------------------------------------------------------------------------------------


def check_study_file(case: Case) -> None:
    """Read study.json; without its configuration little else can be checked."""
    path = case.paths.study
    try:
        raw = read_json(path)
        version = raw["format_version"]
        recorded, owner, own_digest = raw["config"], raw["id"], raw["digest"]
        raw["created"], raw["data"]["checksum"], recorded["storage"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        there = path.exists()
        problem = f"cannot be read: {type(error).__name__}" if there else "is missing"
        code = "study-damaged" if there else "study-missing"
        case.found(code, path, problem, Severity.DAMAGE, _anew(case.paths))
        return
    if version != FORMAT_VERSION:
        problem = f"has format version {version}, this is a program for {FORMAT_VERSION}"
        fix = "use the version of gsvae-tune that it names under `versions`"
        case.found("study-version", path, problem, Severity.DAMAGE, fix)
        return
    try:
        config = parse(recorded | {"storage": None}, str(path))
    except (UserError, TypeError) as error:
        problem = f"holds no legal configuration: {str(error).splitlines()[0]}"
        case.found("study-damaged", path, problem, Severity.DAMAGE, _anew(case.paths))
        return
    digest = config.digest()
    marks = _marks(case.paths)
    if digest != own_digest and any(owner_ == owner and d == digest for owner_, d in marks):
        problem = "has a digest that is not that of its configuration, which is the journal's"
        mend = partial(write_json, path, raw | {"digest": digest})
        fix = "the digest is written anew"
        severity = Severity.MENDABLE
        case.found("study-digest", path, problem, severity, fix, mend, Stage.LITTER)
    elif digest != own_digest:
        problem = "has a setting that was changed: its digest is that of another configuration"
        case.found("study-digest", path, problem, Severity.DAMAGE, _anew(case.paths))
        return
    if not isinstance(owner, str):
        case.found("study-damaged", path, "has no id", Severity.DAMAGE, _anew(case.paths))
        return
    elsewhere = recorded["storage"] is not None
    if elsewhere != (case.url is not None):
        problem = f"says that the trials are in {'a database' if elsewhere else 'its journal'}"
        fix = f"gsvae-tune doctor {'--storage URL' if elsewhere else 'without --storage'}"
        case.found("storage-elsewhere", path, problem, Severity.DAMAGE, fix)
        return
    case.config, case.owner = config, owner


def _anew(paths: StudyPaths) -> str:
    fix = _BACK
    owners = {owner for owner, _ in _marks(paths)}
    if len(owners) == 1:
        fix += (
            "; or begin the study anew under another --out, put its study.json here, and in it "
            f'"id": "{owners.pop()}"'
        )
    return fix


def _marks(paths: StudyPaths) -> set[tuple[str, str]]:
    """Return the (owner, digest) that the journal's studies bear."""
    found: dict[int, dict[str, str]] = {}
    try:
        for line in paths.journal.read_bytes().splitlines():
            if b'"user_attr":{"digest"' in line or b'"user_attr":{"owner"' in line:
                record = json.loads(line)
                if "study_id" in record:
                    found.setdefault(record["study_id"], {}).update(record["user_attr"])
    except (OSError, ValueError, TypeError, AttributeError):
        return set()
    return {(m.get("owner", ""), m.get("digest", "")) for m in found.values()}


# The driver -------------------------------------------------------------------------------------


def check_driver(case: Case) -> None:
    holder = read_holder(case.paths)
    path = case.paths.holder
    if case.alive:
        problem = f"a run is at work in this study: {holder or 'a process'}"
        fix = "nothing is mended while it runs"
        case.found("driver-alive", path, problem, Severity.NOTE, fix)
    elif holder is not None and not holder.released:
        problem = f"{holder} ended without a word"
        fix = "nothing: the next run takes over"
        case.found("driver-dead", path, problem, Severity.NOTE, fix)
    elif holder is None and path.exists():
        fix = "nothing: the next run writes it anew"
        case.found("driver-damaged", path, "cannot be read", Severity.NOTE, fix)


# The storage ------------------------------------------------------------------------------------


def check_storage(case: Case) -> None:
    """Read the ledger; ``case.entries`` is what it holds."""
    case.storage = _check_database(case) if case.url is not None else _check_journal(case)
    if case.storage is None:
        return
    try:
        case.entries = read_entries(case.study, case.storage, case.owner)
    except InputError as error:
        where = "storage" if case.url is not None else case.name(case.paths.journal)
        fix = f"bring this study's own back, or the study.json that belongs to it; {_BACK}"
        case.found("storage-foreign", where, str(error), Severity.DAMAGE, fix)
    except Exception as error:  # noqa: BLE001 - each database's driver has kinds of its own
        problem = f"cannot be read: {type(error).__name__}"
        case.found("storage-unreachable", "storage", problem, Severity.DAMAGE, "see to it")


def _check_database(case: Case) -> Storage | None:
    try:
        return open_storage(case.url, case.paths, must_exist=True)
    except UserError as error:
        fix = "make it reachable, or give its URL with --storage"
        problem = str(error).splitlines()[0]
        case.found("storage-unreachable", "storage", problem, Severity.DAMAGE, fix)
        return None


def _check_journal(case: Case) -> Storage | None:
    path = case.paths.journal
    locks = sorted(path.parent.glob(f"{path.name}.lock*"))
    if locks:
        fix = "removed"
        problem = "is left of a process that was killed"
        case.found("journal-lock", locks[0], problem, Severity.NOTE, fix, partial(remove, *locks))
    if not path.exists():
        return read_journal(Path(os.devnull)).storage  # what folders there are is asked later
    try:
        journal = read_journal(path)
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
        case.found("journal-damaged", path, problem, Severity.DAMAGE, _BACK)
        return None
    if journal.bad_line is not None:
        problem = f"line {journal.bad_line} cannot be read"
        fix = "cut before it, the whole set aside; what follows is entered again from the folders"
        mend = partial(keep_start, path, journal.size)
        severity = Severity.MENDABLE
        case.found("journal-damaged", path, problem, severity, fix, mend, Stage.STORAGE)
    elif journal.torn:
        problem = "has a torn last line: its writer was killed"
        fix = "cut to whole records"
        severity = Severity.MENDABLE
        mend = partial(mend_journal, case.paths)
        case.found("journal-torn", path, problem, severity, fix, mend, Stage.STORAGE)
    return journal.storage


# The test split's openings ------------------------------------------------------------------------


def check_openings(case: Case) -> list[Opening] | None:
    """Return the openings of the test split; None where they cannot be read."""
    path = case.paths.openings
    fix = f"{_BACK}: it is the record of who saw the test split"
    if not path.exists():
        if any(case.paths.trials.glob("*/confirm-*/test.json")):
            problem = "is missing, and the test split was seen"
            case.found("openings-missing", path, problem, Severity.DAMAGE, fix)
            return None
        return []
    found: list[Opening] = []
    try:
        *lines, tail = path.read_bytes().split(b"\n")
        for line in [*lines, tail] if tail else lines:
            found.append(Opening(**json.loads(line)))
            if not isinstance(found[-1].searched, int):
                raise TypeError("searched is no number")  # noqa: TRY301
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except (ValueError, TypeError, RecursionError):
        problem = f"line {len(found) + 1} cannot be read"
    else:
        return found
    case.found("openings-damaged", path, problem, Severity.DAMAGE, fix)
    return None


# The folder ---------------------------------------------------------------------------------------


def check_folder(case: Case) -> None:
    """Look for what no study writes, or leaves behind only when killed."""
    root = case.paths.root
    litter, writable = [], []
    outside = 0
    for path in walk(root):
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            continue  # a running study renames its temporary files
        if stat.S_ISLNK(mode):
            target = path.resolve()
            if not target.is_relative_to(root.resolve()):
                outside += 1
                problem = f"is a link that leads out of the study, to {target}"
                fix = "nothing behind it is mended; put a copy in its place"
                case.found("link-outside", path, problem, Severity.NOTE, fix)
        elif mode & stat.S_IWOTH:
            writable.append(path)
        if _TEMPORARY.match(path.name) and stat.S_ISREG(mode):
            litter.append(path)
    if litter:
        problem = f"{_count(litter)} left of a process that was killed"
        mend = partial(remove, *litter)
        case.found("temporary-left", litter[0], problem, Severity.NOTE, "removed", mend)
    if writable:
        problem = f"{_count(writable)} that every user of the machine may write"
        case.found("mode", writable[0], problem, Severity.NOTE, f"chmod -R o-w {root}")
    free = shutil.disk_usage(root).free
    if free < _ROOM_BYTES:
        problem = f"the disk has {free / 2**20:.0f} MiB left"
        case.found("disk", ".", problem, Severity.NOTE, "make room before the next run")


def walk(root: Path) -> Iterator[Path]:
    """Yield a folder and all that is in it, following no links."""
    yield root
    for folder, names, files in os.walk(root):
        for name in sorted(names + files):
            yield Path(folder, name)


def _count(paths: list[Path]) -> str:
    return "a file" if len(paths) == 1 else f"{len(paths)} files"


def leads_out(case: Case, path: Path) -> bool:
    """Whether a path is reached through a link out of the study: nothing there is touched."""
    return not path.resolve().is_relative_to(case.paths.root.resolve())


def known_arms(config: StudyConfig, paths: StudyPaths) -> list[str]:
    """Return the names under trials/ that are no arm of the study."""
    if not paths.trials.is_dir():
        return []
    return sorted(p.name for p in paths.trials.iterdir() if p.name not in config.arms)
