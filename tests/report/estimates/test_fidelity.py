import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from gsvae_tune.report.estimates import fidelity


def records(losses, *, arm="a", control=None):
    """One row a (trial, replicate, branch, epoch) of losses[trial][epoch][replicate][branch]."""
    rows = []
    for trial, by_epoch in enumerate(losses):
        for epoch, by_replicate in enumerate(by_epoch, 1):
            for replicate, pair in enumerate(by_replicate):
                for branch, loss in zip("ab", pair, strict=True):
                    told = (
                        loss
                        if control is None
                        else control[trial][epoch - 1][replicate]["ab".index(branch)]
                    )
                    rows.append((arm, "search", trial, replicate, branch, epoch, told, loss))
    columns = ["arm", "phase", "number", "replicate", "branch", "epoch"]
    return pd.DataFrame(rows, columns=[*columns, "control_loss_discrete", "val_neg_elbo_nats"])


def trials(values, states=None, arm="a"):
    states = states or ["complete"] * len(values)
    return pd.DataFrame(
        {"arm": arm, "phase": "search", "number": range(len(values)), "state": states,
         "value": np.asarray(values, dtype=float)}
    )  # fmt: skip


def test_the_loss_is_the_mean_over_replicates_of_the_branch_that_control_prefers():
    # replicate 0: control prefers b (its validation loss is 5), replicate 1: a tie goes to a (2)
    found = fidelity.losses_at(
        records([[[(4.0, 5.0), (2.0, 9.0)]]], control=[[[(1.0, 0.5), (1.0, 1.0)]]]), pd.Index([0])
    )
    assert found.to_numpy().tolist() == [[3.5]]


def test_a_failed_branch_is_not_chosen_and_a_failed_replicate_is_infinitely_bad():
    nan = np.nan
    one = fidelity.losses_at(records([[[(nan, 5.0), (2.0, nan)]]]), pd.Index([0]))
    assert one.to_numpy().tolist() == [[3.5]]
    both = fidelity.losses_at(records([[[(nan, nan), (2.0, 1.0)]]]), pd.Index([0, 1]))
    assert both.to_numpy().tolist() == [[np.inf], [np.inf]]  # trial 1 has no records at all


def plain(series):
    return [[[(loss, loss + 1)] for loss in one] for one in series]


def test_correlation_and_regret_by_hand():
    # Final values 1, 2, 3, 4. Epoch 1 orders 2 1 3 4: rho = 1 - 6 * 2 / (4 * 15) = 0.8, and its
    # first is the second best in the end: a regret of 1 nat.
    series = [[6.0, 1.0], [5.0, 2.0], [7.0, 3.0], [8.0, 4.0]]
    curve = fidelity.proxy_curves(trials([1, 2, 3, 4]), records(plain(series)))
    assert curve.epoch.tolist() == [1, 2]
    assert curve.correlation.tolist() == pytest.approx([0.8, 1.0])
    assert curve.regret_nats.tolist() == [1.0, 0.0]
    assert (curve.low <= curve.correlation).all()
    assert (curve.high >= curve.correlation).all()


def test_failed_trials_rank_last_and_pruned_ones_are_left_out():
    series = [[6.0, 1.0], [5.0, 2.0], [4.0, np.nan], [1.0, np.nan]]
    states = ["complete", "complete", "failed", "pruned"]
    curve = fidelity.proxy_curves(trials([1, 2, np.nan, 0.5], states), records(plain(series)))
    assert curve["of"].tolist() == [3, 3]
    assert curve.failed.tolist() == [1, 1]
    assert curve.pruned.tolist() == [1, 1]
    assert curve.correlation.tolist() == pytest.approx([-1.0, 1.0])
    assert curve.regret_nats.tolist() == [1.0, 0.0]  # the one that failed is as bad as the worst


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=20),
    st.integers(0, 9),
)
def test_correlations_of_resamples_are_those_of_scipy(pairs, seed):
    x, y = np.array(pairs, dtype=float).T
    drawn = np.random.default_rng(seed).integers(0, len(x), len(x))
    counts = np.bincount(drawn, minlength=len(x))
    (found,) = fidelity.rank_correlations(x, y, counts[None, :])
    if np.ptp(x[drawn]) == 0 or np.ptp(y[drawn]) == 0:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(spearmanr(x[drawn], y[drawn]).statistic, abs=1e-9)


def test_final_values_that_are_all_one_have_no_order():
    curve = fidelity.proxy_curves(trials([2, 2, 2]), records(plain([[3.0], [4.0], [5.0]])))
    assert curve.correlation.isna().all()
    assert curve.low.isna().all()
    assert (curve.regret_nats == 0).all()


def test_nothing_on_record_gives_nothing():
    empty = records([])
    assert fidelity.proxy_curves(trials([1, 2]), empty).empty
    lost = trials([np.nan], ["failed"])
    assert fidelity.proxy_curves(lost, records(plain([[1.0]]))).empty


def test_many_epochs_and_trials_are_thinned():
    rng = np.random.default_rng(0)
    series = rng.random((450, 3))
    curve = fidelity.proxy_curves(trials(series[:, -1]), records(plain(series.tolist())))
    assert (curve["of"] == fidelity.TRIALS).all()
    long = rng.random((5, 100))
    curve = fidelity.proxy_curves(trials(long[:, -1]), records(plain(long.tolist())))
    assert len(curve) <= fidelity.EPOCHS
    assert curve.epoch.iloc[-1] == 100
    assert curve.correlation.iloc[-1] == pytest.approx(1.0)
