"""Importance: shares known by hand, Optuna's own answer, and what cannot be told."""

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.distributions import FloatDistribution
from optuna.importance import FanovaImportanceEvaluator

from gsvae_tune.report.estimates.configurations import configurations_of, rows_of
from gsvae_tune.report.estimates.importance import (
    fanova_shares,
    importances,
    unit_cube,
)
from gsvae_tune.report.estimates.surrogate import TREES, surrogate_of
from tests.search.test_importance import choice, number

SHARES = ["ped", "ped_low", "ped_high", "fanova", "fanova_low", "fanova_high"]


def of(settings, table, losses):
    space = configurations_of(settings, table)
    return importances(surrogate_of(space, rows_of(settings, table), losses)).set_index("name")


def test_fanova_of_a_weighted_sum_is_the_squares_of_its_weights():
    # Var(3 x1 + x2) = 9 v + 1 v for uniform x of one variance v: 0.9 and 0.1
    cube = np.random.default_rng(0).random((400, 3))
    one, two, none = fanova_shares(cube, 3 * cube[:, 0] + cube[:, 1], 16, 0)
    assert one == pytest.approx(0.9, abs=0.03)
    assert two == pytest.approx(0.1, abs=0.03)
    assert none < 0.01


def test_fanova_of_a_product_is_mostly_left_to_both_together():
    # f = sign(x - 1/2) sign(y - 1/2): either alone has mean 0 everywhere, so all variance is joint.
    cube = np.random.default_rng(0).random((400, 2))
    shares = fanova_shares(cube, np.sign(cube - 0.5).prod(axis=1), 16, 0)
    assert shares.sum() < 0.1


def test_fanova_of_one_tree_by_hand():
    # Leaves (bootstrap or not, the four corners repeat): x < 1/2 is 0; else 1 or 3 by y < 1/2.
    corners = np.array([[0.25, 0.25], [0.25, 0.75], [0.75, 0.25], [0.75, 0.75]])
    cube, target = np.repeat(corners, 50, axis=0), np.repeat([0.0, 0.0, 1.0, 3.0], 50)
    # mean 1, variance (1 + 1 + 0 + 4) / 4 = 3/2; over x: 0 or 2, variance 1; over y: 1/2 or 3/2,
    # variance 1/4; the last 1/4 is both together
    assert fanova_shares(cube, target, 4, 0) == pytest.approx([2 / 3, 1 / 6])


@pytest.mark.parametrize("n", [20, 67])
def test_fanova_is_optunas_on_the_same_forest(n):
    rng = np.random.default_rng(n)
    names = ["a", "b", "c", "d"]
    cube = rng.random((n, 4))
    losses = (3 * cube[:, 0] + cube[:, 1] * cube[:, 2]) ** 2
    study = optuna.create_study()
    distributions = {name: FloatDistribution(0, 1) for name in names}
    for row, loss in zip(cube, losses, strict=True):
        params = dict(zip(names, row.tolist(), strict=True))
        study.add_trial(optuna.create_trial(params=params, distributions=distributions, value=loss))
    known = FanovaImportanceEvaluator(n_trees=TREES, seed=5).evaluate(study)
    # Forests of one seed on the same numbers are the same, so that only the arithmetic differs.
    shares = fanova_shares(cube, losses, TREES, 5)
    assert shares == pytest.approx([known[name] for name in names], rel=1e-6, abs=1e-12)


def test_fanova_without_variance_is_nan():
    assert np.isnan(
        fanova_shares(np.random.default_rng(0).random((30, 2)), np.ones(30), 4, 0)
    ).all()


def test_a_choice_is_weighted_by_its_values_and_a_logarithm_is_even():
    settings = [choice("rule", "a", "b", "c", "d"), number("tau", 0.1, 10.0, log=True)]
    table = pd.DataFrame({"rule": ["a", "d"], "tau": [0.1, 1.0]})
    cube = unit_cube(configurations_of(settings, table), rows_of(settings, table))
    assert cube == pytest.approx(np.array([[1 / 8, 0], [7 / 8, 1 / 2]]))
    # Four choices of losses 0, 0, 0, 4: variance 3, all of it the choice's
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"rule": rng.choice(list("abcd"), 200), "tau": rng.uniform(0.1, 10, 200)})
    found = of(settings, table, 4.0 * (table.rule == "d"))
    assert found.fanova.tolist() == pytest.approx([1, 0])


def test_intervals_hold_what_matters_and_a_dummy_has_next_to_nothing():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.random((67, 3)), columns=["one", "none", "three"])
    settings = [number(name) for name in table.columns]
    losses = 20 + table.one + 3 * table.three + rng.normal(0, 0.05, 67)
    found = of(settings, table, losses)
    for kind in ("ped", "fanova"):  # a point lies on its line
        assert (found[f"{kind}_low"] <= found[kind]).all()
        assert (found[kind] <= found[f"{kind}_high"]).all()
        assert found[f"{kind}_low"].min() >= 0
        assert found[f"{kind}_high"].max() <= 1
        assert found[f"{kind}_low"]["three"] > found[f"{kind}_high"]["none"]
    assert found.fanova.idxmax() == found.ped.idxmax() == "three"
    assert found.fanova["three"] == pytest.approx(0.9, abs=0.05)
    assert found.fanova_high["none"] < 0.05
    assert found.ped["none"] < 0.1
    assert found.ped.sum() == pytest.approx(1)
    assert found.equals(of(settings, table, losses))  # fixed seeds


def test_conditional_settings_and_those_that_say_nothing():
    rng = np.random.default_rng(0)
    n = 80
    table = pd.DataFrame({"x": rng.random(n), "same": 0.5, "rule": rng.choice(["a", "b"], n)})
    table["factor"] = np.where(table.rule == "a", rng.random(n), np.nan)
    table["rare"] = np.where(np.arange(n) < 9, rng.random(n), np.nan)
    settings = [
        number("x"), number("same"), choice("rule", "a", "b"), number("factor", when=["rule"]),
        number("rare", when=["rule"]),
    ]  # fmt: skip
    losses = 20 + (table.rule == "b") + 2 * table.factor.fillna(0.2)
    found = of(settings, table, losses)
    assert found.conditional.tolist() == [False, False, False, True, True]
    assert found.varied.tolist() == [True, False, True, True, True]
    assert found.trials.tolist()[4] == 9
    assert found.loc[["same", "rare"], SHARES].isna().all(axis=None)
    assert np.isnan(found.fanova["factor"])  # not defined where it is switched off
    assert found.ped["factor"] > found.ped["x"]  # but PED-ANOVA has it
    assert found.ped[["x", "rule", "factor"]].sum() == pytest.approx(1)


def test_equal_losses_tell_nothing():
    table = pd.DataFrame({"x": np.linspace(0, 1, 20)})
    found = of([number("x")], table, np.full(20, 3.0))
    assert found[SHARES].isna().all(axis=None)


def test_a_setting_that_makes_runs_diverge_is_important():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.random((90, 2)), columns=["one", "rate"])
    settings = [number(name) for name in table.columns]
    losses = 20 + table.one  # the rate does nothing to runs that end
    ended = of(settings, table, losses)
    assert ended.fanova["rate"] < 0.05
    found = of(settings, table, losses.where(table.rate < 0.5))
    assert found.fanova["rate"] > 0.4
    assert found.fanova_low["rate"] > 0.2
    assert found.ped["rate"] > 3 * ended.ped["rate"]
