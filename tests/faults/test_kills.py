"""Whatever is killed, the study goes on and ends as if nothing had been.

The driver, the processes that train, and the nodes they run on.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.conftest import Victim, assert_same_tables, children_of, trial_processes

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3000)]

CLUSTER = Path(__file__).parent / "cluster.py"


def sound(victim, before):
    """Check what must hold after every kill; return what has ended so far."""
    now = victim.results()
    for name, content in before.items():
        assert now[name] == content, f"{name} had ended and was touched"
    return now


@pytest.mark.parametrize(("slots", "kills"), [(1, 50), (2, 20)])
def test_the_driver_is_killed_again_and_again(study_file, reference, tmp_path, slots, kills):
    """0 lost, 0 repeated, 0 orphaned, and every number of every table the same."""
    victim = Victim(tmp_path, study_file, ["--cpus", slots])
    chance = random.Random(slots)
    killed, ended = 0, {}
    for _ in range(kills):
        killed += victim.killed_after(chance.uniform(1.0, 12.0))
        ended = sound(victim, ended)
    assert killed > kills / 2  # else the study was too short to be a test
    assert ended  # and else the kills came too early
    victim.finish()
    sound(victim, ended)
    assert_same_tables(victim.tables(), reference.tables())
    numbers = {
        str(path.relative_to(victim.paths.trials)) for path in victim.paths.trials.glob("*/*")
    }
    wanted = reference.paths.trials
    assert numbers == {str(path.relative_to(wanted)) for path in wanted.glob("*/*")}
    assert "nothing to do" in victim.finish()


def test_trial_processes_are_killed(study_file, reference, tmp_path):
    """20 times, and each trial goes on from its own checkpoint."""
    victim = Victim(tmp_path, study_file, ["--cpus", 2])
    process = victim.start()
    killed, deadline, chance = 0, time.monotonic() + 900, random.Random(0)
    while killed < 20 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(chance.uniform(0.2, 1.5))
        mine = [pid for pid in trial_processes() if pid in children_of(process.pid)]
        if mine:
            os.kill(chance.choice(mine), signal.SIGKILL)
            killed += 1
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert killed == 20
    assert_same_tables(victim.tables(), reference.tables())


def test_a_trial_whose_process_never_survives_fails_and_the_study_goes_on(study_file, tmp_path):
    victim = Victim(tmp_path, study_file, ["--cpus", 1, "--until", "search"])
    process = victim.start("--set", "faults.retries=0")
    while process.poll() is None:
        mine = [pid for pid in trial_processes() if pid in children_of(process.pid)]
        if mine:
            os.kill(mine[0], signal.SIGKILL)
            break
        time.sleep(0.05)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    trials = victim.tables()["trials"]
    assert trials.fault.dropna().tolist() == ["node_lost"]
    assert trials.error.dropna().str.startswith("its process or its node died too often").all()
    assert (trials.state == "complete").sum() == len(trials) - 1


@pytest.fixture
def cluster():
    """A cluster of three nodes in processes of its own: its process, how to ask it, its variables."""
    variables = {
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0",
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, CLUSTER], env=os.environ | variables, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip

    def ask(word):
        process.stdin.write(word + "\n")
        process.stdin.flush()
        while (answer := process.stdout.readline()).strip() and not answer.startswith("ok "):
            pass
        return answer.removeprefix("ok ").strip()

    yield process, ask, variables | {"RAY_ADDRESS": ask("address")}
    for pid in children_of(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()


def test_nodes_are_removed(cluster, study_file, reference, tmp_path):
    """10 times one of three nodes goes, training or not, and another comes."""
    _, ask, variables = cluster
    removed, chance, rounds = 0, random.Random(0), 0
    while removed < 10:  # on a quick machine the study ends before that, and another begins
        rounds += 1
        victim = Victim(tmp_path / str(rounds), study_file, (), variables)
        process = victim.start()
        while removed < 10 and process.poll() is None:
            time.sleep(chance.uniform(1.0, 3.0))
            if trial_processes():
                ask("replace")
                removed += 1
        output, _ = process.communicate(timeout=900)
        assert process.returncode == 0, output
        assert_same_tables(victim.tables(), reference.tables())


def test_a_ghost_that_wakes_up_writes_nothing(cluster, study_file, reference, tmp_path):
    """A cluster is cut off as it trains and the driver dies; another driver ends the study
    elsewhere; then a trial's process wakes, with nobody to end it, and trains on."""
    far, _, variables = cluster
    victim = Victim(tmp_path, study_file, (), variables)
    process = victim.start()
    ghosts = []
    while not ghosts and process.poll() is None:
        time.sleep(0.05)
        if list(victim.paths.trials.glob("*/*/checkpoint.pt")):
            ghosts = [pid for pid in trial_processes() if pid in children_of(far.pid)]
    assert ghosts
    for pid in children_of(far.pid):
        os.kill(pid, signal.SIGSTOP)
    process.kill()
    process.communicate()
    heir = Victim(tmp_path, study_file, ["--cpus", 1])
    heir.finish()
    before = {path: path.read_bytes() for path in heir.paths.root.rglob("*") if path.is_file()}
    for ghost in ghosts:
        os.kill(ghost, signal.SIGCONT)
    time.sleep(5)
    after = {path: path.read_bytes() for path in heir.paths.root.rglob("*") if path.is_file()}
    assert {path for path in after if not path.name.startswith(".")} == set(before)
    assert all(after[path] == content for path, content in before.items())
    assert_same_tables(heir.tables(), reference.tables())
