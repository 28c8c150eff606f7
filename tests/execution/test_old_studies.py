"""Studies that earlier versions wrote: later code reads them, and goes on with them."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from gsvae_tune.cli.__main__ import app, guarded
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import TrialResult
from gsvae_tune.study.studyfile import read_config, read_study
from gsvae_tune.vae import checkpoint

ASSETS = Path(__file__).parent.parent / "assets"
OLD = sorted(path for path in ASSETS.glob("format-*") if path.is_dir())


@pytest.fixture(params=OLD, ids=lambda path: path.name)
def old(request, tmp_path):
    """A copy of an old study, and the study itself."""
    shutil.copytree(request.param, tmp_path / request.param.name)
    return StudyPaths(tmp_path / request.param.name), StudyPaths(request.param)


def call(capsys, *args):
    code = guarded(lambda **how: app(args=list(map(str, args)), **how))
    return code, capsys.readouterr().out


def test_every_format_up_to_this_one_is_kept():
    versions = [read_study(StudyPaths(path))["format_version"] for path in OLD]
    assert [f"format-{version}" for version in versions] == [path.name for path in OLD]


def test_its_tables_come_out_as_they_were(old, capsys):
    paths, written = old
    shutil.rmtree(paths.tables)
    assert call(capsys, "export", paths.root)[0] == 0
    for name in ("trials", "replicates", "epochs"):
        before, now = (pd.read_parquet(where.table(name)) for where in (written, paths))
        assert len(now) > 0
        pd.testing.assert_frame_equal(now[before.columns], before, check_exact=True)


def test_its_state_plan_and_health_are_shown(old, capsys):
    paths, _ = old
    code, out = call(capsys, "status", paths.root, "--json")
    assert code == 0
    (seen,) = json.loads(out)
    assert seen["arms"]["pair"]["complete"] == 3
    assert call(capsys, "plan", paths.root)[0] == 0
    code, out = call(capsys, "doctor", paths.root, "--json")
    assert code == 0, out


def test_its_models_are_measured_again_to_the_same_losses(old, run):
    """Checkpoints, openings and test results are gone on from."""
    paths, written = old
    config = read_config(paths).model_copy(update={"out": str(paths.root.parent)})
    tests = sorted(paths.trials.glob("*/confirm-*/test.json"))
    for path in tests:
        path.unlink()
    done, _ = run(config)
    assert (done.trained, done.tested) == (0, len(tests))
    for path in tests:
        before = json.loads((written.root / path.relative_to(paths.root)).read_text())
        now = json.loads(path.read_text())
        assert now["opened"] == before["opened"]
        for old_row, row in zip(before["replicates"], now["replicates"], strict=True):
            assert row.pop("branch") == old_row.pop("branch")
            assert {key: row[key] for key in old_row} == pytest.approx(old_row, rel=1e-5)


def test_every_result_and_checkpoint_is_whole(old):
    paths, _ = old
    for folder in paths.trials.glob("*/*"):
        assert TrialResult.read(folder / "result.json") is not None
        assert checkpoint.examine(folder / "checkpoint.pt") is None
