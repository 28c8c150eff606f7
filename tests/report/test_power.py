"""Power agrees with the noncentral t distribution, with known values, and with the rule itself."""

import numpy as np
import pytest
from scipy import stats

from gsvae_tune.report.inference import sign_flip_p, smallest_p
from gsvae_tune.report.power import (
    QUANTILES,
    SIMULATED_PAIRS,
    _by_simulation,
    _by_t_test,
    detectable_effect,
    power,
    replicates_needed,
)


def t_test_power(n, effect_in_sd, alpha=0.05):
    """A paired t-test that comes out significant in the right direction."""
    critical = stats.t.ppf(1 - alpha / 2, n - 1)
    return stats.nct.sf(critical, n - 1, effect_in_sd * np.sqrt(n))


@pytest.mark.parametrize("n", [13, 20, 34, 100, 1000])
def test_without_luck_it_is_the_noncentral_t(n):
    for distance in (0.0, 1.0, 2.0, 2.8, 4.0):  # effect in standard errors
        effect = distance / np.sqrt(n)
        assert power(n, effect, 1.0) == pytest.approx(t_test_power(n, effect), abs=1e-4)
    expected = t_test_power(n, 3 / np.sqrt(n), alpha=0.005)
    assert power(n, 3 / np.sqrt(n), 1.0, alpha=0.005) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("effect", "n"), [(1.0, 10), (0.8, 15), (0.5, 34), (0.2, 199)])
def test_known_numbers_of_pairs_for_a_power_of_80_percent(effect, n):
    # The paired t-test's textbook numbers. At 10 pairs its power is 0.803 and the sign-flip test's
    # 0.796, so that this one asks for one pair more.
    assert t_test_power(n - 1, effect) < 0.8 <= t_test_power(n, effect)
    assert replicates_needed(effect, 1.0) in {n, n + (n <= SIMULATED_PAIRS)}
    assert power(n, effect, 1.0) == pytest.approx(t_test_power(n, effect), abs=0.02)


@pytest.mark.parametrize("luck", [0.0, 0.2, 0.4])
@pytest.mark.parametrize("effect", [0.0, 0.5, 0.7, 0.9, 1.2])
def test_at_twelve_pairs_the_t_test_stands_for_the_sign_flip_test(effect, luck):
    exact = _by_simulation(12, effect, 1.0, 0.05, luck, 2 * luck)
    assert exact == pytest.approx(_by_t_test(12, effect, 1.0, 0.05, luck, 2 * luck), abs=0.02)


@pytest.mark.parametrize(("n", "luck"), [(8, 0.0), (8, 0.5), (15, 0.3)])
def test_it_is_how_often_the_rule_says_supported(n, luck):
    effect, sd, studies = 1.5, 1.3, 1_500
    generator = np.random.default_rng(11)
    supported = 0
    for _ in range(studies):
        true = generator.normal(-effect, luck)
        differences = generator.normal(true, sd, n)
        se = stats.sem(differences)
        quantiles = stats.t.ppf(0.975, n - 1), stats.norm.ppf(0.975)
        better = differences.mean() + np.hypot(quantiles[0] * se, quantiles[1] * luck) < 0
        supported += better and sign_flip_p(differences) <= 0.05
    assert power(n, effect, sd, search_luck_nats=luck) == pytest.approx(
        supported / studies, abs=4 * 0.5 / np.sqrt(studies)
    )


def test_too_few_pairs_have_no_power():
    assert smallest_p(5) > 0.05
    assert [power(n, 100.0, 0.1) for n in (0, 1, 2, 5)] == [0.0, 0.0, 0.0, 0.0]
    assert power(6, 100.0, 0.1) == 1.0
    assert power(6, 100.0, 0.1, alpha=0.05 / 2) == 0.0
    assert power(5, 100.0, 0.1, alpha=0.0625) == 1.0
    assert power(1, 100.0, 0.1, alpha=0.999) == 0.0


@pytest.mark.parametrize("n", [6, 10, 12, 13, 50])
def test_without_noise_the_sign_decides(n):
    assert [power(n, effect, 0.0) for effect in (1.0, 0.0, -1.0)] == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("n", [6, 8, 10, 12, 13, 50])
@pytest.mark.parametrize("luck", [0.0, 0.1, 0.2, 0.5, 3.0])
def test_no_effect_is_rarely_supported(n, luck):
    limit = 0.033 if luck else 0.0265  # 0.031 and 0.025, and the simulation's noise
    assert power(n, 0.0, 1.0, search_luck_nats=luck) < limit
    assert power(n, -1.0, 1.0) < 0.001


def test_more_pairs_have_more_power():
    for effect, luck in ((0.5, 0.0), (1.0, 0.0), (1.0, 0.3)):
        powers = [power(n, effect, 1.0, search_luck_nats=luck) for n in (*range(5, 20), 50, 500)]
        assert (np.diff(powers) > 0).all()


@pytest.mark.parametrize("n", [8, 30])
def test_more_effect_less_noise_and_less_luck_have_more_power(n):
    assert (np.diff([power(n, effect, 1.0) for effect in (-1, 0, 0.2, 0.4, 0.8)]) > 0).all()
    assert (np.diff([power(n, 1.0, sd) for sd in (1.5, 2, 3, 4)]) < 0).all()
    by_luck = [power(n, 1.0, 1.0, search_luck_nats=luck) for luck in (0, 0.1, 0.3, 0.5, 0.9)]
    assert (np.diff(by_luck) < 0).all()


@pytest.mark.parametrize("n", [9, 40])
def test_only_ratios_matter(n):
    nats = power(n, 12.0, 15.0, search_luck_nats=3.0)
    assert nats == pytest.approx(power(n, 0.8, 1.0, search_luck_nats=0.2), abs=1e-3)
    assert power(n, 0.8, 1.0) == power(n, 0.8, 1.0)


def test_luck_sets_a_ceiling_that_seeds_do_not_lift():
    for luck in (0.3, 0.5, 2.0):
        ceiling = stats.norm.cdf(1.0 / luck - stats.norm.ppf(0.975))
        assert power(1_000_000, 1.0, 1.0, search_luck_nats=luck) == pytest.approx(ceiling, abs=1e-4)
    # 0.8 of it lies at an effect of z(0.975) + z(0.8) = 2.80 times luck.
    assert replicates_needed(1.0, 1.0, search_luck_nats=1 / 2.81, most=10_000) is not None
    assert replicates_needed(1.0, 1.0, search_luck_nats=1 / 2.79, most=10_000) is None


@pytest.mark.parametrize(
    ("effect", "wanted", "luck"),
    [(2.0, 0.8, 0.0), (1.0, 0.8, 0.0), (1.0, 0.95, 0.0), (0.4, 0.8, 0.0), (1.0, 0.8, 0.3)],
)
def test_the_number_needed_is_the_smallest(effect, wanted, luck):
    n = replicates_needed(effect, 1.0, wanted, search_luck_nats=luck)
    assert power(n, effect, 1.0, search_luck_nats=luck) >= wanted
    below = [power(fewer, effect, 1.0, search_luck_nats=luck) for fewer in range(n - 3, n)]
    assert max(below) < wanted
    assert replicates_needed(effect, 1.0, wanted, search_luck_nats=luck, most=n) == n
    assert replicates_needed(effect, 1.0, wanted, search_luck_nats=luck, most=n - 1) is None


def test_a_stricter_alpha_needs_more_pairs():
    assert replicates_needed(50.0, 1.0) == 6  # the smallest p, nothing else
    assert replicates_needed(50.0, 1.0, alpha=0.05 / 4) == 8
    assert replicates_needed(0.0, 1.0) is None
    assert replicates_needed(-1.0, 1.0) is None


def test_the_average_over_the_sample_sd_is_fine_enough(monkeypatch):
    coarse = power(13, 0.8, 1.0, search_luck_nats=0.2)
    monkeypatch.setattr("gsvae_tune.report.power.QUANTILES", 50 * QUANTILES)
    assert power(13, 0.8, 1.0, search_luck_nats=0.2) == pytest.approx(coarse, abs=2e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": 1.0}, "alpha"),
        ({"sd_nats": -1.0}, "sd_nats is 0 or more"),
        ({"sd_nats": float("nan")}, "sd_nats"),
        ({"search_luck_nats": -0.1}, "search_luck_nats"),
        ({"search_luck_nats": float("inf")}, "search_luck_nats"),
        ({"effect_nats": float("nan")}, "effect_nats"),
    ],
)
def test_impossible_plans_are_refused(arguments, message):
    plan = {"effect_nats": 1.0, "sd_nats": 1.0} | arguments
    with pytest.raises(ValueError, match=message):
        power(10, **plan)
    with pytest.raises(ValueError, match=message):
        replicates_needed(**plan)


@pytest.mark.parametrize("wanted", [0.0, 1.0, 80.0])
def test_a_wanted_power_is_a_probability(wanted):
    with pytest.raises(ValueError, match="power wanted"):
        replicates_needed(1.0, 1.0, wanted)


@pytest.mark.parametrize("n", [10, 25])
def test_the_detectable_effect_is_the_one_found_with_that_power(n):
    for luck in (0.0, 0.2):
        effect = detectable_effect(n, 0.5, 0.8, search_luck_nats=luck)
        assert power(n, effect, 0.5, search_luck_nats=luck) == pytest.approx(0.8, abs=0.01)
    assert detectable_effect(5, 0.5) is None  # five pairs find nothing
    assert detectable_effect(n, 0.0) == 0.0
    with pytest.raises(ValueError, match="power wanted"):
        detectable_effect(n, 0.5, 1.0)


@pytest.mark.parametrize("n", [10, 40])
def test_a_lead_is_asked_for_beside_what_seeds_ask_for(n):
    assert power(n, 1.0, 0.3, lead_nats=0.0) == power(n, 1.0, 0.3)
    assert power(n, 1.0, 0.3, search_luck_nats=0.2) == pytest.approx(
        power(n, 1.0, 0.3, search_luck_nats=0.2, lead_nats=0.2 * stats.norm.ppf(0.975))
    )
    assert power(n, 1.0, 0.01, lead_nats=1.1) == 0.0
    assert power(n, 1.0, 0.01, lead_nats=0.9) == 1.0
    ceiling = stats.norm.cdf((1.0 - 0.6) / 0.5)
    asked = power(100_000, 1.0, 1.0, search_luck_nats=0.5, lead_nats=0.6)
    assert asked == pytest.approx(ceiling, abs=1e-3)
    assert replicates_needed(1.0, 0.1, lead_nats=1.1) is None
    effect = detectable_effect(n, 0.3, lead_nats=0.5)
    assert power(n, effect, 0.3, lead_nats=0.5) == pytest.approx(0.8, abs=0.01)
