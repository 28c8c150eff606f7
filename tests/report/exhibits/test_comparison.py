"""The comparison says what is so, whatever the study."""

import dataclasses
import functools
import time

import numpy as np
import pandas as pd
import pytest

from gsvae_tune.report.exhibits import comparison
from gsvae_tune.report.figures import style
from gsvae_tune.report.tables import EPOCHS, REPLICATES, TRIALS, _frame
from gsvae_tune.report.verdict import decide
from tests.report.estimates.test_differences import judged
from tests.report.made import judged_study, made_study

KEYS = [
    "comparison-pairs", "comparison-verdict", "comparison-compute", "comparison-curves",
    "comparison-reconstructions", "comparison-samples",
]  # fmt: skip
TABLES = {"trials": TRIALS, "replicates": REPLICATES, "epochs": EPOCHS}


usual = functools.cache(made_study)  # nobody changes it: tables are copied first


def draw(study, key):
    """Draw one exhibit; returns its figure, if any, and its sentence."""
    (exhibit,) = [one for one in comparison.exhibits(study) if one.key == key]
    drawn = exhibit.drawn()
    assert drawn.finding.endswith(".")
    assert "nan" not in drawn.finding.split()
    return drawn.figure, drawn.finding


def edited(study, name, **columns):
    """The study with columns of confirmed rows of one table changed."""
    table = getattr(study, name).copy()
    for column, value in columns.items():
        table.loc[table.phase == "confirm", column] = value
    return dataclasses.replace(study, **{name: table})


def of_one_arm(arm):
    study = made_study(protocol__replicates=5, epochs=3)
    config = study.config.model_copy(update={"arms": {arm: study.config.arms[arm]}})
    tables = {name: getattr(study, name) for name in TABLES}
    own = {name: table[table.arm == arm] for name, table in tables.items()}
    return dataclasses.replace(study, config=config, **own)


STUDIES = {
    "no trials": lambda: made_study(trials=0, confirmed=0),
    "four trials": lambda: made_study(trials=4),
    "one arm": lambda: judged(of_one_arm("pair")),
    "all failed": lambda: made_study(failed=12, confirmed=0),
    "all failed, judged": lambda: judged(made_study(failed=12, confirmed=0)),
    "equal": lambda: judged(
        edited(usual(), "replicates", test_neg_elbo_nats=20.0, val_neg_elbo_nats=20.0)
    ),
    "all diverged": lambda: judged(
        edited(
            usual(),
            "replicates",
            diverged=True,
            test_neg_elbo_nats=np.nan,
            val_neg_elbo_nats=np.nan,
            best_branch=pd.NA,
        )
    ),
    "epochs of nothing": lambda: judged(
        edited(usual(), "epochs", val_neg_elbo_nats=np.nan, control_loss_discrete=np.nan)
    ),
    "no epochs": lambda: judged(dataclasses.replace(usual(), epochs=_frame([], EPOCHS))),
    "running": lambda: made_study(running=True, trials=5),
    "one replicate": lambda: judged(made_study(protocol__replicates=1)),
    "every arm there is": lambda: judged(made_study("controls", trials=3, epochs=3)),
}


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_gets_a_figure_or_a_sentence(name):
    study = STUDIES[name]()
    assert [one.key for one in comparison.exhibits(study)] == KEYS
    for key in KEYS:
        figure, _ = draw(study, key)
        if figure is not None:
            with style.applied():
                figure.draw_without_rendering()  # lays it out, which warns where it cannot


def test_before_a_verdict_it_says_what_is_to_go():
    _, says = draw(usual(), "comparison-pairs")
    assert "24 of 60 trials of the search and 5 of 8 confirmations still to go" in says
    _, says = draw(made_study(trials=20, confirmed=2), "comparison-verdict")
    assert "2 of 8 confirmations still to go" in says
    _, says = draw(made_study(trials=20, confirmed=0, protocol__until="search"), KEYS[0])
    assert "8 of 8 confirmations" in says
    assert "stop after its phase search" in says


def test_claims_are_the_verdict_s_own_words():
    study = judged(made_study(confirmed=1))
    figure, says = draw(study, "comparison-pairs")
    words = [one.verdict for one in study.verdict.comparisons]
    assert figure is not None
    assert f"Of {len(words)} comparisons" in says
    first = study.verdict.comparisons[0]
    assert (first.arm, first.baseline) == ("pair", "fixed-factor")
    assert f"pair - fixed-factor: {first.reason}" in says
    for word in set(words):
        assert f"{words.count(word)} {word}" in says


def test_what_is_supported_is_named_also_where_it_is_not_the_pair_s():
    study = judged(usual())
    supported = [
        dataclasses.replace(one, verdict="supported") if one.arm == "constant" else one
        for one in study.verdict.comparisons
    ]
    verdict = dataclasses.replace(study.verdict, comparisons=supported)
    _, says = draw(dataclasses.replace(study, verdict=verdict), "comparison-pairs")
    assert says.endswith(" Supported: constant better than fixed-factor.")


def test_a_test_split_seen_before_is_no_evidence_and_said():
    study = judged(usual(), reopened="I looked")
    for key in ("comparison-pairs", "comparison-verdict"):
        _, says = draw(study, key)
        assert "(I looked): no evidence." in says


def test_a_simulated_study_is_called_so():
    verdict = dataclasses.replace(judged(usual()).verdict, simulated=True)
    study = made_study(simulate__table="valley")
    study = dataclasses.replace(study, verdict=verdict)
    assert "simulated" in draw(study, "comparison-pairs")[1]
    for key in KEYS[3:]:
        figure, says = draw(study, key)
        assert figure is None
        assert "simulated" in says


def test_failed_seeds_are_named_and_counted():
    study = usual()
    lost = study.replicates.copy()
    lost.loc[
        (lost.arm == "pair") & (lost.phase == "confirm") & (lost.replicate < 3), "diverged"
    ] = True
    figure, says = draw(judged(dataclasses.replace(study, replicates=lost)), "comparison-verdict")
    assert figure is not None
    assert "3 of pair" in says
    assert "the verdict counts them as losses" in says


def test_unequal_compute_is_called_so_on_the_figure():
    study = usual()
    fewer = study.trials[~((study.trials.arm == "pair") & (study.trials.number == 11))]
    study = judged(dataclasses.replace(study, trials=fewer))
    figure, says = draw(study, "comparison-compute")
    assert "UNEQUAL" in [text.get_text() for axes in figure.axes for text in axes.texts]
    assert "pair (configurations 11 against 12" in says
    assert "so far" not in says


def test_equal_compute_gives_the_numbers():
    study = usual()
    config = study.config.model_copy(
        update={"arms": {arm: study.config.arms[arm] for arm in ("pair", "fixed-factor")}}
    )
    two = dataclasses.replace(study, config=config)
    _, says = draw(two, "comparison-compute")
    assert "Both arms were given the same so far: 12 configurations, 1 confirmed" in says


def test_curves_are_those_of_the_finalists_or_said_to_be_of_the_search():
    study = usual()
    figure, says = draw(study, "comparison-curves")
    assert "of the search so far" in figure.get_supxlabel()
    assert "mean of 3 seeds" in says
    judged_study = judged(study)
    figure, says = draw(judged_study, "comparison-curves")
    assert figure.get_supxlabel().startswith("Finalists")
    assert "mean of 10 seeds" in says
    best = judged_study.verdict.arms["pair"].finalist
    rows = study.epochs[
        (study.epochs.arm == "pair") & (study.epochs.phase == "confirm") & (study.epochs.epoch == 8)
        & (study.epochs.number == best.number) & (study.epochs.branch == "a")
    ]  # fmt: skip
    curve = figure.axes[0].lines[0].get_ydata()
    assert curve[-1] == pytest.approx(rows.val_neg_elbo_nats.mean())


def test_a_curve_ends_where_its_first_seed_is_lost():
    study = judged(usual())
    lost = study.epochs.copy()
    at = (lost.arm == "pair") & (lost.phase == "confirm") & (lost.replicate == 4) & (lost.epoch > 5)
    lost.loc[at, "val_neg_elbo_nats"] = np.nan
    figure, _ = draw(dataclasses.replace(study, epochs=lost), "comparison-curves")
    assert figure.axes[0].lines[0].get_xdata().tolist() == [1, 2, 3, 4, 5]
    assert figure.axes[0].lines[1].get_marker() == "X"
    assert "pair (1)" in " ".join(figure.get_supxlabel().split())


def test_seeds_that_collapsed_are_in_no_curve_and_counted():
    study = judged(usual())
    number = study.verdict.arms["pair"].finalist.number
    replicates, epochs = study.replicates.copy(), study.epochs.copy()
    for table in (replicates, epochs):
        own = (table.arm == "pair") & (table.phase == "confirm") & (table.number == number)
        table.loc[own & (table.replicate == 4), "val_neg_elbo_nats"] = 99.0
    own = (replicates.arm == "pair") & (replicates.phase == "confirm")
    replicates.loc[own & (replicates.replicate == 4), "collapsed"] = True
    one = dataclasses.replace(study, replicates=replicates, epochs=epochs)
    figure, says = draw(one, "comparison-curves")
    words = f"Failed, and in no mean: 1 of 10 seeds of pair #{number}."
    assert words in says
    assert words in " ".join(figure.get_supxlabel().split())
    assert figure.axes[0].lines[0].get_ydata()[-1] < 30  # no part of 99 in it
    replicates.loc[own, "collapsed"] = True
    figure, says = draw(dataclasses.replace(one, replicates=replicates), "comparison-curves")
    assert f"Failed, and in no mean: all 10 seeds of pair #{number}." in says
    assert not any(text.get_text().startswith("pair") for text in figure.legends[0].get_texts())


def repeated(study, times):
    """The study with its search's trials many times over, under numbers of their own."""
    tables = {}
    for name in ("trials", "replicates"):
        table = getattr(study, name)
        own = table[table.phase == "search"]
        more = [own.assign(number=own.number + 1_000 * copy) for copy in range(1, times)]
        tables[name] = pd.concat([table, *more], ignore_index=True)
    return dataclasses.replace(study, **tables)


def test_ten_thousand_trials_are_fast():
    study = judged(repeated(made_study(trials=12), 280))
    assert len(study.trials) > 10_000
    for key in KEYS[:4]:
        draw(study, key)  # what is imported once is no part of it
        began = time.perf_counter()
        draw(study, key)
        assert time.perf_counter() - began < 5.0  # about 0.3 s on an idle machine


def test_where_every_seed_of_both_arms_failed_no_difference_is_drawn():
    study = judged_study()
    lost = study.replicates.assign(collapsed=study.replicates.phase == "confirm")
    trials, config = study.trials, study.config
    chosen = {arm: known.confirmed for arm, known in study.verdict.arms.items()}
    verdict = decide(config, trials, lost, chosen, None)
    study = dataclasses.replace(study, replicates=lost, verdict=verdict)
    figure, _ = draw(study, "comparison-pairs")
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert "nothing to compare" in texts
    assert not any("mean" in text for text in texts)
