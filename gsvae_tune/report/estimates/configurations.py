"""An arm's configurations as numbers: read from its trials, made legal, drawn at random.

A configuration is a row of floats, one a setting in the order in which the arm lists them: a number
as it is, a choice by its place among the choices, NaN where a condition switches the setting off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gsvae_tune.search.space import SearchedSetting
from gsvae_tune.study.parameters import Scalar

Rows = NDArray[np.float64]  # (configurations, settings)

_ABSENT = -1e300  # stands for NaN where values are compared: NaN equals nothing, itself neither


@dataclass(frozen=True)
class Condition:
    """When a setting is switched on: the settings it hangs on, and their values where it was."""

    parents: tuple[int, ...]  # places
    values: Rows  # (combinations seen, parents)

    def holds(self, rows: Rows) -> NDArray[np.bool_]:
        """Return in which configurations the setting is switched on."""
        known = np.nan_to_num(rows[:, self.parents], nan=_ABSENT)
        on = np.zeros(len(rows), dtype=np.bool_)
        for values in self.values:
            on |= (known == values).all(axis=1)
        return on


@dataclass(frozen=True)
class Configurations:
    """What the configurations of one arm may be."""

    settings: tuple[SearchedSetting, ...]
    order: tuple[tuple[int, int], ...]  # places of (lower, upper): lower <= upper everywhere
    conditions: Mapping[int, Condition]  # of the settings that hang on others, by place

    @property
    def names(self) -> list[str]:
        """The settings, in order."""
        return [setting.name for setting in self.settings]

    def default(self) -> tuple[NDArray[np.float64], list[str]]:
        """Return the default configuration inside what is searched, and what was moved for it.

        A number outside the range searched is moved to its nearer end, a choice that is not
        searched to the first one; where an order is broken by that, the later setting follows.
        """
        row = np.array([default_of(setting) for setting in self.settings])
        for lower, upper in self.order:
            later, earlier = max(lower, upper), min(lower, upper)
            if row[lower] > row[upper]:
                row[later] = row[earlier]
        kept = self.completed(row[None])[0]
        moved = [
            setting.name
            for setting, value in zip(self.settings, kept, strict=True)
            if not np.isnan(value) and self.shown(setting.name, value) != setting.default
        ]
        return kept, moved

    def shown(self, name: str, value: float) -> Scalar:
        """Return a setting's value as a study writes it."""
        choices = self.settings[self.names.index(name)].choices
        return float(value) if choices is None else choices[int(value)]

    def steps(self) -> list[tuple[int, ...]]:
        """Return the places of the settings that change together: a choice and what hangs on it."""
        root = list(range(len(self.settings)))
        for place, condition in self.conditions.items():
            for parent in condition.parents:
                old, new = root[place], root[parent]
                root = [new if one == old else one for one in root]
        return [
            tuple(place for place, one in enumerate(root) if one == first)
            for first in sorted(set(root), key=root.index)
        ]

    def is_legal(self, rows: Rows) -> NDArray[np.bool_]:
        """Return which configurations keep every order; a setting switched off breaks none."""
        legal = np.ones(len(rows), dtype=np.bool_)
        for lower, upper in self.order:
            legal &= ~(rows[:, lower] > rows[:, upper])
        return legal

    def completed(self, rows: Rows, generator: np.random.Generator | None = None) -> Rows:
        """Return the rows with settings switched off, or on, as the conditions ask.

        What is switched on and has no value yet is drawn, without a generator it has its default.
        """
        rows = rows.copy()
        for place in sorted(self.conditions):  # a setting stands after those it hangs on
            on = self.conditions[place].holds(rows)
            rows[~on, place] = np.nan
            new = on & np.isnan(rows[:, place])
            if generator is None:
                rows[new, place] = default_of(self.settings[place])
            elif new.any():
                rows[new, place] = self._drawn(place, rows[new], generator)
        return rows

    def drawn(self, count: int, generator: np.random.Generator) -> Rows:
        """Return so many random configurations: as a search draws them before it knows anything.

        Each setting is uniform, in the logarithm where it is searched so, between the ends that
        its order leaves open.
        """
        rows = np.full((count, len(self.settings)), np.nan)
        for place in range(len(self.settings)):
            rows[:, place] = self._drawn(place, rows, generator)
            if place in self.conditions:
                rows[~self.conditions[place].holds(rows), place] = np.nan
        return rows[self.is_legal(rows)]

    def _drawn(self, place: int, rows: Rows, generator: np.random.Generator) -> Rows:
        setting = self.settings[place]
        if setting.choices is not None:
            return generator.integers(len(setting.choices), size=len(rows)).astype(np.float64)
        low, high = (np.full(len(rows), end, np.float64) for end in (setting.low, setting.high))
        for lower, upper in self.order:
            if upper == place:
                low = np.fmax(low, rows[:, lower])  # fmax, fmin: what is not set yet binds nothing
            if lower == place:
                high = np.fmin(high, rows[:, upper])
        share, high = generator.random(len(rows)), np.maximum(low, high)
        found: Rows = low * (high / low) ** share if setting.log else low + (high - low) * share
        return found


def configurations_of(
    settings: Sequence[SearchedSetting],
    trials: pd.DataFrame,
    order: Sequence[tuple[str, str]] = (),
) -> Configurations:
    """Return what an arm's configurations may be.

    Args:
        settings: what the arm searches.
        trials: its trials, settings as columns. Which values of a choice switch another setting on
            is read from them: a combination that no trial drew switches nothing on.
        order: names (lower, upper) with lower <= upper in every configuration; pairs of which one
            is not searched are left out.
    """
    places = {setting.name: place for place, setting in enumerate(settings)}
    rows = rows_of(settings, trials)
    conditions = {}
    for place, setting in enumerate(settings):
        parents = tuple(places[name] for name in setting.when if name in places)
        if parents:
            seen = np.nan_to_num(rows[~np.isnan(rows[:, place])][:, parents], nan=_ABSENT)
            conditions[place] = Condition(parents, np.unique(seen, axis=0))
    kept = [(places[a], places[b]) for a, b in order if a in places and b in places]
    return Configurations(tuple(settings), tuple(dict.fromkeys(kept)), conditions)


def rows_of(settings: Sequence[SearchedSetting], trials: pd.DataFrame) -> Rows:
    """Return the trials' configurations, (trials, settings).

    A value that is missing, no number, or none of the choices is NaN.
    """
    rows = np.full((len(trials), len(settings)), np.nan)
    for place, setting in enumerate(settings):
        if setting.name not in trials:
            continue
        column = trials[setting.name]
        if setting.choices is not None:
            column = column.map({choice: at for at, choice in enumerate(setting.choices)})
        rows[:, place] = pd.to_numeric(column, errors="coerce").to_numpy(
            np.float64, na_value=np.nan
        )
    return rows


def varied(rows: Rows) -> NDArray[np.bool_]:
    """Return which settings took two values or more, (settings,)."""
    return np.array([len(np.unique(column[~np.isnan(column)])) > 1 for column in rows.T])


def default_of(setting: SearchedSetting) -> float:
    """Return a setting's default, a number at the nearer end where it lies outside the range.

    A choice's is its place; where the default is not searched, that of the first one.
    """
    if setting.choices is not None:
        searched = setting.default in setting.choices
        return float(setting.choices.index(setting.default)) if searched else 0.0
    assert setting.low is not None  # noqa: S101 - a number has both ends
    assert setting.high is not None  # noqa: S101
    known = setting.default if isinstance(setting.default, (int, float)) else setting.low
    return float(np.clip(known, setting.low, setting.high))
