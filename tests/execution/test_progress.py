"""What the user sees, as text."""

from rich.console import Console

from gsvae_tune.execution.progress import (
    ArmProgress,
    PlainView,
    StudyProgress,
    Which,
    duration,
    make_view,
)
from gsvae_tune.search import studies
from gsvae_tune.study.records import TrialResult, TrialState

DONE = TrialResult(TrialState.COMPLETE, 21.5, None, 10, 100, 2.0, "cpu")
LOST = TrialResult(TrialState.FAILED, None, "diverged: branch a", 10, 100, 2.0, "cpu")
PAIR, FIXED = Which("pair", "search", 0), Which("fixed-factor", "search", 0)
REPORT = {"epoch": 5, "trained": 5.0, "value": 22.25, "tau_a": 0.5, "tau_b": 1.25}


def half_done(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("gsvae_tune.execution.progress.time.monotonic", lambda: clock[0])
    config = studies.load("smoke", {"name": ("mine", ""), "training.epochs": (10, "")})
    progress = StudyProgress(
        config, {"pair": ArmProgress(2, 0), "fixed-factor": ArmProgress(2, 0)}, 2
    )
    for arm in progress.arms:
        progress.started(Which(arm, "search", 0))
    progress.reported(PAIR, REPORT | {"trained": 0.5})
    progress.ended(PAIR, DONE)
    progress.reported(FIXED, REPORT | {"trained": 0.5})
    progress.reported(FIXED, REPORT)
    clock[0] = 130.0
    return progress


def test_the_table_shows_arms_best_values_temperatures_and_what_is_left(monkeypatch):
    progress = half_done(monkeypatch)
    console = Console(width=100, record=True, file=open("/dev/null", "w"))
    console.print(progress)
    text = console.export_text()
    for part in ("study mine", "1/2", "21.500", "fixed-factor", "5/10", "0.500", "1.250", "22.250"):
        assert part in text
    # 15 epochs in 30 s; 25 are left
    assert "30 s elapsed, about 50 s left" in text


def test_plain_lines_where_there_is_no_terminal(monkeypatch, capsys):
    progress = half_done(monkeypatch)
    view = make_view(progress, Console())
    assert isinstance(view, PlainView)
    with view:
        progress.ended(FIXED, LOST)
        view.changed((FIXED, LOST))
        view.changed()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "fixed-factor #0 failed (diverged: branch a)"
    assert lines[1].startswith("pair 1/2 best 21.500, fixed-factor 1/2; running 0; 30 s elapsed")
    assert len(lines) == 2


def test_a_resumed_trial_counts_only_what_this_run_trained(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("gsvae_tune.execution.progress.time.monotonic", lambda: clock[0])
    config = studies.load("smoke", {"training.epochs": (10, "")})
    progress = StudyProgress(config, {"pair": ArmProgress(2, 0)}, 1)
    assert progress.eta_s is None
    progress.started(PAIR)
    progress.reported(PAIR, REPORT | {"trained": 8.5})  # went on from epoch 8
    progress.reported(PAIR, REPORT | {"trained": 10.0})
    clock[0] = 4.0
    assert progress.eta_s == 20.0  # 2 epochs in 4 s, 10 left


def test_durations():
    assert [duration(s) for s in (0.4, 59.6, 61, 3600, 7325)] == [
        "0 s", "1 min 00 s", "1 min 01 s", "1 h 00 min", "2 h 02 min",
    ]  # fmt: skip
