"""The exhibits of the controllers' traces, on made-up studies: sound ones and poor ones."""

import dataclasses
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from gsvae_tune.report.exhibits import runs, traces
from tests.report.made import made_study

KEYS = ["tau", "losses", "fan", "behaviour", "decisions", "gap"]


def drawn(study, *keys):
    exhibits = {one.key.removeprefix("traces-"): one for one in traces.exhibits(study)}
    assert list(exhibits) == KEYS
    found = {key: exhibits[key].drawn() for key in keys or KEYS}
    for one in found.values():
        assert one.finding.endswith(".")
        assert not {"nan", "None", "inf"} & set(re.findall(r"\w+", one.finding))
    return found


def shown(found):
    return [key for key, one in found.items() if one.figure is not None]


def caption(one):
    return " ".join(one.figure._supxlabel.get_text().split())


@pytest.fixture(scope="module")
def study():
    return made_study(trials=12, epochs=6)


def changed(study, table, change):
    frame = getattr(study, table).copy()
    return dataclasses.replace(study, **{table: change(frame)})


def test_a_finished_search_shows_all(study):
    found = drawn(study)
    assert shown(found) == KEYS
    assert "best trial, confirmed" in found["tau"].finding
    assert "None yet: yoked" in caption(found["tau"])


def test_before_confirmation_the_best_trial_of_the_search_is_shown():
    early = made_study(trials=12, epochs=4, confirmed=0, running=True)
    found = drawn(early, "tau")
    assert "best trial of the search" in found["tau"].finding
    best = early.searched("pair").sort_values("value").number.iloc[0]
    assert f"(#{best})" in found["tau"].finding


def test_the_finalist_of_the_verdict_is_shown(study):
    number = int(study.searched("pair").sort_values("value").number.iloc[3])
    own = study.epochs[(study.epochs.arm == "pair") & (study.epochs.phase == "search")]
    again = own[own.number == number].assign(phase="confirm")
    finalist = SimpleNamespace(finalist=SimpleNamespace(number=number))
    judged = dataclasses.replace(
        study,
        epochs=pd.concat([study.epochs, again], ignore_index=True),
        verdict=SimpleNamespace(arms={"pair": finalist}),
    )
    assert f"pair's finalist (#{number})" in drawn(judged, "tau")["tau"].finding


def test_a_yoked_arm_is_shown_with_the_range_of_its_pair(study):
    own = study.trials[(study.trials.arm == "pair") & (study.trials.phase == "confirm")]
    rows = study.epochs[(study.epochs.arm == "pair") & (study.epochs.phase == "confirm")]
    yoked = dataclasses.replace(
        study,
        trials=pd.concat([study.trials, own.assign(arm="yoked")], ignore_index=True),
        epochs=pd.concat(
            [study.epochs, rows.assign(arm="yoked", event="REPLAYED")], ignore_index=True
        ),
    )
    by_arm = {run.arm: run for run in runs.Recordings(yoked).runs}
    assert by_arm["yoked"].setting["tau_min"] == by_arm["pair"].setting["tau_min"] > 0
    assert "yoked replays pair, whose range is shown" in caption(drawn(yoked, "tau")["tau"])


def test_the_range_of_a_trial_is_what_it_drew(study):
    searches = {one.arm: one for one in runs.Recordings(study).searches(5)}
    drew = study.searched("pair").set_index("number")
    assert searches["pair"].settings["tau_max"].tolist() == drew.tau_max.tolist()
    assert searches["pair"].settings["coupling"].tolist() == drew.coupling.tolist()
    assert searches["constant"].settings["tau_min"].isna().all()
    assert searches["fixed-factor"].settings["tau_min"].notna().all()
    assert searches["fixed-factor"].settings["tau_max"].isna().all()


def test_a_range_that_is_not_searched_is_that_of_the_study_or_the_default():
    space = {"learning_rate": {"low": 1e-3, "high": 1e-2}, "tau_min": 0.2}
    found = runs.Recordings(made_study(trials=5, epochs=2, arms__pair__space=space)).searches(5)
    settings = next(one.settings for one in found if one.arm == "pair")
    assert settings["tau_min"].tolist() == [0.2] * 5
    assert settings["tau_max"].tolist() == [5.0] * 5


def test_losses_that_decide_nothing_are_said_to_decide_nothing(study):
    tied = changed(
        study, "epochs", lambda rows: rows.assign(event="TIE", control_loss_discrete=20.0, tau=0.4)
    )
    found = drawn(tied, "tau", "losses", "decisions")
    assert "decided none of" in found["tau"].finding
    assert "held both temperatures at 0.4" in found["tau"].finding
    assert "same loss to the last digit" in found["losses"].finding
    assert "decided 0 % of the median trial's epochs" in found["decisions"].finding
    assert "none at all in 12" in found["decisions"].finding


def test_losses_that_win_and_move_nothing_are_told_from_those_that_do(study):
    still = changed(study, "epochs", lambda rows: rows.assign(tau=0.4))
    assert "yet no temperature moved" in drawn(still, "tau")["tau"].finding
    assert "a temperature moved after" in drawn(study, "tau")["tau"].finding


def test_a_pair_without_feedback_is_left_out_of_the_decisions(study):
    apart = changed(study, "trials", lambda rows: rows.assign(param_coupling="independent"))
    space = dict(study.config.arms["pair"].space)
    space["coupling"] = space["coupling"].model_copy(
        update={"choices": [*space["coupling"].choices, "independent"]}
    )
    arm = study.config.arms["pair"].model_copy(update={"space": space})
    config = study.config.model_copy(update={"arms": study.config.arms | {"pair": arm}})
    found = drawn(dataclasses.replace(apart, config=config), "tau", "decisions")
    assert "coupling is independent" in found["tau"].finding
    assert found["decisions"].figure is None
    assert "independent" in found["decisions"].finding


def test_trials_of_another_space_have_no_range(study):
    foreign = changed(study, "trials", lambda rows: rows.assign(param_rule_a="no such rule"))
    found = drawn(foreign, "tau", "behaviour")
    assert shown(found) == ["tau", "behaviour"]
    assert "never at an end" not in found["tau"].finding


def test_no_epochs_say_so(study):
    nothing = changed(study, "epochs", lambda rows: rows.iloc[:0])
    assert shown(drawn(nothing)) == []
    assert "No epoch is on record" in drawn(nothing, "fan")["fan"].finding


def test_a_simulated_study_says_that_it_is_one(study):
    config = study.config.model_copy(update={"simulate": object()})
    simulated = dataclasses.replace(study, epochs=study.epochs.iloc[:0], config=config)
    assert "simulated" in drawn(simulated, "tau")["tau"].finding


@pytest.mark.parametrize(("trials", "expected"), [(0, []), (1, ["tau", "losses"]),
                                                  (4, ["tau", "losses"])])  # fmt: skip
def test_few_trials(trials, expected):
    assert shown(drawn(made_study(trials=trials, epochs=3))) == expected


def test_thirds_want_nine_trials():
    found = drawn(made_study(trials=8, epochs=3))
    assert shown(found) == ["tau", "losses", "behaviour", "decisions", "gap"]
    assert "at least 9" in found["fan"].finding


def test_all_failed():
    assert shown(drawn(made_study(trials=12, failed=12, epochs=3))) == []


def test_one_arm_that_is_no_pair(study):
    kept = {"constant": study.config.arms["constant"]}
    config = study.config.model_copy(update={"arms": kept})
    tables = {
        name: getattr(study, name)[lambda rows: rows.arm == "constant"].reset_index(drop=True)
        for name in ("trials", "replicates", "epochs")
    }
    found = drawn(dataclasses.replace(study, config=config, **tables))
    assert shown(found) == ["tau", "losses", "fan", "behaviour", "gap"]
    assert "No searched arm is a pair" in found["decisions"].finding
    assert "has one" in found["behaviour"].finding


def test_equal_values_have_no_best_third(study):
    alike = changed(study, "trials", lambda rows: rows.assign(value=20.0))
    found = drawn(alike, "fan", "behaviour", "decisions", "gap")
    assert "told apart" in found["fan"].finding
    assert shown(found) == ["behaviour", "decisions", "gap"]


def test_without_a_relaxed_loss_there_is_no_gap(study):
    blank = changed(study, "epochs", lambda rows: rows.assign(control_loss_relaxed=np.nan))
    assert shown(drawn(blank, "losses", "gap")) == ["losses"]


def test_without_any_loss_nothing_is_shown(study):
    blank = changed(study, "epochs", lambda rows: rows.assign(control_loss_discrete=np.nan))
    assert shown(drawn(blank)) == []


def test_replicates_that_ended_early_are_marked_and_counted(study):
    def end(rows):
        lost = (rows.phase == "confirm") & (rows.replicate == 1) & (rows.epoch >= 4)
        gone = (rows.phase == "confirm") & (rows.replicate == 2)  # in the first epoch
        return rows.assign(
            event=rows.event.mask(lost | gone, "ENDED"),
            control_loss_discrete=rows.control_loss_discrete.mask(lost | gone),
        )

    found = drawn(changed(study, "epochs", end), "tau", "losses")
    assert "ended early: 2 of pair" in caption(found["tau"])
    assert "ended early: 2 of pair" in caption(found["losses"])


def test_failed_and_collapsed_trials_are_counted_in_their_third(study):
    worst = study.searched("pair").sort_values("value").number.iloc[-1]
    best = study.searched("pair").sort_values("value").number.iloc[0]

    def fail(rows):
        lost = (rows.arm == "pair") & (rows.phase == "search") & (rows.number == worst)
        return rows.assign(state=rows.state.mask(lost, "failed"), value=rows.value.mask(lost))

    def collapse(rows):
        own = (rows.arm == "pair") & (rows.phase == "search") & (rows.number == best)
        return rows.assign(collapsed=own)

    poor = changed(changed(study, "trials", fail), "replicates", collapse)
    found = drawn(poor, "fan", "behaviour")
    text = caption(found["fan"])
    assert "pair: 1 collapsed among its best and 1 failed among its worst." in text
    assert "1 trials that failed" in caption(found["behaviour"])


def test_many_arms_with_long_names():
    arms = {
        f"arm-with-a-long-name-{place:02}": {
            "method": "constant",
            "space": {
                "learning_rate": {"low": 1e-3, "high": 1e-2},
                "tau_a": {"low": 0.1, "high": 4.0},
            },
        }
        for place in range(11)
    }
    more = {f"arms__{name}": arm for name, arm in arms.items()}
    found = drawn(made_study(trials=9, epochs=2, **more), "losses", "behaviour", "gap")
    assert shown(found) == ["losses", "behaviour", "gap"]
    assert "equal in every replicate of 0 of 14 arms" in found["losses"].finding


def test_large_studies_are_sampled(study, monkeypatch):
    monkeypatch.setattr(runs, "MOST", 10)
    found = drawn(study, "behaviour")
    assert "10 trials drawn at random" in caption(found["behaviour"])
