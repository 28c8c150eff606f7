"""Copying a study's trials to another storage, so that it can go on there.

study.json says where a study's trials are, and is changed last: killed at any point, the study is
still whole where it was, and the copy can be made again, which takes up what is there already.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import optuna
from optuna.distributions import distribution_to_json
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from gsvae_tune.search.storage import (
    PHASES,
    mend_journal,
    open_storage,
    optuna_name,
    refuse_foreign,
)
from gsvae_tune.study.config import Phase, StudyConfig
from gsvae_tune.study.errors import InputError, UnfinishedError
from gsvae_tune.study.lease import driver_lease
from gsvae_tune.study.passwords import without_password
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.studyfile import mark_storage, read_config, read_study, require_storage

_Trials = dict[tuple[str, Phase], Sequence[FrozenTrial]]


@dataclass(frozen=True)
class Copied:
    """What is in the new storage now."""

    trials: int
    before: int  # of those, how many an earlier copy had brought there
    backup: str  # where the old storage is


def transfer(
    paths: StudyPaths, source: str | None, target: str | None, say: Callable[[str], None]
) -> Copied:
    """Copy a study's trials to another storage, compare every one, and move the study there.

    Args:
        paths: the study's folder.
        source: URL of the storage its trials are in, None for its journal.
        target: URL of the other one, None for the journal.
        say: is told what takes long.

    Raises:
        InputError: a driver holds the study, a storage cannot be opened or is another study's, or
            the target holds other trials under its name.
        UnfinishedError: a storage was lost, or did not give back what was written to it.
    """
    with driver_lease(paths, say):
        config, recorded = read_config(paths), read_study(paths)
        if (source and without_password(source)) == (target and without_password(target)):
            raise InputError("is where the trials are already", where="--to")
        owner = str(recorded["id"])
        if target is not None and source is None and recorded["config"]["storage"] is not None:
            return _finish(config, paths, target, owner)
        require_storage(paths, source)
        mend_journal(paths)  # of a run or of a copy that was killed
        return _copy(config, paths, source, target, owner, say)


def _copy(
    config: StudyConfig,
    paths: StudyPaths,
    source: str | None,
    target: str | None,
    owner: str,
    say: Callable[[str], None],
) -> Copied:
    patience_s = config.faults.storage_patience_s
    old = open_storage(source, paths, must_exist=True, patience_s=patience_s, notify=say)
    studies = refuse_foreign(config, paths, old, owner)
    trials: _Trials = {key: study.get_trials(deepcopy=False) for key, study in studies.items()}
    new = open_storage(target, paths, patience_s=patience_s, notify=say)
    there = _read(config, new)
    for key in itertools.product(config.arms, PHASES):
        _refuse_others(config, key, studies, trials.get(key, []), there.get(key, []), new)
    count, before = (sum(map(len, found.values())) for found in (trials, there))
    say(f"copying {count - before} trials")
    for key, study in studies.items():
        copy = optuna.create_study(
            study_name=study.study_name, storage=new, direction="minimize", load_if_exists=True
        )
        for name, value in study.user_attrs.items():
            copy.set_user_attr(name, value)
        number = new.get_study_id_from_name(study.study_name)
        begun = there.get(key, [])
        for trial, one in zip(trials[key], begun, strict=False):
            if trial.state.is_finished() and not one.state.is_finished():
                _end(new, one._trial_id, trial)  # noqa: SLF001 - no public name
        for trial in trials[key][len(begun) :]:
            new.create_new_trial(number, template_trial=trial)
    # Past every cache.
    seen = _read(config, open_storage(target, paths, must_exist=True, patience_s=patience_s))
    if {key: _facts(found) for key, found in seen.items()} != {
        key: _facts(found) for key, found in trials.items()
    }:
        raise UnfinishedError(
            "the new storage does not give back what was written to it\n"
            "  kept:  the study, where it was; nothing of it was changed\n"
            "  next:  another storage"
        )
    mark_storage(paths, elsewhere=target is not None)
    return Copied(count, before, _set_aside(paths) if source is None else without_password(source))


def _finish(config: StudyConfig, paths: StudyPaths, target: str, owner: str) -> Copied:
    """Do what is left of a copy whose study.json is written already."""
    there = refuse_foreign(config, paths, open_storage(target, paths, must_exist=True), owner)
    count = sum(len(study.get_trials(deepcopy=False)) for study in there.values())
    if not count:
        require_storage(paths, None)  # it is in another database
    return Copied(count, count, _set_aside(paths))


def _set_aside(paths: StudyPaths) -> str:
    """Rename the journal, so that no run goes on from it."""
    if paths.journal.is_file():
        paths.journal.replace(paths.copied_journal)
    return str(paths.copied_journal)


def _read(config: StudyConfig, storage: BaseStorage) -> _Trials:
    known = set(optuna.get_all_study_names(storage))
    named = {key: optuna_name(config.name, *key) for key in itertools.product(config.arms, PHASES)}
    return {
        key: optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
        for key, name in named.items()
        if name in known
    }


def _refuse_others(
    config: StudyConfig,
    key: tuple[str, Phase],
    studies: dict[tuple[str, Phase], optuna.Study],
    trials: Sequence[FrozenTrial],
    there: Sequence[FrozenTrial],
    new: BaseStorage,
) -> None:
    """Check that what is in the target already is the beginning of a copy.

    Raises:
        InputError: otherwise.
    """
    name = optuna_name(config.name, *key)
    own = {} if key not in studies else studies[key].user_attrs
    marks = {}
    if name in optuna.get_all_study_names(new):
        marks = optuna.load_study(study_name=name, storage=new).user_attrs
    foreign = any(own.get(mark) != value for mark, value in marks.items())
    begins = len(there) <= len(trials) and all(
        # The study may have gone on since: what was running then has ended.
        fact == expected or (not one.state.is_finished() and one.params == trial.params)
        for one, trial, fact, expected in zip(
            there, trials, _facts(there), _facts(trials[: len(there)]), strict=False
        )
    )
    if foreign or not begins:
        raise InputError(
            f"holds other trials under the name {name}",
            where="--to",
            legal="a storage in which that name is free, or one that an earlier copy was made to",
            next_step="nothing was changed",
        )


def _end(storage: BaseStorage, trial_id: int, ended: FrozenTrial) -> None:
    """Enter the end of a trial that was running when it was copied."""
    for key, value in ended.user_attrs.items():
        storage.set_trial_user_attr(trial_id, key, value)
    for key, value in ended.system_attrs.items():
        storage.set_trial_system_attr(trial_id, key, value)
    for step, value in ended.intermediate_values.items():
        storage.set_trial_intermediate_value(trial_id, step, value)
    storage.set_trial_state_values(trial_id, ended.state, ended.values)


def _facts(trials: Sequence[FrozenTrial]) -> list[str]:
    """Return all there is to know of trials but when they were, which not all storages keep."""
    return [
        json.dumps(
            {
                "number": trial.number,
                "state": trial.state.name,
                "values": trial.values,
                "params": trial.params,
                "space": {k: distribution_to_json(v) for k, v in trial.distributions.items()},
                "user": trial.user_attrs,
                "system": trial.system_attrs,
                "intermediate": {str(k): v for k, v in trial.intermediate_values.items()},
            },
            sort_keys=True,
        )
        for trial in trials
    ]
