"""Studies in PostgreSQL, on a server of the tests' own: opened, gone on with, refused, thinking of
passwords."""

import random
import sqlite3
import traceback

import optuna
import psycopg
import pytest
import sqlalchemy.dialects.postgresql.psycopg as psycopg_dialect
from pydantic import SecretStr

from gsvae_tune.cli.__main__ import app, guarded
from gsvae_tune.search.ledger import Ledger
from gsvae_tune.search.storage import open_storage
from gsvae_tune.study.errors import InputError, UnfinishedError
from gsvae_tune.study.paths import StudyPaths
from tests.search.conftest import objective
from tests.search.postgres import PASSWORD, free_port

RUN = ["run", "smoke", "--simulate", "valley", "--until", "search", "--trials", "4",
       "--no-report"]  # fmt: skip


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def call(*args):
        code = guarded(lambda **how: app(args=list(map(str, args)), **how))
        captured = capsys.readouterr()
        for text in (captured.out, captured.err):
            assert PASSWORD not in text
            assert "s3cr" not in text
            assert "Traceback" not in text
        return code, captured.out, captured.err

    return call


def drive(config, folder, url, stop_after=None):
    """Search until all is done, or drop dead after so many events; return the ledger's storage."""
    paths = StudyPaths(folder)
    paths.root.mkdir(exist_ok=True)
    storage = open_storage(url, paths)
    ledger, events = Ledger(config, paths, storage, "me"), 0
    while (assignment := ledger.next()) is not None:
        result = objective(assignment)
        result.write(paths.trial(assignment.arm, assignment.number).result)
        events += 1
        if events == stop_after:
            break
        ledger.finish(assignment, result)
    return storage


def told(storage, arm):
    return [
        (t.number, t.state.name, t.value, t.params, t.user_attrs, t.system_attrs, t.intermediate_values)
        for t in optuna.load_study(study_name=f"s/{arm}", storage=storage).get_trials()
    ]  # fmt: skip


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_a_study_in_postgresql_is_that_of_the_journal_killed_or_not(
    postgresql, study, tmp_path, sampler
):
    config = study(trials=12, sampler=sampler)
    url, _ = postgresql.database()
    drive(config, tmp_path / "killed", url, stop_after=5)
    killed = drive(config, tmp_path / "killed", url)
    whole = drive(config, tmp_path / "whole", None)
    for arm in config.arms:
        assert told(killed, arm) == told(whole, arm)


def test_a_run_is_resumed_and_another_folders_is_refused(postgresql, cli, tmp_path):
    url, bare = postgresql.database()
    code, out, err = cli(*RUN, "--storage", url)
    assert (code, err) == (0, "")
    assert f"--storage {bare}" in out  # the next command: it would ask the environment
    folder = tmp_path / "studies/smoke-simulated"
    assert '"storage": "a database"' in (folder / "study.json").read_text()
    assert PASSWORD not in (folder / "study.json").read_text()
    assert "finished already" in cli(*RUN, "--storage", url)[1]
    code, _, err = cli(*RUN, "--storage", url, "--out", "elsewhere")
    assert code == 2
    assert "holds another study under the name" in err
    for verb in (["status"], ["export"], ["plan"]):
        assert cli(*verb, folder, "--storage", url)[0] == 0
        code, _, err = cli(*verb, folder)
        assert code == 2
        assert "recorded in a database" in err


def test_readers_make_nothing_in_a_database(postgresql, tmp_path):
    url, bare = postgresql.database()
    with pytest.raises(InputError, match=f"cannot open {bare}: it holds no study"):
        open_storage(url, StudyPaths(tmp_path), must_exist=True)
    with postgresql.connect(bare.rpartition("/")[2]) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)  # fmt: skip


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
@pytest.mark.parametrize("wrapped", [str, SecretStr])
def test_drivers_and_secrets(postgresql, tmp_path, scheme, wrapped):
    url, _ = postgresql.database()
    url = url.replace("postgresql", scheme, 1)
    storage = open_storage(wrapped(url), StudyPaths(tmp_path))
    assert storage.get_all_studies() == []
    assert PASSWORD not in repr(vars(storage)) + repr(vars(storage._backend._backend))


def test_a_password_in_the_query_of_a_url(postgresql, tmp_path):
    url, bare = postgresql.database()
    secret = url.partition("me:")[2].partition("@")[0]
    given = f"{bare}?password={secret}&application_name=x"
    assert open_storage(given, StudyPaths(tmp_path)).get_all_studies() == []


def mistakes(server):
    url, bare = server.database()
    closed = f"postgresql://me:s3cr3t@127.0.0.1:{free_port()}/x"
    return [
        (bare.replace("me@", "me:s3cr3t@"), 2, "the server does not take this password"),
        (bare, 2, "the server asks for a password"),
        (url + "x", 2, "the server knows no such user or database"),
        (url.replace("//me:", "//you:"), 2, "the server does not take this password"),
        (closed, 3, "the storage cannot be reached: postgresql://me@127.0.0.1"),
        ("postgresql://me:s3cr3t@127.0.0.1:s3cr3t/x", 2, "no database is known by this URL"),
        ("postgresql+s3cr3t://me@127.0.0.1/x", 2, "no database is known by this URL"),
        ("mysql://me:s3cr3t@127.0.0.1/x", 2, "needs the driver MySQLdb, which is not installed"),
        ("s3cr3t", 2, "(a text that is no URL)"),
    ]


def test_what_cannot_be_opened_is_one_message_without_a_password(postgresql, cli):
    for url, expected, said in mistakes(postgresql):
        if "+s3cr3t" in url or "@127.0.0.1:s3cr3t" in url:
            continue  # no place for a password: it is shown
        code, _, err = cli(*RUN, "--storage", url, "--set", "faults.storage_patience_s=0.2")
        assert said in err, url
        assert code == expected, url
        assert err.count("error: ") == 1


def test_no_error_leads_back_to_what_a_driver_raised(postgresql, tmp_path):
    for url, _, said in mistakes(postgresql):
        with pytest.raises((InputError, UnfinishedError)) as caught:
            open_storage(url, StudyPaths(tmp_path), patience_s=0)
        assert said in str(caught.value)
        shown = "".join(traceback.format_exception(caught.value))
        assert "psycopg" not in shown.replace("postgresql+psycopg", "").replace("pip install", "")
        assert caught.value.__cause__ is None


def test_a_missing_driver_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(InputError) as caught:
        open_storage("postgresql://me:s3cr3t@127.0.0.1/x", StudyPaths(tmp_path))
    assert "postgresql://me@127.0.0.1/x needs the driver psycopg, which is not installed" in str(caught.value)  # fmt: skip
    assert "pip install 'psycopg[binary]'" in str(caught.value)


@pytest.mark.parametrize("lost", ["before", "after"])
def test_connections_lost_around_a_commit(postgresql, study, tmp_path, monkeypatch, lost):
    """One commit in five is lost, with or without having been carried out."""
    dialect, losses, chance = psycopg_dialect.PGDialect_psycopg, [], random.Random(3)
    commit = dialect.do_commit

    def flaky(self, connection):
        if chance.random() > 0.2:
            return commit(self, connection)
        if lost == "after":
            commit(self, connection)
        losses.append(1)
        connection.driver_connection.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    config, (url, _) = study(trials=6), postgresql.database()
    open_storage(url, StudyPaths(tmp_path / "flaky"))
    monkeypatch.setattr(dialect, "do_commit", flaky)
    monkeypatch.setattr("gsvae_tune.search.patience.FIRST_WAIT_S", 0.001)
    flaked = drive(config, tmp_path / "flaky", url)
    monkeypatch.undo()
    whole = drive(config, tmp_path / "whole", None)
    assert len(losses) > 20
    for arm in config.arms:
        assert told(flaked, arm) == told(whole, arm)


def test_a_locked_sqlite_file_is_waited_for(study, tmp_path):
    file, heard = tmp_path / "trials.db", []
    url = f"sqlite:///{file}?timeout=0.05"
    config = study(trials=1)
    drive(config, tmp_path / "s", url)
    storage = open_storage(url, StudyPaths(tmp_path / "s"), patience_s=1.0, notify=heard.append)
    other = sqlite3.connect(file)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(UnfinishedError, match=r"cannot be reached: sqlite:///.*, tried for 1 s"):
        storage.set_study_user_attr(1, "key", 1)
    assert heard == [f"the storage cannot be reached: {url}; trying again for up to 1 s"]
    other.rollback()
    other.close()
    storage.set_study_user_attr(1, "key", 1)
    assert storage.get_study_user_attrs(1)["key"] == 1
