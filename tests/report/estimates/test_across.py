"""Several studies side by side."""

import numpy as np
import pandas as pd
import pytest

from gsvae_tune.report.estimates.across import DIFFERENCES, differences, starts, temperatures
from gsvae_tune.report.estimates.marginal import smoothed_loss
from tests.report.made import judged_study


def test_every_measured_comparison_is_a_row():
    one, other = judged_study(seed=1), judged_study(seed=2)
    frame = differences({"one": one.verdict, "other": other.verdict})
    assert list(frame) == DIFFERENCES
    assert frame.study.tolist() == ["one", "other"]
    for row, study in zip(frame.itertuples(), (one, other), strict=True):
        seen = study.verdict.comparisons[0]
        assert (row.effect_nats, row.low, row.high) == (
            seen.effect_nats, seen.ci_low, seen.ci_high,
        )  # fmt: skip
    assert differences({}).empty


def test_starts_are_smoothed_arm_by_arm_and_constant_ones_left_out():
    rng = np.random.default_rng(0)
    start = np.exp(rng.uniform(-2, 1, 40))
    moved = pd.DataFrame({"start": start, "loss_nats": 20 + np.log(start) ** 2})
    same = moved.assign(start=1.0)
    frame = starts({("s", "moved"): moved, ("s", "same"): same})
    assert set(frame.arm) == {"moved"}
    assert set(frame.trials) == {40}
    alone = smoothed_loss(moved.start, moved.loss_nats, log=True, curves=2)
    assert frame.above_low_nats.tolist() == alone.above_low_nats.tolist()
    assert frame["at"].to_numpy()[frame.loss_nats.argmin()] == pytest.approx(1.0, rel=0.2)
    assert starts({("s", "same"): same}).empty


def test_temperatures_take_whatever_names_an_arm_has():
    frame = temperatures(
        [
            ("s", "pair", {"tau_start": 0.5, "tau_min": 0.1, "tau_max": 2.0}),
            ("s", "constant", {"tau_a": 0.4, "tau_b": 1.8}),
            ("s", "odd", {}),
        ]
    )
    assert frame.start_a.tolist()[:2] == [0.5, 0.4]
    assert frame.start_b.tolist()[:2] == [0.5, 1.8]
    assert frame.low.tolist()[0] == 0.1
    assert np.isnan(frame.low[1])
    assert np.isnan(frame.start_a[2])
