"""A study on one machine listens to that machine alone, and to nobody without its token."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.conftest import Victim, children_of

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

KNOCK = """
import sys, ray
ray.init(address=sys.argv[1], logging_level="CRITICAL")
print("let in")
"""


def listeners(pids):
    """Return (address, port) of every TCP socket on which one of these processes listens."""
    done = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True)
    found = set()
    for line in done.stdout.splitlines():
        if any(f"pid={pid}," in line for pid in pids):
            address, _, port = line.split()[3].rpartition(":")
            found.add((address, int(port)))
    return found


@pytest.fixture
def running(study_file, tmp_path):
    """A study that trains, and every socket it listened on meanwhile."""
    try:
        subprocess.run(["ss", "-V"], capture_output=True, check=True)
    except OSError:
        pytest.skip("ss (iproute2) is not installed")
    victim = Victim(tmp_path, study_file, ["--cpus", 2, "--epochs", 100_000])  # to be stopped
    process = victim.start()
    seen = set()
    deadline = time.monotonic() + 120
    while not list(victim.paths.trials.glob("*/*/epochs.jsonl")) and time.monotonic() < deadline:
        seen |= listeners(children_of(process.pid))
        time.sleep(0.1)
    for _ in range(20):
        seen |= listeners(children_of(process.pid))
        time.sleep(0.1)
    assert process.poll() is None
    yield process, seen
    process.kill()
    process.communicate()


def test_nothing_listens_outside_this_machine(running):
    _, seen = running
    assert len(seen) >= 3  # the store of Ray's state, and a node's
    assert {address for address, _ in seen} <= {"127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"}


@pytest.mark.parametrize(
    "credentials", [{}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "f" * 64}, {"RAY_AUTH_MODE": "disabled"}]
)  # fmt: skip
def test_a_client_without_the_token_is_refused(running, tmp_path, credentials):
    process, _ = running
    address = _address(process.pid)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    clean["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # it stays on 127.0.0.1, as the study does
    log = tmp_path / "said.txt"
    with log.open("w") as said:
        knocking = subprocess.Popen(
            [sys.executable, "-c", KNOCK, address],
            env=clean | {"HOME": str(tmp_path)} | credentials,
            stdout=said,
            stderr=said,
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            knocking.wait(25)  # Ray's client knocks for minutes
        knocking.kill()
        knocking.wait()
    assert process.poll() is None
    assert "let in" not in log.read_text()
    assert "Unauthenticated" in log.read_text() or "InvalidAuthToken" in log.read_text()


def test_the_token_lets_in(running, tmp_path):
    """Else the refusals above would prove nothing."""
    process, _ = running
    (token,) = {
        line.partition("=")[2]
        for child in children_of(process.pid)
        for line in _environment(child)
        if line.startswith("RAY_AUTH_TOKEN=")
    }
    known = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    clean["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    knocking = subprocess.run(
        [sys.executable, "-c", KNOCK, _address(process.pid)],
        env=clean | known,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "let in" in knocking.stdout, knocking.stderr


def _environment(pid):
    try:
        return Path(f"/proc/{pid}/environ").read_text().split("\0")
    except OSError:
        return []


def _address(pid):
    """Return where the study's Ray can be asked, from its own processes' arguments."""
    for child in children_of(pid):
        try:
            with open(f"/proc/{child}/cmdline") as file:
                words = file.read().split("\0")
        except OSError:
            continue
        for word in words:
            if word.startswith("--gcs-address="):
                return word.partition("=")[2]
    raise AssertionError("no process of Ray's names its address")


def test_no_token_lies_open(running):
    token = Path("~/.ray/auth_token").expanduser()
    assert not token.exists() or not token.stat().st_mode & 0o077
