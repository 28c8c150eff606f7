"""Small studies to damage, made without Ray."""

import hashlib

import pandas as pd
from rich.console import Console

from gsvae_tune.execution.runner import run_study
from gsvae_tune.execution.testing import _measure
from gsvae_tune.execution.trial import run_trial
from gsvae_tune.report import summary
from gsvae_tune.search import studies
from gsvae_tune.search.confirm import choose, count_searched
from gsvae_tune.search.ledger import Ledger
from gsvae_tune.search.storage import open_storage, read_trials
from gsvae_tune.study.openings import open_for
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import TestResult, TrialResult
from gsvae_tune.study.studyfile import read_study, write_study
from gsvae_tune.vae.data import load_splits, load_test_split

OWN_ID = "0123456789abcdef"
TABLES = ("trials", "replicates", "epochs")


def _load(folder, **more):
    given = {
        "out": str(folder), "protocol.until": "verdict", "search.trials": 3,
        "arms.yoked": {"of": "pair"}, **more,
    }  # fmt: skip
    return studies.load("smoke", {key: (value, "--test") for key, value in given.items()})


def simulate_study(folder, **more):
    """Run a simulated study to its verdict; return its configuration and paths."""
    config = _load(folder, **{"simulate.table": "valley", **more})
    done = run_study(config, Console(quiet=True))
    finish(config, done.paths)
    return config, done.paths


def train_study(folder, **more):
    """Train a study to its verdict in this process; return its configuration and paths."""
    config = _load(folder, **{"training.epochs": 3, "protocol.replicates": 3, **more})
    paths = StudyPaths.of(config.out, config.name)
    paths.root.mkdir(parents=True)
    splits = load_splits(config.data, config.seed)
    write_study(paths, config, splits, OWN_ID)
    go_on(config, paths)
    measure(config, paths)
    finish(config, paths)
    return config, paths


def go_on(config, paths, report=lambda _: None):
    """Train what the ledger hands out; return how many trials that was."""
    splits = load_splits(config.data, config.seed)
    ledger = Ledger(config, paths, open_storage(None, paths), OWN_ID)
    count = 0
    while (assigned := ledger.next()) is not None:
        result = run_trial(
            {key: getattr(assigned, key) for key in ("arm", "phase", "number", "params")},
            study=config, splits=splits, gpu_fraction=0.0, every_epoch=True, report=report,
            paths=paths.trial(assigned.arm, assigned.number, assigned.phase),
            pause=lambda _: None, term=1,
        )  # fmt: skip
        ledger.finish(assigned, result)
        count += 1
    return count


def measure(config, paths):
    """Measure what was chosen and not yet measured on the test split."""
    rows = list(read_trials(config, paths, open_storage(None, paths), OWN_ID))
    waiting = [
        (arm, number)
        for arm, numbers in choose(config, rows).items()
        for number in numbers
        if TestResult.read(paths.trial(arm, number, "confirm").test) is None
    ]
    images = load_test_split(config.data, config.seed)
    for which, opening in open_for(paths, waiting, None, count_searched(rows)).items():
        folder = paths.trial(*which, "confirm")
        found = [
            _measure(config, folder, images, row, 0.0)
            for row in TrialResult.read(folder.result).replicates
        ]
        TestResult(opening.time, opening.mark, found).write(folder.test)


def finish(config, paths):
    """Write tables and verdict, as a run does at its end."""
    assert summary.judge(config, paths, None, summary.export(config, paths, None)) is not None


def tables_of(paths):
    """The tables but for when a trial ended, which a result that is lost takes with it."""
    tables = {name: pd.read_parquet(paths.table(name)) for name in TABLES}
    return {name: table.drop(columns="ended_s", errors="ignore") for name, table in tables.items()}


def hashes(root):
    """Every file of a study but what says who held it last."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in {"driver.json", "driver.lock"}
    }


def everything(root):
    """Every name and byte under a folder, and when it was written."""
    return {
        str(path.relative_to(root)): (
            path.lstat().st_mtime_ns,
            path.is_file() and path.read_bytes(),
        )
        for path in sorted(root.rglob("*"))
    }


def quiet(*_):
    """Be told how far it is, and say nothing."""


def remaining(config, paths):
    """How many trials a run would hand out."""
    return Ledger(config, paths, open_storage(None, paths), owner(paths)).remaining


def owner(paths):
    return read_study(paths)["id"]
