"""The command line as a user meets it: messages, exit codes, no tracebacks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

import gsvae_tune
from gsvae_tune.cli.__main__ import app, guarded
from gsvae_tune.cli.studies import FLAGS
from gsvae_tune.search import studies

COMMAND = [sys.executable, "-m", "gsvae_tune.cli"]


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path):
    """Call the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*args):
        code = guarded(lambda **how: app(args=list(map(str, args)), **how))
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call


def test_help_and_version(cli):
    code, out, _ = cli("--help")
    assert code == 0
    assert all(verb in out for verb in ("run", "status", "export", "spaces", "schema", "data"))
    assert cli("--version")[1].strip() == f"gsvae-tune {gsvae_tune.__version__}"


def test_every_flag_of_run_sets_a_key_that_exists():
    simulated = {"simulate.table": ("valley", "--simulate")}
    config = studies.load("digits", simulated).model_dump()
    for key in FLAGS.values():
        value = config
        for part in key.split("."):
            assert part in value, key
            value = value[part]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["run", "--trials", "0"], "error: --trials: search.trials: 0 is not legal\n  legal: greater than or equal to 1"),
        (["run", "--gpus-per-trial", "1.5"], "--gpus-per-trial: resources.gpus_per_trial: 1.5 is not legal\n  legal: less than or equal to 1"),
        (["run", "--gpus-per-trial", "-0.5"], "legal: greater than or equal to 0"),
        (["run", "--sampler", "tp"], '--sampler: search.sampler: "tp" is not legal'),
        (["run", "--epochs", "many"], "Invalid value for '--epochs'"),
        (["run", "--trails", "3"], "No such option"),
        (["run", "digit"], "did you mean digits?"),
        (["run", "none.yaml"], "none.yaml: cannot be read: No such file"),
        (["run", "--set", "training"], "--set: 'training' sets nothing\n  legal: KEY=VALUE"),
        (["run", "--set", "training.epoch=3"], "training.epoch: unknown key"),
        (["run", "--set", "seed.x=3"], "seed holds no keys"),
        (["run", "mnist", "--data-dir", "nowhere"], "gsvae-tune data fetch mnist"),
        (["run", "--name", "a/b"], '--name: name: "a/b" is not legal'),
        (["run", "--storage", "nonsense"], "storage: cannot open (a text that is no URL)"),
        (["run", "--set", "data.source=idx:nowhere"], "cannot be read"),
        (["run", "smoke", "--out", "/proc/nowhere"], "cannot be written"),
        (["status"], "studies: holds no study"),
        (["export", "nowhere"], "nowhere: holds no study"),
        (["spaces", "digit"], "no study named 'digit'"),
        (["data", "fetch", "cifar"], "unknown data set 'cifar'\n  legal: mnist, fashion-mnist"),
        (["nonsense"], "No such command"),
        (["run", "x" * 5000], "is no usable path"),
        (["status", "x" * 5000], "is no usable path"),
        (["run", "~nosuchuser/mine.yaml"], "STUDY: '~nosuchuser/mine.yaml' is no usable path"),
        (["run", "--out", "~nosuchuser/x"], "is no usable path"),
        (["run", "mnist", "--data-dir", "~nosuchuser/x"], "is no usable path"),
        (["run", "--set", "data.source=npz:~nosuchuser/x"], "is no usable path"),
        (["run", "--set", 'out="a\\0b"'], "is no usable path"),
        (["run", "--cpus", "4000000000000000000000"], "less than or equal to 100000"),
        (["run", "--cpus-per-trial", "1e-9"], "greater than or equal to 0.01"),
        (["run", "--set", "search.trials=[1"], "is no YAML value"),
        (["data", "fetch", "mnist", "--data-dir", "~nosuchuser/x"], "is no usable path"),
    ],
)  # fmt: skip
def test_mistakes_end_with_one_message_and_exit_code_2(cli, args, said):
    code, _, err = cli(*args)
    assert said in err
    assert code == 2


def test_set_reads_values_as_a_study_file_does(cli):
    """1e-3 is a number, a date is text, and passwords are not printed."""
    from gsvae_tune.cli.studies import _command, key_value

    assert key_value("a.b=1e-3") == ("a.b", 1e-3)
    assert key_value("a=2026-01-01") == ("a", "2026-01-01")
    for flag in ("--storage", "--set storage="):
        shown = _command("digits", {"storage": ("postgresql://me:secret@host/db", flag)})
        assert "secret" not in shown


def test_a_broken_study_hides_no_other(cli, tmp_path):
    for name in ("broken", "empty", "partial"):
        (tmp_path / "studies" / name).mkdir(parents=True)
    (tmp_path / "studies/broken/study.json").write_text("{")
    (tmp_path / "studies/partial/study.json").write_text('{"format_version": 1}')
    code, _, err = cli("status")
    assert code == 2
    assert err.count("is no readable study file") == 2


def test_spaces_and_schema(cli):
    code, out, _ = cli("spaces")
    assert code == 0
    assert all(name in out for name in studies.shipped())
    assert cli("spaces", "smoke")[1] == studies.shipped()["smoke"].read_text()
    assert json.loads(cli("schema")[1]) == studies.schema()


def test_data_list_shows_what_is_here(cli, monkeypatch):
    monkeypatch.delenv("GSVAE_DATA", raising=False)
    code, out, _ = cli("data", "list", "--data-dir", "nowhere")
    assert code == 0
    assert "988 / 180 / 270" in out
    assert "was not found" in out


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study run by the real command, in a folder whose name a shell would trip over."""
    folder = tmp_path_factory.mktemp("a place") / "it's; $HOME `x`"
    folder.mkdir()
    command = [*COMMAND, "run", "smoke", "--trials", "2", "--seed", "3", "--name", "mine"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return folder, done


def test_run_ends_with_tables_and_a_verdict(study):
    folder, done = study
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "pair 2/2" in done.stdout
    assert "Trial train" not in done.stdout  # nothing of Tune's own
    for part in (
        "search result of study mine",
        "fixed-factor",
        "finalists: negative ELBO with one-hot codes",
        "their settings",
        "pair - fixed-factor",
        "what each arm was given",
    ):
        assert part in done.stdout
    assert "gsvae-tune run smoke --name mine-4 --trials 4 --seed 4" in done.stdout
    trials = pd.read_parquet(folder / "studies/mine/tables/trials.parquet")
    assert trials.groupby("phase").size().to_dict() == {"search": 4, "confirm": 2}
    verdict = json.loads((folder / "studies/mine/verdict.json").read_text())
    assert verdict["comparisons"][0]["verdict"] in {"supported", "not supported", "inconclusive"}


def test_a_test_split_that_was_opened_stays_shut(study, cli, tmp_path):
    shutil.copytree(study[0] / "studies", tmp_path / "studies")
    folder = tmp_path / "studies/mine"
    before = {
        path: path.read_bytes() for path in folder.rglob("*.json*") if path.name != "driver.json"
    }
    more = ["run", "smoke", "--trials", "3", "--seed", "3", "--name", "mine", "--no-report"]
    code, _, err = cli(*more)
    assert code == 2
    for part in ("the test split was opened on", "what 2 more find", "--reopen-test"):
        assert part in err
    assert before == {path: path.read_bytes() for path in before}
    done = subprocess.run([*COMMAND, *more, "--until", "confirm"], capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "pair 3/3" in done.stdout
    assert "not yet evidence" in done.stdout
    assert len((folder / "test-openings.jsonl").read_text().splitlines()) == 2
    done = subprocess.run([*COMMAND, *more, "--reopen-test", "a reviewer asked"], capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    verdict = json.loads((folder / "verdict.json").read_text())
    tested = [json.loads(path.read_text())["reopened"] for path in folder.rglob("test.json")]
    if len(tested) > 2:  # one of the three is newly the best of its arm
        assert verdict["reopened"] == "a reviewer asked"
        assert all(one["verdict"] == "inconclusive" for one in verdict["comparisons"])


def test_plan_says_how_many_replicates_it_takes(study, cli):
    folder = study[0] / "studies/mine"
    code, out, _ = cli("plan", folder)
    assert code == 0
    assert "to find a difference of 0.1 nats with probability 80%" in out
    answer = json.loads(cli("plan", folder, "--effect", "5", "--json")[1])["mine"]
    assert answer[0]["effect_nats"] == 5.0
    assert answer[0]["pairs"] == 6
    for flag, value in (("--effect", "-1"), ("--power", "2")):
        code, _, err = cli("plan", folder, flag, value)
        assert code == 2
        assert f"{flag}: is" in err


def test_status_and_export_read_the_folder(study, cli):
    folder, _ = study
    code, out, _ = cli("status", folder / "studies")
    assert code == 0
    assert "2/2" in out
    (seen,) = json.loads(cli("status", folder / "studies/mine", "--json")[1])
    assert seen["driver"] is False
    assert seen["arms"]["pair"]["complete"] == 2
    table = folder / "studies/mine/tables/trials.parquet"
    before = pd.read_parquet(table)
    table.unlink()
    code, out, _ = cli("export", folder / "studies/mine")
    assert code == 0
    pd.testing.assert_frame_equal(pd.read_parquet(table), before)


def test_a_damaged_result_or_a_missing_journal(study, cli, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(study[0] / "studies/mine", copy)
    (copy / "trials/pair/0/result.json").write_text('{"state": "comp')
    assert cli("export", copy)[0] == 0
    assert cli("status", copy)[0] == 0
    (copy / "optuna.journal").unlink()
    for verb in ("status", "export"):
        code, _, err = cli(verb, copy)
        assert code == 2
        assert "optuna.journal: is missing" in err
    assert not (copy / "optuna.journal").exists()


def test_a_finished_study_says_so(study, cli, monkeypatch):
    folder, _ = study
    monkeypatch.chdir(folder)
    code, out, _ = cli("run", "smoke", "--trials", "2", "--seed", "3", "--name", "mine")
    assert code == 0
    assert "study mine is finished already: nothing to do" in out


def test_another_space_under_the_name_shows_the_difference(study, cli, monkeypatch):
    folder, _ = study
    monkeypatch.chdir(folder)
    code, _, err = cli("run", "smoke", "--seed", "4", "--name", "mine")
    assert code == 2
    assert "seed: 3 -> 4" in err
    assert "nothing was changed" in err


def wait_for(path, process, seconds=90):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


LONG = ["run", "smoke", "--epochs", "3000", "--trials", "1"]


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_in_time_keeps_everything_and_says_how_to_go_on(tmp_path, by):
    process = subprocess.Popen(
        [*COMMAND, *LONG], cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    wait_for(tmp_path / "studies/smoke/trials/pair/0/epochs.jsonl", process)
    time.sleep(1.0)
    started = time.monotonic()
    process.send_signal(by)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - started < 10
    assert process.returncode == 130
    assert "everything finished is kept in" in err
    assert "next: gsvae-tune run smoke --trials 1 --epochs 3000" in err
    assert "Traceback" not in err
    assert (tmp_path / "studies/smoke/trials/pair/0/epochs.jsonl").stat().st_size > 0


@pytest.mark.slow
def test_a_killed_driver_loses_and_repeats_nothing(tmp_path):
    """kill -9 in the middle; the same command again gives the tables of an uninterrupted run."""
    from tests.execution.test_runner import assert_same

    args = ["run", "smoke", "--epochs", "300", "--trials", "3"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for folder in (killed, whole):
        folder.mkdir()
    process = subprocess.Popen([*COMMAND, *args], cwd=killed, stdout=subprocess.DEVNULL)
    wait_for(killed / "studies/smoke/trials/pair/0/result.json", process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    finished = {
        path: path.stat().st_mtime_ns for path in killed.rglob("result.json") if path.is_file()
    }
    assert 0 < len(finished) < 6
    for folder in (killed, whole):
        done = subprocess.run(
            [*COMMAND, *args], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in finished.items())
    tables = [
        {
            name: pd.read_parquet(folder / f"studies/smoke/tables/{name}.parquet")
            for name in ("trials", "replicates", "epochs")
        }
        for folder in (killed, whole)
    ]
    assert_same(*tables)


def test_a_local_run_listens_on_loopback_only(tmp_path):
    """New listening sockets of the whole machine while a study runs."""

    def listening():
        found = set()
        for name in ("tcp", "tcp6"):
            for line in open(f"/proc/net/{name}").read().splitlines()[1:]:
                local, state = line.split()[1], line.split()[3]
                if state == "0A":
                    found.add(local)
        return found

    before = listening()
    process = subprocess.Popen(
        [*COMMAND, *LONG], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(tmp_path / "studies/smoke/trials/pair/0/epochs.jsonl", process)
        new = listening() - before
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
    assert len(new) > 3
    loopback = (
        "0100007F:",
        "0000000000000000FFFF00000100007F:",
        "00000000000000000000000001000000:",
    )
    assert [socket for socket in new if not socket.startswith(loopback)] == []


def test_a_study_in_a_database_is_looked_for_there(cli, tmp_path):
    url = f"sqlite:///{tmp_path / 'trials.db'}"
    small = [
        "run",
        "smoke",
        "--trials",
        "1",
        "--epochs",
        "1",
        "--no-report",
    ]  # too short to report anything
    done = subprocess.run([*COMMAND, *small, "--storage", url], capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "studies/smoke"
    assert "Trial train" not in done.stdout
    assert not (folder / "optuna.journal").exists()
    assert url not in (folder / "study.json").read_text()
    (command,) = json.loads((folder / "study.json").read_text())["commands"]
    assert command == "gsvae-tune run smoke --trials 1 --epochs 1 --storage URL --no-report"
    for args in (small, ["status", folder], ["export", folder]):
        code, _, err = cli(*args)
        assert code == 2
        assert "recorded in a database" in err
    (seen,) = json.loads(cli("status", folder, "--storage", url, "--json")[1])
    assert seen["arms"]["pair"]["complete"] == 1
    code, out, _ = cli(*small, "--storage", url)
    assert code == 0
    assert "finished already" in out
    # another folder, a storage that is not there: refused, and nothing is made
    code, _, err = cli(*small, "--storage", url, "--out", "elsewhere")
    assert code == 2
    assert "holds another study under the name" in err
    assert not (tmp_path / "elsewhere/smoke/study.json").exists()
    table = folder / "tables/trials.parquet"
    before = table.read_bytes()
    code, _, err = cli("export", folder, "--storage", f"sqlite:///{tmp_path / 'typo.db'}")
    assert code == 2
    assert not (tmp_path / "typo.db").exists()
    assert table.read_bytes() == before
