"""Damage at random: the doctor says what it finds, and never makes anything worse."""

import io
import json
import random
import shutil
import time

import pandas as pd
import pytest

from gsvae_tune.doctor.examination import examine, treat
from gsvae_tune.doctor.findings import Severity
from gsvae_tune.search.adoption import read_entries, read_journal
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import TrialResult, read_json_lines
from gsvae_tune.study.studyfile import read_config, read_study
from gsvae_tune.vae.checkpoint import examine as examine_checkpoint
from tests.doctor.conftest import one_thread  # noqa: F401 - a fixture
from tests.doctor.making import everything, quiet, simulate_study, train_study

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    trained = train_study(tmp_path_factory.mktemp("trained"))
    simulated = simulate_study(tmp_path_factory.mktemp("simulated"))
    return [trained[1].root, simulated[1].root]


def damage(root, draw):
    """Do one thing to a file at random; return the files it touched."""
    files = [p for p in sorted(root.rglob("*")) if p.is_file() and not p.name.startswith("driver")]
    path = draw.choice(files)
    kind = draw.choice(["flip", "flip", "truncate", "delete", "swap", "append", "folder"])
    content = bytearray(path.read_bytes())
    if kind == "flip" and content:
        for _ in range(draw.choice([1, 1, 3])):
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
    elif kind == "truncate" and content:
        path.write_bytes(content[: draw.randrange(len(content))])
    elif kind == "append":
        path.write_bytes(content + draw.randbytes(draw.randrange(1, 40)))
    elif kind == "swap":
        alike = [p for p in files if p.name == path.name]
        other = draw.choice(alike)
        first, second = path.read_bytes(), other.read_bytes()
        path.write_bytes(second)
        other.write_bytes(first)
        return {path, other}
    elif kind == "folder" and path.parent != root:
        gone = {p for p in path.parent.rglob("*") if p.is_file()}
        shutil.rmtree(path.parent)
        return gone
    else:
        path.unlink()
    return {path}


def readable(path):
    """Whether a file gives whoever reads it something."""
    content = path.read_bytes()
    if path.suffix == ".json":
        try:
            json.loads(content)
        except ValueError:
            return False
    if path.suffix == ".pt":
        return examine_checkpoint(path) is None
    if path.suffix == ".parquet":
        try:
            pd.read_parquet(io.BytesIO(content))
        except Exception:  # noqa: BLE001 - whatever the damage makes of it
            return False
    return True


def ledger(root):
    """What the ledger can still be read to hold of ended trials."""
    paths = StudyPaths(root)
    try:
        config, own = read_config(paths), read_study(paths)["id"]
        journal = read_journal(paths.journal)
        if journal.bad_line is not None:
            return {}
        entries = read_entries(config, journal.storage, own)
    except Exception:  # noqa: BLE001 - not readable at all
        return {}
    return {key: row for key, row in entries.items() if row.state.value != "running"}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("block", range(10))
def test_random_damage_is_never_made_worse(studies, tmp_path, block):
    for seed in range(10 * block, 10 * block + 10):
        draw = random.Random(seed)
        root = tmp_path / f"study-{seed}"
        shutil.copytree(studies[seed % 3 == 2], root)
        touched = set()
        for _ in range(draw.choice([1, 1, 2, 3])):
            touched |= damage(root, draw)
        check(root, touched, seed)
        shutil.rmtree(root)


def check(root, touched, seed):
    paths = StudyPaths(root)
    whole = {folder for folder in paths.trials.glob("*/*") if not _is_touched(folder, touched)}
    results = {folder: (folder / "result.json").read_bytes() for folder in whole}
    asleep = everything(root)
    examine(paths, None, quiet)
    assert everything(root) == asleep, seed
    before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file() and readable(p)}
    known = ledger(root)
    lines = {p: len(list(read_json_lines(p))) for p in root.rglob("epochs.jsonl")}
    report = treat(paths, None, quiet, quiet)
    assert "trial-strange" not in {one.code for one in report.findings}, seed
    for folder, content in results.items():  # of trials that nothing happened to
        assert (folder / "result.json").read_bytes() == content, (seed, folder)
    kept = {p.read_bytes() for p in root.rglob("*") if p.is_file()}
    for path, content in before.items():
        assert path.is_file() or ".damaged" in str(list(path.parent.iterdir())) or not content, (
            seed, path,
        )  # fmt: skip
        if path.suffix == ".parquet" or (
            path.suffix == ".json" and not path.name.startswith(("driver", "verdict"))
        ):
            fixed = path.name == "study.json" and "study-digest" in {
                one.code for one in report.findings if one.done
            }
            assert content in kept or fixed, (seed, path)
        if path.is_file():
            assert readable(path), (seed, path)
    for path, count in lines.items():
        strange = any(one.code == "epochs-damaged" for one in report.findings)
        assert len(list(read_json_lines(path))) >= count or strange, (seed, path)
    after = ledger(root)
    rewritten = any(one.code == "ledger-differs" and one.done for one in report.findings)
    for key, row in known.items():
        assert key in after, (seed, key)
        assert after[key] == row or rewritten, (seed, key)
    assert all(TrialResult.read(folder / "result.json") is not None for folder in whole), seed
    # A second time there is nothing more to do.
    again = treat(paths, None, quiet, quiet)
    assert not any(one.done for one in again.findings), seed
    left = {(one.code, one.subject) for one in report.left}
    assert {(one.code, one.subject) for one in again.left} == left, seed
    assert all(one.fix for one in report.findings if one.severity is not Severity.NOTE), seed


def _is_touched(folder, touched):
    return any(folder in path.parents for path in touched)


@pytest.mark.timeout(600)
def test_two_thousand_trials_take_seconds(tmp_path):
    _, paths = simulate_study(tmp_path, **{"search.trials": 1000, "search.sampler": "random"})
    began = time.monotonic()
    assert examine(paths, None, quiet).left == []
    assert time.monotonic() - began < 30  # a few seconds where nothing else runs
