import dataclasses

import numpy as np
import pandas as pd
import pytest

from gsvae_tune.report import inference
from gsvae_tune.report.estimates import selection
from tests.report.estimates.test_differences import judged
from tests.report.made import made_study

SEARCH = {0: 3.0, 1: 1.0, 2: 2.0, 3: 9.0}
AGAIN = {1: [1.5, 1.7, 1.6], 2: [2.0, 2.2, 2.4], 0: [2.9, 3.0, 3.1]}


def tables(again=AGAIN, state="complete", collapsed=()):
    """The confirmed losses; of `collapsed`, pairs of a trial and the place of its seed."""
    trials = [("a", "search", number, "complete", value) for number, value in SEARCH.items()]
    trials += [("a", "confirm", number, state, None) for number in again]
    rows = [
        ("a", "confirm", number, loss, False, (number, place) in collapsed)
        for number, losses in again.items()
        for place, loss in enumerate(losses)
    ]
    rows += [("a", "search", number, value, False, False) for number, value in SEARCH.items()]
    return (
        pd.DataFrame(trials, columns=["arm", "phase", "number", "state", "value"]).astype(
            {"value": "float64"}
        ),
        pd.DataFrame(
            rows, columns=["arm", "phase", "number", "val_neg_elbo_nats", "diverged", "collapsed"]
        ),
    )


def test_scores_side_by_side():
    found = selection.confirmations(*tables())
    assert found.number.tolist() == [1, 2, 0]  # the best score first; 3 was not confirmed
    assert found["rank"].tolist() == [1, 2, 3]
    assert found.selected_nats.tolist() == [1.0, 2.0, 3.0]
    assert found.again_nats.tolist() == pytest.approx([1.6, 2.2, 3.0])
    assert found.seeds.tolist() == [3, 3, 3]
    assert (found.low_nats[0], found.high_nats[0]) == inference.bca_interval(AGAIN[1])


def test_curse_and_stability_by_hand():
    told = selection.stability(selection.confirmations(*tables()))
    # 0.6, 0.2 and 0.0 nats; the order is the same
    assert told.iloc[0].to_dict() == {
        "arm": "a", "configurations": 3, "failed": 0, "tau_b": pytest.approx(1.0),
        "curse_nats": pytest.approx(0.8 / 3), "low_nats": pytest.approx(0.0),
        "high_nats": pytest.approx(0.6),
    }  # fmt: skip


def test_orders_that_change():
    told = selection.stability(
        selection.confirmations(*tables({1: [3.0, 3.0], 2: [2.5, 2.5], 0: [2.7, 2.7]}))
    )
    # of three pairs (1,2) and (1,0) are reversed, (2,0) is kept: (1 - 2) / 3
    assert told.tau_b[0] == pytest.approx(-1 / 3)


def test_failed_seeds_are_in_no_mean_and_counted():
    losses = {1: [1.5, np.nan], 2: [2.0, 2.2, 9.0], 0: []}
    found = selection.confirmations(*tables(losses, collapsed=[(2, 2)]))
    assert found.again_nats.tolist() == pytest.approx([1.5, 2.1, np.nan], nan_ok=True)
    assert found.seeds.tolist() == [2, 3, 0]
    assert found.failed.tolist() == [1, 1, 0]
    told = selection.stability(found)
    assert told.failed[0] == 1  # of three configurations one has no sound seed
    assert told.curse_nats[0] == pytest.approx((0.5 + 0.1) / 2)
    assert told.tau_b[0] == pytest.approx(1.0)


def test_a_collapsed_seed_counts_as_in_the_verdict():
    study = made_study("smoke", trials=12, confirmed=1)
    lost = study.replicates.copy()
    at = (lost.phase == "confirm") & (lost.replicate == 0) & (lost.arm == "pair")
    lost.loc[at, ["collapsed", "val_neg_elbo_nats"]] = [True, 99.0]
    study = judged(dataclasses.replace(study, replicates=lost))
    told = selection.stability(selection.confirmations(study.trials, study.replicates))
    for arm, curse in zip(told.arm, told.curse_nats, strict=True):
        assert curse == pytest.approx(study.verdict.arms[arm].finalist.winners_curse_nats)


def test_where_all_collapsed_there_is_no_number():
    found = selection.confirmations(*tables({1: [1.5, 1.6]}, collapsed=[(1, 0), (1, 1)]))
    assert found[["again_nats", "low_nats", "high_nats"]].isna().all(axis=None)
    assert np.isnan(selection.stability(found).curse_nats[0])


def test_the_interval_of_one_configuration_is_over_its_seeds():
    told = selection.stability(selection.confirmations(*tables({1: AGAIN[1]})))
    low, high = inference.bca_interval(AGAIN[1])
    assert told.curse_nats[0] == pytest.approx(0.6)
    assert (told.low_nats[0], told.high_nats[0]) == pytest.approx((low - 1.0, high - 1.0))


@pytest.mark.parametrize("count", [5, 6])
def test_the_interval_of_many_configurations_is_over_them(count):
    rises = np.arange(count) ** 2 / 10
    confirmed = pd.DataFrame(
        {"arm": "a", "selected_nats": 1.0, "again_nats": 1.0 + rises, "low_nats": 0.0,
         "high_nats": 9.0}
    )  # fmt: skip
    told = selection.stability(confirmed)
    wanted = (0.0, rises[-1]) if count == 5 else inference.bca_interval(rises)
    assert (told.low_nats[0], told.high_nats[0]) == pytest.approx(wanted)


def test_confirmations_under_way_do_not_count():
    found = selection.confirmations(*tables(state="running"))
    assert found.empty
    assert selection.stability(found).empty


def test_where_all_failed_there_is_no_curse():
    told = selection.stability(selection.confirmations(*tables({1: [np.nan], 2: [np.nan]})))
    assert np.isnan(told.curse_nats[0])
    assert np.isnan(told.tau_b[0])
