"""Ablation: paths known by hand, on losses that need no forest."""

import numpy as np
import pandas as pd
import pytest

from gsvae_tune.report.estimates.ablation import ablation_path
from gsvae_tune.report.estimates.configurations import configurations_of, rows_of
from gsvae_tune.report.estimates.surrogate import surrogate_of
from tests.search.test_importance import choice, number


class Known:
    """A known loss, of which a half of the trials sees what is above 20 times a factor."""

    def __init__(self, loss, factor=1):
        self.loss, self.factor = loss, factor

    def predicted_nats(self, rows):
        return 20 + self.factor * (np.array([self.loss(row) for row in rows]) - 20)


def path(loss, settings, start, target, order=(), trials=None):
    table = pd.DataFrame(columns=[one.name for one in settings]) if trials is None else trials
    space = configurations_of(settings, table, order)
    halves = [Known(loss, factor) for factor in (0, 0.5, 1, 1.5, 2)]
    return ablation_path(Known(loss), halves, space, np.array(start), np.array(target))


def test_the_largest_fall_comes_first():
    settings = [number(name) for name in "abcd"]
    # From 1 to 0 each gains its weight: c 4, a 2, d 1; b loses 3, and comes last all the same.
    found = path(lambda x: 20 + x @ [2, -3, 4, 1], settings, [1.0] * 4, [0.0] * 4)
    assert found.changed.tolist() == [(), ("c",), ("a",), ("d",), ("b",)]
    assert found["values"].tolist() == [(), (0.0,), (0.0,), (0.0,), (0.0,)]
    assert found.loss_nats.tolist() == [24, 20, 18, 17, 20]
    # of five halves, the ends are those that see 0 and 2 times what is above 20
    above, ends = np.array([4, 0, -2, -3, 0]), np.array([[0], [2]])
    interval = found[["low_nats", "high_nats"]].to_numpy().T
    assert interval == pytest.approx(20 + np.sort(ends * above, axis=0))
    assert np.isnan(found.filter(like="fall").iloc[0]).all()
    falls = np.array([4, 2, 1, -3])
    assert found.fall_nats.tolist()[1:] == falls.tolist()
    interval = found[["fall_low_nats", "fall_high_nats"]].to_numpy()[1:].T
    assert interval == pytest.approx(np.sort(ends * falls, axis=0))


def test_it_is_greedy_and_sees_what_settings_do_together():
    settings = [number(name) for name in "ab"]

    def loss(x):  # b gains only once a is changed
        return 10 - (x[0] == 0) - 5 * (x[0] == 0 and x[1] == 0) + 2 * (x[0] == 1 and x[1] == 0)

    found = path(loss, settings, [1.0, 1.0], [0.0, 0.0])
    assert found.changed.tolist() == [(), ("a",), ("b",)]
    assert found.loss_nats.tolist() == [10, 9, 4]


def test_what_is_equal_is_no_step_and_ties_keep_the_order():
    settings = [number(name) for name in "abc"]
    found = path(lambda _: 1.0, settings, [0.5, 0.2, 0.3], [0.1, 0.2, 0.4])
    assert found.changed.tolist() == [(), ("a",), ("c",)]
    assert len(path(lambda _: 1.0, settings, [0.5, 0.2, 0.3], [0.5, 0.2, 0.3])) == 1


def test_a_choice_changes_with_what_hangs_on_it():
    settings = [number("x"), choice("rule", "cool", "hold"), number("factor", when=["rule"])]
    trials = pd.DataFrame({"x": [0, 1.0], "rule": ["cool", "hold"], "factor": [0.5, np.nan]})
    on, off = [1.0, 0.0, 0.9], [0.0, 1.0, np.nan]
    down = path(lambda x: x[0] - 2 * x[1], settings, on, off, trials=trials)
    assert down.changed.tolist() == [(), ("rule", "factor"), ("x",)]
    assert down["values"].tolist() == [(), ("hold", None), (0.0,)]
    up = path(lambda x: -x[0] + 2 * x[1], settings, off, on, trials=trials)
    assert up["values"].tolist() == [(), ("cool", 0.9), (1.0,)]


def test_no_step_breaks_an_order():
    settings = [number("start"), number("low")]
    # start alone would gain most, but may not fall below low before low itself does
    found = path(
        lambda x: 5 * x[0] + x[1], settings, [1.0, 0.5], [0.3, 0.1], order=[("low", "start")]
    )
    assert found.changed.tolist() == [(), ("low",), ("start",)]


def test_a_forest_finds_the_order_of_a_sum():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.random((200, 3)), columns=list("abc"))
    settings = [number(name) for name in "abc"]
    space = configurations_of(settings, table)
    forest = surrogate_of(space, rows_of(settings, table), 20 + table @ [1.0, 5.0, 2.5])
    found = ablation_path(forest, forest.halved(), space, np.full(3, 0.9), np.full(3, 0.1))
    assert found.changed.tolist() == [(), ("b",), ("c",), ("a",)]
    for kind in ("", "fall_"):
        known = found if not kind else found[1:]
        middle = known.fall_nats if kind else known.loss_nats
        assert (known[f"{kind}low_nats"] <= middle).all()
        assert (middle <= known[f"{kind}high_nats"]).all()
    # 0.8 of a range each: falls of 4, 2 and 0.8 nats
    assert -np.diff(found.loss_nats) == pytest.approx([4, 2, 0.8], abs=0.5)
