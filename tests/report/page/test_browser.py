"""The page in a real Chromium, on a desk and on a telephone, and on paper."""

import pytest

from gsvae_tune.report.page.making import Report
from tests.report.made import judged_study, made_study
from tests.report.page import browser

pytestmark = pytest.mark.skipif(
    browser.executable() is None, reason=f"none of {', '.join(browser.NAMES)} is installed"
)


def written(folder, *studies):
    Report.of(studies, folder / "r.html", ()).write(lambda _: None)
    return folder / "r.html"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return written(tmp_path_factory.mktemp("browser"), judged_study())


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_cut_asked_for_or_complained_of(page, width):
    look_at(page, width)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_nor_of_two_studies_one_of_fourteen_arms(tmp_path, width):
    studies = judged_study(), made_study("controls", trials=12, confirmed=1)
    look_at(written(tmp_path, *studies), width)


def look_at(page, width):
    seen = browser.look(page, width)
    assert seen.console == []
    assert seen.requests == []
    layout = seen.layout
    assert layout["innerWidth"] == width
    assert layout["scrollWidth"] <= width
    assert layout["wide"] == []
    assert layout["images"] > 15
    assert layout["broken"] == 0
    before, after = layout["sorted"]
    assert after == sorted(before, reverse=True)
    assert layout["enlarged"]


def test_a_page_that_does_wrong_is_found_out(page, tmp_path):
    bad = tmp_path / "bad.html"
    text = page.read_text().replace(
        "<main>", '<main><p class="x"><b>' + "m" * 400 + '</b></p><img src="http://127.0.0.1:9/x">'
    )
    bad.write_text(text.replace("overflow-wrap: break-word", "").replace("const dialog", "oops();"))
    seen = browser.look(bad, 390)
    assert seen.console  # the policy's refusal
    assert seen.layout["wide"]


def test_it_prints(page, tmp_path):
    paper = tmp_path / "r.pdf"
    browser.run(tmp_path / "profile", f"--print-to-pdf={paper}", page.as_uri())
    assert paper.read_bytes().startswith(b"%PDF")
    assert paper.read_bytes().count(b"/Type /Page\n") > 5
