"""A password among the arguments: gone from the process list before anything else is imported."""

import json
import subprocess
import sys

import pytest

from gsvae_tune.cli import arguments

URL, BARE = "postgresql://me:s3cr%2Ft@127.0.0.1:1/db", "postgresql://me@127.0.0.1:1/db"
PROBE = f"""
import json, os, sys
from gsvae_tune.cli.arguments import hide_passwords
hide_passwords()
from gsvae_tune.study.passwords import complete
print(json.dumps({{
    "pid": os.getpid(), "argv": sys.argv[1:], "environment": dict(os.environ),
    "seen": open("/proc/self/cmdline").read(), "password": complete("{BARE}")[1],
    "heavy": sorted({{"typer", "rich", "pydantic", "sqlalchemy"}} & set(sys.modules)),
}}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("given", "clean"),
    [
        (["run", "--storage", URL], ["run", "--storage", BARE]),
        (["run", f"--storage={URL}", "--trials", "3"], ["run", f"--storage={BARE}", "--trials", "3"]),
        (["run", "--set", f"storage={URL}"], ["run", "--set", f"storage={BARE}"]),
        (["run", "--set", f'storage="{URL}"'], ["run", "--set", f'storage="{BARE}"']),
        (["copy-storage", "x", "--to", URL], ["copy-storage", "x", "--to", BARE]),
        (["status", "--storage", f"{BARE}?password=s3cr%2Ft"], ["status", "--storage", BARE]),
    ],
)  # fmt: skip
def test_it_is_taken_out_in_the_same_process(given, clean):
    process = subprocess.Popen(
        [sys.executable, "-c", PROBE, *given], stdout=subprocess.PIPE, text=True
    )
    seen = json.loads(process.communicate(timeout=60)[0])
    assert seen["pid"] == process.pid
    assert seen["argv"] == clean
    assert seen["password"] == {"password": "s3cr/t"}
    assert seen["heavy"] == []
    for text in (seen["seen"].replace(PROBE, ""), json.dumps(seen["environment"])):
        assert "s3cr" not in text


def test_without_a_password_nothing_is_started_anew(monkeypatch):
    monkeypatch.setattr(arguments.os, "execv", lambda *_: pytest.fail("started anew"))
    given = ["gsvae-tune", "run", "--storage", "sqlite:////a@b/c:d.db"]
    monkeypatch.setattr(sys, "argv", [*given])
    arguments.hide_passwords()
    assert sys.argv == given


def test_arguments_that_a_program_made_up_are_cleaned_in_place(monkeypatch):
    monkeypatch.setattr(arguments.os, "execv", lambda *_: pytest.fail("started anew"))
    monkeypatch.setattr(sys, "argv", ["gsvae-tune", "run", "--storage", URL])
    arguments.hide_passwords()
    assert sys.argv == ["gsvae-tune", "run", "--storage", BARE]


def test_the_command_line_says_nothing_of_it():
    done = subprocess.run(
        [sys.executable, "-m", "gsvae_tune.cli", "status", URL, "--storage", URL],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"{BARE}: holds no study" in done.stderr
    assert "s3cr" not in done.stdout + done.stderr
