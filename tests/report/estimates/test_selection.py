import numpy as np
import pandas as pd
import pytest

from gsvae_tune.report import inference
from gsvae_tune.report.estimates import selection

SEARCH = {0: 3.0, 1: 1.0, 2: 2.0, 3: 9.0}
AGAIN = {1: [1.5, 1.7, 1.6], 2: [2.0, 2.2, 2.4], 0: [2.9, 3.0, 3.1]}


def tables(again=AGAIN, state="complete"):
    trials = [("a", "search", number, "complete", value) for number, value in SEARCH.items()]
    trials += [("a", "confirm", number, state, None) for number in again]
    rows = [("a", "confirm", number, loss) for number, losses in again.items() for loss in losses]
    rows += [("a", "search", number, value) for number, value in SEARCH.items()]
    return (
        pd.DataFrame(trials, columns=["arm", "phase", "number", "state", "value"]).astype(
            {"value": "float64"}
        ),
        pd.DataFrame(rows, columns=["arm", "phase", "number", "val_neg_elbo_nats"]),
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
        "curse_nats": pytest.approx(0.8 / 3),
    }  # fmt: skip


def test_orders_that_change():
    told = selection.stability(
        selection.confirmations(*tables({1: [3.0, 3.0], 2: [2.5, 2.5], 0: [2.7, 2.7]}))
    )
    # of three pairs (1,2) and (1,0) are reversed, (2,0) is kept: (1 - 2) / 3
    assert told.tau_b[0] == pytest.approx(-1 / 3)


def test_a_failed_seed_ranks_last_and_is_counted():
    found = selection.confirmations(*tables({1: [1.5, np.nan], 2: [2.0, 2.2], 0: []}))
    assert found.again_nats.tolist() == pytest.approx([np.inf, 2.1, np.inf])
    told = selection.stability(found)
    assert told.failed[0] == 2
    assert told.curse_nats[0] == pytest.approx(0.1)


def test_confirmations_under_way_do_not_count():
    found = selection.confirmations(*tables(state="running"))
    assert found.empty
    assert selection.stability(found).empty


def test_where_all_failed_there_is_no_curse():
    told = selection.stability(selection.confirmations(*tables({1: [np.nan], 2: [np.nan]})))
    assert np.isnan(told.curse_nats[0])
    assert np.isnan(told.tau_b[0])
