"""A study goes on in another storage: copied, compared, and whole wherever the copying is killed."""

import json
import sys

import optuna
import pandas as pd
import pytest

from gsvae_tune.cli.__main__ import app, guarded
from gsvae_tune.search import transfer
from gsvae_tune.search.storage import open_storage
from gsvae_tune.study.errors import InputError, UnfinishedError
from gsvae_tune.study.lease import driver_lease
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.studyfile import read_config

RUN = ["run", "smoke", "--simulate", "valley", "--trials", "6", "--simulated-slots", "2",
       "--no-report"]  # fmt: skip


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def call(*args):
        code = guarded(lambda **how: app(args=list(map(str, args)), **how))
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call


@pytest.fixture
def paths(cli, tmp_path):
    """A study with all states: its search is done, of its confirmations nothing is told."""
    assert cli(*RUN, "--until", "search")[0] == 0
    found = StudyPaths(tmp_path / "studies/smoke-simulated")
    study = optuna.load_study(study_name="smoke-simulated/pair", storage=open_storage(None, found))
    failed = study.ask()
    failed.set_user_attr("error", "diverged: é \\ \"'")
    study.tell(failed, state=optuna.trial.TrialState.FAIL)
    pruned = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    pruned.report(float("nan"), 1)
    pruned.report(0.1 + 0.2, 2)
    study.tell(pruned, state=optuna.trial.TrialState.PRUNED)
    study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})  # running
    return found


def url_of(request, tmp_path, kind):
    if kind == "sqlite":
        return f"sqlite:///{tmp_path / 'trials.db'}"
    return request.getfixturevalue("postgresql").database()[0]


def facts(paths, url):
    config, storage = read_config(paths), open_storage(url, paths, must_exist=True)
    return {key: transfer._facts(found) for key, found in transfer._read(config, storage).items()}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_there_and_back_again(request, cli, paths, tmp_path, kind):
    url = url_of(request, tmp_path, kind)
    cli("export", paths.root)
    tables = {name: pd.read_parquet(paths.table(name)) for name in ("trials", "replicates")}
    before = facts(paths, None)
    code, out, err = cli("copy-storage", paths.root, "--to", url)
    assert (code, err) == (0, "")
    assert "15 trials are in" in out
    assert "with --storage" in out
    assert not paths.journal.exists()
    assert paths.copied_journal.exists()
    assert facts(paths, url) == before
    assert json.loads(paths.study.read_text())["config"]["storage"] == "a database"
    for verb in ("status", "export"):
        assert cli(verb, paths.root, "--storage", url)[0] == 0
        assert cli(verb, paths.root)[0] == 2
    for name, table in tables.items():
        pd.testing.assert_frame_equal(pd.read_parquet(paths.table(name)), table)

    code, out, err = cli("copy-storage", paths.root, "--storage", url, "--to", "journal")
    assert (code, err) == (0, "")
    assert "without --storage" in out
    assert facts(paths, None) == before
    # Optuna's journal holds times of its own making as well: the rest of it is the same.
    assert cli("status", paths.root)[0] == 0
    assert cli("status", paths.root, "--storage", url)[0] == 2


def test_from_database_to_database_and_on(postgresql, cli, tmp_path):
    """The study goes on where it was copied to, and comes out as one that never moved."""
    first, second = f"sqlite:///{tmp_path / 'a.db'}", postgresql.database()[0]
    assert cli(*RUN, "--until", "search", "--storage", first)[0] == 0
    folder = tmp_path / "studies/smoke-simulated"
    assert cli("copy-storage", folder, "--storage", first, "--to", second)[0] == 0
    code, _, err = cli(*RUN, "--storage", second)
    assert (code, err) == (0, ""), err
    assert cli(*RUN, "--out", "still")[0] == 0
    for name in ("trials", "replicates"):
        tables = [pd.read_parquet(tmp_path / place / f"smoke-simulated/tables/{name}.parquet")
                  for place in ("studies", "still")]  # fmt: skip
        # The confirmations of a study that paused came after its whole search.
        tables = [table.drop(columns="ended_s", errors="ignore") for table in tables]
        pd.testing.assert_frame_equal(*tables)
    code, _, err = cli(*RUN, "--storage", first)  # the old one has not heard of the confirmations
    assert code == 2
    assert "holds a trial, but the storage has only" in err


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_killed_anywhere_the_study_works_and_the_copy_can_be_finished(
    request, cli, paths, tmp_path, monkeypatch, kind
):
    """Each line of the copying in turn is the last: what the study was is there, and then is moved."""
    url, before, lines, stops = url_of(request, tmp_path, kind), facts(paths, None), set(), 0

    class Killed(BaseException):
        pass

    def kill_at_a_new_line(frame, event, _):
        if (
            frame.f_code.co_filename != transfer.__file__
            and frame.f_code.co_name != "create_new_trial"
        ):
            return None
        at = (frame.f_code.co_name, frame.f_lineno)
        if event == "line" and at not in lines and frame.f_code.co_name not in {"_facts", "_read"}:
            lines.add(at)
            raise Killed
        return kill_at_a_new_line

    while True:
        sys.settrace(kill_at_a_new_line)
        try:
            transfer.transfer(paths, None, url, lambda _: None)
        except Killed:
            stops += 1
        else:
            break
        finally:
            sys.settrace(None)
        elsewhere = json.loads(paths.study.read_text())["config"]["storage"] is not None
        assert facts(paths, url if elsewhere else None) == before
    assert stops > 20
    assert facts(paths, url) == before
    assert paths.copied_journal.exists()
    assert not paths.journal.exists()
    code, out, _ = cli("copy-storage", paths.root, "--to", url)  # once more: nothing to do
    assert code == 0
    assert "15 of them by an earlier copy" in out


def test_a_copy_is_finished_though_the_study_went_on_meanwhile(cli, paths, tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path / 'trials.db'}"
    with monkeypatch.context() as patched:
        patched.setattr(transfer, "mark_storage", lambda *_, **__: 1 / 0)  # killed just before
        with pytest.raises(ZeroDivisionError):
            transfer.transfer(paths, None, url, lambda _: None)
    pair = optuna.load_study(study_name="smoke-simulated/pair", storage=open_storage(None, paths))
    running = [trial for trial in pair.trials if not trial.state.is_finished()]
    assert running
    for trial in running:
        pair._storage.set_trial_user_attr(trial._trial_id, "error", "diverged")
        pair.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    pair.ask()
    before = facts(paths, None)
    assert cli("copy-storage", paths.root, "--to", url)[0] == 0
    assert facts(paths, url) == before


def test_a_target_with_other_trials_is_refused(cli, paths, tmp_path):
    url = f"sqlite:///{tmp_path / 'trials.db'}"
    assert cli(*RUN, "--until", "search", "--storage", url, "--out", "other", "--seed", "5")[0] == 0
    before = paths.study.read_bytes(), paths.journal.read_bytes()
    code, _, err = cli("copy-storage", paths.root, "--to", url)
    assert code == 2
    assert "--to: holds other trials under the name smoke-simulated/" in err
    assert before == (paths.study.read_bytes(), paths.journal.read_bytes())
    assert cli("status", paths.root)[0] == 0


def test_what_cannot_be_copied_says_why(cli, paths, tmp_path):
    url = f"sqlite:///{tmp_path / 'trials.db'}"
    for args, said in (
        (["--to", "journal"], "--to: is where the trials are already"),
        (["--to", "s3cr3t"], "cannot open (a text that is no URL)"),
        (["--storage", url, "--to", "journal"], "are recorded in its own journal"),
        (["--to", f"sqlite:///{tmp_path}/none/x.db"], "no such folder"),
    ):
        code, _, err = cli("copy-storage", paths.root, *args)
        assert code == 2, args
        assert said in err
    assert cli("copy-storage", tmp_path / "studies", "--to", url)[0] == 0  # a folder of one study
    other = f"sqlite:///{tmp_path / 'never.db'}"
    code, _, err = cli("copy-storage", paths.root, "--to", other)
    assert code == 2
    assert "there is no such file" in err
    code, _, err = cli("copy-storage", tmp_path / "nowhere", "--to", url)
    assert code == 2


def test_a_running_study_is_not_copied(paths, tmp_path):
    url = f"sqlite:///{tmp_path / 'trials.db'}"
    with (
        driver_lease(paths, lambda _: None),
        pytest.raises(InputError, match="another run of this study holds the folder"),
    ):
        transfer.transfer(paths, None, url, lambda _: None)


def test_a_storage_that_gives_back_something_else_changes_nothing(paths, tmp_path, monkeypatch):
    seen = iter(range(100))
    monkeypatch.setattr(transfer, "_facts", lambda trials: [str(next(seen)) for _ in trials])
    before = paths.study.read_bytes(), paths.journal.read_bytes()
    with pytest.raises(UnfinishedError, match="does not give back what was written"):
        transfer.transfer(paths, None, f"sqlite:///{tmp_path / 'trials.db'}", lambda _: None)
    assert before == (paths.study.read_bytes(), paths.journal.read_bytes())
