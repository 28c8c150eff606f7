import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsvae_tune.report.estimates import footprint
from gsvae_tune.search.space import SearchedSetting


def setting(name, *, choices=None, low=None, high=None, log=False, when=()):
    return SearchedSetting(name, choices, low, high, log, choices[0] if choices else low, when, "")


RATE = setting("rate", low=0.01, high=1.0, log=True)
WIDTH = setting("width", low=2.0, high=4.0)
RULE = setting("rule", choices=("cool", "hold", "warm"))
FACTOR = setting("factor", low=0.0, high=1.0, when=("rule",))
SETTINGS = [RATE, WIDTH, RULE, FACTOR]
FRAME = pd.DataFrame(
    {"rate": [0.01, 0.1, 1.0], "width": [2.0, 3.0, 4.0], "rule": ["cool", "warm", "hold"],
     "factor": [0.25, np.nan, np.nan]}
)  # fmt: skip


def test_settings_are_scaled_to_their_ranges():
    unit = footprint.unit_settings(FRAME, SETTINGS)
    assert unit.rate.tolist() == pytest.approx([0, 0.5, 1])
    assert unit.width.tolist() == [0, 0.5, 1]
    assert unit.rule.tolist() == [0, 1, 0.5]
    assert unit.factor.tolist() == pytest.approx([0.25, np.nan, np.nan], nan_ok=True)


def test_a_range_or_choice_of_one_value_is_in_the_middle():
    only = [setting("x", low=3.0, high=3.0, log=True), setting("c", choices=(True,))]
    unit = footprint.unit_settings(pd.DataFrame({"x": [3.0, np.nan], "c": [True, True]}), only)
    assert unit.x.tolist() == pytest.approx([0.5, np.nan], nan_ok=True)
    assert unit.c.tolist() == [0.5, 0.5]


def test_distances_by_hand():
    apart = footprint.distances(footprint.unit_settings(FRAME, SETTINGS), SETTINGS)
    assert apart[:, 0, 1] == pytest.approx([0.5, 0.5, 1, 1])  # off in one of the two: 1
    assert apart[:, 1, 2] == pytest.approx([0.5, 0.5, 1, 0])  # off in both: 0
    assert (apart == apart.transpose(0, 2, 1)).all()
    assert (np.diagonal(apart, axis1=1, axis2=2) == 0).all()
    assert footprint.mean_distance(apart.mean(axis=0), [0, 1]) == pytest.approx(0.75)


def test_a_map_keeps_distances_that_a_plane_can_keep():
    places = np.random.default_rng(0).normal(size=(20, 2))
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    found, stress = footprint.plane(apart)
    shown = np.linalg.norm(found[:, None] - found[None], axis=2)
    assert shown == pytest.approx(apart, abs=1e-3)
    assert stress < 1e-3


def test_a_map_is_the_same_each_time_and_its_first_axis_the_longer():
    apart = footprint.distances(pd.DataFrame(np.random.default_rng(1).random((30, 6)), columns=list("abcdef")),
                                [setting(name, low=0.0, high=1.0) for name in "abcdef"]).mean(axis=0)  # fmt: skip
    first, stress = footprint.plane(apart)
    second, _ = footprint.plane(apart)
    assert (first == second).all()
    assert first[:, 0].std() > first[:, 1].std()
    shown = np.linalg.norm(first[:, None] - first[None], axis=2)
    assert stress == pytest.approx(np.sqrt(((apart - shown) ** 2).sum() / (apart**2).sum()))
    assert 0.05 < stress < 0.6


def test_two_trials_and_trials_in_a_line_have_a_map():
    pair, stress = footprint.plane(np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert abs(pair[0] - pair[1]).max() == pytest.approx(1, abs=1e-3)
    assert stress < 1e-3
    line = np.abs(np.arange(4.0)[:, None] - np.arange(4.0)[None])
    assert footprint.plane(line)[1] < 1e-3


def test_closeness_finds_the_setting_that_the_best_share():
    rng = np.random.default_rng(0)
    unit = pd.DataFrame({"rate": rng.random(40), "width": rng.random(40)})
    unit.loc[:3, "width"] = [0.5, 0.505, 0.5, 0.495]
    shares, chance = footprint.closeness(footprint.distances(unit, [RATE, WIDTH]), [0, 1, 2, 3])
    assert shares[1] < 0.05 < shares[0]
    assert chance < 0.02


def test_closeness_of_all_is_one_and_of_what_never_varied_unknown():
    unit = pd.DataFrame({"rate": [0.1, 0.5, 0.9], "width": [0.5, 0.5, 0.5]})
    shares, chance = footprint.closeness(footprint.distances(unit, [RATE, WIDTH]), [0, 1, 2])
    assert shares[0] == pytest.approx(1)
    assert np.isnan(shares[1])
    assert chance == 1.0
    shares, chance = footprint.closeness(footprint.distances(unit[["width"]], [WIDTH]), [0, 1])
    assert np.isnan(shares).all()
    assert np.isnan(chance)


@given(st.integers(0, 300), st.integers(1, 100), st.sets(st.integers(0, 20), max_size=5))
def test_subsamples_keep_what_they_must(size, limit, kept):
    kept = [place for place in kept if place < size]
    chosen = footprint.subsample(size, limit, kept)
    assert len(chosen) == len(set(chosen)) <= max(limit, len(kept))
    assert len(chosen) >= min(size, limit)
    assert set(kept) <= set(chosen)
    assert (np.diff(chosen) > 0).all()


def test_best_places():
    losses = [3.0, np.nan, 1.0, 2.0, 1.0]
    assert footprint.best_places(losses).tolist() == [2, 4, 3]
    assert footprint.best_places(losses, share=0.5, least=1).tolist() == [2, 4]
    assert footprint.best_places([np.nan, 2.0]).tolist() == [1]
    assert len(footprint.best_places(np.arange(100.0))) == 10


def test_colours_end_before_the_outliers():
    low, high = footprint.loss_range([1.0, 2.0, 3.0, 4.0, 5.0, 1e9, np.nan, np.inf])
    assert (low, high) == (1.0, 5.0)
    assert np.isnan(footprint.loss_range([np.nan])).all()
