"""The surrogate: what it reads, its scale of losses, and an R2 that says what it should."""

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsvae_tune.report.estimates import surrogate as module
from gsvae_tune.report.estimates.configurations import configurations_of, rows_of
from gsvae_tune.report.estimates.surrogate import (
    CONFIDENCE,
    HALVES,
    READABLE,
    LossScale,
    encoded,
    halves,
    interval_around,
    out_of_sample_r2,
    surrogate_of,
)
from tests.search.test_importance import choice, number


def grown(losses, *, columns=2, n=120, seed=0):
    """A surrogate of `losses(values)` for uniform values, (n, columns)."""
    rng = np.random.default_rng(seed)
    rows = rng.random((n, columns))
    searched = [number(f"x{place}") for place in range(columns)]
    table = pd.DataFrame(rows, columns=[one.name for one in searched])
    return surrogate_of(configurations_of(searched, table), rows, losses(rows, rng))


def test_r2_is_near_one_for_a_smooth_loss():
    assert grown(lambda x, _: 3 * x[:, 0] + x[:, 1], n=200).r2 > 0.95


@pytest.mark.parametrize("seed", range(4))
def test_r2_is_near_or_below_zero_for_noise(seed):
    assert grown(lambda x, rng: rng.normal(size=len(x)), n=80, seed=seed).r2 < 0.1


def test_a_constant_forest_has_an_r2_of_zero():
    # Features that never vary leave every forest only the mean of what it was grown on, by bootstrap
    # draws of it: a little worse than the mean itself.
    target = np.random.default_rng(0).normal(size=40)
    assert out_of_sample_r2(np.zeros((40, 2), np.float32), target) == pytest.approx(0, abs=0.03)


def test_a_prediction_of_the_mean_has_an_r2_of_exactly_zero(monkeypatch):
    class Mean:
        def __init__(self, target):
            self.mean = target.mean()

    monkeypatch.setattr(module, "_forest", lambda features, target, seed, trees: Mean(target))
    monkeypatch.setattr(
        module, "_tree_values", lambda forest, features: np.full((1, len(features)), forest.mean)
    )
    for n in (10, 37, 150):
        target = np.random.default_rng(n).normal(20, 3, size=n)
        assert out_of_sample_r2(np.zeros((n, 1)), target) == 0


def test_fewer_than_ten_trials_and_equal_losses_have_no_r2():
    assert np.isnan(grown(lambda x, _: x[:, 0], n=9).r2)
    assert np.isfinite(grown(lambda x, _: x[:, 0], n=10).r2)
    flat = grown(lambda x, _: np.full(len(x), 20.0), n=30)
    assert np.isnan(flat.r2)
    assert not flat.readable
    assert flat.predicted_nats(flat.rows) == pytest.approx(20.0)
    with pytest.raises(ValueError, match="needs two losses: there are 1"):
        grown(lambda x, _: np.array([1.0, np.nan, np.inf]), n=3)


def test_a_collapsed_run_does_not_decide():
    def losses(x, _):
        found = 20 + x[:, 0]
        found[::30] = 90.0  # four runs, anywhere
        return found

    one = grown(losses)
    assert one.r2 > READABLE
    assert out_of_sample_r2(encoded(one.configurations, one.rows), one.losses_nats) < 0
    assert one.scale.fence_nats == pytest.approx(21.75, abs=0.2)  # 20.75 + 1.5 * 0.5
    assert one.scale.compressed(90.0) < 22.5


def test_the_scale_is_nats_up_to_the_fence_and_bounded_beyond():
    scale = LossScale.of([1, 2, 3, 4, 5])  # quartiles 2 and 4: fence 4 + 1.5 * 2
    assert (scale.fence_nats, scale.unit_nats) == (7, 2)
    # beyond it by 1 and by 7 units of 2 nats: 1/2 and 7/8 of a unit
    assert scale.compressed([0, 7, 9, 21]).tolist() == pytest.approx([0, 7, 8, 8.75])
    assert LossScale.of([3, 3, 3, 3, 50]).compressed(50) == 50
    assert np.isfinite(scale.expanded(scale.compressed(1e300)))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=30))
def test_the_scale_can_be_undone_and_keeps_the_order(losses):
    scale = LossScale.of(losses)
    values = np.sort(losses)
    if scale.unit_nats > 1:
        compressed = scale.compressed(values)
        assert (np.diff(compressed) >= -1e-9).all()
        assert scale.expanded(compressed) == pytest.approx(values, rel=1e-6, abs=1e-6)


def test_every_setting_is_read_on_its_own_scale():
    searched = [
        number("tau", 0.1, 10.0, log=True), choice("rule", "a", "b", "c"),
        number("factor", 0.5, 0.9, when=["rule"]),
    ]  # fmt: skip
    table = pd.DataFrame(
        {"tau": [0.1, 1.0, 10.0], "rule": ["a", "c", None], "factor": [0.6, np.nan, np.nan]}
    )
    space = configurations_of(searched, table)
    found = encoded(space, rows_of(searched, table))
    assert found == pytest.approx(
        np.array(
            [
                [0.0, 1, 0, 0, 0.25, 0],  # tau, rule is a, b, c, factor, without factor
                [0.5, 0, 0, 1, -0.5, 1],
                [1.0, 0, 0, 0, -0.5, 1],
            ]
        )
    )


def test_a_prediction_is_the_mean_of_the_trees_and_repeats():
    one, again = (grown(lambda x, _: 20 + x[:, 0]) for _ in range(2))
    rows = one.rows[:5]
    trees = [tree.predict(encoded(one.configurations, rows)).ravel() for tree in one.forest]
    assert len(trees) == module.TREES
    assert one.predicted_nats(rows) == pytest.approx(np.mean(trees, axis=0))
    assert (one.r2, one.predicted_nats(rows).tolist()) == (
        again.r2, again.predicted_nats(rows).tolist(),
    )  # fmt: skip


def test_of_many_trials_some_are_drawn_and_time_stays_bounded():
    start = time.process_time()
    one = grown(lambda x, _: x[:, 0], n=10_000)
    assert time.process_time() - start < 3
    assert (one.trials, len(one.rows)) == (10_000, module.MOST)


def test_a_forest_predicts_as_scikit_learns():
    from sklearn.ensemble import RandomForestRegressor

    one = grown(lambda x, rng: 20 + 3 * x[:, 0] + x[:, 1] + rng.normal(0, 0.1, len(x)))
    features = encoded(one.configurations, one.rows)
    other = RandomForestRegressor(module.TREES, random_state=1).fit(features, one.losses_nats)
    # Two forests of one kind differ by the luck of their draws only.
    rows = np.random.default_rng(5).random((200, 2))
    apart = one.predicted_nats(rows) - other.predict(encoded(one.configurations, rows))
    assert abs(apart).mean() < 0.05
    assert abs(apart.mean()) < 0.02


def test_failed_trials_are_as_bad_as_the_worst_and_leave_the_scale_alone():
    def losses(x, _):
        found = 20 + x[:, 0]
        found[x[:, 1] > 0.6] = np.nan  # two fifths of them
        return found

    one, some = grown(losses), np.random.default_rng(0).random((120, 2))
    failed = some[:, 1] > 0.6
    ended = 20 + some[~failed, 0]
    assert (one.trials, one.failed, len(one.rows)) == (120, failed.sum(), 120)
    assert one.losses_nats[failed].tolist() == [ended.max()] * failed.sum()
    assert one.scale == LossScale.of(ended)
    assert one.predicted_nats(np.array([[0.1, 0.9]])) > 20.9
    assert one.predicted_nats(np.array([[0.1, 0.3]])) < 20.2
    assert one.r2 > 0.9


@pytest.mark.parametrize("n", [10, 67])
def test_halves_come_with_their_complements_and_repeat_none(n):
    found = halves(n)
    assert found.shape == (HALVES, n // 2)
    for one, other in zip(found[::2], found[1::2], strict=True):
        assert len({*one, *other}) == 2 * (n // 2)
    assert (found == halves(n)).all()
    assert len({tuple(half) for half in found}) == HALVES


def test_an_interval_by_hand():
    # of 1, 2, ..., 39 the 20th parts are the second from either end, and the median is 20
    found = np.arange(1.0, 40)[:, None]
    for estimate, ends in [(20, (2, 38)), (25, (2, 43)), (60, (2, 78)), (11, (-7, 38))]:
        low, high = interval_around([estimate], found)
        assert (low[0], high[0]) == pytest.approx(ends)
    low, high = interval_around([60.0, 11.0], np.hstack([found, found]), least=0, most=70)
    assert low.tolist() == pytest.approx([2, 0])
    assert high.tolist() == pytest.approx([70, 38])
    # halves that mostly find nothing do not say that there is something
    nothing = np.repeat([0.0, 0.3], [37, 4])[:, None]
    assert interval_around([0.1], nothing, least=0)[0][0] == 0


def test_an_interval_of_what_is_not_known_is_nan():
    found = np.full((40, 3), np.nan)
    found[:, 1:] = 1.0
    found[:5, 2] = np.nan
    low, high = interval_around([1.0, np.nan, 1.0], found)
    assert np.isnan([low[:2], high[:2]]).all()
    assert (low[2], high[2]) == (1, 1)


def test_the_interval_of_a_mean_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = []
    for seed in range(600):
        values = rng.normal(5, 1, 30)
        low, high = interval_around([values.mean()], values[halves(30, seed)].mean(axis=1)[:, None])
        held.append(low[0] <= 5 <= high[0])
    # standard error 0.012; Student's tails for 30 values cost 0.01, the luck of 40 halves as much
    assert np.mean(held) == pytest.approx(CONFIDENCE, abs=0.05)


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1), st.lists(st.floats(0, 1), min_size=2, max_size=40))
def test_an_interval_holds_its_estimate_and_the_bounds_hold_it(estimate, found):
    low, high = interval_around([estimate], np.array(found)[:, None], least=0, most=1)
    assert 0 <= low[0] <= estimate + 1e-12
    assert estimate - 1e-12 <= high[0] <= 1
