import numpy as np
import pandas as pd
import pytest

from gsvae_tune.report.estimates.spread import components, trial_spreads


def table(*trials):
    return pd.DataFrame(
        [{"number": i, "loss_nats": v} for i, values in enumerate(trials) for v in values],
        columns=["number", "loss_nats"],
        dtype=float,
    )


def test_balanced_by_hand():
    # means 2, 5, 8; within: 3 * (1 + 0 + 1) / 6 = 1; among: 3 * (9 + 0 + 9) / 2 = 27
    # between^2 = (27 - 1) / 3; share = 26/3 / (26/3 + 1) = 26/29
    found = components(table([1, 2, 3], [4, 5, 6], [7, 8, 9]))
    assert found.within_nats == pytest.approx(1.0)
    assert found.between_nats == pytest.approx((26 / 3) ** 0.5)
    assert found.share == pytest.approx(26 / 29)
    # Left out in turn: means 5, 8: among 3 * 4.5 = 13.5; 2, 8: 54; 2, 5: 13.5; within stays 1.
    # Pseudo-values 3 log 27 - 2 log: 4.6822, 1.9095, 4.6822: mean 3.7580, sd 1.6008; t(2) 4.3027
    reach = 4.3027 * 1.6008 / 3**0.5
    low, high = np.exp(3.7580 - reach), np.exp(3.7580 + reach)
    assert found.share_low == max(0.0, (low - 1) / (low + 2)) == 0.0
    assert found.share_high == pytest.approx((high - 1) / (high + 2), abs=1e-4)
    # squares to the mean 5: 9, 0, 9: one trial (a tenth, at least one) holds half
    assert found.farthest_share == pytest.approx(0.5)
    # medians: variances are all 1, over ln 2 * 2 / 2 = 0.6931, the median for normal losses;
    # distances of means to 5: 3, 0, 3, so 1.4826 * 3, less the within part of a mean of 3
    assert found.robust_within_nats == pytest.approx((1 / np.log(2)) ** 0.5)
    rest = (1.482602 * 3) ** 2 - 1 / np.log(2) / 3
    assert found.robust_between_nats == pytest.approx(rest**0.5)
    assert (found.trials, found.losses) == (3, 9)


def test_unequal_numbers_by_hand():
    # n 2, 4: means 1, 4; grand (2 + 16) / 6 = 3; among: (2 * 4 + 4 * 1) / 1 = 12
    # within: ((1 + 1) + (4 + 0 + 0 + 4)) / (6 - 2) = 2.5; n0 = 6 - (4 + 16) / 6 = 8/3
    found = components(table([0, 2], [2, 4, 4, 6]))
    assert found.within_nats**2 == pytest.approx(2.5)
    assert found.between_nats**2 == pytest.approx((12 - 2.5) / (8 / 3))


def test_seeds_alone_leave_nothing_between():
    found = components(table([1, 3], [2, 2.1], [3, 1]))
    assert found.between_nats == found.share == found.share_low == 0.0


def test_trials_alone_leave_nothing_within():
    found = components(table([1.1, 1.1, 1.1], [2.2, 2.2, 2.2]))
    assert found.within_nats == 0.0
    assert found.share == found.share_low == found.share_high == 1.0


def test_equal_losses_have_no_share():
    found = components(table([20.1] * 3, [20.1] * 3, [20.1] * 3))
    assert found.between_nats == found.within_nats == 0.0
    assert np.isnan(found.share)


@pytest.mark.parametrize("losses", [(), ([1, 2, 3],), ([1], [2], [3]), ([1, np.nan], [2])])
def test_what_cannot_be_told_apart(losses):
    assert components(table(*losses)) is None


def test_failed_replicates_are_left_out():
    assert components(table([1, 2, np.nan], [4, 5, np.inf])) == components(table([1, 2], [4, 5]))


def test_too_few_trials_have_no_interval():
    found = components(table([1, 2], [4, 5]))
    assert found.share > 0.8
    assert np.isnan([found.share_low, found.share_high]).all()
    # without the one trial that has replicates nothing is known of the spread within
    assert np.isnan(components(table([1, 2], [4], [6], [9])).share_low)


def test_the_interval_holds_the_truth_where_effects_have_heavy_tails():
    # t with 3 degrees of freedom: variance 3; between^2 = 0.09 * 3, within^2 = 0.04
    truth = 0.27 / 0.31
    held = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        means = 20 + 0.3 * rng.standard_t(3, 67)
        found = components(table(*(mean + rng.normal(0, 0.2, 3) for mean in means)))
        held.append(found.share_low <= truth <= found.share_high)
    assert np.mean(held) >= 0.77  # of 300: 85 %; the interval of F theory: 65 %


def test_known_components_are_found():
    rng = np.random.default_rng(0)
    means = rng.normal(20, 0.5, 400)
    losses = table(*(mean + rng.normal(0, 0.2, 3) for mean in means))
    found = components(losses)
    for between, within in [
        (found.between_nats, found.within_nats),
        (found.robust_between_nats, found.robust_within_nats),
    ]:
        assert between == pytest.approx(0.5, abs=0.05)
        assert within == pytest.approx(0.2, abs=0.02)
    assert found.share_low < 25 / 29 < found.share_high


def test_single_bad_trials_move_only_the_plain_components():
    rng = np.random.default_rng(0)
    losses = [mean + rng.normal(0, 0.2, 3) for mean in rng.normal(20, 0.5, 50)]
    plain, bad = components(table(*losses)), components(table(*losses, [30, 40, 50]))
    assert bad.between_nats > 2 * plain.between_nats
    assert bad.within_nats > 2 * plain.within_nats
    assert bad.robust_between_nats == pytest.approx(plain.robust_between_nats, rel=0.1)
    assert bad.robust_within_nats == pytest.approx(plain.robust_within_nats, rel=0.1)


def test_spreads_of_trials():
    found = trial_spreads(table([1, 3], [5], [np.nan]))
    assert found["number"].tolist() == [0, 1]
    assert found.n.tolist() == [2, 1]
    assert found["mean"].tolist() == [2.0, 5.0]
    assert found.sd.iloc[0] == pytest.approx(2**0.5)
    assert np.isnan(found.sd.iloc[1])
