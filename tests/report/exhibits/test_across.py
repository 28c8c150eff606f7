"""Exhibits over several studies say what is so, or what is missing."""

import dataclasses

import pytest

from gsvae_tune.report.exhibits.across import exhibits, labels
from gsvae_tune.study.paths import StudyPaths
from tests.report.made import judged_study, made_study


def named(study, name):
    return dataclasses.replace(study, config=study.config.model_copy(update={"name": name}))


def drawn(*studies):
    return {one.key: one.drawn() for one in exhibits(studies)}


def test_three_figures_over_two_judged_studies():
    found = drawn(named(judged_study(), "one"), named(judged_study(), "two"))
    assert all(one.figure is not None for one in found.values())
    assert len(found["across-differences"].figure.axes) >= 2
    assert "Supported: no comparison" in found["across-differences"].finding
    assert "pair in one at" in found["across-start"].finding
    assert "the sampler's own picks, which is biased" in found["across-start"].finding
    assert "safe" not in found["across-start"].finding
    assert "on 2 of 4 curves looked at" in found["across-start"].finding
    assert "over 2 studies" in found["across-temperatures"].finding
    assert "one configuration's setting" in found["across-temperatures"].finding


def test_what_is_supported_is_named_with_its_study():
    study = named(judged_study(), "one")
    (seen,) = study.verdict.comparisons
    better = dataclasses.replace(seen, verdict="supported", effect_nats=-0.5)
    verdict = dataclasses.replace(study.verdict, comparisons=[better])
    found = drawn(dataclasses.replace(study, verdict=verdict), named(made_study(), "two"))
    assert "Supported: pair over fixed-factor in one." in found["across-differences"].finding
    assert "pair ahead of fixed-factor in 1 of 1" in found["across-differences"].finding


@pytest.mark.parametrize(
    "study",
    [
        made_study(trials=0, confirmed=0),
        made_study(trials=4, confirmed=0),
        made_study(trials=6, failed=6, confirmed=0),
    ],
    ids=["none", "too few", "all failed"],
)
def test_too_little_is_said(study):
    found = drawn(named(study, "one"), named(study, "two"))
    assert found["across-differences"].figure is None
    assert "None of the 2 studies" in found["across-differences"].finding
    assert found["across-start"].figure is None
    assert "No arm of the 2 studies has 5 finished trials" in found["across-start"].finding


def test_long_names_leave_room_for_the_figure():
    long = "a-study-whose-name-is-as-long-as-a-study-s-name-may-ever-be-made"
    found = drawn(named(judged_study(), long), named(judged_study(seed=2), long[::-1]))
    assert all(one.figure is not None for one in found.values())


def test_starts_rest_on_random_trials_where_there_are_enough():
    study = made_study("smoke", trials=40, confirmed=0)
    random = study.trials.assign(stratum="random")
    found = drawn(named(dataclasses.replace(study, trials=random), "one"))["across-start"]
    assert "pair in one at" in found.finding
    assert "(safe: within 0.1 nats)" in found.finding
    assert "biased" not in found.finding
    assert "one: 40 random" in " ".join(found.figure._supxlabel.get_text().split())


def test_studies_of_one_name_are_told_apart_by_folder(tmp_path):
    one, two = made_study(trials=1), made_study(trials=1)
    two = dataclasses.replace(two, paths=StudyPaths(tmp_path / "two"))
    third = dataclasses.replace(two, paths=StudyPaths(tmp_path / "else/two"))
    assert list(labels([one, two])) == ["digits (digits)", "digits (two)"]
    assert list(labels([two, third])) == [f"digits ({tmp_path.name}/two)", "digits (else/two)"]
    assert list(labels([two, two])) == ["digits (1)", "digits (2)"]
    assert list(labels([one, named(two, "two")])) == ["digits", "two"]
