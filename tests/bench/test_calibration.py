"""The protocol against itself: what is planted is found, what is not is not."""

import json

import numpy as np
import pytest

from gsvae_tune.bench import calibration
from gsvae_tune.bench.calibration import ARM, BASELINE, Rate
from gsvae_tune.cli.__main__ import app, guarded
from gsvae_tune.report.inference import binomial_interval
from gsvae_tune.report.power import power
from gsvae_tune.search import studies
from gsvae_tune.study.errors import InputError


@pytest.fixture
def config():
    return studies.load("digits", {"search.trials": (4, "--trials")})


def test_an_a_a_study_has_one_method_and_space_twice(config):
    study = calibration.against_itself(config, 7, "somewhere")
    assert set(study.arms) == {BASELINE, ARM}
    assert {study.method(arm) for arm in study.arms} == {"fixed-factor"}
    assert study.arms[ARM].space == config.arms["fixed-factor"].space
    assert (study.seed, study.protocol.baseline, study.out) == (7, BASELINE, "somewhere")
    bare = calibration.unsearched(study)
    assert (bare.arms[ARM].space, bare.search.trials, bare.protocol.top) == ({}, 1, 1)
    lone = config.model_copy(update={"arms": {"pair": config.arms["pair"]}})
    with pytest.raises(InputError, match=r"protocol.baseline: 'fixed-factor' is no arm"):
        calibration.against_itself(lone, 0, "somewhere")


def test_what_is_planted_is_found_and_what_is_not_is_not(config):
    """The same seeds with and without; an effect of a nat is ten times what the seeds do."""
    bare, seen = calibration.unsearched(config), []
    null = calibration.simulate_many(bare, 3, 0.0, 2, lambda: seen.append(0))
    planted = calibration.simulate_many(bare, 3, 1.0, 2, lambda: seen.append(1))
    assert sorted(seen) == [0] * 3 + [1] * 3
    for without, with_it in zip(null, planted, strict=True):
        (a,), (b,) = without.comparisons, with_it.comparisons
        assert b.effect_nats == pytest.approx(a.effect_nats - 1.0)
        assert b.sd_nats == pytest.approx(a.sd_nats)
        assert b.paired
        assert b.equal_compute
        assert (b.verdict, with_it.claims()) == ("supported", [(ARM, BASELINE)])
    summary = calibration.summarize("planted", planted, 1.0, promised=1.0)
    assert summary.verdicts == {"supported": 3}
    assert summary.supported == Rate(3, 3, 1.0, *binomial_interval(3, 3))
    reverse = calibration.summarize(
        "worse", calibration.simulate_many(bare, 2, -1.0, 2, lambda: None), -1.0
    )
    assert reverse.verdicts == {"not supported": 2}
    assert (reverse.supported.count, reverse.claimed.count) == (0, 2)


def test_the_promise_is_the_calculators(config):
    pilots = calibration.simulate_many(config, 4, 0.0, 2, lambda: None)
    null = calibration.summarize("A/A", pilots, 0.0)
    assert null.sd_nats > 0
    assert null.search_luck_nats > 0
    effect = calibration.detectable(config.protocol, null)
    each = [
        power(
            10,
            effect,
            one.sd_nats,
            search_luck_nats=one.search_luck_nats,
            lead_nats=one.lead_nats,
        )
        for (one,) in (pilot.comparisons for pilot in pilots)
    ]
    assert calibration.promise(config.protocol, pilots, effect) == pytest.approx(np.mean(each))
    assert 0.5 < np.mean(each) < 1.0


def test_the_command(capsys, tmp_path):
    words = ["calibrate", "smoke", "--studies", "2", "--trials", "4", "--json",
             "--set", "protocol.replicates=10"]  # fmt: skip
    assert guarded(lambda **how: app(args=words, **how)) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["effect_nats"] > 0 for one in found] == [False, True, False, True]
    assert [one["supported"]["studies"] for one in found] == [2] * 4
    assert all(0.5 < one["promised"] < 1.0 for one in found[1::2])
    few = ["calibrate", "smoke", "--studies", "1", "--set", "protocol.replicates=4"]
    assert guarded(lambda **how: app(args=few, **how)) == 2
    assert "4 replicates find no effect" in capsys.readouterr().err


@pytest.mark.slow
def test_a_real_a_a_study_supports_nothing(config):
    """Two searches of the baseline that really train, through the whole pipeline."""
    overrides = {"search.trials": (3, ""), "training.epochs": (10, "")}
    (verdict,) = calibration.train_many(studies.load("digits", overrides), 1, lambda: None)
    (one,) = verdict.comparisons
    assert one.paired
    assert one.verdict != "supported"
