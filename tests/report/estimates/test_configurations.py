"""Configurations: read, completed by their conditions, kept in order, drawn."""

import numpy as np
import pandas as pd
import pytest

from gsvae_tune.report.estimates.configurations import configurations_of, rows_of
from gsvae_tune.search.space import SearchedSetting
from tests.search.test_importance import choice, number

SETTINGS = [
    number("start", 0.1, 4.0, log=True), number("low", 0.05, 4.0, log=True),
    choice("rule", "cool", "hold", "fade"), number("factor", 0.5, 0.9, when=["rule"]),
    number("rate", 0.001, 0.1, log=True, when=["rule"]),
]  # fmt: skip
TRIALS = pd.DataFrame(
    {
        "start": [1.0, 2.0, 0.5], "low": [0.1, 0.2, 0.5], "rule": ["cool", "hold", "fade"],
        "factor": [0.8, np.nan, np.nan], "rate": [np.nan, np.nan, 0.01],
    }
)  # fmt: skip
ORDER = [("low", "start"), ("start", "never-searched")]


@pytest.fixture
def space():
    return configurations_of(SETTINGS, TRIALS, ORDER)


def test_rows_hold_numbers_and_places_of_choices(space):
    nan = np.nan
    assert rows_of(SETTINGS, TRIALS) == pytest.approx(
        np.array([[1, 0.1, 0, 0.8, nan], [2, 0.2, 1, nan, nan], [0.5, 0.5, 2, nan, 0.01]]),
        nan_ok=True,
    )
    odd = rows_of(SETTINGS, TRIALS.assign(rule=["cool", None, "gone"]).drop(columns="start"))
    assert odd[:, 2].tolist()[0] == 0
    assert np.isnan(odd[1:, 2]).all()
    assert np.isnan(odd[:, 0]).all()
    flags = [choice("flag", True, False)]
    assert rows_of(flags, pd.DataFrame({"flag": [False, True]})).ravel().tolist() == [1, 0]
    assert rows_of(SETTINGS, TRIALS.iloc[:0]).shape == (0, 5)


def test_conditions_are_those_that_trials_met(space):
    rows = np.array([[1, 0.1, rule, 0.7, 0.02] for rule in (0.0, 1.0, 2.0)])
    done = space.completed(rows)
    assert np.isnan(done[:, 3]).tolist() == [False, True, True]
    assert np.isnan(done[:, 4]).tolist() == [True, True, False]
    rows[:, 3:] = np.nan
    assert space.completed(rows)[:, 3].tolist()[0] == 0.5  # the default
    drawn = space.completed(rows, np.random.default_rng(0))
    assert 0.5 < drawn[0, 3] < 0.9
    assert 0.001 < drawn[2, 4] < 0.1


def test_a_choice_and_what_hangs_on_it_are_one_step(space):
    assert space.steps() == [(0,), (1,), (2, 3, 4)]


def test_drawn_configurations_are_legal_and_spread(space):
    rows = space.drawn(2_000, np.random.default_rng(0))
    assert space.is_legal(rows).all()
    assert len(rows) == 2_000
    assert (rows[:, 1] <= rows[:, 0]).all()
    assert np.median(rows[:, 0]) == pytest.approx(np.sqrt(0.1 * 4.0), rel=0.1)  # in the logarithm
    assert (np.isnan(rows[:, 3]) == (rows[:, 2] != 0)).all()
    assert np.bincount(rows[:, 2].astype(int)) == pytest.approx(2_000 / 3, rel=0.1)


def test_the_default_is_moved_into_what_is_searched():
    def setting(name, low, high, default, when=()):
        return SearchedSetting(name, None, low, high, False, default, when, "")

    searched = [
        setting("start", 2.0, 4.0, 1.0), setting("low", 0.1, 3.0, 2.5), setting("inside", 0, 9, 3),
        SearchedSetting("rule", ("b", "c"), None, None, False, "a", (), ""),
        setting("when-b", 0.0, 1.0, 0.5, ("rule",)), setting("when-c", 0.0, 1.0, 7.0, ("rule",)),
    ]  # fmt: skip
    trials = pd.DataFrame(
        {"rule": ["b", "c"], "when-b": [0.1, np.nan], "when-c": [np.nan, 0.2], "inside": [1, 2]}
    )
    row, moved = configurations_of(searched, trials, [("low", "start")]).default()
    # start 1 -> 2, its end; low 2.5 -> 2, as it may not pass start; the choice a -> b, the first
    assert row == pytest.approx([2, 2, 3, 0, 0.5, np.nan], nan_ok=True)
    assert moved == ["start", "low", "rule"]


def test_what_is_switched_off_breaks_no_order(space):
    rows = np.array([[1.0, 2.0, 0, 0.6, np.nan], [1.0, np.nan, 0, 0.6, np.nan]])
    assert space.is_legal(rows).tolist() == [False, True]
