"""The benchmark measures what it says; its figures are no business of a test."""

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from gsvae_tune.bench import contenders, plain, results, suite
from gsvae_tune.cli.__main__ import app, guarded
from gsvae_tune.search import studies
from gsvae_tune.study.errors import UnfinishedError
from gsvae_tune.tau import OpenLoopController
from gsvae_tune.tau.schedules import Constant
from gsvae_tune.vae.data import load_splits
from gsvae_tune.vae.training import PairTraining

TINY = suite.Effort(
    repeats=1,
    epochs=1,
    steps={"digits": 2, "mnist": 1},
    replicates=(1, 2),
    study_trials=4,
    study_epochs=1,
    startups=1,
    finished=(5, 20),
    window_s=0.1,
)


def test_the_plain_loop_learns_what_ours_learns():
    """Same architecture, bound, data and steps: after five epochs the losses are alike."""
    study = studies.load("digits")
    splits = load_splits(study.data, study.seed)
    ours = PairTraining(
        splits, study.model, study.training.model_copy(update={"epochs": 5}), [0],
        OpenLoopController(Constant(0.5), Constant(0.5), 1), learning_rate=3e-3,
    )  # fmt: skip
    *_, last = ours.epochs()
    torch.manual_seed(0)
    model = plain.PlainVAE(plain.Architecture(64, study.model.hidden, 8, 8))
    adam = torch.optim.Adam(model.parameters(), lr=3e-3)
    batches = plain.loader(splits.train, study.training.batch_size, shuffle=True)
    losses = [plain.train_epoch(model, adam, batches, 0.5) for _ in range(5)]
    assert losses == sorted(losses, reverse=True)
    held_out = plain.loader(splits.validation, 1000, shuffle=False)
    found = plain.evaluate(model, held_out, samples=4)
    assert found == pytest.approx(last.val_neg_elbo_nats[0][0], rel=0.05)


@pytest.mark.parametrize("contender", ["stacked", "plain", "products", "torch-products"])
@pytest.mark.parametrize("shape", suite.SHAPES)
def test_every_contender_runs(contender, shape):
    epoch = contenders.build(contender, shape, 1, 2, "cpu")
    assert contenders.measure(epoch, 2, "cpu") > 0


def test_products_are_those_of_a_training_step(monkeypatch):
    """Per member and layer: forward, weights' gradient, and, but for images, inputs' gradient."""
    seen = []
    bmm = torch.bmm
    monkeypatch.setattr(
        torch, "bmm", lambda a, b, out: (seen.append((*a.shape, b.shape[2])), bmm(a, b, out=out))
    )
    contenders.build("torch-products", "digits", 1, 2, "cpu")()
    widths = [(64, 128), (128, 64), (64, 128), (128, 64)]
    expected = [(4, 50, i, o) for i, o in widths] + [(4, i, 50, o) for i, o in widths]
    expected += [(4, 50, o, i) for i, o in widths[1:]]
    assert sorted(seen) == sorted(expected)


def test_shapes_are_those_of_the_shipped_studies():
    for shape in suite.SHAPES:
        images = contenders.images(studies.load(shape), 2)
        assert images.shape == (
            2 * studies.load(shape).training.batch_size,
            contenders.PIXELS[shape],
        )
        assert set(np.unique(images)) == {0, 255}


def test_a_contender_that_fails_is_said_to():
    with pytest.raises(UnfinishedError, match=r"a measured process ended with 1: .*here"):
        suite._contender(TINY, "stacked", "digits", device="here")
    failed = suite._contender(TINY, "stacked", "digits", device="here", may_fail=True)
    assert "here" in failed["error"]


def test_suggestions_are_timed_after_so_many_trials():
    found = suite.suggestions(TINY, lambda _: None)
    assert list(found) == ["5", "20"]
    assert all(ms > 0 for ms in found.values())


@pytest.mark.slow
def test_the_command_prints_the_keys_it_promises(monkeypatch):
    monkeypatch.setattr(suite, "QUICK", TINY)
    words = ["bench", "member-epoch", "stacking", "suggest", "--quick", "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    for shape in suite.SHAPES:
        assert found["member_epoch"][shape].keys() >= {"vs_plain", "floor_share"}
        assert found["stacking"][shape].keys() == {"1", "2"}
    assert found["suggest_ms"].keys() == {"5", "20"}
    assert found["machine"]
    assert found["versions"]["torch"]


@pytest.mark.slow
def test_studies_and_startup_are_measured():
    found = suite.study(TINY, 2, lambda _: None)
    assert found["study"].keys() >= {"vs_optuna", "vs_raytune"}
    assert all(ratio > 0 for ratio in found["study"].values())
    assert 0 <= found["overhead_share"] < 1
    assert suite.startup(TINY, lambda _: None)["ratio"] > 0


@pytest.mark.slow
def test_compiling_is_measured():
    found = suite.compiling(TINY, 1, lambda _: None)
    assert all("error" in row or row["speedup"] > 0 for row in found.values())


@pytest.mark.slow
def test_trials_sharing_a_device_are_measured_together():
    """On the CPU here: what differs on a GPU is the device's name."""
    found = suite.gpu(TINY, lambda _: None, device="cpu", counts=(1, 2))
    assert found["vs_plain"] > 0
    assert all(row["member_epochs_per_s"] > 0 for row in found["trials"].values())
    assert found["best_fraction"] in (1.0, 0.5)


def test_a_device_on_which_nothing_runs_is_said():
    assert all("here" in one["error"] for one in suite._together(TINY, "digits", "here", 2))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        signal.SIGTERM,
        pytest.param(signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_benchmark_leaves_nothing_running(number):
    bench = subprocess.Popen(
        [sys.executable, "-m", "gsvae_tune.cli", "bench", "stacking"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        listed = Path(f"/proc/{bench.pid}/task/{bench.pid}/children")
        children = wait_for(lambda: listed.read_text().split())
        time.sleep(0.3)
        bench.send_signal(number)
        bench.communicate(timeout=60)
        assert bench.returncode == (-9 if number == signal.SIGKILL else 130)
        wait_for(lambda: not any(is_running(child) for child in children))
    finally:
        bench.kill()


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition):
    for _ in range(200):
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("it did not come about")


@pytest.mark.slow
def test_rounded_products_are_measured():
    found = suite.precision(TINY, lambda _: None)
    assert found["tf32"]["nats"] == 0.0  # no NVIDIA GPU here
    assert found["bfloat16"]["nats"] != 0.0


def test_tables_show_the_figures():
    found = {
        "member_epoch": {"digits": {"vs_plain": 5.43, "floor_share": 0.65,
                                    "torch_floor_share": 0.41, "us_per_member_step": 147.2}},
        "stacking": {"digits": {"1": 355.0, "2": 225.0}},
        "precision": {"bfloat16": {"nats": -0.021, "standard_error": 0.03, "speedup": 0.97}},
        "compile": {"digits": {"speedup": 1.02, "compile_s": 3.1}, "mnist": {"error": "no c++"}},
        "study": {"vs_optuna": 3.21, "vs_raytune": 3.45, "trials_per_minute": 51.0},
        "overhead_share": 0.031,
        "startup_ratio": 1.61,
        "startup_s": 5.1,
        "suggest_ms": {"100": 7.4},
        "gpu": {"vs_plain": 25.5, "best_fraction": 0.25,
                "trials": {"1": {"member_epochs_per_s": 9.5, "peak_gib": 0.71},
                           "8": {"error": "out of memory"}}},
    }  # fmt: skip
    console = Console(width=120, record=True, file=io.StringIO())
    for shown in results.tables(found):
        console.print(shown)
    text = console.export_text()
    for figure in ("5.43", "65%", "41%", "147", "355", "1.02", "no c++", "3.21", "3.45", "51.0",
                   "3.1%", "1.61", "7.4 ms", "25.5", "0.25", "9.5", "0.71", "out of memory", "-0.021 +- 0.030", "0.97"):  # fmt: skip
        assert figure in text


@pytest.mark.parametrize("part", ["speed", "gpu"])
def test_wrong_parts_are_refused(part, capsys):
    if part == "gpu" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert guarded(lambda **kw: app(["bench", part], **kw)) == 2
    assert "legal:" in capsys.readouterr().err
