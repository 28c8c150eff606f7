"""Hand-worked paths: at the ends of the range, turning round, settling, decided."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsvae_tune.report.estimates import movement

NAN = float("nan")


def paths(of, events=None):
    """Paths of (number, replicate, branch) -> temperatures; events of (number, replicate)."""
    rows = [
        (*key, epoch, tau, (events or {}).get(key[:2], ["TIE"] * len(taus))[epoch - 1])
        for key, taus in of.items()
        for epoch, tau in enumerate(taus, 1)
    ]
    names = ["number", "replicate", "branch", "epoch", "tau", "event"]
    return pd.DataFrame(rows, columns=names).astype({"branch": "string", "event": "string"})


def ranges(**of):
    index = [int(name[1:]) for name in of]
    return pd.DataFrame([*of.values()], index=index, columns=["tau_min", "tau_max"])


def test_shares_at_the_ends_count_all_members_and_replicates():
    frame = paths(
        {
            (0, 0, "a"): [0.1, 0.1 + 1e-9, 0.2, 0.3],  # at the lower end twice, up to rounding
            (0, 0, "b"): [0.2, 1.0, 1.0, 1.0],  # at the upper end three times
            (1, 0, "a"): [0.5, 0.5, 0.6, 0.7],  # a floor alone
        }
    )
    found = movement.end_shares(frame, ranges(_0=(0.1, 1.0), _1=(0.5, NAN))).set_index("number")
    assert found.loc[0].tolist() == [2 / 8, 3 / 8]
    assert found.loc[1, "lower"] == 0.5
    assert np.isnan(found.loc[1, "upper"])


def test_a_trial_without_a_range_has_no_shares():
    found = movement.end_shares(paths({(7, 0, "a"): [1.0, 2.0]}), ranges(_0=(0.1, 1.0)))
    assert found[["lower", "upper"]].isna().all().all()


@pytest.mark.parametrize(
    ("taus", "expected"),
    [
        ([1.0], 0),
        ([1, 1, 1], 0),
        ([1, 2, 4], 0),
        ([1, 2, 1], 1),
        ([1, 2, 2, 2, 1], 1),  # moves of 0 are skipped
        ([1, 2, 2, 4], 0),
        ([1, 2, 1, 2, 1], 3),
        ([1, 1 + 1e-9, 1, 1 + 1e-9], 0),  # rounding
    ],
)
def test_reversals_are_changes_of_direction(taus, expected):
    found = movement.reversals(paths({(0, 0, "a"): taus}))
    assert found.to_numpy().tolist() == [[0, expected]]


def test_reversals_are_averaged_over_the_paths_of_a_trial():
    frame = paths({(5, 0, "a"): [1, 2, 1], (5, 0, "b"): [1, 2, 4], (6, 0, "a"): [2, 1, 2]})
    assert movement.reversals(frame).to_numpy().tolist() == [[5, 0.5], [6, 1.0]]


@given(st.lists(st.sampled_from([0.5, 1.0, 2.0]), min_size=1, max_size=20))
def test_reversals_do_not_hang_on_the_direction_of_time_or_of_tau(taus):
    frames = [taus, taus[::-1], [1 / tau for tau in taus]]
    found = {movement.reversals(paths({(0, 0, "a"): one})).reversals[0] for one in frames}
    assert len(found) == 1
    assert 0 <= found.pop() <= max(0, len(taus) - 2)


@pytest.mark.parametrize(
    ("taus", "expected"),
    [
        ([1.0], 1),
        ([1, 1, 1], 1),
        ([4, 2, 1, 1], 3),
        ([4, 2, 1.04, 1.0], 3),
        ([4, 2, 1.06, 1.0], 4),
        ([1, 2, 1, 1], 3),  # it was there before, and left
        ([1.05, 1.0], 1),  # the end of the band is in it
    ],
)
def test_a_path_settles_where_it_no_longer_leaves_its_last_value(taus, expected):
    assert movement.settling(paths({(0, 0, "a"): taus})).to_numpy().tolist() == [[0, expected]]


def test_settling_is_averaged_over_the_paths_of_a_trial():
    frame = paths({(0, 0, "a"): [1, 1, 1], (0, 1, "a"): [9, 5, 1]})
    assert movement.settling(frame).epoch.tolist() == [2.0]


def test_events_count_once_a_replicate():
    of = {(0, r, branch): [1.0] * 4 for r in range(2) for branch in "ab"}
    events = {(0, 0): ["A_WON", "WAITED", "TIE", "B_WON"], (0, 1): ["WAITED"] * 3 + ["COLLAPSED"]}
    shares = movement.event_shares(paths(of, events))
    assert shares.loc[0].to_dict() == {
        "A_WON": 1 / 8, "B_WON": 1 / 8, "COLLAPSED": 1 / 8, "TIE": 1 / 8, "WAITED": 4 / 8,
    }  # fmt: skip
    assert movement.decided(shares).loc[0].to_dict() == {"decided": 2 / 8, "waited": 4 / 8}


def test_events_that_never_occur_decide_nothing():
    shares = movement.event_shares(paths({(0, 0, "a"): [1.0]}))
    assert movement.decided(shares).loc[0].to_dict() == {"decided": 0.0, "waited": 0.0}


def test_what_moved_after_an_event_is_either_members_next_temperature():
    of = {(0, 0, "a"): [1, 1, 1, 1], (0, 0, "b"): [1, 2, 2, 2]}
    events = {(0, 0): ["A_WON", "A_WON", "TIE", "B_WON"]}
    # After the first it moved, after the second it did not, after the last there is no epoch.
    assert movement.moved_after(paths(of, events), movement.DECIDED) == (1, 2)
    assert movement.moved_after(paths(of, events), ["COLLAPSED"]) == (0, 0)


def test_trials_that_never_moved_are_counted_whole():
    frame = paths({(0, 0, "a"): [1, 1], (0, 0, "b"): [1, 2], (1, 0, "a"): [3, 3], (2, 0, "a"): [1]})
    assert movement.still(frame) == 2


def test_spread_is_a_factor():
    assert movement.spread(np.array([0.5, 1.0, 2.0])) == pytest.approx(4.0)
    assert movement.spread(np.array([0.3])) == 1.0
    assert np.isnan(movement.spread(np.empty(0)))


def test_quartiles_leave_out_what_is_not_known():
    assert movement.quartiles(pd.Series([1.0, 2.0, 3.0, 4.0, 5.0, NAN])) == (2.0, 3.0, 4.0)
    assert np.isnan(movement.quartiles(pd.Series([NAN]))).all()
