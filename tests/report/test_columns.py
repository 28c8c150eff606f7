"""Every column is explained, and nothing else is."""

import json

import pandas as pd
import pytest

from gsvae_tune.report.columns import NATS, TABLES, Column, settings
from gsvae_tune.report.tables import EPOCHS, REPLICATES, TRIALS
from gsvae_tune.search.arms import ARMS
from tests.report.made import made_study


def test_the_tables_have_the_columns_that_are_explained():
    study = made_study(trials=6, epochs=2, failed=1)
    known = settings()
    for name, explained in TABLES.items():
        frame = getattr(study, name)
        always = [column for column in frame if not column.startswith("param_")]
        assert always == list(explained)
        for column in always:
            assert str(frame[column].dtype) == explained[column].dtype
        assert set(frame) - set(always) <= set(known)
    assert len([column for column in study.trials if column in known]) > 3


def test_every_setting_of_every_searched_arm_is_explained():
    searched = {name for arm in ARMS.values() if arm.searched for name in arm.model_fields}
    assert set(settings()) == {f"param_{name}" for name in searched}
    assert "param_tau_paths" not in settings()


@pytest.mark.parametrize("column", [c for own in TABLES.values() for c in own.values()] + [*settings().values()])  # fmt: skip
def test_an_explanation_is_one(column):
    assert isinstance(column, Column)
    assert len(column.meaning) > 6
    assert not column.meaning.endswith(".")
    pd.Series([], dtype=column.dtype)
    assert "None" not in column.meaning


def test_units_agree_with_names():
    for own in TABLES.values():
        for name, column in own.items():
            assert (column.unit == NATS) == (
                name.endswith("_nats") or "loss" in name or name == "value"
            )
            assert (column.unit == "s") == name.endswith("_s")
    assert settings()["param_period"] == Column(
        "int64", "epochs",
        "pair, single: epochs between decisions; random-walk: epochs between moves",
    )  # fmt: skip
    assert settings()["param_margin"].unit == NATS


def test_types_are_those_that_the_tables_have_had():
    """They are a contract with whoever reads the files."""
    assert (len(TRIALS), len(REPLICATES), len(EPOCHS)) == (15, 26, 18)
    assert list(TRIALS)[:6] == ["arm", "phase", "number", "stratum", "state", "value"]
    assert TRIALS["epochs"] == REPLICATES["iwae_samples"] == EPOCHS["active_units"] == "Int64"


def test_the_verb(monkeypatch):
    from typer.testing import CliRunner

    from gsvae_tune.cli.__main__ import app

    monkeypatch.setenv("COLUMNS", "160")
    found = json.loads(CliRunner().invoke(app, ["columns", "--json"]).output)
    assert list(found) == list(TABLES)
    assert set(found["trials"]) == set(TRIALS) | set(settings())
    assert found["epochs"]["tau"]["dtype"] == "float64"
    alone = json.loads(CliRunner().invoke(app, ["columns", "replicates", "--json"]).output)
    assert alone == {"replicates": found["replicates"]}
    text = CliRunner().invoke(app, ["columns"]).output
    for own in found.values():
        assert all(name in text for name in own)
    wrong = CliRunner().invoke(app, ["columns", "trial"])
    assert "no table 'trial'" in str(wrong.exception)
