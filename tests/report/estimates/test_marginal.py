import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsvae_tune.report.estimates import marginal
from gsvae_tune.report.estimates.marginal import (
    bandwidth,
    cell_medians,
    fence,
    flatness_p,
    median_interval,
    near_lowest,
    shape,
    smoothed_loss,
    stretches,
)


def test_fence_by_hand():
    # quartiles of 1, 2, 3, 4, 100 are 2 and 4: 4 + 3 * 2 = 10
    assert fence([1.0, 2.0, 3.0, 4.0, 100.0]) == 10.0
    assert fence([1.0, 2.0, 3.0, 4.0, 9.0]) == 9.0  # nothing lies beyond: the largest
    assert fence([1.0, 2.0, np.nan, 3.0, 4.0, np.inf, 100.0]) == 10.0
    assert fence([5.0, 5.0, 5.0, 5.0, 7.0]) == 7.0  # no quartile range to measure by
    assert np.isnan(fence([np.nan]))


def test_bandwidth_by_hand():
    # 0..4: sd 1.5811, quartiles 1 and 3: 2 / 1.349 = 1.48258, the smaller; 5^-0.2 = 0.72478
    assert bandwidth([0, 1, 2, 3, 4]) == pytest.approx(1.06 * 1.48258 * 0.72478, rel=1e-4)
    # equal quartiles: sd of 0, 0, 0, 0, 5 is sqrt(5)
    assert bandwidth([0, 0, 0, 0, 5]) == pytest.approx(1.06 * 5**0.5 * 5**-0.2)
    assert bandwidth([2.0, 2.0]) == bandwidth([2.0]) == bandwidth([]) == 0.0


def test_smoothing_equals_weighted_least_squares():
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0.1, 4.0, 40), rng.normal(21.0, 1.0, 40)
    curve = smoothed_loss(x, y, log=True)
    width = bandwidth(np.log(x))
    for _, row in curve.iloc[::10].iterrows():
        away = np.log(x / row["at"]) / width
        root = np.exp(-0.25 * away**2)
        # the ridge is one more observation: slope 0, as heavy as RIDGE of all weights
        heavy = (marginal.RIDGE * (root**2).sum()) ** 0.5
        design = np.vstack([np.column_stack([root, root * away]), [0.0, heavy]])
        height = np.linalg.lstsq(design, np.append(root * y, 0.0), rcond=None)[0][0]
        assert row.loss_nats == pytest.approx(height, abs=1e-9)


def test_a_line_stays_a_line_and_a_constant_a_constant():
    x = np.linspace(0.0, 1.0, 30)
    curve = smoothed_loss(x, 20.0 + 3.0 * x, log=False)
    assert curve.loss_nats.to_numpy() == pytest.approx(20.0 + 3.0 * curve["at"], abs=0.02)
    flat = smoothed_loss(x, np.full(30, 21.5), log=False)
    assert (flat[["loss_nats", "low_nats", "high_nats"]] == 21.5).all(axis=None)


def test_a_curve_stays_where_trials_are():
    x = np.concatenate([np.linspace(0.0, 1.0, 30), [10.0]])  # one trial far off carries no curve
    curve = smoothed_loss(x, 20.0 + x, log=False)
    assert curve["at"].max() < 5.0
    assert curve.notna().all(axis=None)


@pytest.mark.parametrize("setting", [[], [1.0], [1.0, 1.0, 1.0]])
def test_no_curve_without_variation(setting):
    curve = smoothed_loss(setting, np.full(len(setting), 20.0), log=True)
    assert curve.empty
    assert list(curve) == marginal.CURVE


def test_points_can_be_given():
    x = np.repeat([0.5, 1.0, 2.0], 5)
    y = np.repeat([20.0, 21.0, 22.0], 5)
    curve = smoothed_loss(x, y, log=True, at=[0.5, 1.0, 2.0])
    assert curve["at"].to_numpy() == pytest.approx([0.5, 1.0, 2.0])
    assert curve.loss_nats.to_numpy() == pytest.approx([20.0, 21.0, 22.0], abs=0.1)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    held = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x = rng.uniform(0.0, 1.0, 40)
        curve = smoothed_loss(x, 20.0 + x + rng.normal(0.0, 0.3, 40), log=False, seed=seed)
        middle = curve.iloc[len(curve) // 2]
        held.append(middle.low_nats <= 20.0 + middle["at"] <= middle.high_nats)
    assert 0.85 <= np.mean(held) <= 1.0


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.floats(0.1, 4.0), st.floats(0.0, 1e6)), min_size=2, max_size=12))
def test_curves_are_finite_and_repeat(trials):
    x, y = np.array(trials).T
    curve, again = (smoothed_loss(x, y, log=True) for _ in range(2))
    assert np.isfinite(curve.to_numpy()).all()
    assert curve.equals(again)


def test_stretches():
    assert stretches([1, 2, 3, 4, 5, 6], [1, 1, 0, 0, 1, 0]) == [(1.0, 2.0), (5.0, 5.0)]
    assert stretches([1, 2], [0, 0]) == stretches([], []) == []


def test_near_lowest_by_hand():
    curve = smoothed_loss([], [], log=False).assign(
        at=[1.0, 2.0, 3.0, 4.0, 5.0],
        loss_nats=[21.0, 20.05, 20.0, 20.3, 20.05],
        low_nats=20.0,
        high_nats=22.0,
        above_low_nats=[0.5, 0.3, 0.0, 0.05, 0.01],
        stretch=0,
    )
    # 5.0 is near too, but not joined to the lowest point at 3.0
    assert near_lowest(curve, 0.1) == {"near": (2.0, 3.0), "possible": (2.0, 5.0)}
    assert near_lowest(curve, 5.0) == {"near": (1.0, 5.0), "possible": (1.0, 5.0)}
    apart = curve.assign(stretch=[0, 0, 1, 1, 1])  # no range runs through a gap
    assert near_lowest(apart, 5.0)["near"] == (3.0, 5.0)


def test_a_curve_breaks_where_no_trial_is():
    x = np.concatenate([np.linspace(0.0, 1.0, 20), np.linspace(9.0, 10.0, 20)])
    curve = smoothed_loss(x, 20.0 + x, log=False)
    # quartiles 0.74 and 9.26, sd 4.6: the bandwidth is 2.3, so that the gap of 8 is 3.4 of them
    assert bandwidth(x) == pytest.approx(2.33, abs=0.05)
    assert curve["at"][curve.stretch == 0].max() <= 1.0
    assert curve["at"][curve.stretch == 1].min() >= 9.0
    assert set(curve.stretch) == {0, 1}
    # values of a list lie apart by nature
    listed = smoothed_loss(np.round(x / 10), 20.0 + x, log=False, at=[0.0, 1.0])
    assert listed["at"].tolist() == [0.0, 1.0]


def test_flatness_by_hand():
    # Two values with five trials each: the curve is told by the difference of two means. Of the
    # 252 ways to deal out 1..10, two part them as far as 1..5 and 6..10: p = 2 / 252
    x, y = np.repeat([0.0, 1.0], 5), np.arange(1.0, 11.0)
    assert flatness_p(x, y, log=False, at=[0.0, 1.0]) == pytest.approx(2 / 252, abs=0.006)
    assert flatness_p(x, np.full(10, 20.0), log=False) == 1.0
    assert flatness_p(np.full(10, 1.0), y, log=True) == 1.0


def test_where_the_loss_hangs_on_nothing_few_figures_name_anything():
    curves, named = 3, 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        loss = 20 + rng.lognormal(0.0, 1.0, 20)  # heavy tails, and far wider than the margin
        loss = np.minimum(loss, fence(loss))
        told = []
        for _ in range(curves):
            x = rng.uniform(0.0, 1.0, 20)
            curve = smoothed_loss(x, loss, log=False, curves=curves)
            told.append(shape(x, loss, curve, 0.1, log=False, curves=curves).told)
        named += any(told)
    assert named <= 5  # 40 times 5 % and twice its spread


def test_a_shape_by_what_its_trials_carry():
    rng = np.random.default_rng(0)
    x = rng.uniform(0.1, 4.0, 60)
    loss = 20 + np.log(x / 0.5) ** 2 + rng.normal(0, 0.1, 60)
    curve = smoothed_loss(x, loss, log=True, curves=3)
    seen = shape(x, loss, curve, 0.1, log=True, curves=3)
    assert (seen.told, seen.held, seen.trials) == (True, True, 60)
    highest = curve.loss_nats.max() - curve.loss_nats.min()
    assert seen.amount_nats == pytest.approx(highest)
    assert 0 < seen.amount_low_nats < highest < seen.amount_high_nats
    assert seen.ends == (curve["at"].min(), curve["at"].max())
    # nine trials tell nothing; without two others in the range it is not named
    few = slice(0, marginal.NAMED - 1)
    short = smoothed_loss(x[few], loss[few], log=True)
    told = shape(x[few], loss[few], short, 0.1, log=True)
    assert (told.told, told.held, told.amount_low_nats) == (False, False, 0.0)
    one = curve.assign(loss_nats=np.where(np.arange(len(curve)) == 20, 19.0, curve.loss_nats))
    assert not shape(x, loss, one, 0.1, log=True).held


def test_more_curves_take_more_to_tell_one():
    rng = np.random.default_rng(3)
    x = rng.uniform(0.0, 1.0, 40)
    loss = 20 + 0.5 * x + rng.normal(0, 0.35, 40)
    p = flatness_p(x, loss, log=False)
    assert 0.05 / 20 < p <= 0.05
    for curves, told in [(1, True), (20, False)]:
        curve = smoothed_loss(x, loss, log=False, curves=curves)
        assert shape(x, loss, curve, 0.1, log=False, curves=curves).told == told


def test_much_is_ruled_out_where_the_loss_hangs_on_it():
    rng = np.random.default_rng(0)
    x = rng.uniform(0.1, 4.0, 60)
    curve = smoothed_loss(x, 20 + np.log(x / 0.5) ** 2 + rng.normal(0, 0.1, 60), log=True)
    found = near_lowest(curve, 0.1)
    assert 0.25 < found["possible"][0] <= found["near"][0] < 0.5 < found["near"][1]
    assert found["near"][1] <= found["possible"][1] < 1.0


def test_median_interval_by_hand():
    # Binomial(n, 1/2): n = 6, P(0) = 1/64, 2/64 <= 5 %, so the ends are lowest and highest;
    # n = 5: 2/32 > 5 %, none; n = 10: P(<= 1) = 11/1024, P(<= 2) = 56/1024, so second ones.
    assert median_interval([6, 5, 4, 3, 2, 1]) == (3.5, 1.0, 6.0)
    assert median_interval(range(10)) == (4.5, 1.0, 8.0)
    median, low, high = median_interval([1, 2, 3, 4, 5])
    assert (median, np.isnan(low), np.isnan(high)) == (3.0, True, True)
    assert np.isnan(median_interval([])).all()


def test_a_median_counts_failures_as_infinite():
    assert median_interval([1.0, 2.0, np.inf])[0] == 2.0
    assert median_interval([1.0, np.inf, np.inf, np.inf])[0] == np.inf
    assert median_interval([1.0, np.inf])[0] == np.inf


def test_cells_by_hand():
    cells = cell_medians(
        across=[0.0, 0.4, 1.0, 2.0, 5.0, np.nan],
        up=[0.0, 0.5, 0.5, 1.0, 0.5, 0.5],
        loss=[20.0, 22.0, 30.0, 40.0, 99.0, 99.0],
        across_edges=[0.0, 1.0, 2.0],
        up_edges=[0.0, 1.0],
    )
    # (0, 0.4) below 1; 1.0 and the upper edge 2.0 in the second; 5.0 and NaN in none
    assert cells.to_numpy().tolist() == [[0, 0, 2, 21.0], [1, 0, 2, 35.0]]
