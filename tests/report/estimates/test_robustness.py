import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsvae_tune.report.estimates.robustness import near_best, share_within


def test_shares_by_hand():
    # 2 of 5, two of which have no loss
    share, low, high = share_within([0.0, 0.5, 0.6], 5, 0.5)
    assert share == 0.4
    # Clopper-Pearson for 2 of 5 (tabled): 5.27 % to 85.34 %
    assert (low, high) == (pytest.approx(0.0527, abs=1e-4), pytest.approx(0.8534, abs=1e-4))
    assert share_within([np.nan, np.inf], 2, 1.0)[0] == 0.0


def test_none_at_all():
    share, low, high = share_within([], 0, 0.5)
    assert (np.isnan(share), low, high) == (True, 0.0, 1.0)


def test_steps_by_hand():
    steps = near_best([0.3, 0.0, 0.3, np.nan], 4)
    assert steps.within_nats.tolist() == [0.0, 0.3]
    assert steps.share.tolist() == [0.25, 0.75]
    # 1 of 4: 0.63 % to 80.59 %; 3 of 4: mirrored
    assert steps.low.tolist() == pytest.approx([0.0063, 0.1941], abs=1e-4)
    assert steps.high.tolist() == pytest.approx([0.8059, 0.9937], abs=1e-4)


def test_steps_begin_at_the_best_wherever_it_is():
    assert near_best([0.3], 2).share.tolist() == [0.0, 0.5]
    assert near_best([np.nan], 1).to_numpy().tolist() == [[0.0, 0.0, 0.0, pytest.approx(0.975)]]


@given(st.lists(st.floats(0, 50), min_size=1, max_size=20), st.integers(0, 5))
def test_steps_rise_inside_their_band(excess, failed):
    steps = near_best(excess, len(excess) + failed)
    assert steps.share.is_monotonic_increasing
    assert steps.within_nats.is_unique
    assert ((steps.low <= steps.share) & (steps.share <= steps.high)).all()
    assert steps.share.iloc[-1] == len(excess) / (len(excess) + failed)
