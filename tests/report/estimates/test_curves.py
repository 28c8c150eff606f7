"""Learning curves by hand-worked numbers."""

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsvae_tune.report.estimates.curves import Crossing, crossing, learning_curve, whole


def records(losses):
    """Epochs from {replicate: [((control a, validation a), (control b, validation b)), ...]}."""
    return pd.DataFrame(
        [
            {"replicate": replicate, "branch": branch, "epoch": epoch, "wall_s": 0.5 * epoch,
             "control_loss_discrete": pair[0], "val_neg_elbo_nats": pair[1]}
            for replicate, epochs in losses.items()
            for epoch, both in enumerate(epochs, start=1)
            for branch, pair in zip("ab", both, strict=True)
        ]
    )  # fmt: skip


def test_the_better_member_is_chosen_on_control_and_shown_on_validation():
    curve = learning_curve(
        records({
            0: [((9.0, 5.0), (8.0, 6.0)), ((7.0, 4.0), (8.0, 1.0))],
            1: [((3.0, 8.0), (3.0, 0.0)), ((3.0, 2.0), (4.0, 0.0))],  # a tie: the first, as argmin
        })
    )  # fmt: skip
    assert curve.epoch.tolist() == [1, 2]
    assert curve.wall_s.tolist() == [0.5, 1.0]
    assert curve.mean_nats.tolist() == [7.0, 3.0]  # (6 + 8) / 2 and (4 + 2) / 2
    assert curve.n.tolist() == curve.replicates.tolist() == [2, 2]
    # Two values d apart: sd d / sqrt 2, error d / 2; t with one degree of freedom is 12.706.
    assert curve.high_nats[0] - 7.0 == pytest.approx(12.7062, abs=1e-3)
    assert 3.0 - curve.low_nats[1] == pytest.approx(12.7062, abs=1e-3)


def test_a_lost_replicate_stays_lost_and_the_whole_curve_ends_before():
    sound = ((2.0, 2.0), (2.0, 2.0))
    curve = learning_curve(
        records({
            0: [sound] * 4,
            1: [sound, ((math.inf, 2.0), (2.0, 2.0)), sound, sound],
            2: [sound, sound, ((2.0, math.nan), (2.0, 2.0)), sound],
            3: [sound, sound],  # its records end
        })
    )  # fmt: skip
    assert curve.n.tolist() == [4, 3, 1, 1]
    assert curve.replicates.tolist() == [4] * 4
    assert curve.low_nats.notna().tolist() == [True, True, False, False]
    assert whole(curve).epoch.tolist() == [1]


def test_replicates_that_failed_are_in_no_mean():
    sound, collapsed = ((2.0, 2.0), (2.0, 2.0)), ((9.0, 9.0), (9.0, 9.0))
    of = records({0: [sound] * 2, 1: [collapsed] * 2, 2: [((4.0, 4.0), (4.0, 4.0))] * 2})
    curve = learning_curve(of, failed=[1])
    assert curve.mean_nats.tolist() == [3.0, 3.0]
    assert curve.replicates.tolist() == [2, 2]
    assert len(whole(curve)) == 2
    assert learning_curve(of, failed=[0, 1, 2]).empty


def test_one_replicate_has_no_interval_and_none_no_curve():
    curve = learning_curve(records({0: [((2.0, 3.0), (9.0, 9.0))]}))
    assert curve.mean_nats.tolist() == [3.0]
    assert curve.low_nats.isna().all()
    empty = learning_curve(records({}).reindex(columns=["epoch"]))
    assert empty.empty
    assert whole(empty).empty
    assert crossing(empty, 1.0) is None


def test_all_lost_from_the_start_is_no_curve():
    nothing = ((math.nan, math.nan), (math.nan, math.nan))
    curve = learning_curve(records({0: [nothing] * 3}))
    assert curve.n.tolist() == [0, 0, 0]
    assert whole(curve).empty


def a_curve(means):
    return pd.DataFrame(
        {"epoch": range(1, len(means) + 1), "wall_s": [0.5 * (1 + at) for at in range(len(means))],
         "mean_nats": means}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("means", "found"),
    [
        ([5.0, 4.0, 3.0], Crossing(2, 1.0)),  # equal counts
        ([5.0, 3.0, 4.5, 3.9], Crossing(4, 2.0)),  # the dip does not
        ([3.0, 3.0], Crossing(1, 0.5)),
        ([3.0, 5.0], None),
        ([3.0, math.nan], None),
        ([math.nan, 4.0], Crossing(2, 1.0)),
    ],
)
def test_crossing_is_where_it_stays_below(means, found):
    assert crossing(a_curve(means), 4.0) == found


@given(st.lists(st.floats(0.0, 10.0), min_size=1, max_size=20), st.floats(0.0, 10.0))
def test_from_the_crossing_on_nothing_is_above(means, target):
    found = crossing(a_curve(means), target)
    if found is None:
        assert means[-1] > target
    else:
        assert max(means[found.epoch - 1 :]) <= target
        assert found.epoch == 1 or means[found.epoch - 2] > target
