"""What comes from outside and reaches the terminal, or a shell, commands neither."""

import io
import re
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from gsvae_tune.cli import application, catalogue, measuring  # noqa: F401 - they register verbs
from gsvae_tune.cli.application import SafeConsole
from gsvae_tune.cli.studies import _command
from gsvae_tune.report.summary import (
    ArmStatus,
    BestTrial,
    StudyStatus,
    settings_table,
    status_tables,
)
from gsvae_tune.study.harmless import harmless

UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
EVIL = "\x1b[2J\x1b]0;owned\x07 \x9b31m \u202egnp.exe\u2069 \x7f\x08\r \udcff"


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def call(*args):
        code = application.guarded(lambda **how: application.app(args=[*args], **how))
        captured = capsys.readouterr()
        assert not UNSAFE.search(captured.out + captured.err)
        return code, captured.out, captured.err

    return call


def printed(*renderables, terminal=False):
    file = io.StringIO()
    console = SafeConsole(file=file, emoji=False, force_terminal=terminal, width=200)
    for one in renderables:
        console.print(one, highlight=False)
    return file.getvalue()


def test_a_console_shows_what_would_command_it():
    table = Table(EVIL, title=EVIL)
    table.add_row(EVIL)
    shown = printed(EVIL, Text(EVIL), table)
    assert not UNSAFE.search(shown)
    assert shown.count("\ufffd[2J") == 5
    assert harmless("a\tb\nc é \u2028") == "a\tb\nc é \ufffd"


@given(st.text())
def test_whatever_is_printed(text):
    assert not UNSAFE.search(printed(Text(text)))


def test_richs_own_commands_pass():
    shown = printed("[bold]b[/bold]", terminal=True)
    assert shown.startswith("\x1b[1mb\x1b[0m")


@pytest.mark.parametrize(
    "args",
    [
        ["run", EVIL],
        ["run", f"{EVIL}.yaml"],
        ["run", "--name", EVIL],
        ["run", "--epochs", EVIL],
        ["run", f"--{EVIL}", "1"],
        ["run", "--set", EVIL],
        ["run", "--set", f"x={EVIL}"],
        ["run", "--set", f"{EVIL}=1"],
        ["run", "--set", f"data.source=npz:{EVIL}"],
        ["run", "--out", f"/proc/{EVIL}"],
        ["run", "smoke", EVIL],
        ["status", EVIL],
        ["export", EVIL],
        ["plan", EVIL],
        ["spaces", EVIL],
        ["data", "fetch", EVIL],
        [EVIL],
    ],
)
def test_mistakes_quote_no_command_to_the_terminal(cli, args):
    code, _, err = cli(*args)
    assert code == 2
    assert err
    assert "Traceback" not in err


def test_a_study_is_shown_without_what_it_hides(cli, tmp_path):
    text = "# \u202e evil \x85\nname: mine\ndescription: '[/red] é'\narms: {pair: {}}\n"
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    code, out, _ = cli("spaces", "mine.yaml")
    assert code == 0
    assert out == "# \ufffd evil \ufffd\nname: mine\ndescription: '[/red] é'\narms: {pair: {}}\n"


def test_markup_from_outside_is_text():
    """Names of settings and verdicts come from a study's files, which a stranger may have made."""
    markup = "[/nothing][link=http://x]y[/link]"
    best = BestTrial(1, 2.0, {markup: markup})
    arm = ArmStatus(1, 1, 0, 0, 0, 0, best)
    seen = StudyStatus("mine", markup, False, {"pair": arm}, {f"{markup} - b": markup}, None)
    shown = printed(*status_tables(seen), settings_table("t", {markup: {markup: markup}}))
    assert shown.count(markup) == 8


def test_next_commands_are_quoted_for_a_shell():
    evil = "a b'; $(reboot) `x` \n"
    overrides = {
        "out": (evil, "--out"), "name": (evil, "--name"), f"x.{evil}": (evil, f"--set x.{evil}="),
    }  # fmt: skip
    words = shlex.split(_command(evil, overrides))
    assert words[:3] == ["gsvae-tune", "run", evil]
    assert words[words.index("--out") + 1] == evil


def test_the_folder_that_data_were_fetched_to_is_quoted(cli, monkeypatch, tmp_path):
    monkeypatch.setattr("gsvae_tune.vae.fetching.fetch", lambda *_: tmp_path)
    code, out, _ = cli("data", "fetch", "mnist", "--data-dir", "it's; $(x)")
    assert code == 0
    assert shlex.split(out.splitlines()[1])[-2:] == ["--data-dir", "it's; $(x)"]
