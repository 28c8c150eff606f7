import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsvae_tune.report.estimates import expected

LOSSES = [3.0, 1.0, 4.0, 1.5, 2.0]
values = st.lists(st.floats(-100, 100), min_size=1, max_size=30)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6])
def test_with_replacement_is_the_mean_over_all_draws(n):
    draws = itertools.product(LOSSES, repeat=n)  # each of N^n is as likely
    wanted = np.mean([min(draw) for draw in draws])
    assert expected.expected_best(LOSSES, [n]) == pytest.approx([wanted], abs=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_without_replacement_is_the_mean_over_all_subsets(n):
    wanted = np.mean([min(chosen) for chosen in itertools.combinations(LOSSES, n)])
    assert expected.expected_best_unbiased(LOSSES, [n]) == pytest.approx([wanted], abs=1e-12)


def test_by_hand():
    # Losses 1, 2; two draws: 1 in three of four cases, 2 in one; both drawn: 1.
    assert expected.expected_best([2.0, 1.0], [1, 2]) == pytest.approx([1.5, 1.25])
    assert expected.expected_best_unbiased([2.0, 1.0], [1, 2, 3]) == pytest.approx(
        [1.5, 1.0, np.nan], nan_ok=True
    )


def test_the_unbiased_one_is_unbiased_and_the_other_too_high():
    rng = np.random.default_rng(0)
    samples = rng.random((4_000, 8))  # the minimum of 4 uniform numbers is 1 / 5 on average
    without = np.mean([expected.expected_best_unbiased(row, [4]) for row in samples])
    with_ = np.mean([expected.expected_best(row, [4]) for row in samples])
    assert without == pytest.approx(0.2, abs=0.006)
    assert with_ > 0.21


@given(values)
def test_properties(losses):
    n = np.arange(1, len(losses) + 1)
    with_, without = expected.expected_best(losses, n), expected.expected_best_unbiased(losses, n)
    slack = 1e-9 * (1 + np.abs(losses).max())
    assert with_[0] == pytest.approx(np.mean(losses), abs=slack)
    assert without[0] == pytest.approx(np.mean(losses), abs=slack)
    assert without[-1] == pytest.approx(min(losses), abs=slack)
    assert (without <= with_ + slack).all()  # fewer different trials are drawn with replacement
    assert (np.diff(with_) <= slack).all()
    assert (np.diff(without) <= slack).all()


def test_thousands_of_trials_overflow_nothing():
    losses = np.arange(5_000.0)  # the minimum of n out of 0 .. N-1 is (N - n) / (n + 1) on average
    n = np.array([1, 10, 2_500, 5_000])
    wanted = (5_000 - n) / (n + 1)
    assert expected.expected_best_unbiased(losses, n) == pytest.approx(wanted, rel=1e-6, abs=1e-6)


def test_no_losses_say_nothing():
    assert np.isnan(expected.expected_best([], [1, 2])).all()
    assert np.isnan(expected.expected_best_unbiased([], [1, 2])).all()


def table(rows):
    columns = ["arm", "phase", "stratum", "state", "value", "wall_s"]
    return pd.DataFrame(rows, columns=columns).astype({"value": "float64", "wall_s": "float64"})


def test_failed_trials_are_the_worst_and_only_random_ones_count():
    curves = expected.expected_curves(
        table(
            [
                ("a", "search", "random", "complete", 1.0, 10.0),
                ("a", "search", "random", "complete", 3.0, 20.0),
                ("a", "search", "random", "failed", np.nan, 6.0),
                ("a", "search", "random", "running", np.nan, np.nan),
                ("a", "search", "tpe", "complete", 0.0, 1.0),
                ("a", "confirm", "confirm", "complete", 0.0, 1.0),
                ("b", "search", "random", "failed", np.nan, 6.0),
            ]
        )
    )
    assert set(curves.arm) == {"a"}  # b has no finite loss to be the worst
    assert curves.trials.tolist() == [1, 2, 3]
    assert curves.device_s.tolist() == [12.0, 24.0, 36.0]
    # losses 1, 3, 3: the minimum of two is 3 in 4 of 9 draws, in 1 of 3 pairs
    assert curves.with_nats[:2].tolist() == pytest.approx([7 / 3, 1 + 2 * 4 / 9])
    assert curves.without_nats.tolist() == pytest.approx([7 / 3, 1 + 2 / 3, 1.0])
    assert curves.failed.tolist() == [1, 1, 1]
    assert curves["of"].tolist() == [3, 3, 3]


def test_the_interval_is_that_of_a_plain_bootstrap():
    losses = np.random.default_rng(3).normal(20, 1, 30)
    rows = [("a", "search", "random", "complete", loss, 1.0) for loss in losses]
    curve = expected.expected_curves(table(rows))
    rng = np.random.default_rng(7)
    again = [expected.expected_best(rng.choice(losses, 30), curve.trials) for _ in range(4_000)]
    low, high = np.quantile(again, [0.025, 0.975], axis=0)
    assert np.abs(curve.low_nats - low).max() < 0.08
    assert np.abs(curve.high_nats - high).max() < 0.08


def test_equal_losses_have_no_width():
    curve = expected.expected_curves(table([("a", "search", "random", "complete", 2.0, 1.0)] * 6))
    assert curve[
        ["with_nats", "without_nats", "low_nats", "high_nats"]
    ].to_numpy() == pytest.approx(2)


def test_budgets_are_whole_ascending_and_few():
    assert expected.budgets_up_to(3).tolist() == [1, 2, 3]
    many = expected.budgets_up_to(3_000)
    assert many[0] == 1
    assert many[-1] == 3_000
    assert len(many) <= expected.BUDGETS
    assert (np.diff(many) > 0).all()
