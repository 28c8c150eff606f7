"""The verb report, and the report at the end of a run."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from gsvae_tune.cli.__main__ import app, guarded
from gsvae_tune.report.page.drawing import FAILED

COMMAND = [sys.executable, "-m", "gsvae_tune.cli"]


@pytest.fixture
def cli(capfd):
    """Run a command in this process; return exit code and what it printed."""

    def call(*words):
        capfd.readouterr()
        code = guarded(lambda **more: app(list(map(str, words)), **more))
        out, err = capfd.readouterr()
        return code, out, err

    return call


def test_a_run_ends_with_its_report(real_study):
    page = (real_study / "report/report.html").read_text()
    assert FAILED not in page
    assert page.count("data:image/svg+xml") + page.count("data:image/png") > 20
    assert "gsvae-tune run smoke --name real --trials 6" in page
    assert len(list((real_study / "report/figures").glob("*.svg"))) > 20


def test_one_study_gets_its_page_in_its_own_folder(real_study, tmp_path, cli):
    folder = shutil.copytree(real_study, tmp_path / "mine")
    shutil.rmtree(folder / "report")
    code, out, err = cli("report", folder, "--figures", "pdf")
    assert (code, err) == (0, "")
    assert str(folder / "report/report.html") in out
    assert "next: open it in a browser" in out
    assert FAILED not in (folder / "report/report.html").read_text()
    assert {path.suffix for path in (folder / "report/figures").iterdir()} == {".pdf"}


def test_several_studies_get_one_page(real_study, tmp_path, cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = shutil.copytree(real_study, tmp_path / "other")
    code, _, err = cli("report", real_study, other, "--output", "both.html")
    assert (code, err) == (0, "")
    page = (tmp_path / "both.html").read_text()
    assert "<h1>2 studies</h1>" in page
    assert 'id="all-across-differences"' in page
    assert FAILED not in page
    code, _, err = cli("report", real_study, real_study, "--output", "one.html")
    assert code == 0
    assert "<h1>real</h1>" in (tmp_path / "one.html").read_text()


def test_an_archive_is_a_study_too(real_study, tmp_path, cli):
    """study.json, the tables and the openings of the test split: what one hands on."""
    archive = tmp_path / "archive"
    shutil.copytree(real_study / "tables", archive / "tables")
    for name in ("study.json", "test-openings.jsonl"):
        shutil.copy(real_study / name, archive / name)
    code, _, err = cli("report", archive)
    assert (code, err) == (0, "")
    page = (archive / "report/report.html").read_text()
    assert FAILED not in page
    whole = (real_study / "report/report.html").read_text()
    for text in json.loads((real_study / "verdict.json").read_text())["comparisons"]:
        assert text["verdict"] in whole
        assert text["verdict"] in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["report"], "Missing argument"),
        (["report", "nowhere"], "nowhere: holds no study"),
        (["report", "."], "holds no study"),
        (["report", "STUDY", "--figures", "gif"], "--figures: unknown format 'gif'\n  legal: svg, png, pdf"),
        (["report", "STUDY", "--output", "notes.txt"], "is no report of ours"),
        (["report", "STUDY", "--storage", "sqlite:///x.db"], "recorded in its own journal"),
    ],
)  # fmt: skip
def test_wrong_input_gets_one_message(words, said, real_study, tmp_path, cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    code, _, err = cli(*[str(real_study) if word == "STUDY" else word for word in words])
    assert code == 2
    assert said in err
    assert "Traceback" not in err
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_damaged_study_gets_one_message(real_study, tmp_path, cli):
    folder = shutil.copytree(real_study, tmp_path / "mine")
    (folder / "study.json").write_text("{")
    code, _, err = cli("report", folder)
    assert code == 2
    assert "is no readable study file" in err


def test_watching_a_study_that_is_over_writes_it_once(real_study, tmp_path, cli):
    code, out, _ = cli("report", real_study, "--watch", "--output", tmp_path / "r.html")
    assert code == 0
    assert "no run is going on" in out
    assert 'http-equiv="refresh"' not in (tmp_path / "r.html").read_text()


@pytest.mark.slow
def test_a_running_study_is_watched_until_its_end(tmp_path):
    run = [*COMMAND, "run", "smoke", "--trials", "3", "--epochs", "200", "--no-report"]
    study = tmp_path / "studies/smoke"
    with subprocess.Popen(run, cwd=tmp_path, stdout=subprocess.DEVNULL) as driver:
        deadline = time.monotonic() + 90
        while not (study / "trials").exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        watch = [*COMMAND, "report", str(study), "--watch"]
        with subprocess.Popen(watch, stdout=subprocess.PIPE, text=True) as watcher:
            page = study / "report/report.html"
            while not page.exists():
                assert time.monotonic() < deadline
                time.sleep(0.1)
            first = page.read_text()
            out, _ = watcher.communicate(timeout=240)
        assert driver.wait(timeout=10) == 0
    assert 'http-equiv="refresh"' in first
    assert ">running</span>" in first
    assert "The search is not over" in first
    last = page.read_text()
    assert 'http-equiv="refresh"' not in last
    assert ">finished</span>" in last
    assert "again in" in out
    assert watcher.returncode == 0


def test_a_report_never_ends_a_run(real_study, tmp_path):
    """Somebody's own file stands where the page would be: the run says so, and is a run."""
    folder = shutil.copytree(real_study.parent, tmp_path / "studies") / "real"
    page = folder / "report/report.html"
    page.write_text("my notes")
    again = [*COMMAND, "run", "smoke", "--trials", "6", "--name", "real"]
    done = subprocess.run(again, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "note: no report was written" in done.stdout
    assert page.read_text() == "my notes"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_one_may_not_write_to(real_study, tmp_path, cli):
    folder = shutil.copytree(real_study, tmp_path / "mine")
    shutil.rmtree(folder / "report")
    folder.chmod(0o500)
    code, _, err = cli("report", folder)
    assert code == 2
    assert "Permission denied" in err
