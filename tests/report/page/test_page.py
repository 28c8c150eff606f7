"""The page holds everything it needs, says what is missing, and lets nothing from outside act."""

import base64
import dataclasses
import hashlib
import html
import re

import pytest

from gsvae_tune.report.exhibits.gallery import SECTIONS, show
from gsvae_tune.report.page import content, drawing
from gsvae_tune.report.page.content import Content, first_sentence
from gsvae_tune.report.page.drawing import FAILED
from gsvae_tune.report.page.grids import MOST, cell, grids, settings
from gsvae_tune.report.page.making import Report
from gsvae_tune.study.errors import InputError
from gsvae_tune.study.paths import StudyPaths
from tests.report.made import judged_study, made_study


def write(place, *studies, kinds=(), **more):
    titles = []
    report = Report.of(studies, place, kinds)
    report.write(titles.append, **more)
    assert len(titles) == report.figures
    return place.read_text()


@pytest.fixture
def brief(monkeypatch):
    """Reports of one section, drawn in this process: what is around the figures is looked at."""
    monkeypatch.setattr(content, "SECTIONS", SECTIONS[:1])
    monkeypatch.setattr(drawing, "_MOST_PROCESSES", 1)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    study = dataclasses.replace(judged_study(), paths=StudyPaths(folder))
    return study, write(folder / "report/report.html", study, kinds=("svg", "png")), folder


def test_it_loads_nothing(page):
    _, text, _ = page
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert sources
    assert all(one.startswith(("data:", "#")) for one in sources)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|<link rel=.stylesheet", text)


def test_its_policy_allows_its_own_style_and_script_alone(page):
    _, text, _ = page
    for tag, policy in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{policy} 'sha256-{digest}'" in text
    assert "default-src 'none'" in text
    assert " style=" not in text  # the policy would forbid it
    assert not re.search(r"\son\w+=", text)


def test_every_exhibit_is_there_with_its_answer(page):
    study, text, folder = page
    shown = html.unescape(text)
    for section in SECTIONS:
        assert f'id="s0-part-{section.key}"' in text
        for one in section.exhibits(study):
            drawn = show(study, one.key)
            assert f'id="s0-{one.key}"' in text
            assert one.title in shown
            assert drawn.finding in shown
            there = [
                (folder / f"report/figures/{one.key}.{kind}").is_file() for kind in ("svg", "png")
            ]
            assert there == [drawn.figure is not None] * 2
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    anchors = re.findall(r'href="#([^"]+)"', text)
    assert set(anchors) <= set(ids)


def test_the_summary_has_the_verdict_and_its_reason(page):
    study, text, _ = page
    (one,) = study.verdict.comparisons
    summary = html.unescape(text[text.index('class="summary"') : text.index('class="contents"')])
    assert one.verdict in summary
    assert one.reason in summary
    assert "No arm was shown to be better than another." in summary
    assert "starting temperature" in summary


@pytest.mark.parametrize(
    ("word", "low", "said"),
    [
        ("supported", None, "Shown here: pair is better than fixed-factor."),
        ("not supported", 0.2, "Shown here: fixed-factor is better than pair."),
        ("not supported", -0.2, "No arm was shown to be better than another."),
        ("inconclusive", None, "No arm was shown to be better than another."),
    ],
)
def test_the_headline_claims_what_the_verdict_does(word, low, said):
    study = judged_study()
    (one,) = study.verdict.comparisons
    one = dataclasses.replace(one, verdict=word, wide_low=low, p_holm=0.01)
    verdict = dataclasses.replace(study.verdict, comparisons=[one])
    headline = Content.of(dataclasses.replace(study, verdict=verdict)).headline
    assert headline.startswith(said)
    assert "6 fresh seeds" in headline
    again = dataclasses.replace(verdict, reopened="curious")
    assert "nothing had seen" not in Content.of(dataclasses.replace(study, verdict=again)).headline


def test_tables_can_be_sorted_by_numbers(page):
    study, text, _ = page
    table = text[text.index('id="s0-trials"') :]
    table = table[: table.index("</section>")]
    orders = re.findall(r'data-order="([^"]*)"', table)
    assert str(study.trials.value.min()) in orders
    assert table.count("<tr>") == len(study.trials) + 1


def test_what_made_it_is_there(page):
    study, text, _ = page
    shown = html.unescape(text)
    assert f"gsvae-tune report {study.paths.root}" in shown
    assert "name: smoke" in shown
    assert "python 3.11" in shown


def test_a_mistake_in_one_figure_costs_no_other(tmp_path, page, brief):
    study, text, _ = page
    assert FAILED not in text
    broken = dataclasses.replace(study, epochs=study.epochs.drop(columns="wall_s"))
    text = write(tmp_path / "r.html", broken)
    assert 0 < text.count(FAILED) < 4
    assert "data:image" in text


def test_an_earlier_report_is_replaced_and_nothing_else(tmp_path, brief):
    place = tmp_path / "report.html"
    write(place, made_study("smoke", trials=1, confirmed=0))
    write(place, made_study("smoke", trials=1, confirmed=0))
    place.write_text("my notes")
    with pytest.raises(InputError, match="is no report of ours"):
        Report.of([made_study("smoke", trials=1)], place, ())
    assert place.read_text() == "my notes"


def test_a_figure_that_cannot_be_drawn_any_more_leaves_no_old_file(tmp_path, brief):
    study = dataclasses.replace(judged_study(), paths=StudyPaths(tmp_path))
    write(tmp_path / "report/report.html", study, kinds=("svg",))
    old = tmp_path / "report/figures/comparison-pairs.svg"
    assert old.is_file()
    write(tmp_path / "report/report.html", dataclasses.replace(study, verdict=None), kinds=("svg",))
    assert not old.exists()


@pytest.mark.parametrize(
    ("study", "said"),
    [
        (made_study("smoke", trials=0, confirmed=0, running=True), "pair 0 of 3 and fixed-factor 0 of 3 trials"),
        (made_study("smoke", trials=1, confirmed=0), "pair 1 of 3 and fixed-factor 1 of 3 trials"),
        (made_study("smoke", trials=3, confirmed=0), "Nothing is confirmed on fresh seeds yet"),
        (made_study("smoke", trials=3, confirmed=1), "there is no verdict yet"),
        (made_study("smoke", trials=3, failed=3, confirmed=0), "Nothing is confirmed"),
    ],
    ids=["nothing", "one trial", "searched", "confirmed", "all failed"],
)  # fmt: skip
def test_an_unfinished_study_says_what_is_missing(tmp_path, study, said, brief):
    text = html.unescape(write(tmp_path / "r.html", study))
    assert said in text
    assert Content.of(study).state in {"running", "interrupted", "searched"}


def test_a_page_that_is_watched_reloads_itself(tmp_path, brief):
    study = made_study("smoke", trials=1, confirmed=0, running=True)
    text = write(tmp_path / "r.html", study, refresh_s=20)
    assert '<meta http-equiv="refresh" content="20">' in text
    assert "renewed every 20 s" in text


def test_names_and_texts_from_outside_are_text(tmp_path, brief):
    evil = '<script>alert("x")</script><img src=x onerror=alert(1)>'
    study = made_study("smoke", trials=6, failed=1, confirmed=0)
    study.trials.loc[study.trials.state == "failed", "error"] = evil
    recorded = dict(study.recorded) | {
        "commands": [evil], "versions": {evil: evil}, "created": evil, "git_commit": evil,
    }  # fmt: skip
    config = study.config.model_copy(update={"description": evil})
    study = dataclasses.replace(study, config=config, recorded=recorded)
    text = write(tmp_path / "r.html", study)
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert text.count("&lt;script&gt;") >= 4


def test_control_characters_reach_no_page(tmp_path, brief):
    study = made_study("smoke", trials=6, failed=1, confirmed=0)
    study.trials.loc[study.trials.state == "failed", "error"] = "a\x00b\x1b[2Jc\u202ed"
    text = write(
        tmp_path / "r.html",
        dataclasses.replace(study, recorded=study.recorded | {"commands": ["\x07"]}),
    )
    assert "a\ufffdb\ufffd[2Jc\ufffdd" in text
    assert not {"\x00", "\x1b", "\u202e", "\x07"} & set(text)


def test_odd_values_in_one_table_cost_no_other(tmp_path, brief):
    study = made_study("smoke", trials=6, failed=1, confirmed=0)
    study.trials.loc[study.trials.state == "failed", "fault"] = "struck by lightning"
    odd = study.trials.assign(param_mystery="?", param_learning_rate="fast")
    text = write(tmp_path / "r.html", dataclasses.replace(study, trials=odd))
    assert "struck by lightning" in text
    assert 'id="s0-trials"' in text
    broken = dataclasses.replace(study, trials=study.trials.drop(columns="note"))
    text = write(tmp_path / "r.html", broken)
    assert "cannot be shown: " in text
    assert 'id="s0-trials"' in text


def test_captions_can_be_read_where_the_picture_is_small(page):
    study, text, _ = page
    caption = show(study, "comparison-pairs").figure.get_supxlabel()
    assert " ".join(caption.split()) in html.unescape(text)


def test_figures_of_a_page_elsewhere_touch_nobodys_files(tmp_path, brief):
    mine = tmp_path / "figures/comparison-pairs.svg"
    mine.parent.mkdir()
    mine.write_text("mine")
    write(tmp_path / "one.html", judged_study(), kinds=("svg",))
    write(tmp_path / "two.html", judged_study(seed=2), kinds=("svg",))
    assert mine.read_text() == "mine"
    one, two = (tmp_path / f"{name}-figures/comparison-pairs.svg" for name in ("one", "two"))
    assert one.read_bytes() != two.read_bytes()
    (tmp_path / "three-figures").mkdir()
    with pytest.raises(InputError, match="three-figures: is there already"):
        Report.of([judged_study()], tmp_path / "three.html", ("svg",))


def test_several_studies_are_side_by_side(tmp_path, brief):
    studies = [judged_study(seed=1), made_study("smoke", trials=2, confirmed=0)]
    text = write(tmp_path / "r.html", *studies)
    assert 'id="all-side-by-side"' in text
    assert 'id="s0-comparison-pairs"' in text
    assert 'id="s1-comparison-pairs"' in text
    assert not (tmp_path / "figures").exists()


def test_cells():
    assert cell(None).text == cell(float("nan")).text == "-"
    assert cell(None).order == float("inf")
    assert cell(1234567).text == "1,234,567"
    assert cell(0.123456).text == "0.1235"
    assert cell(20.12345, 3).text == "20.123"
    assert cell(value=True).text == "yes"
    assert cell("hold").text == "hold"


def test_long_tables_are_cut_and_say_so():
    study = made_study("smoke", trials=3, confirmed=0)
    many = study.trials.loc[study.trials.index.repeat(MOST)]
    (grid,) = [one for one in grids(dataclasses.replace(study, trials=many)) if one.key == "trials"]
    assert len(grid.rows) == MOST
    assert f"The first {MOST:,} of {len(many):,}" in grid.note


def test_settings_are_those_of_the_finalist():
    study = judged_study()
    grid = settings(study)
    number = study.verdict.arms["pair"].finalist.number
    assert f"pair #{number}" in [name for name, _ in grid.headers]
    row = next(row for row in grid.rows if row[0].text == "tau_start")
    wanted = study.trials.query("arm == 'pair' and phase == 'search' and number == @number")
    assert row[1].order == wanted.param_tau_start.item()
    assert settings(made_study("smoke", trials=0, confirmed=0)).rows == []


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Between 0.1 and 2.5 nats. In this search more.", "Between 0.1 and 2.5 nats."),
        ("Cf. pair (n = 3). Then", "Cf. pair (n = 3)."),
        ("No stop", "No stop"),
        ("Two. three.", "Two. three."),
    ],
)
def test_first_sentences(text, first):
    assert first_sentence(text) == first
