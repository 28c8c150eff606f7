"""Tables in other formats read back as they were; texts of any kind pass."""

import csv
import io
import json

import numpy as np
import pandas as pd
import pytest

from gsvae_tune.report.tables import FORMATS, TRIALS, _frame, write
from gsvae_tune.study.paths import StudyPaths
from tests.report.made import made_study

NASTY = 'line one\r\nline "two", with a comma\nüñï ☃ 𝛕 \t end\r'


def tables():
    rows = [
        {"arm": "pair", "phase": "search", "number": 0, "state": "complete", "value": 0.1 + 0.2,
         "epochs": 3, "steps": 10**12 + 1, "error": NASTY, "param_tau_start": 1e-17,
         "param_coupling": "tournament", "param_collapse_guard": True},
        {"arm": "fixed-factor", "phase": "search", "number": 1, "state": "failed", "value": None,
         "epochs": None, "steps": None, "error": None, "param_tau_start": float("inf")},
    ]  # fmt: skip
    return {"trials": _frame(rows, TRIALS)}


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)


def test_every_format_is_written_and_named(tmp_path):
    paths = StudyPaths(tmp_path)
    written = write(tables(), paths, FORMATS)
    assert [(name, path.name) for name, path in written] == [
        ("trials", f"trials.{kind}") for kind in ("parquet", "csv", "json")
    ]
    assert sorted(path.name for path in paths.tables.iterdir()) == sorted(
        path.name for _, path in written
    )  # no temporary file is left


def test_parquet_keeps_all(tmp_path):
    built = tables()
    ((_, path),) = write(built, StudyPaths(tmp_path))
    pd.testing.assert_frame_equal(pd.read_parquet(path), built["trials"], check_exact=True)


def test_csv_reads_back(tmp_path):
    built = tables()["trials"]
    ((_, path),) = write({"trials": built}, StudyPaths(tmp_path), ["csv"])
    with path.open(newline="", encoding="utf-8") as file:
        again = pd.read_csv(file, dtype=TRIALS)
    always = list(TRIALS)
    pd.testing.assert_frame_equal(again[always], built[always])
    with path.open(newline="", encoding="utf-8") as file:
        first = next(csv.DictReader(file))
    assert float(first["value"]) == 0.1 + 0.2  # every digit is there
    assert again.error[0] == NASTY
    assert again.param_tau_start.tolist() == [1e-17, float("inf")]
    assert again.param_coupling.tolist()[0] == "tournament"
    assert pd.isna(again.param_coupling[1])


def test_json_has_records_with_null(tmp_path):
    built = tables()["trials"]
    ((_, path),) = write({"trials": built}, StudyPaths(tmp_path), ["json"])
    first, second = read_json(path)
    assert list(first) == list(built)
    assert (first["value"], first["steps"], first["error"]) == (0.1 + 0.2, 10**12 + 1, NASTY)
    assert isinstance(first["epochs"], int)
    assert first["param_collapse_guard"] is True
    missing = {
        "value",
        "epochs",
        "error",
        "param_coupling",
        "param_collapse_guard",
        "param_tau_start",
    }
    assert all(second[name] is None for name in missing)


def test_a_whole_study_reads_back_from_json(tmp_path):
    study = made_study(trials=4, epochs=3, failed=1)
    own = {name: getattr(study, name) for name in ("trials", "replicates", "epochs")}
    for name, path in write(own, StudyPaths(tmp_path), ["json"]):
        again = pd.DataFrame(read_json(path), columns=list(own[name]))
        pd.testing.assert_frame_equal(
            again.astype(own[name].dtypes.to_dict()), own[name], check_exact=True
        )


@pytest.mark.parametrize("kind", FORMATS)
def test_empty_tables_and_half_characters(tmp_path, kind):
    write({"trials": tables()["trials"].iloc[:0]}, StudyPaths(tmp_path), [kind])
    path = StudyPaths(tmp_path).table("trials", kind)
    if kind == "json":
        assert read_json(path) == []
    elif kind == "csv":
        assert list(pd.read_csv(path)) == list(tables()["trials"])
    if kind != "parquet":  # an error may quote a file name that is no Unicode
        frame = pd.DataFrame({"error": pd.Series(["a\udc80b"], dtype=object)})
        out = io.BytesIO()
        FORMATS[kind](frame, out)
        assert b"a?b" in out.getvalue()


def test_many_rows_are_one_list(tmp_path, monkeypatch):
    from gsvae_tune.report import tables as module

    monkeypatch.setattr(module, "_AT_ONCE", 3)
    frame = pd.DataFrame({"number": np.arange(10)})
    ((_, path),) = write({"trials": frame}, StudyPaths(tmp_path), ["json"])
    assert [row["number"] for row in read_json(path)] == list(range(10))


def test_the_verb(tmp_path):
    from typer.testing import CliRunner

    from gsvae_tune.cli.__main__ import app

    call = lambda *words: CliRunner().invoke(app, [*map(str, words)])  # noqa: E731
    done = call("run", "smoke", "--simulate", "valley", "--trials", "2", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    folder = tmp_path / "smoke-simulated"
    before = (folder / "tables/trials.parquet").read_bytes()
    done = call("export", folder, "--format", "csv,json", "--format", "csv")
    assert done.exit_code == 0, done.output
    assert done.output.count("trials.csv: ") == done.output.count("trials.json: ") == 1
    assert (folder / "tables/trials.parquet").read_bytes() == before
    assert len(read_json(folder / "tables/trials.json")) == len(
        pd.read_csv(folder / "tables/trials.csv")
    )
    assert call("export", folder).output.count(".parquet: ") == 3
    wrong = call("export", folder, "--format", "xlsx")
    assert str(wrong.exception) == "--format: 'xlsx' is none\n  legal: parquet, csv, json"
