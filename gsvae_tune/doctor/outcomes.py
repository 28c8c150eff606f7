"""What is made from trials: are the tables and the verdict those of the study as it is now?"""

from __future__ import annotations

import io
import json
import math
from functools import partial
from pathlib import Path
from typing import Any

from gsvae_tune.doctor.findings import Case, Severity, Stage
from gsvae_tune.doctor.mends import set_aside
from gsvae_tune.study.errors import UserError
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import finite, read_json, write_json


def check_outcomes(case: Case, *, unfinished: bool) -> None:
    """Compare the tables and the verdict with what the study gives now."""
    from gsvae_tune.report import summary

    paths, config = case.paths, case.study
    try:
        built = summary.build_tables(config, paths, case.storage)
        ended = not unfinished and len(built["replicates"]) > 0
        verdict = summary.decided(config, paths, case.storage, built) if ended else None
    except UserError:
        return  # what stands in the way was found before
    except Exception as error:  # noqa: BLE001 - of a damage that no check knows
        problem = f"cannot be made: {type(error).__name__}: {error}"
        fix = "mend what else was found, and look again"
        case.found("tables-impossible", paths.tables, problem, Severity.DAMAGE, fix)
        return
    # A table, or a verdict, may be all that is left of what the folders lack now.
    lost = any(
        one.severity is Severity.DAMAGE or (one.mend is not None and one.stage > Stage.LITTER)
        for one in case.findings
    )
    _check_tables(case, built, unfinished=unfinished, lost=lost)
    lost = lost or any(one.severity is Severity.DAMAGE for one in case.findings)
    if config.protocol.until == "verdict":
        told = None if verdict is None else json.loads(json.dumps(finite(verdict.as_dict())))
        _check_verdict(case, told, lost=lost)


def _check_tables(case: Case, built: Any, *, unfinished: bool, lost: bool) -> None:
    paths = case.paths
    states = {paths.table(name): _compare(paths.table(name), built[name]) for name in built}
    wrong = [path for path, state in states.items() if state is not None]
    if not wrong:
        return
    problem = "; ".join(f"{path.name} {states[path]}" for path in wrong)
    code = "tables-missing" if set(states.values()) <= {None, _MISSING} else "tables-wrong"
    if _CONTRADICTS in states.values() and not lost:
        fix = "bring back what was changed; gsvae-tune export takes the folders' word for it"
        case.found(code, paths.tables, problem, Severity.DAMAGE, fix)
    elif unfinished:
        fix = "written at the end of the run"
        case.found(code, paths.tables, problem, Severity.NOTE, fix)
    elif lost and {_OTHER, _CONTRADICTS} & set(states.values()):
        fix = f"{_KEPT}; gsvae-tune export writes them as the folders are"
        case.found(code, paths.tables, problem, Severity.NOTE, fix)
    else:
        old = [path for path in wrong if path.exists()]
        mend = partial(_write_anew, built, paths, old)
        fix = "written anew" + (", the old ones set aside" if old else "")
        case.found(code, paths.tables, problem, Severity.MENDABLE, fix, mend, Stage.TABLES)


_KEPT = "kept until all else that is damaged is seen to"
_CLOCK = ["ended_s"]
_MISSING, _CUT, _OTHER = "is missing", "cannot be read", "is not what the folders give"
_CONTRADICTS = "says otherwise than the folders: one of the two was changed"


def _compare(path: Path, frame: Any) -> str | None:
    """Say what is wrong with a table, None where it holds these values."""
    from pyarrow import ArrowException, Table, parquet

    if not path.exists():
        return _MISSING
    try:
        # Without threads: pyarrow's may end after Python has, and take the process down with them.
        there = parquet.read_table(io.BytesIO(path.read_bytes()), use_threads=False)
        # When a trial ended is known to its result alone, and lost with it: it is not compared.
        frame = frame.drop(columns=_CLOCK, errors="ignore")
        there = there.drop_columns([one for one in there.column_names if one in _CLOCK])
        if there.equals(Table.from_pandas(frame, preserve_index=False)):
            return None
        return _CONTRADICTS if _contradicts(there.to_pandas(use_threads=False), frame) else _OTHER
    except (OSError, ValueError, KeyError, ArrowException):
        return _CUT


def _contradicts(there: Any, now: Any) -> bool:
    """Whether two tables of the same rows hold different values where both hold one."""
    keys = [key for key in ("arm", "phase", "number", "replicate", "branch", "epoch") if key in now]
    if len(there) != len(now) or any(list(there[key]) != list(now[key]) for key in keys):
        return False  # made when there were fewer
    return any(
        bool(((there[name] != now[name]) & there[name].notna() & now[name].notna()).any())
        for name in now.columns
        if name in there.columns
    )


def _write_anew(built: Any, paths: StudyPaths, old: list[Path]) -> None:
    from gsvae_tune.report import tables

    for path in old:
        set_aside(path)
    tables.write(built, paths)


def _check_verdict(case: Case, now: Any, *, lost: bool) -> None:
    """Compare verdict.json with the verdict that the study gives now, None before there is one.

    Args:
        case: the study.
        now: the verdict as JSON.
        lost: something that it rests on may be lost.
    """
    path = case.paths.verdict
    try:
        there = read_json(path)
        for one in there["comparisons"]:
            one["arm"], one["baseline"], one["verdict"]
        stale = now is not None and there["searched"] != now["searched"]
    except FileNotFoundError:
        if now is not None:
            code, problem = "verdict-missing", "is missing"
            mend = partial(write_json, path, now)
            severity = Severity.MENDABLE
            case.found(code, path, problem, severity, "judged anew", mend, Stage.TABLES)
        return
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        fix = "judged anew, this file set aside" if now else "set aside; the study's command judges"
        mend = partial(_judge_anew, path, now)
        problem = "cannot be read"
        severity = Severity.MENDABLE
        case.found("verdict-damaged", path, problem, severity, fix, mend, Stage.TABLES)
        return
    if now is None or stale or _alike(there, now):
        return  # a verdict on fewer trials than there are now is shown as what it is
    problem = "is not what the tables give"
    if lost:
        case.found("verdict-wrong", path, problem, Severity.NOTE, _KEPT)
        return
    fix = "judged anew, this file set aside"
    mend = partial(_judge_anew, path, now)
    case.found("verdict-wrong", path, problem, Severity.MENDABLE, fix, mend, Stage.TABLES)


def _judge_anew(path: Path, verdict: Any) -> None:
    set_aside(path)
    if verdict is not None:
        write_json(path, verdict)


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return bool(one == other)
