"""Tests and intervals agree with scipy, with hand-worked numbers, and with brute force."""

import itertools
import math
import warnings

import numpy as np
import pytest
from scipy import stats

from gsvae_tune.report.inference import (
    EXACT_PAIRS,
    FLIPS,
    bca_interval,
    binomial_interval,
    exact_sign_flip_p,
    half_width,
    holm,
    interquartile_mean,
    paired_losses,
    probability_better,
    rank_stability,
    sign_flip_p,
    smallest_p,
    winners_curse,
)

NAN = float("nan")
INF = float("inf")


def normals(n, seed=0, mean=0.0):
    return np.random.default_rng(seed).normal(mean, 1.0, n)


def scipy_sign_flip(values):
    return stats.permutation_test(
        (values,), np.sum, permutation_type="samples", n_resamples=np.inf
    ).pvalue


def integer_sign_flip(values):
    """Whole numbers: every flip listed, no rounding anywhere."""
    flips = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(values))
    ]
    return sum(flip >= abs(sum(values)) for flip in flips) / len(flips)


# The sign-flip test


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([-1.0], 1.0),  # both flips are as far from 0
        ([-1.0, -2.0], 0.5),  # sums -3 -1 1 3
        ([-1.0, -2.0, -3.0], 0.25),  # sums +-6 +-4 +-2 0 0
        ([1.0, -2.0, -3.0], 0.5),  # +-4 and +-6 of 8
        ([-1.0, -1.0, -1.0, 1.0], 10 / 16),  # |sum| 4: 2 flips, |sum| 2: 8 flips, 0: 6 flips
        ([1.0, -1.0], 1.0),
        ([0.0, 0.0, 0.0], 1.0),
        ([0.0, 0.0, -1.0], 1.0),  # zeros flip into themselves: one pair is left
        ([], 1.0),
    ],
)
def test_sign_flips_counted_by_hand(differences, p):
    assert sign_flip_p(differences) == p
    assert sign_flip_p([-value for value in differences]) == p


@pytest.mark.parametrize("n", range(2, 12))
def test_sign_flip_is_scipys(n):
    values = normals(n, seed=n, mean=-0.5)
    assert sign_flip_p(values) == scipy_sign_flip(values)


@pytest.mark.parametrize("seed", range(20))
def test_sums_equal_on_paper_are_equal_in_floats(seed):
    whole = np.random.default_rng(seed).integers(-3, 4, size=9)
    p = integer_sign_flip(whole.tolist())
    assert sign_flip_p(whole) == p
    assert sign_flip_p(whole * 0.1) == p  # 0.1 + 0.2 is not 0.3
    losses = 107.3 + whole * 0.1
    assert sign_flip_p(losses - 107.3) == p  # rounded again where losses are subtracted
    assert sign_flip_p(np.roll(whole, 4) * 1e-9) == p


def test_a_sum_of_zero_is_certain():
    assert sign_flip_p([0.1, 0.2, -0.3]) == 1.0  # 0.1 + 0.2 - 0.3 is 6e-17 in floats


@pytest.mark.parametrize("n", [3, 8, EXACT_PAIRS])
def test_unanimous_pairs_reach_the_smallest_p(n):
    assert sign_flip_p(np.linspace(-2, -1, n)) == smallest_p(n)


def test_smallest_p():
    assert [smallest_p(n) for n in (0, 1, 2, 5, 8, 10)] == [1, 1, 0.5, 0.0625, 1 / 128, 1 / 512]
    assert smallest_p(5000) == 0.0


def test_many_studies_at_once_are_each_alone():
    studies = normals(42).reshape(2, 3, 7)
    alone = [[sign_flip_p(study) for study in row] for row in studies]
    assert exact_sign_flip_p(studies).tolist() == alone


def test_random_flips_come_close_to_the_exact_share():
    # 21 pairs, whole differences: the number of flips with each sum, counted by convolution.
    values = np.array([-3, 1, -2, -4, 2, -1, -5] * 3)
    ways = {0: 1}
    for value in values.tolist():
        following = {}
        for total, count in ways.items():
            for sign in (1, -1):
                key = total + sign * value
                following[key] = following.get(key, 0) + count
        ways = following
    exact = sum(c for total, c in ways.items() if abs(total) >= abs(values.sum())) / 2**21
    assert 0.001 < exact < 0.1
    error = 4 * math.sqrt(exact * (1 - exact) / FLIPS)
    assert sign_flip_p(values * 0.1) == pytest.approx(exact, abs=error)


def test_random_flips_are_seeded_and_never_certain():
    values = normals(30, mean=-0.3)
    assert sign_flip_p(values, seed=1) == sign_flip_p(values, seed=1) != sign_flip_p(values, seed=2)
    assert sign_flip_p(np.full(200, -1.0)) == 1 / (FLIPS + 1)
    assert sign_flip_p(np.zeros(200)) == 1.0


@pytest.mark.parametrize("bad", [NAN, INF])
def test_a_value_that_is_no_number_gives_no_p(bad):
    assert math.isnan(sign_flip_p([-1.0, bad]))


# Intervals


def scipy_bca(values):
    return stats.bootstrap(
        (values,), np.mean, n_resamples=9_999, random_state=np.random.default_rng(3)
    ).confidence_interval


@pytest.mark.parametrize("n", [2, 5, 10, 40])
def test_bca_is_scipys(n):
    whole = np.random.default_rng(n).integers(-9, 10, n)
    assert bca_interval(whole, seed=3) == pytest.approx(tuple(scipy_bca(whole)), rel=1e-9)
    # scipy counts means that differ in the last digit as different: visible where pairs are few.
    values = normals(n, seed=n)
    assert bca_interval(values, seed=3) == pytest.approx(tuple(scipy_bca(values)), abs=0.01)


def test_bca_of_skewed_values_by_its_formula():
    # Efron 1987: percentiles shifted by z0 (bias) and a (acceleration) of the resampled means.
    values = np.array([0.0, 0.1, 0.2, 0.4, 0.7, 1.1, 1.6, 3.0])
    means = np.random.default_rng(1).choice(values, (200_000, 8)).mean(axis=1)
    z0 = stats.norm.ppf(np.mean(means < values.mean()))
    off = values - values.mean()
    a = (off**3).sum() / (6 * (off**2).sum() ** 1.5)
    shifted = [z0 + (z0 + z) / (1 - a * (z0 + z)) for z in stats.norm.ppf([0.025, 0.975])]
    expected = np.quantile(means, stats.norm.cdf(shifted))
    assert bca_interval(values) == pytest.approx(expected, abs=0.04)


def test_bca_scales_with_its_values():
    values = normals(10)
    low, high = bca_interval(values)
    assert bca_interval(3 * values + 100) == pytest.approx((3 * low + 100, 3 * high + 100))
    assert bca_interval(values, seed=0) == (low, high) != bca_interval(values, seed=1)
    narrow = bca_interval(values, confidence=0.5)
    assert low < narrow[0] < values.mean() < narrow[1] < high


@pytest.mark.parametrize("v", [0.0, -0.3, 1e300])
def test_bca_of_equal_values(v):
    assert bca_interval([v] * 10) == (v, v)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, NAN], [1.0, 2.0, INF]])
def test_bca_of_nothing_known(values):
    assert all(math.isnan(end) for end in bca_interval(values))


@pytest.mark.parametrize(
    "values",
    [
        [0.3, 0.1 + 0.2],  # one unit in the last place apart
        [1e-200, 2e-200, 3e-200],
        [1e9, 1e9, 1e9 + 1e-6],
        [0.0] * 30 + [1.0],
        [0.0] + [1.0] * 4,
        [-1e6, 0.0, 1e-6],
    ],
)
def test_bca_of_awkward_values_is_quiet_and_inside_them(values):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        low, high = bca_interval(values)
    rounding = 1e-12 * np.ptp(values)
    assert min(values) - rounding <= low <= high <= max(values) + rounding


@pytest.mark.parametrize("n", [1, 2, 7, 10])
def test_intervals_of_whole_counts_are_scipys(n):
    for count in range(n + 1):
        exact = stats.binomtest(count, n).proportion_ci(0.9, method="exact")
        assert binomial_interval(count, n, confidence=0.9) == pytest.approx(tuple(exact))


def test_intervals_by_hand():
    # None of n: the upper end is the rate at which (1 - rate)^n = 0.025.
    assert binomial_interval(0, 10) == (0.0, pytest.approx(1 - 0.025**0.1))
    assert binomial_interval(10, 10) == (pytest.approx(0.025**0.1), 1.0)
    assert binomial_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("count", [-1, 11, NAN])
def test_a_count_outside_its_range_is_refused(count):
    with pytest.raises(ValueError, match="between 0 and n"):
        binomial_interval(count, 10)


def test_half_counts_lie_between_whole_ones():
    for count in range(10):
        lower, half, upper = (np.array(binomial_interval(count + s, 10)) for s in (0, 0.5, 1))
        assert (lower <= half).all()
        assert (half <= upper).all()


def test_probability_better_counts_wins_and_half_ties():
    whole = stats.binomtest(3, 4).proportion_ci(method="exact")
    assert probability_better([-1.0, -2.0, 3.0, -0.1]) == pytest.approx((0.75, *whole))
    assert probability_better([-1.0, -2.0, 0.0, 0.0]) == pytest.approx((0.75, *whole))
    share, low, high = probability_better([-1.0, 0.0, 1.0, 1.0])
    assert (share, low, high) == (0.375, *binomial_interval(1.5, 4))
    assert probability_better(np.zeros(6))[0] == 0.5
    assert probability_better([-1.0] * 5)[2] == 1.0


def test_probability_better_of_nothing_known():
    assert probability_better([])[1:] == (0.0, 1.0)
    assert math.isnan(probability_better([])[0])
    assert all(math.isnan(value) for value in probability_better([-1.0, NAN]))


def test_binomial_interval_holds_its_rate():
    # Clopper-Pearson never holds the true rate less often than it says: by summing over counts.
    for rate in (0.02, 0.3, 0.5):
        held = [low <= rate <= high for low, high in (binomial_interval(c, 20) for c in range(21))]
        assert np.array(held) @ stats.binom.pmf(np.arange(21), 20, rate) >= 0.95


# Means, families


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([100.0, 2.0, 3.0, -50.0], 2.5),
        ([1.0, 2.0, 3.0, 4.0, 99.0], 3.0),  # int(5 / 4): one at each end
        ([1.0, 2.0, 6.0], 3.0),
        ([7.0], 7.0),
        ([0, 1, 2, 3, 4, 5, 6, 70], 3.5),
    ],
)
def test_interquartile_mean_by_hand(values, mean):
    assert interquartile_mean(values) == pytest.approx(mean)
    assert interquartile_mean(values[::-1]) == pytest.approx(mean)


def test_interquartile_mean_of_nothing_known():
    assert math.isnan(interquartile_mean([]))
    assert math.isnan(interquartile_mean([1.0, 2.0, 3.0, 4.0, NAN]))


def test_holm_by_hand():
    # 4 x 0.005, 3 x 0.01, 2 x 0.03, and 1 x 0.04 raised to the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == pytest.approx([1.0, 1.0])
    assert holm([0.02, 0.02]) == pytest.approx([0.04, 0.04])
    assert holm([0.03]) == pytest.approx([0.03])
    assert holm([]).shape == (0,)


def test_holm_counts_what_could_not_be_tested():
    adjusted = holm([0.01, NAN, 0.02])
    assert adjusted[[0, 2]] == pytest.approx([0.03, 0.04])
    assert math.isnan(adjusted[1])


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_the_step_down_procedure(seed):
    p = np.random.default_rng(seed).uniform(0, 0.1, 8)
    adjusted = holm(p)
    assert (np.argsort(adjusted, kind="stable")[0], adjusted.min()) == (p.argmin(), 8 * p.min())
    for alpha in (0.01, 0.05, 0.2):
        rejected, left = set(), 8
        for place in np.argsort(p):
            if p[place] > alpha / left:
                break
            rejected.add(int(place))
            left -= 1
        assert set(np.flatnonzero(adjusted <= alpha).tolist()) == rejected


# Searches


def test_the_half_width_holds_seeds_and_searches():
    assert half_width(0.1, 10, 0.0) == pytest.approx(0.1 * stats.t.ppf(0.975, 9))
    assert half_width(0.0, 10, 0.3) == 0.3
    assert half_width(0.4 / stats.t.ppf(0.995, 9), 10, 0.3, 0.99) == pytest.approx(0.5)
    assert math.isnan(half_width(0.1, 1, 0.0))


def test_winners_curse_is_positive_where_the_selected_score_flattered():
    assert winners_curse(100.0, [101.0, 103.0]) == 2.0
    assert winners_curse([100.0, 102.0], [101.0, 103.0]) == 1.0
    assert math.isnan(winners_curse(100.0, []))
    assert math.isnan(winners_curse(100.0, [101.0, NAN]))
    assert math.isnan(winners_curse(INF, [INF]))


@pytest.mark.parametrize(
    ("again", "tau"),
    [
        ([1.0, 2.0, 3.0], 1.0),
        ([3.0, 2.0, 1.0], -1.0),
        ([1.0, 3.0, 2.0], 1 / 3),  # 2 pairs in order, 1 reversed
        ([1.0, 1.0, 2.0], 2 / math.sqrt(3 * 2)),  # tau-b: 2 in order of 3 and 2 untied ones
        ([1.0, 2.0, INF], 1.0),  # a failure ranks last
    ],
)
def test_rank_stability_by_hand(again, tau):
    assert rank_stability([10.0, 20.0, 30.0], again) == pytest.approx(tau)


def test_rank_stability_of_nothing_known():
    for scores, again in (([], []), ([1.0], [2.0]), ([1.0, 2.0], [3.0, 3.0]), ([1, 2], [NAN, 1])):
        assert math.isnan(rank_stability(scores, again))
    with pytest.raises(ValueError, match="3 selected, 2 re-evaluated"):
        rank_stability([1, 2, 3], [1, 2])


# Failures


def test_failed_replicates_become_losses():
    arm, baseline = paired_losses(
        [100.0, 90.0, NAN, 101.0, INF],
        [102.0, 103.0, 99.0, NAN, 98.0],
        [False, True, True, False, False],
        [False, False, False, True, False],
        margin=10.0,
    )
    # The largest finite loss is 103: a failure costs 113, marked or not.
    assert arm.tolist() == [100.0, 113.0, 113.0, 101.0, 113.0]
    assert baseline.tolist() == [102.0, 103.0, 99.0, 113.0, 98.0]


def test_a_failure_is_no_better_than_its_own_loss():
    arm, baseline = paired_losses([500.0, 1.0], [2.0, 3.0], [True, False], [False, False], 1.0)
    assert arm.tolist() == [501.0, 1.0]
    assert baseline.tolist() == [2.0, 3.0]


def test_two_failures_in_a_pair_tie():
    arm, baseline = paired_losses([NAN, 5.0], [90.0, 6.0], [True, False], [True, False], 2.0)
    assert (arm - baseline).tolist() == [0.0, -1.0]
    assert arm[0] == 92.0


def test_where_everything_failed_all_pairs_tie():
    arm, baseline = paired_losses([NAN, INF], [-INF, NAN], [True, True], [False, True], 2.0)
    assert (arm - baseline).tolist() == [0.0, 0.0]
    assert sign_flip_p(arm - baseline) == 1.0


def test_losses_without_failures_are_what_they_were():
    losses = [3.0, -1.0]
    arm, baseline = paired_losses(losses, [-2.0, -4.0], [False] * 2, [False] * 2, 5.0)
    arm[0] = 0.0  # a copy: the caller's stay
    assert (losses, baseline.tolist()) == ([3.0, -1.0], [-2.0, -4.0])
    assert [array.shape for array in paired_losses([], [], [], [], 1.0)] == [(0,), (0,)]


def test_pairs_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match=r"\(2,\), \(1,\), \(2,\), \(2,\)"):
        paired_losses([1.0, 2.0], [1.0], [False, False], [False, False], 1.0)
    for margin in (-1.0, NAN, INF):
        with pytest.raises(ValueError, match="margin"):
            paired_losses([1.0], [1.0], [False], [False], margin)
