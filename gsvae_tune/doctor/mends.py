"""What --fix does. Nothing is deleted that holds data: it is set aside under another name."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

from gsvae_tune.search.adoption import Key, adopt, find_orphans, write_config
from gsvae_tune.search.storage import TrialRow
from gsvae_tune.study.config import StudyConfig
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import TrialResult, write_atomic

_ASIDE = ".damaged"


def aside_name(path: Path) -> Path:
    """Return the name under which a damaged file is set aside, one that is free."""
    names = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    free = (path.with_name(f"{path.name}{_ASIDE}{number}") for number in names)
    return next(name for name in free if not name.exists() and not name.is_symlink())


def set_aside(path: Path) -> Path:
    """Rename a damaged file; return its new name."""
    new = aside_name(path)
    path.rename(new)
    return new


def keep_start(path: Path, size: int) -> None:
    """Cut a file behind its first ``size`` bytes; the whole of it is set aside."""
    shutil.copy2(path, aside_name(path))
    write_atomic(path, path.read_bytes()[:size])


def remove(*paths: Path) -> None:
    """Remove files that hold nothing: locks, temporary files."""
    for path in paths:
        path.unlink(missing_ok=True)


def rewrite_config(config: StudyConfig, paths: StudyPaths, row: TrialRow) -> None:
    """Write a trial's config.json as the ledger has it, what is there set aside."""
    path = paths.trial(row.arm, row.number, row.phase).config
    old = set_aside(path) if path.exists() else None
    try:
        write_config(config, paths, row)
    except BaseException:
        if old is not None:
            old.rename(path)
        raise


def replace_result(path: Path, rebuild: Callable[[], TrialResult]) -> None:
    """Write a trial's result anew, what is there set aside."""
    result = rebuild()
    if path.exists():
        set_aside(path)
    result.write(path)


def use_previous(checkpoint: Path, previous: Path | None) -> None:
    """Let the checkpoint before take the place of one that is damaged or gone."""
    if checkpoint.exists():
        set_aside(checkpoint)
    if previous is not None:
        previous.rename(checkpoint)


def rebuild_journal(config: StudyConfig, paths: StudyPaths, owner: str, ended: set[Key]) -> None:
    """Write the journal anew from the trials' folders, the old one set aside.

    Args:
        config: the study.
        paths: its folder.
        owner: its own id.
        ended: the trials that ended, as far as the old journal can be read.

    Raises:
        ValueError: the folders do not give all that the old journal has.
    """
    keys, refused = find_orphans(config, paths, {})
    if refused:
        key, why = next(iter(refused.items()))
        raise ValueError(f"{key[0]} #{key[2]}: {why}")
    lost = ended - {key for key in keys if _has_result(paths, key)}
    if lost:
        arm, phase, number = min(lost)
        raise ValueError(f"{arm} #{number} ({phase}) has no result in its folder")
    old = set_aside(paths.journal) if paths.journal.exists() else None
    try:
        adopt(config, paths, None, owner, keys)
    except BaseException:
        if old is not None:
            paths.journal.unlink(missing_ok=True)
            old.rename(paths.journal)
        raise


def _has_result(paths: StudyPaths, key: Key) -> bool:
    arm, phase, number = key
    return TrialResult.read(paths.trial(arm, number, phase).result) is not None
