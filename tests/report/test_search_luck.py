"""What luck in searching may give, and how far repeated searches move: by hand and by trial."""

import math

import numpy as np
import pytest

from gsvae_tune.report.inference import binomial_interval, search_lead, search_luck

NAN, INF = float("nan"), float("inf")


def test_a_lead_by_hand():
    # The 2 best of 2 + 2 trials are all of one search with probability 2 1 / (4 3) = 1/6, those of
    # 3 + 3 with 3 2 / (6 5) = 1/5 and the 3 best with 1/20.
    assert math.isnan(search_lead([1.0, 2.0], 2, 0.16))
    assert search_lead([1.0, 3.0], 2, 0.17) == 2.0
    assert search_lead([1.0, 4.0, 2.0], 3, 0.2) == 1.0
    assert search_lead([1.0, 4.0, 2.0], 3, 0.05) == 3.0
    assert search_lead([5.0, 5.0, 5.0], 3, 0.05) == 0.0


@pytest.mark.parametrize("n", [5, 10, 20, 200])
def test_many_trials_need_about_a_halving_each(n):
    values = np.arange(n)
    needed = search_lead(values, n, 0.025)  # the rank it takes, less one
    assert needed == (3 if n == 5 else 4 if n < 200 else 5)
    assert search_lead(values, 10 * n, 0.025) <= needed  # against a longer search less will do


@pytest.mark.parametrize("shape", [0.5, 1.0, 2.5, 6.0])
@pytest.mark.parametrize(("n", "m"), [(10, 10), (20, 20), (8, 30)])
def test_a_lead_comes_by_luck_as_rarely_as_it_says_whatever_the_landscape(shape, n, m):
    """In d dimensions a search's losses near the optimum are Weibull of shape d / 2."""
    generator = np.random.default_rng(int(10 * shape) + n)
    level, ahead, studies = 0.05, 0, 3_000
    for _ in range(studies):
        one, other = generator.weibull(shape, n), generator.weibull(shape, m)
        ahead += one.min() + search_lead(one, m, level) < other.min()
    low, _ = binomial_interval(ahead, studies)
    assert low <= level


def test_a_lead_needs_finished_trials_on_both_sides():
    assert search_lead([4.0, NAN, 0.0, INF], 2, 0.2) == search_lead([4.0, 0.0], 2, 0.2)
    for values, others in (([], 5), ([1.0], 1), ([1.0, NAN], 1), ([1.0, 2.0, 3.0], 0)):
        assert math.isnan(search_lead(values, others, 0.025))


def test_luck_of_two_and_three_trials_by_hand():
    # Both draws are the worse one with probability 1/4: 4 x sqrt(1/4 x 3/4).
    assert search_luck([105.0, 101.0]) == pytest.approx(math.sqrt(3))
    # The minimum is 0, 1, 2 with probability 19/27, 7/27, 1/27: mean 9/27, mean square 11/27.
    assert search_luck([2.0, 0.0, 1.0]) == pytest.approx(math.sqrt(11 / 27 - 1 / 9))
    assert search_luck([1e9 + 4, 1e9]) == pytest.approx(math.sqrt(3))
    assert search_luck([4.0, NAN, 0.0, INF]) == search_luck([4.0, 0.0])
    for values in ([], [1.0], [1.0, NAN]):
        assert math.isnan(search_luck(values))


def test_luck_is_the_spread_of_resampled_minima():
    values = 100 + np.random.default_rng(5).gamma(2.0, 3.0, 20)
    draws = np.random.default_rng(1).choice(values, (50_000, 20)).min(axis=1)
    assert search_luck(values) == pytest.approx(draws.std(), rel=0.03)
