"""PostgreSQL is killed under a study that really trains, and looked through for its password."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import optuna
import pandas as pd
import pytest

from gsvae_tune.search.storage import open_storage, optuna_name
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.studyfile import read_config
from tests.execution.test_runner import assert_same
from tests.search.postgres import PASSWORD, Server, binaries

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

COMMAND = [sys.executable, "-m", "gsvae_tune.cli"]
STUDY = ["run", "smoke", "--trials", "3", "--epochs", "300"]


@pytest.fixture
def server():
    if binaries() is None:
        pytest.skip("no PostgreSQL server is installed here")
    own = Server()
    yield own
    own.close()


@pytest.fixture
def start():
    """Start the command line in a folder; what still runs at the end is stopped."""
    started = []

    def call(folder, *args, **env):
        process = subprocess.Popen(
            [*COMMAND, *args], cwd=folder, text=True, env=os.environ | env,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        return process

    yield call
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=60)


def wait_for(process, condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def results(folder):
    return len(list(folder.rglob("result.json")))


def tables(folder):
    return {
        name: pd.read_parquet(folder / f"studies/smoke/tables/{name}.parquet")
        for name in ("trials", "replicates", "epochs")
    }


def numbers(folder, url):
    """Return the numbers of each Optuna study's trials, all of them ended."""
    paths = StudyPaths(folder / "studies/smoke")
    storage, config = open_storage(url, paths, must_exist=True), read_config(paths)
    found = {}
    for arm in config.arms:
        for phase in ("search", "confirm"):
            name = optuna_name(config.name, arm, phase)
            trials = optuna.load_study(study_name=name, storage=storage).trials
            assert all(trial.state.is_finished() for trial in trials)
            found[name] = [trial.number for trial in trials]
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The tables of the same study, left alone, in its journal."""
    folder = tmp_path_factory.mktemp("undisturbed")
    subprocess.run([*COMMAND, *STUDY], cwd=folder, check=True, capture_output=True)
    return tables(folder)


def test_a_study_outlives_two_deaths_of_its_server(start, server, tmp_path, undisturbed):
    url, bare = server.database()
    process = start(tmp_path, *STUDY, "--storage", url)
    for by, after in ((signal.SIGKILL, 1), (signal.SIGQUIT, 4)):
        wait_for(process, lambda after=after: results(tmp_path) >= after)
        server.stop(by)
        time.sleep(5)
        server.start()
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    assert f"the storage cannot be reached: {bare}; trying again for up to 300 s" in out + err
    assert "the storage answers again, after" in out + err
    assert "Traceback" not in out + err
    expected = {"": range(3), "/confirm": range(1)}
    for name, found in numbers(tmp_path, url).items():
        assert found == list(expected["/confirm" if name.endswith("/confirm") else ""]), name
    assert_same(tables(tmp_path), undisturbed)


def test_a_server_that_stays_away_ends_the_run_and_the_next_goes_on(
    start, server, tmp_path, undisturbed
):
    url, _ = server.database()
    command = [*STUDY, "--storage", url, "--set", "faults.storage_patience_s=3"]
    process = start(tmp_path, *command)
    wait_for(process, lambda: results(tmp_path) >= 1)
    server.stop(signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3, err
    assert err.count("error: ") == 1
    assert "error: the storage cannot be reached: postgresql://me@127.0.0.1" in err
    assert "run the same command again" in err
    assert "Traceback" not in out + err
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    assert kept
    code = start(tmp_path, *command)
    _, err = code.communicate(timeout=120)
    assert code.returncode == 3  # still away
    server.start()
    done = start(tmp_path, *command)
    out, err = done.communicate(timeout=280)
    assert done.returncode == 0, err
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    assert_same(tables(tmp_path), undisturbed)


@pytest.fixture
def ray_folder():
    """Where Ray keeps its logs; its sockets take no long path."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def family(root):
    """Return the process and all that descend from it, with what each was started with."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
        except OSError:
            continue
        parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("given", ["argument", "set", "environment"])
def test_a_password_is_nowhere_to_be_seen(start, server, tmp_path, ray_folder, given):
    url, bare = server.database()
    secrets = [PASSWORD.encode(), quote(PASSWORD, safe="").encode(), json.dumps(PASSWORD)[1:-1].encode()]  # fmt: skip
    args, env = {
        "argument": (["--storage", url], {}),
        "set": (["--set", f'storage="{url}"'], {}),
        "environment": (["--storage", bare], {"GSVAE_STORAGE_PASSWORD": PASSWORD}),
    }[given]
    process = start(tmp_path, *STUDY, *args, RAY_TMPDIR=str(ray_folder), **env)
    wait_for(process, lambda: any(tmp_path.rglob("epochs.jsonl")))
    everybody = [read(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
    assert any(
        b"gsvae_tune.cli\0run\0smoke" in line and bare.encode() in line for line in everybody
    )
    assert not [line for line in everybody if any(secret in line for secret in secrets)]
    children = family(process.pid) - {process.pid}
    assert len(children) > 3
    for pid in children:
        inherited = read(Path(f"/proc/{pid}/environ"))
        assert not any(secret in inherited for secret in secrets)
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    texts = {"stdout": out.encode(), "stderr": err.encode()}
    for folder in (tmp_path, ray_folder):
        texts |= {str(path): read(path) for path in folder.rglob("*") if path.is_file()}
    assert any("gcs_server" in name for name in texts)
    assert not [name for name, text in texts.items() if any(s in text for s in secrets)]
    assert bare in out  # the command to go on with
