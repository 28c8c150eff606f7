"""What the storage lost, entered again from the trials' folders; reading a journal that is damaged.

A trial's config.json says all that the storage knows of it but its end, which result.json says.
"""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import FixedTrial, FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState

from gsvae_tune.search.arms import arm_of
from gsvae_tune.search.confirm import original
from gsvae_tune.search.space import ArmSpace
from gsvae_tune.search.storage import (
    PHASES,
    SOURCE,
    STATES,
    ArmRecord,
    Assignment,
    Storage,
    TrialRow,
    number_of,
    open_storage,
    optuna_name,
)
from gsvae_tune.study.config import Phase, StudyConfig
from gsvae_tune.study.errors import InputError
from gsvae_tune.study.parameters import Scalar
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import read_json, write_json

Key = tuple[str, Phase, int]  # arm, phase, number in the folder's name
Entries = dict[Key, TrialRow]  # as the storage has them, results that it was not told left out


@dataclass(frozen=True)
class Recorded:
    """What a trial's config.json says."""

    params: dict[str, Scalar]
    stratum: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Journal:
    """What can be read of a journal."""

    storage: Storage  # a copy in memory, of the records before the first bad one
    size: int  # bytes of those
    bad_line: int | None  # from 1
    torn: bool  # the last line has no end: its writer was killed


class _Records(BaseJournalBackend):
    """Records that are read and never written."""

    def __init__(self, records: list[dict[str, Any]]) -> None:
        self._records = records

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        yield from self._records[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise OSError("this copy of the journal is only for reading")


def read_journal(path: Path) -> Journal:
    """Read a journal as far as it can be, changing nothing.

    Raises:
        OSError: the file cannot be read.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    *whole, tail = path.read_bytes().split(b"\n")
    records: list[dict[str, Any]] = []
    for line in whole:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(record, dict):
            break
        records.append(record)
    storage = _replay(records)
    if storage is None:  # a record that is no JSON fault, and yet none of Optuna's
        good, bad = 0, len(records)
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if _replay(records[:middle]) else (good, middle)
        records = records[:good]
        storage = _replay(records)
    assert storage is not None  # noqa: S101 - that of no records at the least
    kept = len(records)
    size = sum(len(line) + 1 for line in whole[:kept])
    return Journal(storage, size, kept + 1 if kept < len(whole) else None, bool(tail))


def _replay(records: list[dict[str, Any]]) -> Storage | None:
    try:
        return JournalStorage(_Records(records))
    except Exception:  # noqa: BLE001 - Optuna looks records up and asserts: any kind may come
        return None


def read_entries(config: StudyConfig, storage: Storage, owner: str) -> Entries:
    """Return every trial that the storage has of a study, changing nothing.

    Raises:
        InputError: the storage holds another study under its name.
    """
    known = set(optuna.get_all_study_names(storage))
    mark = {"digest": config.digest(), "owner": owner}
    entries: Entries = {}
    for arm, phase in itertools.product(config.arms, PHASES):
        name = optuna_name(config.name, arm, phase)
        if name not in known:
            continue
        study = optuna.load_study(study_name=name, storage=storage)
        for key, own in mark.items():
            if study.user_attrs.get(key, own) != own:
                raise InputError(
                    f"{name} is there of another study: its {key} is {study.user_attrs[key]}, "
                    f"study.json has {own}"
                )
        for trial in study.get_trials(deepcopy=False):
            row = _row(arm, phase, trial)
            entries[arm, phase, row.number] = row
    return entries


def _row(arm: str, phase: Phase, trial: FrozenTrial) -> TrialRow:
    return TrialRow(
        arm=arm,
        phase=phase,
        number=number_of(trial),
        state=STATES[trial.state],
        value=trial.value,
        params=dict(trial.params),
        stratum=trial.user_attrs.get("stratum", ""),
        error=trial.user_attrs.get("error"),
    )


def read_recorded(paths: StudyPaths, key: Key) -> Recorded:
    """Return what a trial's config.json says.

    Raises:
        ValueError: it is missing, damaged, or another trial's.
    """
    arm, phase, number = key
    path = paths.trial(arm, number, phase).config
    try:
        raw = read_json(path)
    except FileNotFoundError as error:
        raise ValueError("is missing") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot be read: {type(error).__name__}") from error
    if not isinstance(raw, dict):
        raise ValueError("holds no settings")  # noqa: TRY004 - a damaged file
    seen = (raw.get("arm"), raw.get("phase", "search"), raw.get("number"))
    if seen != key:
        raise ValueError(f"is that of another trial: {seen[0]}, {seen[1]}, {seen[2]}")
    params, stratum, settings = (raw.get(name) for name in ("params", "stratum", "settings"))
    if not isinstance(params, dict) or not isinstance(settings, dict):
        raise ValueError("holds no params or no settings")  # noqa: TRY004 - a damaged file
    return Recorded(params, stratum if isinstance(stratum, str) else "", settings)


def settings_of(
    config: StudyConfig, arm: str, params: Mapping[str, Scalar]
) -> dict[str, Any] | None:
    """Return the settings that an arm makes of suggested ones; None for one not searched.

    Raises:
        ValueError: the suggested ones are illegal in the arm's space.
    """
    if not arm_of(arm, config.method(arm)).searched:
        return None  # they hold temperature paths, which are nowhere else
    space = ArmSpace(arm, config.arms[arm], "study.json")
    return space.settings(params).model_dump(mode="json")


def write_config(config: StudyConfig, paths: StudyPaths, row: TrialRow) -> None:
    """Write a trial's config.json anew from what the storage has.

    Raises:
        ValueError: the storage does not have all of it.
    """
    settings = settings_of(config, row.arm, row.params)
    if settings is None:
        raise ValueError("it also held temperature paths, which are nowhere else")
    folder = paths.trial(row.arm, row.number, row.phase)
    folder.root.mkdir(parents=True, exist_ok=True)
    assigned = Assignment(row.arm, row.phase, row.number, row.params, row.stratum)
    write_json(folder.config, asdict(assigned) | {"settings": settings})


def find_orphans(
    config: StudyConfig, paths: StudyPaths, known: Entries
) -> tuple[list[Key], dict[Key, str]]:
    """Return the trials that have folders and are not in the storage.

    Those that were never begun and have no begun one after them are left out: they are suggested
    again, the same.

    Args:
        config: the study.
        paths: its folder.
        known: the trials that are in the storage.

    Returns:
        Those that can be entered again, in their order, and why each of the others cannot.
    """
    found: list[Key] = []
    refused: dict[Key, str] = {}
    for arm in config.arms:
        _orphans_of_search(config, paths, arm, known, found, refused)
    sources = known.keys() | set(found)
    for arm in config.arms:
        for number in sorted(paths.numbers(arm, "confirm")):
            key: Key = (arm, "confirm", number)
            if key in known or not paths.trial(arm, number, "confirm").begun:
                continue
            source: Key = (original(config, arm), "search", number)
            try:
                if source not in sources:
                    raise ValueError("the trial that it confirms is in no storage")  # noqa: TRY301
                searched = known.get(source) or read_recorded(paths, source)
                if read_recorded(paths, key).params != searched.params:
                    raise ValueError("its params are not those of the trial it confirms")  # noqa: TRY301
            except ValueError as error:
                refused[key] = str(error)
            else:
                found.append(key)
    return found, refused


def _orphans_of_search(
    config: StudyConfig,
    paths: StudyPaths,
    arm: str,
    known: Entries,
    found: list[Key],
    refused: dict[Key, str],
) -> None:
    first = sum(key[:2] == (arm, "search") for key in known)
    begun = [n for n in paths.numbers(arm, "search") if paths.trial(arm, n).begun]
    gap = ""
    last = max(begun, default=-1)
    if last - first > len(paths.numbers(arm, "search")):  # numbers are missing: no continuation
        refused |= {(arm, "search", n): "numbers before it are missing" for n in begun}
        return
    for number in range(first, last + 1):
        key: Key = (arm, "search", number)
        problem = gap
        if not problem:
            try:
                _running(config, paths, key)
            except ValueError as error:
                problem = f"config.json {error}"
                gap = f"#{number} before it cannot be entered"
        if problem and number in begun:
            refused[key] = problem
        elif not problem:
            found.append(key)


def _running(config: StudyConfig, paths: StudyPaths, key: Key) -> FrozenTrial:
    """Return a trial of the search as it was when it was handed out.

    Raises:
        ValueError: its config.json is damaged or does not fit the arm's space.
    """
    arm = key[0]
    recorded = read_recorded(paths, key)
    if not arm_of(arm, config.method(arm)).searched:
        raise ValueError("is one of a search, and the arm is not searched")
    fixed = FixedTrial(recorded.params)
    space = ArmSpace(arm, config.arms[arm], "study.json")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values out of range: `create_trial` refuses them
            suggested = space.suggest(cast("optuna.Trial", fixed))
        if suggested != recorded.params:
            raise ValueError("it has params that are no settings of the space")  # noqa: TRY301
        settings = space.settings(suggested).model_dump(mode="json")
        if differs(recorded.settings, settings):
            raise ValueError("its settings do not follow from its params")  # noqa: TRY301
        return create_trial(  # checks that each value is in its range
            state=OptunaState.RUNNING,
            params=recorded.params,
            distributions=fixed.distributions,
            user_attrs={"stratum": recorded.stratum},
        )
    except (ValueError, TypeError) as error:
        raise ValueError(f"does not fit the arm's space: {str(error).splitlines()[0]}") from error


def differs(recorded: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    """Whether recorded settings are others; one that is not recorded was not known then."""
    return any(key not in expected or expected[key] != recorded[key] for key in recorded)


def adopt(
    config: StudyConfig, paths: StudyPaths, url: str | None, owner: str, keys: Iterable[Key]
) -> None:
    """Enter trials into the storage from their folders, with the results that are there.

    Args:
        config: the study.
        paths: its folder.
        url: of the storage, None for the journal. This process must be its only writer.
        owner: the study's own id.
        keys: as `find_orphans` gives them.

    Raises:
        InputError: as `open_storage`.
        ValueError: as `find_orphans` would have refused them.
    """
    wanted = list(keys)
    storage = open_storage(url, paths)
    for phase, arm in itertools.product(PHASES, config.arms):
        numbers = [number for a, p, number in wanted if (a, p) == (arm, phase)]
        if numbers:
            _enter(config, paths, storage, owner, arm, phase, numbers)


def _enter(
    config: StudyConfig, paths: StudyPaths, storage: BaseStorage, owner: str,
    arm: str, phase: Phase, numbers: list[int],
) -> None:  # fmt: skip
    ArmRecord(arm, phase, config, paths, storage, owner)  # makes the Optuna study, marked as ours
    study = optuna.load_study(study_name=optuna_name(config.name, arm, phase), storage=storage)
    if phase == "search":
        for number in numbers:
            study.add_trial(_running(config, paths, (arm, phase, number)))
    else:
        name = optuna_name(config.name, original(config, arm))
        searched = optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
        for number in numbers:
            recorded = read_recorded(paths, (arm, phase, number))
            study.add_trial(
                create_trial(
                    state=OptunaState.RUNNING,
                    params=searched[number].params,
                    distributions=searched[number].distributions,
                    user_attrs={SOURCE: number, "stratum": recorded.stratum},
                )
            )
    tell_results(config, paths, storage, owner, arm, phase)


def tell_results(
    config: StudyConfig, paths: StudyPaths, storage: Storage, owner: str, arm: str, phase: Phase
) -> None:
    """Tell the storage of the results that are in an arm's folders, as the next run would."""
    ArmRecord(arm, phase, config, paths, storage, owner)
