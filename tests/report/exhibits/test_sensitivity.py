import dataclasses
import re
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from gsvae_tune.report.estimates.marginal import Shape
from gsvae_tune.report.estimates.spread import Components
from gsvae_tune.report.exhibits import ended, landscape, robustness, sensitivity
from gsvae_tune.report.exhibits.exhibit import NothingToShow
from gsvae_tune.report.figures import style
from gsvae_tune.report.page.content import first_sentence
from tests.report.made import made_study

KEYS = [
    "sensitivity-start", "sensitivity-range", "sensitivity-moves", "sensitivity-rules",
    "sensitivity-map-range", "sensitivity-map-start-rule", "sensitivity-robustness",
    "sensitivity-spread",
]  # fmt: skip


START, RANGE, MOVES, RULES, MAP_RANGE, MAP_RULE, ROBUSTNESS, SPREAD = KEYS


def drawn(study, *keys):
    """Draw the exhibits of these keys, or all."""
    exhibits = [one for one in sensitivity.exhibits(study) if one.key in (keys or KEYS)]
    found = {exhibit.key: exhibit.drawn() for exhibit in exhibits}
    for one in found.values():
        assert one.finding.endswith(".")
        assert "nan" not in one.finding
    return found


def captions(one):
    return " ".join(one.figure._supxlabel.get_text().split())


def changed(study, **columns):
    """Return the study with columns of its trials set, NaN and None included."""
    return dataclasses.replace(study, trials=study.trials.assign(**columns))


def many(study, times):
    """Return the study with each trial of the search repeated, settings and losses moved a bit."""
    own = study.trials[study.trials.phase == "search"]
    table = pd.concat([own] * times, ignore_index=True)
    rng = np.random.default_rng(0)
    moved = {"value": table.value + rng.uniform(0, 1, len(table))}
    for name in table.columns[table.columns.str.startswith("param_tau")]:
        moved[name] = (table[name] * rng.uniform(0.8, 1.25, len(table))).clip(0.05, 5.0)
    table = table.assign(number=table.groupby("arm").cumcount(), **moved)
    return dataclasses.replace(study, trials=table)


@pytest.fixture(scope="module")
def study():
    return made_study(trials=30, failed=2, epochs=1)


def test_all_is_drawn(study):
    found = drawn(study)
    assert list(found) == KEYS
    for one in found.values():
        with style.applied():
            one.figure.draw_without_rendering()  # warnings of the layout come only now
    titles = [exhibit.title for exhibit in sensitivity.exhibits(study)]
    assert all(title.endswith("?") for title in titles)
    assert len(set(titles)) == len(KEYS)


def test_nothing_is_worked_out_before_it_is_drawn():
    assert [exhibit.key for exhibit in sensitivity.exhibits(None)] == KEYS


def test_failures_are_said_and_counted(study):
    found = drawn(study, START, RULES, ROBUSTNESS, SPREAD)
    assert "30 trials of each arm, 6 of them failed" in captions(found[START])
    assert "pair 2 of 30" in found[RULES].finding
    assert "of all 30" in found[ROBUSTNESS].finding
    assert "pair 2" in found[SPREAD].finding


@pytest.mark.parametrize("trials", [0, 1, 4])
def test_too_few_trials(trials):
    for one in drawn(made_study(trials=trials, epochs=1)).values():
        assert one.figure is None
        assert str(trials) in one.finding or "none" in one.finding


def test_all_trials_failed():
    for one in drawn(made_study(trials=12, failed=12, epochs=1)).values():
        assert one.figure is None
        assert "0" in one.finding


def test_one_arm_only(study):
    alone = study.trials[study.trials.arm == "constant"]
    found = drawn(dataclasses.replace(study, trials=alone), START, RULES, MAP_RANGE)
    assert found[START].figure is not None
    assert "Too few trials to show: pair (0," in captions(found[START])
    assert found[RULES].figure is None
    assert found[MAP_RANGE].figure is None


def test_all_losses_equal(study):
    same = study.trials.value.where(study.trials.value.isna(), 20.5)
    losses = study.replicates.assign(val_neg_elbo_nats=20.5)
    same = dataclasses.replace(changed(study, value=same), replicates=losses)
    found = drawn(same, START, RULES, MAP_RANGE, ROBUSTNESS, SPREAD)
    assert "no value is ruled out" in found[START].finding
    assert "equal" in found[RULES].finding
    assert "same loss" in found[ROBUSTNESS].finding
    assert found[ROBUSTNESS].figure is None
    assert "there is no spread" in found[SPREAD].finding


def curve(arm, *, told, held=False, stratum="random", amount=1.0, high=2.0):
    seen = Shape(
        21, amount, 0.4 if told else 0.0, high, told, (0.2, 0.5), (0.1, 0.9), (0.1, 2), held
    )
    return sensitivity.Curve(arm, "tau_start", stratum, seen)


def test_every_arm_is_said_how_much_and_where():
    found = [curve("pair", told=True, held=True), curve("constant", told=False, amount=0.3)]
    said = sensitivity.curves_finding(found, 0.1, 4)
    assert first_sentence(said) == said
    assert "1.00 nats [0.40, 2.00] along tau_start of pair, safe at 0.2 to 0.5, on average" in said
    assert "worse above 0.9;" in said  # the curve ends at 0.1: below it nothing is known
    assert "0.30 nats [0.00, 2.00] along tau_start of constant, which chance alone could do" in said
    assert "4 panels looked at, 21 random trials" in said


def test_what_the_sampler_picked_is_never_safe():
    said = sensitivity.curves_finding([curve("pair", told=True, held=True, stratum="all")], 0.1, 1)
    assert "lowest at 0.2 to 0.5 among the sampler's own picks, which is biased" in said
    assert "safe" not in said
    flat = [curve("pair", told=False, stratum="all", amount=0.0, high=0.0)]
    assert "every value" not in sensitivity.curves_finding(flat, 0.1, 1)


def test_a_curve_flat_within_the_margin_is_safe_all_along():
    found = [curve("pair", told=False, amount=0.05, high=0.09)]
    said = sensitivity.curves_finding(found, 0.1, 1)
    assert "along tau_start of pair: every value on the curve is safe" in said


def test_of_many_curves_some_are_named():
    found = [curve(f"arm{one}", told=one < 6, amount=1.0 + one) for one in range(9)]
    said = sensitivity.curves_finding(found, 0.1, 9)
    assert "arm5, where no range is sure; by 5.00" in said
    assert "by 1.00 to 2.00 nats along 2 more; by 7.00 to 9.00 nats along 3 more" in said


def test_a_few_best_trials_off_the_range_name_none():
    """Eight trials, the two best where no others are: nothing is named."""
    at = [0.509, 0.514, 0.686, 0.7, 0.73, 0.8, 0.86, 0.9]
    loss = [20.4, 20.5, 21.9, 22.3, 22.0, 22.6, 22.4, 22.8]
    own = pd.DataFrame({"at": at, "loss_nats": loss, "random": False})
    panel = SimpleNamespace(log=False, choices=())
    drawn_curves = sensitivity._drawn(own, panel, 5)
    for stratum, line in drawn_curves.items():
        seen = sensitivity._shape(dict(ended.strata(own))[stratum], line, panel, 0.1, 5)
        assert not seen.told
        assert not seen.held


def test_spread_that_few_trials_make_up_is_said_to_be():
    one = Components(50, 150, 1.0, 0.5, 0.8, 0.6, 0.9, 0.3, 0.4, 0.75)
    said = robustness._spread_finding({"pair": one})
    assert "80% [60%, 90%] for pair; the rest" in said
    # by medians: 0.09 / 0.25
    assert "10% farthest from the mean hold 75% for pair" in said
    assert "the share is 36%." in said
    agreed = dataclasses.replace(one, robust_between_nats=0.7)  # 0.49 / 0.65
    assert "few trials" not in robustness._spread_finding({"pair": agreed})
    bare = dataclasses.replace(one, share_low=np.nan, share_high=np.nan)
    assert "80% (too few trials for an interval)" in robustness._spread_finding({"pair": bare})


def test_a_map_says_which_cells_it_speaks_of(study):
    found = drawn(many(study, 3), MAP_RANGE)[MAP_RANGE]
    assert "of cells with 3 trials or more (" in found.finding


def test_settings_that_never_varied(study):
    names = [name for name in study.trials if name.startswith("param_tau")]
    fixed = changed(study, **dict.fromkeys(names, 1.0), param_rule_a="hold")
    found = drawn(fixed, START, RULES, MAP_RANGE)
    assert found[START].figure is None
    assert "tau_start of pair" in found[START].finding
    assert "rule_a of pair" in captions(found[RULES])


def test_columns_that_are_missing(study):
    names = [name for name in study.trials if name.startswith("param_")]
    bare = dataclasses.replace(study, trials=study.trials.drop(columns=names))
    found = drawn(bare)
    assert found[MOVES].figure is None
    assert found[ROBUSTNESS].figure is not None


def test_a_value_that_is_no_number_is_a_failure(study):
    value = study.trials.value.mask(study.trials.number == 3, np.inf)
    frames = ended.ended(changed(study, value=value))
    assert frames["pair"].failed.sum() == 3


def test_simulated_running_and_pruned(study):
    states = study.trials.state.mask(study.trials.number.isin([7, 8]), "pruned")
    states = states.mask(study.trials.number == 9, "running")
    odd = dataclasses.replace(
        changed(study, state=states), epochs=study.epochs.iloc[:0], running=True
    )
    found = drawn(odd, START, ROBUSTNESS)
    said = captions(found[START])
    assert "6 more were stopped early" in said
    assert "3 more have not ended yet" in said
    assert "of all 29" in found[ROBUSTNESS].finding  # pruned among them


def test_one_replicate_has_no_spread():
    found = drawn(made_study(trials=8, epochs=1, replicates=1), SPREAD)
    assert found[SPREAD].figure is None
    assert "two replicates" in found[SPREAD].finding


def test_choices_of_numbers_are_settings_too(study):
    found = sensitivity._panel(
        dataclasses.replace(
            study.settings["pair"][1], choices=(0.1, 1.0, 2.0), low=None, high=None, log=False
        ),
        3,
        ended.ended(study)["pair"],
    )
    assert (found["low"], found["high"], found["log"]) == (0.1, 2.0, True)


def test_no_loss_vanishes_beyond_the_axis(study):
    value = study.trials.value.mask(study.trials.number == 20, 300.0)
    frames, top = ended.cut(ended.ended(changed(study, value=value)))
    assert top < 40
    assert all(frame.loss_nats.max() == top for frame in frames.values())
    assert [int(frame.beyond.sum()) for frame in frames.values()] == [1, 1, 1]
    found = drawn(changed(study, value=value), START)
    assert "3 larger losses (the largest 300) and 6 failed trials" in captions(found[START])


def test_the_random_trials_stay_in_sight():
    good = pd.DataFrame({"value": np.linspace(20.0, 20.1, 90), "random": False})
    random = pd.DataFrame({"value": np.linspace(20.0, 24.0, 10), "random": True})
    frame = pd.concat([good, random], ignore_index=True).assign(failed=False)
    assert ended.cut({"pair": frame})[1] == 24.0


def test_shares_by_hand(study):
    own = study.trials[(study.trials.arm == "pair") & (study.trials.phase == "search")]
    best = study.trials[study.trials.phase == "search"].value.min()
    random = own[own.stratum == "random"]
    near, drawn_at_random = int((random.value <= best + 0.5).sum()), len(random)
    said = re.search(
        r"pair (\d+)% \[\d+%, \d+%\] of (\d+) drawn at random \((\d+) of all 30\)",
        drawn(study, ROBUSTNESS)[ROBUSTNESS].finding,
    )
    assert said is not None
    assert int(said[1]) == round(100 * near / drawn_at_random)
    assert int(said[2]) == drawn_at_random
    assert int(said[3]) == (own.value <= best + 0.5).sum()


def test_every_arm_there_is():
    found = drawn(made_study("controls", trials=8, epochs=1), MOVES, RULES, ROBUSTNESS, SPREAD)
    assert all(one.figure is not None for one in found.values())
    assert len(found[MOVES].figure.axes) > 12
    assert all(len(one.finding) < 700 for one in found.values())


def test_ten_thousand_trials_are_quick(study):
    crowd = many(study, 10_000 // 90)
    for exhibit in sensitivity.exhibits(crowd):
        started = time.perf_counter()
        assert exhibit.drawn().figure is not None
        assert time.perf_counter() - started < 8, exhibit.key  # 2 s on an idle core


def test_a_map_takes_both_settings(study):
    frames, _ = ended.cut(ended.ended(study))
    settings = {one.name: one for one in study.settings["fixed-factor"]}
    assert landscape._ranges("fixed-factor", settings, frames["fixed-factor"]) == []
    assert landscape._rules("fixed-factor", settings, frames["fixed-factor"]) == []
    with pytest.raises(NothingToShow, match="tau_min and tau_max"):
        landscape._maps(study, lambda *_: [], "tau_min and tau_max")


def test_of_many_arms_the_ends_are_named():
    frames = {str(arm): pd.DataFrame({"value": [20.0 + arm, 20.0]}) for arm in range(6)}
    said, more = robustness._extremes([*frames], frames, 20.5)
    assert said == ["0", "1"]
    assert "6 arms" in more
