"""Exhibits of importance: true findings, and a true sentence where there is nothing to show."""

import dataclasses
import re
import time

import numpy as np
import pandas as pd
import pytest

from gsvae_tune.report.estimates import surrogate
from gsvae_tune.report.estimates.surrogate import MOST
from gsvae_tune.report.exhibits.importance import exhibits
from tests.report.made import made_study

KEYS = ["importance", "ablation", "tunability"]


def drawn(study):
    return {exhibit.key: exhibit.drawn() for exhibit in exhibits(study)}


def caption(one):
    return one.figure._supxlabel.get_text().replace("-\n", "-").replace("\n", " ")


def with_trials(study, trials):
    return dataclasses.replace(study, trials=trials)


@pytest.fixture(scope="module", autouse=True)
def _few_resamples():
    """Fewer of them: the intervals themselves are tested beside their estimates."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surrogate, "HALVES", 6)
        yield


@pytest.fixture(scope="module")
def study():
    return made_study(trials=40, epochs=1, confirmed=0)


@pytest.fixture(scope="module")
def shown(study):
    return drawn(study)


def test_the_valley_is_found(shown):
    assert list(shown) == KEYS
    for one in shown.values():
        assert one.figure is not None
        assert one.finding.startswith("In this search, in ")
        assert "40 trials" in one.finding
        assert "40 (4) of each arm" in caption(one)
        assert len(one.encoded("png")) > 10_000
    # the loss is (log tau)^2 and a fifth of (log learning rate)^2: temperatures lead
    found = re.findall(
        r"fANOVA puts (\w+) \((0\.\d\d|1\.00), 90 % interval \[", shown["importance"].finding
    )
    assert [name for name, _ in found] == ["tau_start", "tau_a", "tau_start"]
    assert all(float(share) > 0.5 for _, share in found)


def test_findings_name_the_numbers_that_are_drawn(shown):
    axes = shown["ablation"].figure.axes[0]
    path = next(line for line in axes.lines if line.get_linestyle() == "None").get_xdata()
    text = shown["ablation"].finding
    assert f"from {path[0]:.2f} nats to {path[-1]:.2f} nats" in text
    assert re.search(r"largest fall \S+ nats \(90 % interval \[\S+, \S+\]\) with ", text)
    assert re.search(r"\S+ nats \(90 % interval \[\S+, \S+\]\)", shown["tunability"].finding)
    largest = shown["tunability"].figure.axes[0].get_yticklabels()[0].get_text()
    assert largest.removesuffix(" †") in shown["tunability"].finding


def test_nothing_is_worked_out_before_it_is_drawn(study):
    start = time.process_time()
    assert [exhibit.key for exhibit in exhibits(study)] == KEYS
    assert time.process_time() - start < 0.1


@pytest.mark.parametrize(("trials", "failed"), [(0, 0), (3, 0), (9, 0), (12, 12), (12, 4)])
def test_too_few_trials_are_counted(trials, failed):
    for one in drawn(made_study(trials=trials, epochs=1, confirmed=0, failed=failed)).values():
        assert one.figure is None
        assert "at least 10 trials that ended with a loss" in one.finding
        more = f" ({failed} more failed)" if failed else ""
        assert f"pair has {trials - failed} trials{more}" in one.finding


def test_one_trial_is_no_plural():
    one = drawn(made_study(trials=4, epochs=1, confirmed=0, failed=3))["importance"]
    assert "pair has 1 trial (3 more failed)," in one.finding


def test_an_arm_that_is_missing_is_named(study):
    own = study.trials[(study.trials.arm == "constant") | (study.trials.number < 7)]
    for one in drawn(with_trials(study, own)).values():
        assert len({axes.get_title(loc="left") for axes in one.figure.axes} - {""}) == 1
        for text in (one.finding, caption(one)):
            assert "pair has 7 trials, fixed-factor has 7 trials." in text


def test_equal_losses_are_nothing_to_learn_from(study):
    flat = study.trials.assign(value=21.5)
    for one in drawn(with_trials(study, flat)).values():
        assert one.figure is None
        assert "pair has 40 equal losses" in one.finding


def test_noise_is_grey_and_not_read(study):
    noise = study.trials.assign(value=np.random.default_rng(0).normal(21, 1, len(study.trials)))
    for one in drawn(with_trials(study, noise)).values():
        titles = {axes.get_title(loc="left") for axes in one.figure.axes} - {""}
        assert all(title.endswith("do not read") for title in titles)
        assert "cannot be told from these trials" in one.finding
        assert "In this search" not in one.finding


def test_failed_trials_settings_that_never_varied_and_a_running_study():
    study = made_study(trials=24, epochs=1, confirmed=0, failed=3, running=True)
    study = with_trials(study, study.trials.assign(param_tau_min=0.1, param_factor_b=None))
    shown = drawn(study)
    for one in shown.values():
        failed = "count as the worst loss of their arm: pair 3, constant 3, fixed-factor 3."
        assert failed in caption(one)
        assert "24 trials, 3 of them failed" in one.finding
        assert "still running" in caption(one)
        assert "24 (4) of each arm" in caption(one)
    for key in ("importance", "tunability"):
        written = [text.get_text() for text in shown[key].figure.axes[0].texts]
        assert written.count("did not vary") >= 2


def test_a_setting_that_makes_runs_diverge_leads(study):
    own = study.trials[study.trials.arm == "constant"].copy()
    own["value"] = 20 + 0.1 * np.random.default_rng(0).random(len(own))
    diverged = own.param_tau_b > own.param_tau_b.median()
    own.loc[own.param_tau_b.idxmin(), "value"] = 20.5
    for state, value in [("failed", np.nan), ("complete", np.inf)]:
        states, values = own.state.mask(diverged, state), own.value.mask(diverged, value)
        trials = own.assign(state=states, value=values)
        shown = drawn(with_trials(study, trials))
        assert "fANOVA puts tau_b" in shown["importance"].finding
        assert "tau_b = 1" in shown["tunability"].finding
        for one in shown.values():
            assert "40 trials, 20 of them failed" in one.finding


def test_trials_stopped_early_are_left_out_and_counted(study):
    stopped = (study.trials.number < 3) & (study.trials.phase == "search")
    trials = study.trials.assign(state=study.trials.state.mask(stopped, "pruned"))
    one = drawn(with_trials(study, trials))["importance"]
    assert "Stopped early, and so without a final loss and left out: 9." in caption(one)
    assert "37 trials)" in one.finding


def test_a_best_trial_that_is_the_default_needs_no_step(study):
    constant = study.trials[study.trials.arm == "constant"].copy()
    best = constant.value.idxmin()
    constant.loc[best, ["param_learning_rate", "param_tau_a", "param_tau_b"]] = [0.003, 0.5, 1.0]
    one = drawn(with_trials(study, constant))["ablation"]
    assert "the best trial is the default" in one.finding
    assert [label.get_text() for label in one.figure.axes[0].get_yticklabels()] == ["default"]


def test_many_trials_take_no_longer(study):
    # 3,360 of each arm
    copies = [study.trials.assign(number=study.trials.number + 40 * at) for at in range(84)]
    many = pd.concat(copies, ignore_index=True)
    many["value"] += np.random.default_rng(0).normal(0, 0.01, len(many))
    start = time.process_time()
    shown = drawn(with_trials(study, many))
    assert time.process_time() - start < 6
    for one in shown.values():
        assert f"Of those of pair, constant and fixed-factor, {MOST} drawn at random" in caption(
            one
        )
