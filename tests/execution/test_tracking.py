"""Trials in TensorBoard and MLflow: under which names, each epoch once, and no harm to a study."""

import io
import os
import struct
import threading
import time
from types import SimpleNamespace

import pytest
from rich.console import Console

from gsvae_tune.execution import tracking
from gsvae_tune.execution.runner import run_study
from gsvae_tune.execution.tracking import Tracking
from gsvae_tune.search import studies
from gsvae_tune.study.errors import InputError
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import TrialResult, TrialState, keep_lines

METRICS = ["epoch", "tau_a", "tau_b", "value"]


def events(folder):
    """Yield what stands in a folder's event files, in order: TFRecords of TensorBoard's events."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(folder.glob("events.out.tfevents.*")):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            yield Event.FromString(data[12 : 12 + size])
            data = data[12 + size + 4 :]


def scalars(folder):
    """Return what TensorBoard shows of a folder: {metric: [(step, value)]}."""
    found = {}
    for event in events(folder):
        if event.WhichOneof("what") == "session_log":  # what an earlier session wrote from here on
            for series in found.values():
                series[:] = [one for one in series if one[0] < event.step]
        for value in event.summary.value:
            if value.WhichOneof("value") == "simple_value":
                name = value.tag.removeprefix("ray/tune/")
                found.setdefault(name, []).append((event.step, value.simple_value))
    return found


def hparams(folder):
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    found = {}
    for event in events(folder):
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == "hparams":
                data = HParamsPluginData.FromString(value.metadata.plugin_data.content)
                for name, one in data.session_start_info.hparams.items():
                    found[name] = getattr(one, one.WhichOneof("kind"))
    return found


def tracked_names(paths):
    root = paths.tracking / "tensorboard"
    return sorted(str(one.relative_to(root)) for one in root.glob("*/*"))


def test_tensorboard_shows_every_trial_and_every_epoch_once(smoke, run, tmp_path):
    config = smoke(tracking=["tensorboard"], protocol__until="confirm", search__trials=1)
    done, tables = run(config)
    first = {path: path.read_bytes() for path in done.paths.tracking.rglob("events*")}
    assert len(first) == 4
    config = smoke(tracking=["tensorboard"], protocol__until="confirm", search__trials=2)
    done, tables = run(config)
    assert first == {path: path.read_bytes() for path in first}  # what had ended is left alone
    trials = tables["trials"]
    names = [
        f"{row.arm}/{row.number}{'' if row.phase == 'search' else '-confirm'}"
        for row in trials.itertuples()
    ]
    assert len(names) >= 6  # some arm's best may have changed, and be confirmed too
    assert tracked_names(done.paths) == sorted(names)
    for name, row in zip(names, trials.itertuples(), strict=True):
        folder = done.paths.tracking / "tensorboard" / name
        seen = scalars(folder)
        assert sorted(seen) == METRICS
        assert all([step for step, _ in series] == [1, 2, 3, 4] for series in seen.values())
        assert seen["value"][-1][1] == pytest.approx(row.value)  # what ranks the trial
        shown = hparams(folder)
        assert (shown["arm"], shown["phase"]) == (row.arm, row.phase)
        assert shown["learning_rate"] == pytest.approx(row.param_learning_rate)
        own = tables["epochs"].query(
            "arm == @row.arm and phase == @row.phase and number == @row.number"
        )
        last = own[(own.epoch == 4) & (own.branch == "b")]
        assert seen["tau_b"][-1][1] == pytest.approx(last.tau.prod() ** (1 / len(last)))


def test_a_tool_that_fails_costs_one_note_and_changes_nothing(
    smoke, run, shared_ray, monkeypatch, tmp_path
):
    from tests.execution.test_runner import assert_same

    def fail(*_):
        raise OSError("the server\nis away")

    monkeypatch.setattr(tracking._TensorBoard, "log_trial_result", fail)
    plain, said = smoke(search__trials=1), io.StringIO()
    config = smoke(tracking=["tensorboard"], search__trials=1, out=str(tmp_path / "tracked"))
    assert config.digest() == plain.digest()
    assert run_study(config, Console(file=said, width=200)).trained == 2
    assert_same(run(config)[1], run(plain)[1])
    assert said.getvalue().count("note: tracking by tensorboard ended: OSError: the server;") == 1
    assert "Traceback" not in said.getvalue()


@pytest.fixture
def fed(tmp_path):
    """A study's folder, and Tune's calls by hand: (tool) -> callback, its trial, what was said."""
    config = studies.load("smoke", {"out": (str(tmp_path), "test"), "training.epochs": (6, "test")})
    paths = StudyPaths(tmp_path / "smoke")
    folder = paths.trial("pair", 3)
    folder.root.mkdir(parents=True)
    (paths.root / "study.json").write_text(
        '{"format_version": 2, "id": "0123", "created": "", "digest": "",'
        ' "config": {"storage": null, "arms": {}}, "data": {"checksum": "", "images": {}}}'
    )
    trial = SimpleNamespace(
        config={"arm": "pair", "phase": "search", "number": 3, "params": {"tau_start": 0.5}}
    )
    said = []

    def report(epoch):
        return {"epoch": epoch, "value": 30.0 - epoch, "tau_a": 1.0, "tau_b": 2.0, "trained": epoch}

    def go(tool, *reported, ended=False):
        told = Tracking(tool, config, paths, said.append)
        told.on_trial_start(0, [], trial)
        for epoch in reported:
            told.on_trial_result(0, [], trial, report(epoch) | {"done": False, "pid": 3})
        if ended:
            keep_lines(folder.epochs, [{"epoch": 6, "tau": [[0.5, 2.0], [2.0, 2.0]]}])
            TrialResult(TrialState.COMPLETE, 21.5, None, 6, 60, 1.0, "cpu").write(folder.result)
        told.on_trial_complete(0, [], trial)
        told.stop()
        told.wait(60.0)

    return SimpleNamespace(go=go, paths=paths, said=said, config=config, trial=trial, report=report)


def values(epochs, last=None):
    return [(epoch, 30.0 - epoch) for epoch in epochs] + ([] if last is None else [(6, last)])


def test_an_interrupted_trial_goes_on_in_its_tensorboard_folder(fed):
    folder = fed.paths.tracking / "tensorboard/pair/3"
    fed.go("tensorboard", 1, 2, 3, 4, 2, 3, 4)  # taken up again from a checkpoint, in one run
    assert scalars(folder)["value"] == values([1, 2, 3, 4])
    time.sleep(1.1)  # event files are told apart by the second
    fed.go("tensorboard", 3, 4, 5, ended=True)  # killed, and gone on from its checkpoint
    assert scalars(folder)["value"] == values([1, 2, 3, 4, 5], 21.5)
    assert scalars(folder)["tau_a"][-1] == (6, pytest.approx(1.0))  # geometric mean
    assert hparams(folder)["tau_start"] == 0.5
    assert fed.said == []


def test_what_tensorboard_itself_reads(fed):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fed.go("tensorboard", 1, 2, 3, 4)
    time.sleep(1.1)
    fed.go("tensorboard", 3, 4, 5, ended=True)
    read = EventAccumulator(str(fed.paths.tracking / "tensorboard/pair/3")).Reload()
    assert [(e.step, e.value) for e in read.Scalars("ray/tune/value")] == values(
        [1, 2, 3, 4, 5], 21.5
    )


def test_a_slow_tool_is_waited_for_only_so_long(fed, monkeypatch):
    shut = threading.Event()
    monkeypatch.setattr(tracking._TensorBoard, "log_trial_start", lambda *_: shut.wait(60))
    told = Tracking("tensorboard", fed.config, fed.paths, fed.said.append)
    told.on_trial_start(0, [], fed.trial)
    began = time.monotonic()
    for epoch in range(1, 100):
        told.on_trial_result(0, [], fed.trial, fed.report(epoch))
    told.stop()
    told.wait(0.2)
    assert time.monotonic() - began < 5.0
    shut.set()
    assert len(fed.said) == 1
    assert "has not written everything in time" in fed.said[0]


def test_values_that_are_not_numbers_are_left_out(fed):
    told = Tracking("tensorboard", fed.config, fed.paths, fed.said.append)
    told.on_trial_start(0, [], fed.trial)
    told.on_trial_result(0, [], fed.trial, fed.report(0))  # before the first epoch's end
    told.on_trial_result(0, [], fed.trial, fed.report(1) | {"value": float("nan")})
    told.on_trial_result(0, [], fed.trial, {"confirming": fed.report(2) | {"value": None}})
    told.on_trial_result(0, [], fed.trial, {"pause": "the disk is full"})
    told.stop()
    told.wait(60.0)
    seen = scalars(fed.paths.tracking / "tensorboard/pair/3")
    assert seen == {name: [(1, seen[name][0][1]), (2, seen[name][1][1])] for name in METRICS[:3]}
    assert fed.said == []


def mlflow_runs(paths):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{paths.tracking}/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("smoke")
    assert experiment.artifact_location.startswith((paths.tracking / "mlflow").as_uri())
    return client, {
        run.info.run_name: run for run in client.search_runs([experiment.experiment_id])
    }


@pytest.fixture
def mlflow(monkeypatch):
    pytest.importorskip("mlflow", reason="mlflow is not installed: the extra tracking")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.filterwarnings("default")  # its own use of SQLAlchemy warns
def test_mlflow_has_a_run_for_every_trial(mlflow, smoke, run):
    config = smoke(tracking=["mlflow"], protocol__until="confirm", search__trials=2)
    done, tables = run(config)
    for _ in range(2):
        client, runs = mlflow_runs(done.paths)
        assert len(runs) == len(tables["trials"]) == 6
        for row in tables["trials"].itertuples():
            found = runs[f"{row.arm}/{row.number}{'' if row.phase == 'search' else '-confirm'}"]
            assert found.info.status == "FINISHED"
            assert found.data.metrics["value"] == pytest.approx(row.value)
            assert found.data.params["arm"] == row.arm
            assert float(found.data.params["tau_start"]) == row.param_tau_start
            for name in METRICS:
                history = client.get_metric_history(found.info.run_id, name)
                assert [one.step for one in history] == [1, 2, 3, 4]
        run(config)  # finished: nothing is added


@pytest.mark.filterwarnings("default")  # its own use of SQLAlchemy warns
def test_an_interrupted_trial_goes_on_in_its_mlflow_run(mlflow, fed):
    fed.go("mlflow", 1, 2, 3, 4)
    assert mlflow_runs(fed.paths)[1]["pair/3"].info.status == "KILLED"
    fed.go("mlflow", 3, 4, 5, ended=True)
    client, runs = mlflow_runs(fed.paths)
    assert fed.said == []
    assert list(runs) == ["pair/3"]
    assert runs["pair/3"].info.status == "FINISHED"
    history = client.get_metric_history(runs["pair/3"].info.run_id, "value")
    assert [(one.step, one.value) for one in history] == values([1, 2, 3, 4, 5], 21.5)


@pytest.mark.filterwarnings("default")
def test_an_mlflow_server_of_the_users_own(mlflow, fed, monkeypatch, tmp_path):
    from mlflow.tracking import MlflowClient

    own = f"sqlite:///{tmp_path}/own.db"
    MlflowClient(tracking_uri=own).create_experiment("smoke", artifact_location=tmp_path.as_uri())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", own)
    fed.go("mlflow", 1, ended=True)
    assert fed.said == []
    (run,) = MlflowClient(tracking_uri=own).search_runs(["1"])
    assert run.info.status == "FINISHED"
    assert os.environ["MLFLOW_TRACKING_URI"] == own
    assert not (fed.paths.tracking / "mlflow/mlflow.db").exists()


def test_what_is_not_installed_is_said_before_the_run(smoke, monkeypatch, tmp_path):
    def absent(name):
        return None if name == "mlflow" else object()

    monkeypatch.setattr(tracking.importlib.util, "find_spec", absent)
    with pytest.raises(InputError) as caught:
        run_study(smoke(tracking=["tensorboard", "mlflow"]), Console(quiet=True))
    assert str(caught.value) == (
        'tracking (--track): "mlflow" needs the package mlflow, which is not installed\n'
        "  next:  pip install -e '.[tracking]', or leave it out"
    )
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_tool_is_one_message():
    with pytest.raises(InputError) as caught:
        studies.load("smoke", {"tracking": (["tensorbord"], "--track")})
    assert str(caught.value).startswith('--track: tracking.0: "tensorbord" is not legal\n  legal: ')
    assert "'tensorboard', 'mlflow' or 'wandb'" in str(caught.value)


def test_a_simulated_study_says_that_it_does_nothing(tmp_path):
    given = {"simulate.table": "valley", "search.trials": 1, "out": str(tmp_path)}
    given |= {"tracking": ["mlflow"], "protocol.until": "search"}
    config, said = studies.load("smoke", {k: (v, k) for k, v in given.items()}), io.StringIO()
    done = run_study(config, Console(file=said, width=200))
    assert said.getvalue().count("note: tracking does nothing here") == 1
    assert not done.paths.tracking.exists()


@pytest.mark.parametrize("linked", ["tracking", "tracking/mlflow"])
def test_a_link_in_the_folder_is_refused(tmp_path, linked):
    place = tmp_path / "study" / linked
    place.parent.mkdir(parents=True)
    place.symlink_to(tmp_path)
    with pytest.raises(InputError, match="is a link to"):
        StudyPaths(tmp_path / "study").refuse_links()


def test_the_flag_takes_several_and_the_command_shows_them(monkeypatch):
    from typer.testing import CliRunner

    from gsvae_tune.cli.__main__ import app
    from gsvae_tune.cli.studies import _command

    seen = {}

    def load(study, overrides):
        seen.update(overrides)
        raise InputError("enough")

    monkeypatch.setattr(studies, "load", load)
    words = ["run", "smoke", "--track", "tensorboard,mlflow", "--track", "wandb"]
    CliRunner().invoke(app, words)
    assert seen == {"tracking": (["tensorboard", "mlflow", "wandb"], "--track")}
    assert _command("smoke", seen) == "gsvae-tune run smoke --track tensorboard,mlflow,wandb"
    seen.clear()
    CliRunner().invoke(app, ["run", "smoke"])
    assert seen == {}
