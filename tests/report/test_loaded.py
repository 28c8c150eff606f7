"""A study as notebooks read it: whole, as an archive, before anything ended, damaged."""

import json
import shutil

import pandas as pd
import pytest
from rich.console import Console

import gsvae_tune
from gsvae_tune.execution.runner import run_study
from gsvae_tune.report import summary
from gsvae_tune.report.tables import EPOCHS, REPLICATES, TRIALS
from gsvae_tune.search import studies
from gsvae_tune.search.storage import open_storage
from gsvae_tune.study.errors import InputError
from gsvae_tune.study.lease import driver_lease

TABLES = ("trials", "replicates", "epochs")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A digits study simulated to its verdict, with its tables: pair, fixed-factor, and controls."""
    out = tmp_path_factory.mktemp("kept")
    given = {
        "out": str(out),
        "simulate.table": "valley",
        "search.trials": 6,
        "search.sampler": "random",
    }
    config = studies.load("digits", {key: (value, key) for key, value in given.items()})
    done = run_study(config, Console(quiet=True))
    built = summary.export(config, done.paths, None)
    assert summary.judge(config, done.paths, None, built) is not None
    return config, done.paths


@pytest.fixture
def archive(kept, tmp_path):
    """What somebody hands on: study.json, the tables, when the test split was opened."""
    _, paths = kept
    folder = tmp_path / "handed-on"
    folder.mkdir()
    for name in ("study.json", "test-openings.jsonl"):
        shutil.copy(getattr(paths, {"study.json": "study"}.get(name, "openings")), folder / name)
    shutil.copytree(paths.tables, folder / "tables")
    return folder


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_same_tables(one, other):
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name), check_exact=True)


def test_a_finished_study(kept):
    config, paths = kept
    before = contents(paths.root)
    study = gsvae_tune.load_study(paths.root)
    assert contents(paths.root) == before
    assert study.name == config.name == "digits-simulated"
    assert study.config.identity() == config.identity()
    assert (study.running, study.archive) == (False, False)
    for name, frame in summary.build_tables(config, paths, None).items():
        pd.testing.assert_frame_equal(getattr(study, name), frame)
    decided = summary.decided(config, paths, None, {name: getattr(study, name) for name in TABLES})
    assert study.verdict.as_dict() == decided.as_dict() == json.loads(paths.verdict.read_text())
    assert study.recorded["seed"] == config.seed


def test_arms_stand_in_one_order_and_a_control_is_not_searched(kept):
    study = gsvae_tune.load_study(str(kept[1].root))  # a text will do
    assert set(study.arms) == set(study.config.arms)
    assert study.arms.index("fixed-factor") == len(study.searched_arms) - 1
    assert "yoked" not in study.searched_arms
    assert set(study.settings) == set(study.searched_arms)
    assert study.original("yoked") == "pair"


def test_trials_that_ended_with_their_settings(kept):
    study = gsvae_tune.load_study(kept[1].root)
    for arm in study.searched_arms:
        found = study.searched(arm)
        assert found.number.tolist() == list(range(6))
        assert found.value.notna().all()
        own = {setting.name for setting in study.settings[arm]}
        assert own <= set(found)
        assert not [name for name in found if name.startswith("param_")]
        row = study.trials.query("arm == @arm and phase == 'search' and number == 3").iloc[0]
        for name in own & {"learning_rate", "tau_start"}:
            assert found.set_index("number").loc[3, name] == row[f"param_{name}"]


def test_an_archive_gives_the_same(kept, archive):
    whole, handed = gsvae_tune.load_study(kept[1].root), gsvae_tune.load_study(archive)
    before = contents(archive)
    assert handed.archive
    assert_same_tables(whole, handed)
    assert handed.verdict.as_dict() == whole.verdict.as_dict()
    assert contents(archive) == before
    (archive / "test-openings.jsonl").unlink()
    assert gsvae_tune.load_study(archive).verdict.as_dict() == whole.verdict.as_dict()


def test_an_archive_of_an_earlier_version_lacks_columns(archive):
    path = archive / "tables/trials.parquet"
    pd.read_parquet(path).drop(columns=["ended_s", "note"]).to_parquet(path)
    trials = gsvae_tune.load_study(archive).trials
    assert list(trials)[: len(TRIALS)] == list(TRIALS)
    assert {name: str(trials[name].dtype) for name in TRIALS} == TRIALS
    assert trials.ended_s.isna().all()


# Without the table of trials it is no archive, and a simulated study has no epochs to damage so.
DAMAGES = [
    (name, damage)
    for name in TABLES
    for damage in ("cut", "empty", "text", "other", "missing", "kind", "hole")
    if (name, damage) not in {("trials", "missing"), ("epochs", "kind"), ("epochs", "hole")}
]


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_a_damaged_table_of_an_archive_is_one_message(archive, name, damage):
    path = archive / f"tables/{name}.parquet"
    whole = pd.read_parquet(path)
    if damage == "missing":
        path.unlink()
    elif damage == "kind":
        whole.assign(number="many").to_parquet(path)
    elif damage == "hole":
        whole.assign(arm=whole.arm.where(whole.index != 1)).to_parquet(path)
    elif damage == "other":
        pd.DataFrame({"colour": ["red"]}).to_parquet(path)
    else:
        path.write_bytes({"cut": path.read_bytes()[:-50], "empty": b"", "text": b"arm\n"}[damage])
    with pytest.raises(InputError, match=f"{name}.parquet: is no readable table"):
        gsvae_tune.load_study(archive)


def test_a_state_that_does_not_exist_is_one_message(archive):
    path = archive / "tables/trials.parquet"
    pd.read_parquet(path).assign(state="finished").to_parquet(path)
    with pytest.raises(InputError, match=r"trials.parquet: is no readable table"):
        gsvae_tune.load_study(archive)


def test_no_study(tmp_path, archive):
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(InputError, match="holds no study"):
            gsvae_tune.load_study(folder)
    (archive / "study.json").write_text("{")
    with pytest.raises(InputError, match="is no readable study file"):
        gsvae_tune.load_study(archive)


def test_a_study_of_which_nothing_has_ended(kept, tmp_path):
    (tmp_path / "begun").mkdir()
    shutil.copy(kept[1].study, tmp_path / "begun/study.json")
    study = gsvae_tune.load_study(tmp_path / "begun")
    assert [len(getattr(study, name)) for name in TABLES] == [0, 0, 0]
    assert [list(getattr(study, name)) for name in TABLES] == [
        [*t] for t in (TRIALS, REPLICATES, EPOCHS)
    ]
    assert study.verdict is None
    assert not study.archive
    assert study.searched("pair").empty
    assert {"tau_start", "learning_rate"} <= set(study.searched("pair"))


def test_while_it_runs_and_with_its_storage_named(kept):
    _, paths = kept
    with driver_lease(paths, pytest.fail):
        assert gsvae_tune.load_study(paths.root).running
    storage = open_storage(None, paths, must_exist=True)
    assert_same_tables(
        gsvae_tune.load_study(paths.root), gsvae_tune.load_study(paths.root, storage)
    )
    with pytest.raises(InputError, match="recorded in its own journal"):
        gsvae_tune.load_study(paths.root, "sqlite:///elsewhere.db")


def test_a_study_with_trials_and_no_journal_is_no_archive(kept, tmp_path):
    shutil.copytree(kept[1].root, tmp_path / "copy")
    (tmp_path / "copy/optuna.journal").unlink()
    with pytest.raises(InputError, match=r"optuna.journal: is missing"):
        gsvae_tune.load_study(tmp_path / "copy")
