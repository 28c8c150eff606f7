import dataclasses
import time

import numpy as np
import pandas as pd
import pytest

from gsvae_tune.report.exhibits import searching
from tests.report.made import made_study

KEYS = [
    "search-anytime",
    "search-expected",
    "search-fidelity",
    "search-footprint",
    "search-parallel",
    "search-timeline",
    "search-selection",
]


def made(study="digits", *, random=10, slots=3, **more):
    """A made-up study with a random stratum of its first trials, on several slots."""
    found = made_study(study, **({"trials": 20, "confirmed": 2, "epochs": 5} | more))
    trials = found.trials.copy()
    searched = trials.phase == "search"
    trials.loc[searched, "stratum"] = np.where(trials.number[searched] < random, "random", "tpe")
    order = trials.ended_s.rank(method="first").to_numpy() - 1
    trials["ended_s"] = 1.7e9 + 3.2 * (order // slots) + trials.wall_s
    return changed(found, trials=trials)


def changed(study, **tables):
    again = dataclasses.replace(study, **tables)
    again.__dict__.pop("settings", None)
    return again


def drawn(study, *keys):
    """Draw the exhibits of these keys, or all."""
    wanted = keys or KEYS
    return {one.key: one.drawn() for one in searching.exhibits(study) if one.key in wanted}


def shown(found):
    return {key for key, one in found.items() if one.figure is not None}


@pytest.fixture(scope="module")
def study():
    return made()


@pytest.fixture(scope="module")
def usual(study):
    return drawn(study)


def test_questions_and_keys(study):
    found = list(searching.exhibits(study))
    assert [one.key for one in found] == KEYS
    assert all(one.title.endswith("?") and one.reading.endswith(".") for one in found)


@pytest.mark.parametrize("key", KEYS)
def test_every_exhibit_is_drawn_and_speaks(usual, key):
    assert usual[key].encoded("png").startswith(b"\x89PNG")
    finding = usual[key].finding
    assert finding.endswith(".")
    assert "nan" not in finding
    assert " better" not in finding  # a search is no evidence


def test_the_same_study_gives_the_same_files(study, usual):
    again = drawn(study)
    assert {key: one.finding for key, one in again.items()} == {
        key: one.finding for key, one in usual.items()
    }
    once, twice = (drawn(study, "search-timeline", "search-footprint") for _ in range(2))
    for key, one in once.items():
        assert one.encoded("svg") == twice[key].encoded("svg")


def test_the_best_so_far_is_named(study, usual):
    finding = usual["search-anytime"].finding
    for arm in study.searched_arms:
        assert f"{study.searched(arm).value.min():.3f} ({arm})" in finding
    assert "After 20 trials an arm" in finding


def test_expected_best_says_how_many_random_trials(study, usual):
    assert "The best of 10 random trials" in usual["search-expected"].finding
    assert "(10 an arm)" in caption(usual["search-expected"])


def caption(one):
    return " ".join(one.figure._supxlabel.get_text().split())


def test_short_runs_of_made_up_curves_order_the_trials_at_once(usual):
    assert "From epoch 1 on the correlation is 0.9 or more" in usual["search-fidelity"].finding


def test_idle_time_is_that_of_the_made_up_slots(study, usual):
    trials = study.trials
    start = trials.ended_s - trials.wall_s
    span = trials.ended_s.max() - start.min()
    idle = 1 - trials.wall_s.sum() / (3 * span)
    finding = usual["search-timeline"].finding
    assert f"{100 * idle:.1f} % of the slots' time" in finding
    assert "at most 3 at once" in finding


def test_the_curse_is_the_mean_over_the_confirmed(study, usual):
    for arm in study.searched_arms:
        own = study.trials[study.trials.arm == arm].set_index(["phase", "number"]).value
        seeds = study.replicates[
            (study.replicates.arm == arm) & (study.replicates.phase == "confirm")
        ]
        again = seeds.groupby("number").val_neg_elbo_nats.mean()
        curse = (again - own["search"][again.index]).mean()
        low, high = (again - own["search"][again.index]).agg(["min", "max"])
        assert (
            f"{curse:+.3f} [{low:+.3f}, {high:+.3f}] ({arm})"
            in (usual["search-selection"].finding.split(". ")[0])
        )


def test_replayed_arms_have_no_search_to_believe(usual):
    arms = {axes.get_title("left") for axes in usual["search-selection"].figure.axes}
    assert arms == {"pair", "constant", "fixed-factor"}


def test_no_trials_at_all():
    empty = made_study(trials=1, confirmed=0)
    empty = changed(
        empty, trials=empty.trials[:0], replicates=empty.replicates[:0], epochs=empty.epochs[:0]
    )
    found = drawn(empty)
    assert shown(found) == set()
    assert all("0" in one.finding for one in found.values())


def test_fewer_trials_than_say_anything():
    few = made(trials=4, confirmed=1)
    found = drawn(few)
    assert shown(found) == {"search-timeline", "search-selection"}
    assert "at least 5 of an arm" in found["search-anytime"].finding


def test_one_arm_only(study):
    tables = {
        name: getattr(study, name)[getattr(study, name).arm == "pair"]
        for name in ("trials", "replicates", "epochs")
    }
    one = changed(study, **tables)
    found = drawn(one)
    assert shown(found) == set(KEYS)
    assert "Left out, for too few trials with a value: constant and fixed-factor." in caption(
        found["search-anytime"]
    )
    assert "other arms" not in found["search-expected"].finding


def test_every_trial_failed():
    lost = made(trials=12, failed=12, confirmed=0)
    found = drawn(lost)
    assert shown(found) == {"search-timeline"}  # they took time all the same
    assert "pair 0" in found["search-footprint"].finding


def test_some_trials_failed():
    some = made(failed=4)
    found = drawn(some)
    assert shown(found) == set(KEYS)
    assert "Ranked last, at the cost of the worst one: 12 failed trials." in caption(
        found["search-fidelity"]
    )
    early = made(failed=12, random=10, confirmed=1)  # 2 of each 10 random ones failed
    assert "Counted as the worst of their arm: 6 trials" in caption(
        drawn(early, "search-expected")["search-expected"]
    )


def equal_losses(study):
    trials, replicates, epochs = study.trials.copy(), study.replicates.copy(), study.epochs.copy()
    trials["value"] = 20.0
    replicates["val_neg_elbo_nats"] = 20.0
    epochs["val_neg_elbo_nats"] = 20.0
    return changed(study, trials=trials, replicates=replicates, epochs=epochs)


def test_all_losses_are_one(study):
    same = equal_losses(study)
    found = drawn(same)
    assert shown(found) == set(KEYS) - {"search-fidelity"}
    assert "none is best" in found["search-parallel"].finding
    assert "there is no order to keep" in found["search-selection"].finding
    assert found["search-footprint"].encoded("png")  # a colour range of one value


def test_settings_that_never_varied(study):
    trials = study.trials.copy()
    for column in [name for name in trials.columns if name.startswith("param_")]:
        trials[column] = trials.groupby("arm")[column].transform("first")
    constant = changed(study, trials=trials)
    found = drawn(constant, "search-footprint", "search-parallel")
    assert "same settings" in found["search-footprint"].finding
    assert "no setting varied" in found["search-parallel"].finding
    assert found["search-parallel"].encoded("svg")


def test_one_setting_that_never_varied(study):
    trials = study.trials.copy()
    trials["param_learning_rate"] = 3e-3
    keys = {"search-footprint", "search-parallel"}
    assert shown(drawn(changed(study, trials=trials), *keys)) == keys


def test_values_and_times_that_are_missing(study):
    trials = study.trials.copy()
    trials.loc[trials.number == 3, ["value", "wall_s", "ended_s"]] = np.nan
    trials.loc[trials.number == 3, "state"] = "failed"
    trials.loc[trials.number == 4, "state"] = "running"
    holes = changed(study, trials=trials, running=True)
    found = drawn(holes)
    assert shown(found) == set(KEYS)
    assert all(one.finding.startswith("So far") for one in found.values())
    assert "without a recorded time" in caption(found["search-timeline"])
    assert len(found["search-anytime"].figure.axes) == 3


def test_no_confirmation_yet(study):
    trials = study.trials[study.trials.phase == "search"]
    found = drawn(changed(study, trials=trials), "search-selection")
    assert "(0 so far)" in found["search-selection"].finding


@pytest.mark.parametrize(
    ("column", "value"), [("collapsed", True), ("diverged", True), ("val_neg_elbo_nats", np.nan)]
)
def test_a_confirmation_whose_seed_failed(study, column, value):
    replicates = study.replicates.copy()
    confirm = replicates.phase == "confirm"
    replicates.loc[confirm & (replicates.replicate == 0) & (replicates.arm == "pair"), column] = (
        value
    )
    found = drawn(changed(study, replicates=replicates), "search-selection")["search-selection"]
    assert "Hollow: some seeds failed (2 in all)" in caption(found)
    assert "Failed, and in no mean: 2 of 60 fresh seeds." in found.finding
    replicates.loc[confirm & (replicates.arm == "pair"), column] = value
    found = drawn(changed(study, replicates=replicates), "search-selection")["search-selection"]
    assert "no seed is sound (2 configurations)" in caption(found)
    assert "4 of 6 confirmed configurations (2 without a sound seed, among them all of pair)" in (
        found.finding
    )
    assert "(pair)" not in found.finding
    replicates.loc[confirm, column] = value
    found = drawn(changed(study, replicates=replicates), "search-selection")["search-selection"]
    assert found.figure is None
    assert "all seeds of all 6 that were tried failed" in found.finding


def test_one_configuration_is_said_to_be_one(study):
    best = study.trials[(study.trials.arm == "pair") & (study.trials.phase == "confirm")].iloc[0]
    confirm = study.trials.phase == "confirm"
    kept = ~confirm | ((study.trials.arm == "pair") & (study.trials.number == best.number))
    one = changed(study, trials=study.trials[kept])
    found = drawn(one, "search-selection")["search-selection"]
    first = found.finding.split(". ")[0]
    assert first.startswith("On fresh seeds the one confirmed configuration gave, minus its score")
    assert "95 % BCa interval over the seeds of an arm's one configuration" in first


def test_arms_that_improved_last_together_are_both_named():
    both = pd.Series({"pair": 20, "constant": 10, "yoked": 3})
    of = pd.Series({"pair": 20, "constant": 10, "yoked": 20})
    assert searching._latest(both, of) == (
        "of all arms pair (with trial 20 of 20) and constant (with trial 10 of 10) improved last"
    )
    assert searching._latest(both[:1], of[:1]) == "its last improvement came with trial 20 of 20"


def test_that_the_last_epoch_agrees_with_itself_is_nothing(study):
    epochs = study.epochs.copy()
    early = epochs.epoch < epochs.epoch.max()
    noise = np.random.default_rng(0).normal(0, 50, early.sum())
    for column in ("val_neg_elbo_nats", "control_loss_discrete"):
        epochs.loc[early, column] += noise
    found = drawn(changed(study, epochs=epochs), "search-fidelity")["search-fidelity"]
    assert "No shorter run keeps it at 0.9 or more in every arm shown" in found.finding
    found = drawn(changed(study, epochs=epochs[epochs.epoch == 1]), "search-fidelity")
    assert "Trials last 1 epoch" in found["search-fidelity"].finding


def pruned(study, numbers, **columns):
    """The study with some trials stopped by a scheduler, as studies of old recorded them."""
    trials = study.trials.copy()
    at = (trials.phase == "search") & trials.number.isin(numbers)
    for column, value in ({"state": "pruned", "value": np.nan} | columns).items():
        trials.loc[at, column] = value
    return changed(study, trials=trials)


def test_trials_that_were_pruned_at_an_unknown_time(study):
    found = drawn(pruned(study, [3, 4], ended_s=np.nan), "search-anytime", "search-timeline")
    assert "6 of 60 have no time of ending on record" in caption(found["search-anytime"])
    assert len(found["search-anytime"].figure.axes) == 2
    said = found["search-timeline"].finding
    assert said.startswith("6 of 66 trials that trained have no time of ending on record")
    assert "trained nothing" not in said
    most = drawn(pruned(study, range(3, 20), ended_s=np.nan), "search-timeline")
    assert most["search-timeline"].figure is None
    assert "Of 66 trials that ended, 51 left no time" in most["search-timeline"].finding


def test_trials_that_were_pruned_at_a_known_time(study):
    found = drawn(pruned(study, [3, 4]), "search-anytime", "search-timeline")
    assert len(found["search-anytime"].figure.axes) == 3
    assert "trained nothing" in found["search-timeline"].finding


def test_a_study_without_times_of_ending(study):
    old = changed(study, trials=study.trials.assign(ended_s=np.nan))
    found = drawn(old, "search-anytime", "search-timeline")
    assert len(found["search-anytime"].figure.axes) == 2
    assert "does not say when" in caption(found["search-anytime"])
    assert found["search-timeline"].figure is None


def test_a_study_without_epochs(study):
    found = drawn(changed(study, epochs=study.epochs[:0]), "search-fidelity")
    assert "no losses by epoch" in found["search-fidelity"].finding


def test_a_search_without_random_trials(study):
    trials = study.trials.assign(stratum="grid")
    found = drawn(
        changed(study, trials=trials), "search-expected", "search-anytime", "search-footprint"
    )
    assert "independent random trials" in found["search-expected"].finding
    assert found["search-anytime"].figure is not None
    assert found["search-footprint"].figure is not None


def test_more_slots_than_rows_can_show():
    many = made(slots=70, trials=40)
    found = drawn(many, "search-timeline")["search-timeline"]
    assert "at most 70 at once" in found.finding
    assert "mean number running" in caption(found)
    assert found.encoded("svg")


def test_every_arm_there_is():
    found = drawn(made("controls", trials=8, random=6, epochs=3, confirmed=2, failed=1))
    assert shown(found) == set(KEYS)
    assert "over 13 arms" in found["search-anytime"].finding
    assert "bands are left out" in caption(found["search-expected"])


def test_thousands_of_trials_are_fast():
    small = made(trials=30, random=10, epochs=2)
    parts = []
    for place in range(110):  # 9,900 trials of the search
        part = small.trials[small.trials.phase == "search"]
        noise = np.random.default_rng(place).normal(0, 0.01, len(part))
        parts.append(part.assign(number=part.number + 30 * place, value=part.value + noise))
    confirmed = small.trials[small.trials.phase == "confirm"]
    trials = pd.concat([*parts, confirmed], ignore_index=True)
    trials["ended_s"] = 1.7e9 + np.arange(len(trials)) // 500 * 3.2 + trials.wall_s
    big = changed(small, trials=trials)
    for one in searching.exhibits(big):
        began = time.process_time()
        found = one.drawn()
        assert found.figure is not None
        assert time.process_time() - began < 4, one.key  # 2 s on a machine with nothing else to do
        if one.key in {"search-footprint", "search-parallel"}:
            assert "a random 300 of their trials" in caption(found)
