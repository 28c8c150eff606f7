"""Whole studies on a real Ray: the folder's contract, resuming, slots, ends of trials."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gsvae_tune.report import tables as report_tables
from gsvae_tune.search.arms import ARMS
from gsvae_tune.study.errors import InputError
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import read_json_lines

CLOCKS = ["wall_s", "ended_s"]


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        pd.testing.assert_frame_equal(
            one[name].drop(columns=CLOCKS, errors="ignore"),
            other[name].drop(columns=CLOCKS, errors="ignore"),
            check_exact=True,
        )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished smoke study that several tests read."""
    return {"out": tmp_path_factory.mktemp("finished")}


@pytest.fixture
def study(finished, smoke, run):
    if "tables" not in finished:
        config = smoke(out=str(finished["out"]), resources__gpus_per_trial=0.25)
        finished["done"], finished["tables"] = run(config)
        finished["config"], finished["paths"] = config, StudyPaths.of(config.out, config.name)
        report_tables.write(finished["tables"], finished["paths"])
    return finished


def test_the_folder_is_the_contract(study):
    root = study["paths"].root
    names = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}
    trials = {
        f"trials/{arm}/{n}/{name}"
        for arm in ("pair", "fixed-factor")
        for n in range(3)
        for name in ("config.json", "claim.json", "epochs.jsonl", "checkpoint.pt", "result.json")
    }
    tables = {f"tables/{name}.parquet" for name in ("trials", "replicates", "epochs")}
    names = {name for name in names if not name.endswith(".lock")}
    assert names == {"study.json", "driver.json", "optuna.journal"} | trials | tables
    facts = json.loads((root / "study.json").read_text())
    assert {"config", "digest", "seed", "versions", "hardware", "git_commit", "data"} <= set(facts)
    assert facts["config"]["data"]["binarization"] == "threshold"


def test_the_tables_are_the_contract(study):
    trials, replicates, epochs = (
        pd.read_parquet(study["paths"].table(name)) for name in ("trials", "replicates", "epochs")
    )
    assert len(trials) == 2 * 3
    assert len(replicates) == 2 * 3 * 2
    assert len(epochs) == 2 * 3 * 2 * 2 * 4  # arms, trials, replicates, branches, epochs
    assert {"arm", "phase", "number", "state", "value", "steps", "wall_s", "error"} <= set(trials)
    assert {"param_learning_rate", "param_tau_start", "param_factor_a"} <= set(trials)
    assert {
        "arm", "phase", "number", "replicate", "seed", "best_branch", "val_neg_elbo_nats",
        "test_neg_elbo_nats", "test_iwae_nats", "kl_nats", "active_units", "diverged", "collapsed",
        "steps",
    } <= set(replicates)  # fmt: skip
    assert {
        "arm", "phase", "number", "replicate", "branch", "epoch", "tau", "train_loss_relaxed",
        "control_loss_discrete", "val_neg_elbo_nats", "kl_nats", "wall_s",
    } <= set(epochs)  # fmt: skip
    assert set(trials.state) == {"complete"}
    assert set(trials.phase) == {"search"}
    mean = replicates.groupby(["arm", "number"]).val_neg_elbo_nats.mean()
    assert trials.set_index(["arm", "number"]).value.sort_index().tolist() == pytest.approx(
        mean.tolist()
    )
    assert replicates.test_neg_elbo_nats.isna().all()  # sealed
    # paired seeds: replicate r has one seed whatever the arm and the trial
    assert (replicates.groupby("replicate").seed.nunique() == 1).all()
    assert trials.steps.nunique() == 1  # equal compute


def test_the_control_flow_can_be_read_from_the_folder(study):
    """config.json is what Optuna suggested; both temperatures move by the rule, inside the range."""
    moved = 0
    for arm in ("pair", "fixed-factor"):
        for number in range(3):
            folder = study["paths"].trial(arm, number)
            config = json.loads(folder.config.read_text())
            row = study["tables"]["trials"].query("arm == @arm and number == @number").iloc[0]
            assert all(row[f"param_{key}"] == value for key, value in config["params"].items())
            settings = ARMS[arm].model_validate(config["settings"])
            controller = settings.controller([1, 2], 8, 4)
            for record in read_json_lines(folder.epochs):
                assert record["tau"] == controller.tau.tolist()
                assert (controller.tau >= settings.tau_min).all()
                moved += (controller.tau != settings.tau_start).sum()
                controller.update(record["control_loss_discrete"], record["control_kl_nats"])
                assert record["event"] == [r.event.name for r in controller.trace[-2:]]
    assert moved > 20


def test_the_same_seed_on_other_slots_gives_the_same_tables(study, smoke, run):
    _, again = run(smoke(resources__cpus_per_trial=2.0))  # one at a time
    assert_same(study["tables"], again)


def test_another_seed_gives_other_numbers(study, smoke, run):
    _, other = run(smoke(seed=1, search__trials=1))
    mine = study["tables"]["trials"]
    assert not set(other["trials"].value) & set(mine.value)


def test_running_a_finished_study_does_nothing(study, run):
    before = {p: p.stat().st_mtime_ns for p in study["paths"].trials.rglob("*")}
    done, again = run(study["config"])
    assert done.trained == 0
    assert before == {p: p.stat().st_mtime_ns for p in study["paths"].trials.rglob("*")}
    assert_same(study["tables"], again)


def test_more_trials_go_on(smoke, run):
    _, first = run(smoke(search__trials=1))
    done, more = run(smoke(search__trials=2))
    assert done.trained == 2
    old = more["trials"][more["trials"].number < 1].reset_index(drop=True)
    pd.testing.assert_frame_equal(old[first["trials"].columns], first["trials"])
    fewer, _ = run(smoke(search__trials=1))
    assert fewer.trained == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"training__epochs": 5}, "training.epochs: 4 -> 5"),
        ({"replicates": 3}, "replicates: 2 -> 3"),
        ({"seed": 7}, "seed: 0 -> 7"),
        ({"arms__pair__space__tau_max": 3.0}, "arms.pair.space.tau_max.value: 4.0 -> 3.0"),
    ],
)
def test_another_study_under_the_name_is_refused_with_what_differs(study, smoke, run, change, said):
    with pytest.raises(InputError) as caught:
        run(smoke(out=str(study["out"]), **change))
    assert said in str(caught.value)
    assert "--name" in str(caught.value)
    assert json.loads(study["paths"].study.read_text())["digest"] == study["config"].digest()


def test_other_data_under_the_name_is_refused(study, smoke, run, monkeypatch):
    from gsvae_tune.execution import runner

    load = runner.load_splits
    monkeypatch.setattr(
        runner, "load_splits", lambda *args: dataclasses.replace(load(*args), checksum="other")
    )
    with pytest.raises(InputError, match="images are not those the study began with"):
        run(study["config"])


def test_a_second_driver_is_refused(study, run):
    from gsvae_tune.study.lease import driver_lease, is_running

    assert not is_running(study["paths"])
    with driver_lease(study["paths"], pytest.fail):
        assert is_running(study["paths"])
        with pytest.raises(InputError, match=r"another run of this study holds .* process \d+ on"):
            run(study["config"])


def test_a_folder_that_cannot_be_written(smoke, run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        run(smoke(out=str(tmp_path / "file")))


def test_too_large_a_batch_is_refused(smoke, run, tmp_path):
    with pytest.raises(InputError, match=r"training.batch_size: 500 is more than the 400"):
        run(smoke(training__batch_size=500))
    assert not (tmp_path / "smoke" / "study.json").exists()


@pytest.mark.slow
def test_a_quarter_of_a_gpu_trains_exactly_four_at_once(smoke, run):
    config = smoke(
        resources__gpus_per_trial=0.25, resources__cpus_per_trial=0.25,
        search__trials=4, training__epochs=600,
    )  # fmt: skip
    _, tables = run(config)
    paths = StudyPaths.of(config.out, config.name)
    spans = []
    for row in tables["trials"].itertuples():
        end = paths.trial(row.arm, row.number).result.stat().st_mtime
        spans.append((end - row.wall_s, end))
    at_once = [sum(a <= moment < b for a, b in spans) for moment, _ in spans]
    assert max(at_once) == 4


def test_asha_tells_stopped_trials_as_pruned(smoke, run):
    config = smoke(search__scheduler="asha", search__trials=8, training__epochs=20)
    done, tables = run(config)
    trials = tables["trials"]
    assert done.trained == 16
    assert set(trials.state) == {"complete", "pruned"}
    pruned = trials[trials.state == "pruned"]
    assert (pruned.epochs < 20).all()
    assert pruned.value.isna().all()  # a partial value is no value
    assert (trials[trials.state == "complete"].epochs == 20).all()
    again, after = run(config)
    assert again.trained == 0
    assert_same(tables, after)


def children(pid):
    """All processes below one of ours: other people's studies are none of our business."""
    below = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (thread / "children").read_text().split()):
            below += [child, *children(child)]
    return below


@pytest.mark.slow
def test_a_killed_trial_process_goes_on_from_its_checkpoint(smoke, shared_ray, tmp_path):
    """SIGKILL of the process that trains: the trial ends under its own number, with its own curve."""
    import os
    import signal
    import threading
    import time

    from rich.console import Console

    from gsvae_tune.execution.runner import run_study

    config = smoke(
        search__trials=1, training__epochs=2500, training__checkpoint_s=0.2,
        resources__cpus_per_trial=2.0, data__limit=100,
    )  # fmt: skip
    paths = StudyPaths.of(config.out, config.name)
    folder = paths.trial("pair", 0)
    killed = []

    def kill():
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not folder.checkpoint.is_file():
            time.sleep(0.02)
        for pid in children(os.getpid()):
            command = open(f"/proc/{pid}/cmdline", "rb").read()
            if command.startswith(b"ray::ImplicitFunc"):
                os.kill(pid, signal.SIGKILL)
                killed.append(command)

    killer = threading.Thread(target=kill)
    killer.start()
    with open(os.devnull, "w") as nowhere:
        done = run_study(config, Console(file=nowhere))
    killer.join()
    assert killed
    assert done.trained == 2
    records = list(read_json_lines(folder.epochs))
    assert [record["epoch"] for record in records] == list(range(1, 2501))
    assert np.isfinite([record["tau"] for record in records]).all()


@pytest.mark.parametrize("content", [b"", b'{"arm": "pair"', b"[]", b"{}"])
def test_settings_that_are_damaged_are_written_again(smoke, run, tmp_path, content):
    """Of a trial that was handed out and not ended: the ledger knows all of them."""
    config = smoke(search__trials=1)
    whole = run(config)[1]
    out = str(tmp_path / "again")
    paths = StudyPaths.of(out, config.name)
    shutil.copytree(StudyPaths.of(config.out, config.name).root, paths.root)
    (folder,) = [paths.trial("pair", 0)]
    keep = [
        line for line in paths.journal.read_bytes().splitlines(True) if b'"op_code":6' not in line
    ]
    paths.journal.write_bytes(b"".join(keep))  # no trial has ended
    folder.result.unlink()
    folder.config.write_bytes(content)
    assert_same(whole, run(smoke(search__trials=1, out=out))[1])
