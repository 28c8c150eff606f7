"""Claims on a trial's folder: a process that was overtaken writes nothing any more."""

import multiprocessing
import time

import pytest

from gsvae_tune.study.fence import Claim, FencedError
from gsvae_tune.study.paths import StudyPaths, TrialPaths
from gsvae_tune.study.records import json_line, keep_lines, read_json, read_json_lines, write_json


@pytest.fixture
def folder(tmp_path):
    return TrialPaths(tmp_path)


def test_the_latest_claimant_writes_and_no_other(folder):
    ghost = Claim(folder, 1).take()
    write_json(folder.result, {"by": "ghost"}, ghost)
    heir = Claim(folder, 2).take()
    with pytest.raises(FencedError, match="was taken over by process"):
        write_json(folder.result, {"by": "ghost again"}, ghost)
    assert read_json(folder.result) == {"by": "ghost"}
    write_json(folder.result, {"by": "heir"}, heir)
    assert read_json(folder.result) == {"by": "heir"}
    assert not list(folder.root.glob(".*.tmp"))  # the ghost's file is gone too


def test_a_ghost_cannot_claim_anew_but_a_second_try_of_the_same_driver_can(folder):
    Claim(folder, 2).take()
    with pytest.raises(FencedError):
        Claim(folder, 1).take()
    first, second = Claim(folder, 2).take(), Claim(folder, 2).take()
    with second:
        pass
    with pytest.raises(FencedError), first:
        pass


def test_a_claim_beyond_every_term_there_was_is_damaged(tmp_path):
    """It would shut the study for ever; one of a later driver is respected."""
    study = StudyPaths(tmp_path)
    folder = study.trial("pair", 3)
    folder.root.mkdir(parents=True)
    driver = {"term": 5, "pid": 1, "host": "here", "since": "now"}
    write_json(study.holder, driver)
    Claim(folder, 9_000_000_000).take()
    Claim(folder, 5).take()
    write_json(study.holder, driver | {"term": 6})
    Claim(folder, 6).take()
    with pytest.raises(FencedError):
        Claim(folder, 5).take()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"term": "3"}', '{"token": 1}'])
def test_a_damaged_claim_is_no_claim(folder, content):
    claim = Claim(folder, 1).take()
    folder.claim.write_text(content)
    with pytest.raises(FencedError), claim:
        pass
    with Claim(folder, 1).take():
        pass


def test_records_that_a_ghost_appends_are_read_by_nobody(folder):
    with Claim(folder, 1).take():
        open_file = folder.epochs.open("ab", buffering=0)
    with open_file as ghosts:
        ghosts.write(json_line({"epoch": 1}))
        keep_lines(folder.epochs, [{"epoch": 1}], Claim(folder, 2).take())
        ghosts.write(json_line({"epoch": 2, "by": "ghost"}))
    assert list(read_json_lines(folder.epochs)) == [{"epoch": 1}]


def _write_on_and_on(folder, term, stop):
    claim, count = Claim(folder, term).take(), 0
    while not stop.is_set():
        try:
            write_json(folder.result, {"term": term, "count": count}, claim)
        except FencedError:
            return
        count += 1


def test_processes_that_race_leave_the_last_claimants_file(folder):
    """Every process writes as fast as it can; each claim ends the one before."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    racers = []
    for term in range(1, 5):
        racers.append(context.Process(target=_write_on_and_on, args=(folder, term, stop)))
        racers[-1].start()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and (
            not folder.result.exists() or read_json(folder.result)["term"] != term
        ):
            time.sleep(0.01)
        assert read_json(folder.result)["term"] == term
        for ghost in racers[:-1]:
            ghost.join(10)
            assert ghost.exitcode == 0  # it noticed and stopped
        assert read_json(folder.result)["term"] == term
    stop.set()
    racers[-1].join(10)
