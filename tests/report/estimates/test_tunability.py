"""Tunability: what a default costs, by hand and by a forest."""

import numpy as np
import pandas as pd
import pytest

from gsvae_tune.report.estimates.configurations import configurations_of, rows_of
from gsvae_tune.report.estimates.surrogate import surrogate_of
from gsvae_tune.report.estimates.tunability import at_default, lost_nats, tunability
from gsvae_tune.search.space import SearchedSetting
from tests.report.estimates.test_ablation import Known
from tests.search.test_importance import choice


def number(name, default, low=0.0, high=1.0, when=()):
    return SearchedSetting(name, None, low, high, False, default, tuple(when), "")


def test_on_a_sum_each_default_costs_what_it_lacks():
    # f = 3 |a - 0.2| + |b - 0.5| + 0 c; at their best a and b add nothing.
    settings = [number("a", 0.6), number("b", 0.25), number("c", 1.0)]
    table = pd.DataFrame({"a": [0.2], "b": [0.5], "c": [0.3]})
    space = configurations_of(settings, table)
    generator = np.random.default_rng(0)
    pool = np.concatenate([rows_of(settings, table), space.drawn(200, generator)])
    left = at_default(space, pool, generator)
    known = Known(lambda x: 20 + 3 * abs(x[0] - 0.2) + abs(x[1] - 0.5))
    # a at 0.6: 3 * 0.4; b at 0.25: 0.25; c: nothing
    assert lost_nats(known, pool, left) == pytest.approx([1.2, 0.25, 0.0])


def test_the_others_make_up_for_it_where_they_can():
    # f = |a - b|: whatever a is left at, b can follow.
    settings = [number("a", 0.0), number("b", 0.5)]
    space = configurations_of(settings, pd.DataFrame({"a": [0.0, 0.5], "b": [0.0, 0.5]}))
    generator = np.random.default_rng(0)
    pool = space.drawn(3_000, generator)
    lost = lost_nats(Known(lambda x: abs(x[0] - x[1])), pool, at_default(space, pool, generator))
    assert lost == pytest.approx([0, 0], abs=0.01)


def test_a_default_better_than_all_that_was_drawn_loses_nothing():
    pool = np.array([[0.9]])
    assert lost_nats(Known(lambda x: x[0]), pool, [np.array([[0.1]])]).tolist() == [0]
    assert np.isnan(lost_nats(Known(lambda x: x[0]), pool, [np.empty((0, 1))])[0])


def test_conditions_and_orders_are_kept():
    settings = [
        number("start", 0.5, 0.1), number("low", 0.4), choice("rule", "cool", "hold"),
        number("factor", 0.9, when=["rule"]),
    ]  # fmt: skip
    table = pd.DataFrame(
        {"start": [0.6, 0.7], "low": [0.1, 0.2], "rule": ["cool", "hold"], "factor": [0.3, np.nan]}
    )
    space = configurations_of(settings, table, [("low", "start")])
    generator = np.random.default_rng(0)
    pool = space.drawn(500, generator)
    start, low, rule, factor = at_default(space, pool, generator)
    assert (start[:, 1] <= 0.5).all()
    assert (low[:, 0] >= 0.4).all()
    assert 0 < len(low) < 500
    assert (rule[:, 2] == 0).all()
    assert (rule[:, 3] >= 0).all()  # what the default switches on has a value
    assert set(factor[factor[:, 2] == 0, 3]) == {0.9}
    assert np.isnan(factor[factor[:, 2] == 1, 3]).all()


def test_by_a_forest():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.random((150, 3)), columns=list("abc")).assign(same=0.5)
    settings = [number("a", 1.0), number("b", 0.0), number("c", 0.5), number("same", 0.1)]
    losses = 20 + 2 * table.a + table.b
    rows = rows_of(settings, table)
    surrogate = surrogate_of(configurations_of(settings, table), rows, losses)
    found = tunability(surrogate, surrogate.halved())
    found = found.set_index("name")
    # a at 1 costs 2 nats, less what a forest smooths; b is at its best; c does nothing
    assert found.lost_nats["a"] == pytest.approx(2, abs=0.35)
    assert found.lost_nats[["b", "c"]].max() < 0.1
    assert found.low_nats["a"] < found.high_nats["a"]
    assert found.default.tolist() == [1.0, 0.0, 0.5, 0.1]
    assert found.loc["same", ["lost_nats", "low_nats", "high_nats"]].isna().all()
    known = found.drop(index="same")
    assert (known.low_nats >= 0).all()
    assert (known.low_nats <= known.lost_nats).all()
    assert (known.lost_nats <= known.high_nats).all()


def test_a_default_at_which_runs_diverge_costs():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.random((120, 2)), columns=["rate", "none"])
    settings = [number("rate", 0.9), number("none", 0.5)]
    losses = (20 + 0.2 * rng.random(120) + table.none * 0).where(table.rate < 0.6)
    space, rows = configurations_of(settings, table), rows_of(settings, table)
    surrogate = surrogate_of(space, rows, losses)
    found = tunability(surrogate, surrogate.halved()).set_index("name")
    # failed trials count as the worst of losses from 20 to 20.2
    assert found.lost_nats["rate"] == pytest.approx(0.2, abs=0.1)
    assert found.low_nats["rate"] > found.lost_nats["none"]
