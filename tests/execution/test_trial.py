"""One trial in its folder, without Ray."""

import dataclasses
import errno
import json
from types import SimpleNamespace

import pytest
import torch

from gsvae_tune.execution import memory, trial
from gsvae_tune.execution.trial import run_trial
from gsvae_tune.search.ledger import Ledger
from gsvae_tune.search.storage import open_storage
from gsvae_tune.study.faults import Fault
from gsvae_tune.study.fence import Claim, FencedError
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import TrialState, read_json_lines
from gsvae_tune.vae import checkpoint
from gsvae_tune.vae.data import load_splits


@pytest.fixture
def assigned(smoke, tmp_path):
    """A trial as the ledger hands it out, and what run_trial needs."""
    config = smoke()
    paths = StudyPaths(tmp_path)
    ledger = Ledger(config, paths, open_storage(None, paths), "me")
    assignment = ledger.next()
    given = {key: getattr(assignment, key) for key in ("arm", "phase", "number", "params")}
    folder = paths.trial(assignment.arm, assignment.number)
    reports = []

    def go(given=given, **more):
        kwargs = {
            "study": config, "splits": load_splits(config.data, config.seed), "paths": folder,
            "gpu_fraction": 0.0, "every_epoch": True, "report": reports.append,
            "pause": pytest.fail, "term": 1,
        }  # fmt: skip
        return run_trial(given, **(kwargs | more))

    return go, folder, given, reports, config


def test_a_trial_reports_its_epochs_and_leaves_its_result(assigned):
    go, folder, _, reports, config = assigned
    result = go()
    assert result.state is TrialState.COMPLETE
    assert [report["epoch"] for report in reports] == [1, 2, 3]
    assert set(reports[0]) == {"epoch", "trained", "value", "tau_a", "tau_b"}
    assert len(list(read_json_lines(folder.epochs))) == config.training.epochs
    assert go() == result  # a finished trial is read, not trained
    assert len(reports) == 3


def test_a_config_that_is_not_what_optuna_suggested_is_caught(assigned):
    go, folder, _given, _, _ = assigned
    config = json.loads(folder.config.read_text())
    config["params"]["tau_start"] *= 1.01
    folder.config.write_text(json.dumps(config))
    with pytest.raises(RuntimeError, match="the search suggested"):
        go()
    assert not folder.result.exists()


def test_a_trial_that_raises_fails_with_its_error(assigned, monkeypatch):
    go, folder, *_ = assigned

    def fail(*_):
        raise ValueError("no such thing")

    monkeypatch.setattr(trial, "_training", fail)
    result = go()
    assert result.state is TrialState.FAILED
    assert result.error == "ValueError: no such thing"
    assert "Traceback" in folder.error.read_text()


@pytest.fixture
def poisoned(monkeypatch):
    """Branch a of replicate 0 begins with weights that are not finite."""
    build = trial._training

    def training(*args):
        made = build(*args)
        with torch.no_grad():
            made.model.decoder[0].weight[0] = torch.nan
        return made

    monkeypatch.setattr(trial, "_training", training)


class Stop(BaseException):
    """A kill."""


@pytest.mark.parametrize(
    "damage", [None, "torn record", "bad checkpoint", "half loaded", "lost records"]
)
def test_a_killed_trial_goes_on_to_the_same_end(assigned, smoke, tmp_path, damage):
    go, folder, _given, reports, config = assigned
    eager = config.model_copy(
        update={"training": config.training.model_copy(update={"checkpoint_s": 1e-9})}
    )

    def die_at_three(report):
        if report["epoch"] == 3:
            raise Stop

    with pytest.raises(Stop):
        go(study=eager, report=die_at_three)
    assert not folder.result.exists()
    begins_again = damage not in {None, "torn record"}
    if damage == "lost records":
        folder.epochs.write_bytes(folder.epochs.read_bytes().splitlines(keepends=True)[0])
    if damage == "half loaded":  # good weights, a foreign controller
        for path in (folder.checkpoint, folder.previous):
            state = checkpoint.load(path)
            checkpoint.save(path, state | {"controller": {"version": 99, "memory": {}}})
    if damage == "torn record":
        with folder.epochs.open("ab") as file:
            file.write(b'{"epoch": 4, "ta')
    if damage == "bad checkpoint":
        for path in (folder.checkpoint, folder.previous):
            path.write_bytes(path.read_bytes()[:1000])
    result = go()
    assert (result.note is not None) == begins_again
    assert [r["epoch"] for r in reports] == ([1, 2, 3] if begins_again else [3])
    records = [record | {"wall_s": 0} for record in read_json_lines(folder.epochs)]
    for file in (folder.result, folder.epochs, folder.checkpoint):
        file.unlink()
    folder.notes.unlink(missing_ok=True)
    whole = go()
    clocks = {"wall_s": 0, "ended_s": None}
    assert dataclasses.replace(result, note=None, **clocks) == dataclasses.replace(whole, **clocks)
    assert records == [record | {"wall_s": 0} for record in read_json_lines(folder.epochs)]


def test_a_diverged_trial_fails_with_the_reason(assigned, poisoned):
    go, folder, *_ = assigned
    result = go()
    assert result.state is TrialState.FAILED
    assert result.value is None
    assert result.error == (
        "diverged: a loss was not finite; in 1 of 2 replicates, first in branch a after epoch 1"
    )
    assert result.fault is Fault.DIVERGED
    assert [row.diverged for row in result.replicates] == [True, False]
    assert "NaN" not in folder.epochs.read_text()


def test_killed_between_the_last_checkpoint_and_the_result(assigned, poisoned):
    """Also where a replicate diverged, whose numbers are null in the records."""
    go, folder, *_ = assigned
    whole = go()
    folder.result.unlink()
    assert dataclasses.replace(go(), ended_s=None) == dataclasses.replace(whole, ended_s=None)


def test_a_long_epoch_is_reported_and_saved_before_it_ends(assigned, monkeypatch):
    go, folder, _, reports, config = assigned
    monkeypatch.setattr(trial, "_REPORT_S", 0.0)
    eager = config.model_copy(
        update={"training": config.training.model_copy(update={"checkpoint_s": 1e-9})}
    )

    def die_in_the_middle(report):
        reports.append(report)
        if report["trained"] == 0.375:
            raise Stop

    with pytest.raises(Stop):
        go(study=eager, every_epoch=False, report=die_in_the_middle)
    assert [report["trained"] for report in reports] == [0.125, 0.25, 0.375]
    assert reports[0]["value"] is None
    assert folder.checkpoint.is_file()
    reports.clear()
    go(study=eager, every_epoch=False)
    assert reports[0]["trained"] == 0.5
    assert len(reports) == 4 * (8 + 2) - 3  # steps and evaluation batches


def test_out_of_memory_says_what_would_help(assigned, monkeypatch):
    go, *_ = assigned

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trial, "_training", full)
    result = go()
    assert result.state is TrialState.FAILED
    assert result.error == (
        "out of memory on the GPU; on 0 of a GPU; fewer replicates or a smaller batch may fit"
    )
    assert result.fault is Fault.DEVICE_MEMORY


def test_what_fits_is_rehearsed_with_all_the_memory(monkeypatch):
    """CUDA's answers are made up here; what is asked, and what is said, is not."""
    asked = []
    for name in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", asked.append)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 3 * 2**30)
    total = SimpleNamespace(total_memory=10 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: total)
    built = SimpleNamespace(rehearse=lambda: asked.append("rehearsed"))
    told = memory.what_fits(Fault.DEVICE_MEMORY, lambda: built, torch.device("cuda"), None)
    assert asked == [1.0, "rehearsed"]
    assert told == "--gpus-per-trial 0.3333 would fit"


def test_a_trial_past_its_time_limit_ends_and_says_so(assigned):
    go, _, _, _, config = assigned
    hurried = config.model_copy(
        update={"faults": config.faults.model_copy(update={"trial_limit_s": 1e-9})}
    )
    result = go(study=hurried)
    assert result.state is TrialState.FAILED
    assert result.fault is Fault.TIME_LIMIT
    assert result.error.startswith("ran past the time limit of a trial; 1e-09 s (faults.trial_l")
    assert go() == result


def test_a_full_disk_is_not_the_trials_fault(assigned, monkeypatch):
    """It pauses, keeps its last checkpoint, and goes on to the end it would have had."""
    go, folder, _, reports, config = assigned
    eager = config.model_copy(
        update={"training": config.training.model_copy(update={"checkpoint_s": 1e-9})}
    )
    save, saved, paused = checkpoint.save, [], []

    def fill(*args, **more):
        if len(saved) == 20:
            raise OSError(errno.ENOSPC, "No space left on device", "checkpoint.pt")
        saved.append(1)
        save(*args, **more)

    monkeypatch.setattr(checkpoint, "save", fill)
    assert go(study=eager, pause=paused.append) is None
    assert len(paused) == 1
    assert "No space left on device" in paused[0]
    assert not folder.result.exists()
    monkeypatch.setattr(checkpoint, "save", save)
    reports.clear()
    assert go().state is TrialState.COMPLETE
    assert reports[0]["epoch"] > 1


def test_a_trial_that_was_taken_over_writes_nothing_more(assigned):
    go, folder, _, _, config = assigned
    eager = config.model_copy(
        update={"training": config.training.model_copy(update={"checkpoint_s": 1e-9})}
    )

    def taken_over(report):
        if report["epoch"] == 2:
            Claim(folder, 2).take()

    with pytest.raises(FencedError):
        go(study=eager, report=taken_over)
    assert not folder.result.exists()
    with pytest.raises(FencedError):
        go(term=1)
    assert go(term=2).state is TrialState.COMPLETE


def test_memory_that_the_host_refuses(assigned, monkeypatch):
    go, *_ = assigned

    def refuse(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")

    monkeypatch.setattr(trial, "_training", refuse)
    result = go()
    assert result.fault is Fault.HOST_MEMORY
    said = "fewer replicates or a smaller batch may fit; or fewer trials at once: --cpus-per-trial"
    assert result.error == f"out of memory on the host; {said}"


def test_a_checkpoint_that_memory_does_not_suffice_for_is_not_damaged(assigned, monkeypatch):
    go, folder, _, _, config = assigned
    eager = config.model_copy(
        update={"training": config.training.model_copy(update={"checkpoint_s": 1e-9})}
    )

    def die(report):
        raise Stop

    with pytest.raises(Stop):
        go(study=eager, report=die)
    before = folder.checkpoint.read_bytes()

    def refuse(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")

    monkeypatch.setattr(torch, "load", refuse)
    result = go()
    assert result.fault is Fault.HOST_MEMORY
    assert result.note is None
    assert folder.checkpoint.read_bytes() == before
