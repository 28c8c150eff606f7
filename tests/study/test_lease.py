"""One driver a study, each under a higher number; dead and suspended holders are recognised."""

import json
import os
import platform
import subprocess
import sys
import threading
import time

import pytest

from gsvae_tune.study import lease
from gsvae_tune.study.errors import InputError, UnfinishedError
from gsvae_tune.study.lease import driver_lease, is_running, read_holder
from gsvae_tune.study.paths import StudyPaths

HOLD = """
import sys, time
from pathlib import Path
from gsvae_tune.study.lease import driver_lease
from gsvae_tune.study.paths import StudyPaths
with driver_lease(StudyPaths(Path(sys.argv[1])), print):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def paths(tmp_path):
    return StudyPaths(tmp_path / "study")


@pytest.fixture
def holder(paths):
    """Another process that holds the study."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(paths.root)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def _holds(paths, **changes):
    """Write who held the study last."""
    paths.root.mkdir(parents=True, exist_ok=True)
    said = {"term": 7, "pid": 1, "host": platform.node(), "since": "2026-01-01T00:00:00+00:00"}
    paths.holder.write_text(json.dumps(said | {"beats": 3, "released": False} | changes))


def test_terms_rise_and_an_orderly_end_needs_no_word(paths):
    terms = []
    for _ in range(3):
        with driver_lease(paths, pytest.fail) as mine:
            terms.append(mine.term)
            assert is_running(paths)
            mine.check()
    assert terms == sorted(set(terms))
    assert not is_running(paths)


def test_a_lost_number_is_never_given_again(paths):
    with driver_lease(paths, pytest.fail) as mine:
        first = mine.term
    paths.holder.unlink()
    with driver_lease(paths, pytest.fail) as mine:
        assert mine.term >= first


def test_a_second_driver_is_told_who_holds_the_study_and_since_when(paths, holder):
    since = read_holder(paths).since
    with (
        pytest.raises(InputError, match=rf"process {holder.pid} on .* since {since[:10]}"),
        driver_lease(paths, pytest.fail),
    ):
        pass
    assert is_running(paths)


def test_a_killed_holder_is_followed_at_once(paths, holder):
    holder.kill()
    holder.wait()
    said = []
    began = time.monotonic()
    with driver_lease(paths, said.append) as mine:
        assert mine.term > 1
    assert time.monotonic() - began < 5
    (text,) = said
    assert text.startswith(f"process {holder.pid} on {platform.node()} since ")
    assert text.endswith("ended without a word; going on from what it left")


def test_a_suspended_holder_is_named_as_such(paths, holder):
    ago = time.time() - 100
    os.utime(paths.holder, (ago, ago))
    said = (
        rf"last sign of life \d+ s ago: it is suspended or hangs(.|\n)*kill -9 {holder.pid} frees"
    )
    with pytest.raises(InputError, match=said), driver_lease(paths, pytest.fail):
        pass


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(lease, "BEAT_S", 0.1)
    monkeypatch.setattr(lease, "LEASE_S", 0.5)


def test_a_silent_holder_on_another_machine_is_waited_for_and_followed(paths, short):
    _holds(paths, host="elsewhere")
    said = []
    with driver_lease(paths, said.append) as mine:
        assert mine.term == 8
    assert "watching for 0.5 s whether it is alive" in said[0]
    assert "ended without a word" in said[1]


def test_a_living_holder_on_another_machine_is_respected(paths, short):
    _holds(paths, host="elsewhere")
    beat = threading.Timer(0.2, _holds, (paths,), {"host": "elsewhere", "beats": 4})
    beat.start()
    with pytest.raises(InputError, match="elsewhere"), driver_lease(paths, lambda _: None):
        pass
    beat.join()


def test_a_holder_that_was_overtaken_is_stopped_and_leaves_the_successor_alone(paths, short):
    with driver_lease(paths, pytest.fail) as mine:
        _holds(paths, term=mine.term + 1, host="elsewhere")
        time.sleep(0.5)  # signs of life that it would give
        with pytest.raises(UnfinishedError, match="another run took this study over: process 1"):
            mine.check()
    assert read_holder(paths).host == "elsewhere"
    assert not read_holder(paths).released


def test_signs_of_life_are_given(paths, short):
    with driver_lease(paths, pytest.fail):
        deadline = time.monotonic() + 10
        while read_holder(paths).beats < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert read_holder(paths).beats >= 2
    assert read_holder(paths).released


@pytest.mark.parametrize(
    "place", ["trials", "tables", "optuna.journal", "trials/pair", "trials/pair/3"]
)
def test_a_study_that_leads_elsewhere_is_refused(paths, tmp_path, place):
    """A folder that came from a stranger writes nowhere else."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = paths.root / place
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    with pytest.raises(InputError, match="is a link to"), driver_lease(paths, pytest.fail):
        pass
    assert not any(elsewhere.iterdir())
