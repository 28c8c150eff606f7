"""When a study stops before its end, and what it says then."""

import errno
import time

import pytest

from gsvae_tune.execution.halting import died, disk_full, first_all_alike
from gsvae_tune.execution.searcher import PAUSE, LedgerSearcher
from gsvae_tune.search.ledger import Ledger
from gsvae_tune.search.storage import open_storage
from gsvae_tune.study.errors import UnfinishedError
from gsvae_tune.study.faults import Fault, is_disk_full
from gsvae_tune.study.lease import driver_lease
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import TrialResult, TrialState


def ended(fault=None):
    state = TrialState.COMPLETE if fault is None else TrialState.FAILED
    value = 1.0 if fault is None else None
    return TrialResult(state, value, fault and fault.value, 3, 30, 1.0, "cpu", fault=fault)


@pytest.fixture
def searcher(smoke, tmp_path):
    """A searcher over four trials of an arm, that gives up after three alike."""
    config, paths = smoke(search__trials=4), StudyPaths(tmp_path / "study")
    paths.root.mkdir()
    with driver_lease(paths, pytest.fail) as lease:
        ledger = Ledger(config, paths, open_storage(None, paths), "me")
        yield LedgerSearcher(ledger, paths, lease, give_up_after=3), paths


def finish(searcher, paths, name, fault):
    assigned = searcher.assigned[name]
    ended(fault).write(paths.trial(assigned.arm, assigned.number).result)
    searcher.on_trial_complete(name, {})


@pytest.mark.parametrize(
    ("faults", "stops"),
    [
        ([Fault.HOST_MEMORY] * 3, True),
        ([Fault.HOST_MEMORY, Fault.DIVERGED, Fault.HOST_MEMORY], False),
        ([Fault.DIVERGED, Fault.DIVERGED, None], False),
        ([None, Fault.DIVERGED, Fault.DIVERGED, Fault.DIVERGED], False),  # not at the start
    ],
)
def test_first_trials_that_fail_alike_stop_the_study(searcher, faults, stops):
    searcher, paths = searcher
    for number, fault in enumerate(faults):
        assert isinstance(searcher.suggest(str(number)), dict)
        finish(searcher, paths, str(number), fault)
    assert (searcher.halt is not None) == stops
    assert (searcher.suggest("next") == "FINISHED") == stops
    if stops:
        assert "failed for the same reason (3 of 3): out of memory on the host" in str(
            searcher.halt
        )


@pytest.mark.parametrize(
    ("cause", "state"), [("", TrialState.PRUNED), ("killed", TrialState.FAILED)]
)
def test_whoever_stopped_a_trial_it_is_on_record_when(searcher, cause, state):
    searcher, paths = searcher
    searcher.suggest("a")
    assigned = searcher.assigned["a"]
    if cause:
        searcher.causes["a"] = cause
    began = time.time()
    searcher.on_trial_complete("a", {"value": 2.0}, error=bool(cause))
    result = TrialResult.read(paths.trial(assigned.arm, assigned.number).result)
    assert result.state is state
    assert began <= result.ended_s <= time.time()


def test_a_pause_hands_nothing_more_out_and_ends_no_trial(searcher):
    searcher, paths = searcher
    for name in "ab":
        searcher.suggest(name)
    searcher.on_trial_complete("a", {f"confirming/{PAUSE}": "[Errno 28] No space left on device"})
    assert "the disk is full; [Errno 28]" in str(searcher.halt)
    assert searcher.suggest("c") == "FINISHED"
    finish(searcher, paths, "b", None)  # what is running may still end
    assert [path.parent.name for path in paths.trials.glob("*/*/result.json")] == ["0"]


def test_a_ledger_that_could_not_be_written_is_left_alone(searcher, monkeypatch):
    """What was half written is the journal's last line; another behind it would spoil it."""
    searcher, paths = searcher
    for name in "ab":
        searcher.suggest(name)
    before = paths.journal.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(type(searcher._ledger), "finish", full)
        finish(searcher, paths, "a", None)
    finish(searcher, paths, "b", None)
    assert paths.journal.read_bytes() == before
    assert isinstance(searcher.halt, UnfinishedError)


def test_other_errors_of_a_disk_are_not_swallowed(searcher, monkeypatch):
    searcher, _ = searcher

    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(type(searcher._ledger), "next", broken)
    with pytest.raises(OSError, match="Input/output error"):
        searcher.suggest("a")


def test_a_full_disk_is_recognised_wherever_it_came_from():
    full = OSError(errno.ENOSPC, "No space left on device")
    assert is_disk_full(full)
    wrapped = RuntimeError("the journal")
    wrapped.__cause__ = full
    assert is_disk_full(wrapped)
    assert not is_disk_full(OSError(errno.EACCES, "Permission denied"))


def test_what_is_needed_is_counted(tmp_path):
    paths = StudyPaths(tmp_path)
    for number, name in ((0, "result.json"), (1, "epochs.jsonl")):
        folder = paths.trial("pair", number).root
        folder.mkdir(parents=True)
        (folder / name).write_bytes(bytes(2_000_000))
    # 3 x 2 MB for the running one, 2 MB for each of the 5 to come
    assert "needs: about 16 MB for the 6 trials to go; " in str(disk_full(paths, 5, "why"))


def test_one_kind_of_failure_is_no_success():
    assert first_all_alike(StudyPaths.of("x", "y"), [ended(), ended()]) is None


@pytest.mark.parametrize(
    ("cause", "fault"),
    [
        ("ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.", Fault.HOST_MEMORY),
        ("Worker exit type: NODE_OUT_OF_MEMORY", Fault.HOST_MEMORY),
        ("Worker unexpectedly exits with a connection error code 2. End of file. (1) The process is killed by SIGKILL by OOM killer due to high memory usage.", Fault.NODE_LOST),
        ("The actor died unexpectedly before finishing this task.", Fault.NODE_LOST),
        ("", Fault.NODE_LOST),
    ],
)  # fmt: skip
def test_what_killed_a_process(cause, fault):
    assert died(cause)[0] is fault
