"""A study as reports and notebooks read it: configuration, tables, verdict. Nothing is changed.

    >>> study = gsvae_tune.load_study("studies/digits")
    >>> study.trials[["arm", "number", "value", "param_tau_start"]]

It is read from the ledger and the trials' folders, at any moment of a run. A folder that holds
neither, only study.json and tables/, is an archive: what somebody handed on, or committed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gsvae_tune.report import summary
from gsvae_tune.report.tables import EPOCHS, REPLICATES, TRIALS
from gsvae_tune.report.verdict import Verdict
from gsvae_tune.search.confirm import original, searched_arms
from gsvae_tune.search.space import ArmSpace, SearchedSetting
from gsvae_tune.search.storage import Location, TrialRow
from gsvae_tune.study.config import StudyConfig
from gsvae_tune.study.errors import InputError
from gsvae_tune.study.lease import is_running
from gsvae_tune.study.paths import StudyPaths, expand
from gsvae_tune.study.records import TrialState
from gsvae_tune.study.studyfile import read_config, read_study

_TYPES = {"trials": TRIALS, "replicates": REPLICATES, "epochs": EPOCHS}


_PLACE = ("arm", "phase", "number", "replicate", "branch", "epoch")  # what tells rows apart


@dataclass(frozen=True)
class LoadedStudy:
    """A study's configuration, tables and verdict; losses are nats per example, lower is better."""

    paths: StudyPaths
    config: StudyConfig
    recorded: Mapping[str, Any]  # study.json
    trials: pd.DataFrame  # one row a trial
    replicates: pd.DataFrame  # one row a (trial, replicate)
    epochs: pd.DataFrame  # one row a (trial, replicate, branch, epoch)
    verdict: Verdict | None  # None while the test phase has not ended
    running: bool  # a driver works on it
    archive: bool  # study.json and tables alone: no ledger, no trials' folders

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def arms(self) -> list[str]:
        """All arms, the baseline last of those searched, controls after it."""
        searched, base = searched_arms(self.config), self.config.protocol.baseline
        return sorted(self.config.arms, key=lambda arm: (arm not in searched, arm == base))

    @property
    def searched_arms(self) -> list[str]:
        """Arms with a search of their own; a yoked control has none."""
        searched = searched_arms(self.config)
        return [arm for arm in self.arms if arm in searched]

    @cached_property
    def settings(self) -> dict[str, list[SearchedSetting]]:
        """What each searched arm's search draws, in order."""
        where = str(self.paths.study)
        return {
            arm: ArmSpace(arm, self.config.arms[arm], where).describe()
            for arm in self.searched_arms
        }

    def settings_of(self, arm: str, number: int) -> dict[str, Any]:
        """Return all settings of a searched arm's trial: drawn, fixed in the study, and defaults.

        Raises:
            KeyError: there is no such trial.
        """
        own = self.trials[(self.trials.arm == arm) & (self.trials.phase == "search")]
        row: dict[Any, Any] = own.set_index("number").loc[number].to_dict()
        drawn = {one.name: row.get(f"param_{one.name}") for one in self.settings[arm]}
        # A column that is empty for some trials holds floats, whole numbers too.
        whole = {name: _plain(value) for name, value in drawn.items() if pd.notna(value)}
        space = ArmSpace(arm, self.config.arms[arm], str(self.paths.study))
        return space.settings(whole).model_dump(mode="json")

    def best(self, arm: str) -> int | None:
        """Return the trial that stands for a searched arm: its finalist, else the search's best."""
        known = None if self.verdict is None else self.verdict.arms.get(arm)
        if known is not None and known.finalist is not None:
            return known.finalist.number
        trials = self.searched(arm)
        return None if trials.empty else int(trials.number.to_numpy()[trials.value.argmin()])

    def original(self, arm: str) -> str:
        """Return the arm whose configurations this one trains: itself, or what it replays."""
        return original(self.config, arm)

    def searched(self, arm: str) -> pd.DataFrame:
        """Return an arm's trials of the search that ended with a value, in order of number.

        Columns as in `trials`, but settings without their prefix ``param_``, and only those that
        this arm searches.
        """
        own = self.trials[(self.trials.arm == arm) & (self.trials.phase == "search")]
        own = own[(own.state == TrialState.COMPLETE.value) & own.value.notna()]
        kept = {f"param_{setting.name}": setting.name for setting in self.settings[arm]}
        others = [name for name in own.columns if name.startswith("param_") and name not in kept]
        found = own.drop(columns=others).rename(columns=kept).sort_values("number")
        return found.reindex(columns=[*found.columns, *(set(kept.values()) - set(found.columns))])


def _plain(value: Any) -> Any:
    plain = value.item() if isinstance(value, np.generic) else value
    return int(plain) if isinstance(plain, float) and plain.is_integer() else plain


def load_study(folder: str | Path, storage: Location = None) -> LoadedStudy:
    """Read a study from its folder, changing nothing.

    Args:
        folder: ``<out>/<study>``.
        storage: URL of the database that the study is recorded in, if it is.

    Raises:
        InputError: the folder holds no study, or one that cannot be read.
    """
    paths = StudyPaths(expand(str(folder), "DIR").absolute())
    if not paths.exists():
        raise InputError("holds no study", where=str(folder), legal="a folder with a study.json")
    config, recorded = read_config(paths), read_study(paths)
    elsewhere = recorded["config"]["storage"] is not None
    recordless = not (paths.trials.exists() or paths.journal.exists() or elsewhere)
    archive = recordless and paths.table("trials").is_file()
    if archive:
        tables = {name: _archived(paths, name) for name in _TYPES}
        rows = [_row(row) for _, row in tables["trials"].iterrows()]
    else:
        rows = summary.trial_rows(config, paths, storage)
        tables = summary.tables_of(paths, rows)
    verdict = summary.verdict_of(config, paths, rows, tables)
    return LoadedStudy(
        paths, config, recorded, **tables,
        verdict=verdict, running=is_running(paths), archive=archive,
    )  # fmt: skip


def _archived(paths: StudyPaths, name: str) -> pd.DataFrame:
    """Return one table of an archive; columns that its version did not have yet are empty."""
    path = paths.table(name)
    try:
        found = pd.read_parquet(path)
        _check_keys(found, name)
        own = [column for column in found.columns if column.startswith("param_")]
        columns = {
            column: pd.Series(found.get(column), index=found.index, dtype=kind)
            for column, kind in _TYPES[name].items()
        }
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"is no readable table: {type(error).__name__}", where=str(path),
            legal="the table as gsvae-tune export wrote it",
        ) from error  # fmt: skip
    return pd.DataFrame(columns | {column: found[column] for column in own})


def _check_keys(found: pd.DataFrame, name: str) -> None:
    """Check that it is this table: that each row says of which trial it is, and its state."""
    keys = [key for key in ("arm", "phase", "number", "state") if key in _TYPES[name]]
    if found[keys].isna().to_numpy().any():
        raise ValueError("rows without a trial")
    whole = [key for key in _PLACE if key in _TYPES[name]]
    if found.duplicated(whole).any():
        raise ValueError("two rows of one trial, replicate or epoch")
    for state in set(found["state"]) if "state" in keys else ():
        TrialState(state)


def _row(row: pd.Series) -> TrialRow:
    value = None if pd.isna(row.value) else float(row.value)
    state = TrialState(row.state)
    return TrialRow(row.arm, row.phase, row.number, state, value, {}, row.stratum, None)
