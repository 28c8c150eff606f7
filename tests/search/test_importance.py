"""PED-ANOVA: Optuna's own answer, known orders, conditional settings, and its edges."""

import warnings

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from gsvae_tune.search.importance import best_count, ped_anova
from gsvae_tune.search.space import SearchedSetting

RNG_SEED = 3


def number(name, low=0.0, high=1.0, log=False, when=()):
    return SearchedSetting(name, None, low, high, log, low, tuple(when), "")


def choice(name, *choices, when=()):
    return SearchedSetting(name, choices, None, None, False, choices[0], tuple(when), "")


def whole(count):
    return np.arange(count)[None]


def optunas(configurations, losses, distributions, share):
    study = optuna.create_study()
    for row, loss in zip(configurations, losses, strict=True):
        own = {name: distributions[name] for name in row}
        study.add_trial(optuna.create_trial(params=row, distributions=own, value=loss))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=share)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def test_it_is_what_optuna_says_of_the_same_study():
    rng = np.random.default_rng(RNG_SEED)
    rows = []
    for _ in range(100):
        row = {"x": float(rng.random()), "tau": float(np.exp(rng.uniform(-2, 2))),
               "period": int(rng.integers(1, 11)), "rule": str(rng.choice(["a", "b"]))}  # fmt: skip
        if row["rule"] == "a":
            row["factor"] = float(rng.uniform(0.5, 0.9))
        rows.append(row)
    losses = [row["x"] + np.log(row["tau"]) ** 2 + 0.1 * row["period"] for row in rows]
    low, high = float(np.exp(-2)), float(np.exp(2))
    settings = [
        number("x"), number("tau", low, high, log=True), number("period", 1.0, 10.0),
        choice("rule", "a", "b"), number("factor", 0.5, 0.9, when=["rule"]),
    ]  # fmt: skip
    distributions = {
        "x": FloatDistribution(0, 1), "tau": FloatDistribution(low, high, log=True),
        "period": IntDistribution(1, 10), "rule": CategoricalDistribution(["a", "b"]),
        "factor": FloatDistribution(0.5, 0.9),
    }  # fmt: skip
    known = optunas(rows, losses, distributions, 0.1)
    # A table holds whole numbers as floats where some trials do not have them.
    written = [row | {"period": float(row["period"])} for row in rows]
    shares = ped_anova(settings, written, losses, whole(100))
    assert shares.shape == (1, 5)
    assert shares[0] == pytest.approx([known[setting.name] for setting in settings])
    assert shares.sum() == pytest.approx(1)


def test_a_setting_that_does_nothing_has_next_to_nothing_and_more_weight_ranks_first():
    rng = np.random.default_rng(RNG_SEED)
    settings = [number(name) for name in ("one", "none", "three")]
    values = rng.random((300, 3))
    rows = [dict(zip(("one", "none", "three"), row, strict=True)) for row in values.tolist()]
    losses = (values[:, 0] + 3 * values[:, 2]).tolist()
    (one, none, three), = ped_anova(settings, rows, losses, whole(300))  # fmt: skip
    assert three > one > none
    assert none < 0.05


def test_ranges_that_end_at_another_setting_are_one_range():
    rng = np.random.default_rng(RNG_SEED)
    start = rng.uniform(0.2, 1, 60)
    ends = rng.uniform(0.1, start)
    rows = [
        {"start": a, "end": b} for a, b in zip(start.tolist(), ends.tolist(), strict=True)
    ]  # fmt: skip
    losses = np.abs(ends - 0.3).tolist()
    own = [
        {"start": FloatDistribution(0.2, 1), "end": FloatDistribution(0.1, row["start"])}
        for row in rows
    ]
    study = optuna.create_study()
    for row, distributions, loss in zip(rows, own, losses, strict=True):
        study.add_trial(optuna.create_trial(params=row, distributions=distributions, value=loss))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert optuna.importance.get_param_importances(study)["end"] == 0  # each its own regime
    shares = ped_anova([number("start", 0.2), number("end", 0.1)], rows, losses, whole(60))
    assert shares[0, 1] > 0.5


def test_a_resample_is_the_study_of_its_trials():
    rng = np.random.default_rng(RNG_SEED)
    settings = [number("x"), number("y")]
    values = rng.random((40, 2))
    rows = [dict(zip("xy", row, strict=True)) for row in values.tolist()]
    losses = (values[:, 0] ** 2 + 0.1 * values[:, 1]).tolist()
    draws = np.stack([np.arange(40), rng.permutation(40), np.arange(40) // 2])
    shares = ped_anova(settings, rows, losses, draws)
    assert shares[0] == pytest.approx(shares[1])  # the order of trials says nothing
    # each of the first 20 twice: the best 5 of 40 are the best 3 of 20, both of each
    known = optunas(
        [rows[at] for at in draws[2]], [losses[at] for at in draws[2]],
        {"x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)}, 4.5 / 40,
    )  # fmt: skip
    assert shares[2] == pytest.approx([known["x"], known["y"]])


def test_of_a_half_as_large_a_share_is_best():
    rng = np.random.default_rng(RNG_SEED)
    values = rng.random((20, 2))
    rows = [dict(zip("xy", row, strict=True)) for row in values.tolist()]
    losses = (values[:, 0] ** 2 + 0.3 * values[:, 1]).tolist()
    half = rng.permutation(20)[:10]
    # 5 of 20 are best, so 3 of 10; by themselves 10 trials would have 5
    known = optunas(
        [rows[at] for at in half], [losses[at] for at in half],
        {"x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)}, 2.5 / 10,
    )  # fmt: skip
    shares = ped_anova([number("x"), number("y")], rows, losses, [np.arange(20), half])
    assert shares[1] == pytest.approx([known["x"], known["y"]])


@pytest.mark.parametrize(
    ("count", "best"), [(1, 1), (4, 2), (9, 4), (10, 5), (20, 5), (51, 6), (60, 6), (250, 25)]
)
def test_the_best_are_a_tenth_or_five(count, best):
    assert best_count(count) == best


def test_what_cannot_be_told_is_nan():
    rows = [{"x": at / 20, "same": 0.5, "rule": "a"} for at in range(20)]
    rows[3]["rare"] = 0.1
    settings = [number("x"), number("same"), choice("rule", "a", "b"), number("rare")]
    shares = ped_anova(settings, rows, [row["x"] for row in rows], whole(20))[0]
    assert shares[0] == 1
    assert np.isnan(shares[1:]).all()
    assert np.isnan(ped_anova(settings, rows, [1.0] * 20, whole(20))).all()
    tied = [1.0] * 19 + [2.0]  # one trial is worse than the best
    assert np.isfinite(ped_anova(settings, rows, tied, whole(20))[0, 0])
    assert ped_anova([], [{}] * 20, list(range(20)), whole(20)).shape == (1, 0)
