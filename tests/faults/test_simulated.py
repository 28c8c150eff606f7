"""10,000 simulated trials with a kill every 500: the ledger stays exact and resuming quick."""

import random
import signal
import sys
import time

import pytest

from gsvae_tune.search.storage import open_storage
from gsvae_tune.search.studies import load
from tests.faults.conftest import Victim, assert_same_tables

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3000)]

TRIALS = 10_000
EVERY = 500
NAME = "smoke-simulated"  # what simulating makes of it
RESUMED_S = 10.0


def test_ten_thousand_trials_with_a_kill_every_five_hundred(tmp_path):
    flags = ["--until", "search", "--simulate", "valley", "--trials", TRIALS // 2]
    whole = Victim(tmp_path / "whole", "smoke", flags, name=NAME)
    whole.finish()
    victim = Victim(tmp_path / "killed", "smoke", flags, name=NAME)
    chance, waits = random.Random(0), []
    for ended in range(EVERY, TRIALS, EVERY):
        waiting = _first_to_end(victim)
        began, process = time.monotonic(), victim.start()
        _wait_for(process, waiting)
        waits.append(time.monotonic() - began)
        _wait_for(process, _result(victim, ended // 2))
        time.sleep(chance.uniform(0.0, 0.2))
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
    victim.finish()
    sys.stdout.write(f"\nfrom the command to the next end of a trial: {max(waits):.1f} s at most\n")
    assert_same_tables(victim.tables(), whole.tables())
    numbers = victim.tables()["trials"].groupby("arm").number.apply(list)
    assert all(found == [*range(TRIALS // 2)] for found in numbers)
    assert max(waits) < RESUMED_S
    _assert_told_once(victim)


def _result(victim, number):
    return victim.paths.trial("pair", number).result


def _first_to_end(victim):
    """Return the first result of an arm that is not there yet."""
    return next(
        result for result in (_result(victim, n) for n in range(TRIALS)) if not result.is_file()
    )


def _wait_for(process, result):
    while not result.is_file() and process.poll() is None:
        time.sleep(0.01)


def _assert_told_once(victim):
    storage = open_storage(None, victim.paths)
    for arm in load("smoke", {}).arms:
        trials = storage.get_all_trials(storage.get_study_id_from_name(f"{NAME}/{arm}"))
        assert [trial.number for trial in trials] == [*range(TRIALS // 2)]
        assert all(trial.state.is_finished() for trial in trials)
