"""Losses, differences and compute by hand-worked numbers."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from gsvae_tune.report.audit import Compute
from gsvae_tune.report.estimates.differences import (
    compute_shares,
    finalist_losses,
    mean_losses,
    paired_differences,
)
from gsvae_tune.report.tables import REPLICATES, _frame
from gsvae_tune.report.verdict import decide
from tests.report.made import made_study

METRIC = "test_neg_elbo_nats"


def rows(arm, losses, **flags):
    """A finalist's confirmed replicates; a loss of None: never measured."""
    return [
        {"arm": arm, "phase": "confirm", "number": 4, "replicate": place, "seed": place,
         METRIC: loss, "diverged": False, "collapsed": False}
        | {name: place in places for name, places in flags.items()}
        for place, loss in enumerate(losses)
    ]  # fmt: skip


def table(*found):
    return _frame([row for part in found for row in part], REPLICATES)


def judged(study, reopened=None):
    confirmed = study.trials[study.trials.phase == "confirm"]
    chosen = {
        arm: confirmed.number[confirmed.arm == study.original(arm)].tolist() for arm in study.arms
    }
    verdict = decide(study.config, study.trials, study.replicates, chosen, reopened)
    return dataclasses.replace(study, verdict=verdict)


def test_failed_is_whatever_has_no_sound_loss():
    found = finalist_losses(
        table(rows("pair", [1.0, 2.0, None, np.inf], diverged=[0], collapsed=[1])),
        {"pair": 4},
        METRIC,
        6,
    )
    assert found.replicate.tolist() == [0, 1, 2, 3, 4, 5]
    assert found.failed.tolist() == [True] * 6
    assert found.loss_nats[:2].tolist() == [1.0, 2.0]  # a collapsed one has a loss all the same
    assert found.loss_nats[2:].isin([np.inf]).sum() == 1


def test_only_that_finalist_s_confirmation_counts():
    others = rows("pair", [9.0]) + rows("constant", [9.0])
    others[0] |= {"phase": "search"}
    found = finalist_losses(table(others, rows("pair", [1.5])), {"pair": 4}, METRIC, 1)
    assert found.to_dict("records") == [
        {"arm": "pair", "replicate": 0, "loss_nats": 1.5, "failed": False}
    ]


def test_no_finalist_gives_no_rows():
    found = finalist_losses(table(), {}, METRIC, 10)
    assert found.empty
    assert list(mean_losses(found)) == [
        "arm", "n", "failed", "mean_nats", "low_nats", "high_nats",
    ]  # fmt: skip


def test_means_are_over_sound_replicates_and_say_how_many():
    losses = finalist_losses(
        table(rows("b", [1.0, 2.0, 6.0, 70.0], collapsed=[3]), rows("a", [5.0] * 4)),
        {"b": 4, "a": 4},
        METRIC,
        4,
    )
    b, a = mean_losses(losses).itertuples(index=False)
    assert (b.arm, b.n, b.failed, b.mean_nats) == ("b", 3, 1, 3.0)
    assert 1.0 <= b.low_nats < 3.0 < b.high_nats <= 6.0
    assert (a.arm, a.mean_nats, a.low_nats, a.high_nats) == ("a", 5.0, 5.0, 5.0)


def test_differences_are_those_that_the_verdict_averages():
    study = judged(made_study(trials=12, protocol__replicates=6))
    found = paired_differences(
        study.config, study.verdict.comparisons, study.trials, study.replicates
    )
    one = study.verdict.comparisons[0]
    own = found[(found.arm == one.arm) & (found.baseline == one.baseline)]
    assert len(own) == one.n == 6
    assert own.difference_nats.mean() == pytest.approx(one.effect_nats, abs=1e-12)
    # By hand: the finalists' losses, replicate by replicate.
    sides = [
        study.replicates[
            (study.replicates.arm == arm) & (study.replicates.number == number)
            & (study.replicates.phase == "confirm")
        ].set_index("replicate")[METRIC]
        for arm, number in ((one.arm, one.arm_trial), (one.baseline, one.baseline_trial))
    ]  # fmt: skip
    np.testing.assert_allclose(own.difference_nats, sides[0] - sides[1])
    assert not own.failed.any()
    # Of the yoked arm no replicate is there: each counts as a failure, and so the verdict counts it.
    assert found[found.baseline == "yoked"].failed.all()


def test_an_arm_without_a_finalist_has_no_differences():
    study = made_study(trials=6, failed=0, confirmed=0)
    study = judged(study)
    assert all(one.n == 0 for one in study.verdict.comparisons)
    found = paired_differences(
        study.config, study.verdict.comparisons, study.trials, study.replicates
    )
    assert found.empty
    assert list(found) == ["arm", "baseline", "replicate", "difference_nats", "failed", "lost"]


def test_a_failure_in_either_arm_marks_the_pair_and_is_charged():
    study = made_study(trials=12, protocol__replicates=6)
    lost = study.replicates.copy()
    at = (lost.phase == "confirm") & (lost.replicate == 2) & (lost.arm == "pair")
    lost.loc[at, "collapsed"] = True
    study = judged(dataclasses.replace(study, replicates=lost))
    found = paired_differences(
        study.config, study.verdict.comparisons, study.trials, study.replicates
    )
    pair = found[(found.arm == "pair") & (found.baseline == "fixed-factor")].set_index("replicate")
    assert pair.failed.to_dict() == {0: False, 1: False, 2: True, 3: False, 4: False, 5: False}
    finalists = lost[(lost.phase == "confirm") & lost.arm.isin(["pair", "fixed-factor"])]
    theirs = finalists[(finalists.arm == "fixed-factor") & (finalists.replicate == 2)][METRIC]
    worst = finalists[METRIC].max() + study.config.protocol.smallest_effect_nats
    assert pair.difference_nats[2] == pytest.approx(worst - theirs.item())


def test_compute_is_judged_measure_by_measure_as_the_audit_does():
    base = Compute(20, 2, 1000, 50_000, 400.0)
    more = dataclasses.replace(base, configurations=25, device_seconds=499.0)
    found = compute_shares({"base": base, "more": more}, "base", 0.25).set_index(["arm", "measure"])
    assert found.loc["base"].equal.all()
    assert found.loc["base"].share.tolist() == [1.0] * 5
    assert found.loc["more"].equal.to_dict() == {
        "configurations": False, "confirmed": True, "steps": True, "samples": True,
        "device_seconds": True,
    }  # fmt: skip
    assert found.loc[("more", "configurations"), "share"] == 1.25
    seconds = found.loc[("more", "device_seconds")]
    assert (seconds.low, seconds.high) == (320.0, 500.0)  # 400 / 1.25 and 400 x 1.25
    beyond = compute_shares(
        {"base": base, "more": dataclasses.replace(base, device_seconds=500.1)}, "base", 0.25
    )
    assert not beyond.equal.all()


@pytest.mark.parametrize("seconds", [340.1, 339.9, 459.9, 460.1, 0.0])
def test_the_shaded_band_is_where_the_audit_finds_none_unequal(seconds):
    """With a small tolerance a minute of slack is the wider band."""
    base = Compute(20, 2, 1000, 50_000, 400.0)
    other = dataclasses.replace(base, device_seconds=seconds)
    found = compute_shares({"base": base, "other": other}, "base", 0.01)
    row = found[(found.arm == "other") & (found.measure == "device_seconds")].iloc[0]
    assert row.equal == (row.low <= seconds <= row.high)
    assert (row.low, row.high) == (340.0, 460.0)


def test_nothing_given_has_no_share():
    none = Compute(0, 0, 0, 0, 0.0)
    found = compute_shares({"base": none, "other": none}, "base", 0.25)
    assert found.share.isna().all()
    assert found.equal.all()
    assert isinstance(found, pd.DataFrame)
