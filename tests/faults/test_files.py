"""Files that are cut, flipped or somebody else's: the study goes on from the last good state."""

import dataclasses
import json
import random
import shutil

import pytest

from gsvae_tune.execution.trial import run_trial
from gsvae_tune.search import studies
from gsvae_tune.search.ledger import Ledger
from gsvae_tune.search.storage import mend_journal, open_storage
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import read_json_lines
from gsvae_tune.vae import checkpoint
from gsvae_tune.vae.data import load_splits
from tests.execution.test_simulation import run, study, told

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]


class Stop(BaseException):
    """A kill."""


@pytest.mark.parametrize("last", ["a trial that ended", "a trial that was handed out"])
def test_a_journal_is_cut_at_every_byte_of_its_last_record(tmp_path, last):
    config = study()
    run(config, tmp_path / "whole")
    wanted = {arm: told(tmp_path / "whole", arm) for arm in config.arms}
    run(config, tmp_path / "cut", stop_after=9)
    paths = StudyPaths(tmp_path / "cut")
    if last == "a trial that was handed out":
        mend_journal(paths)
        assert Ledger(config, paths, open_storage(None, paths), "me").next() is not None
    content = paths.journal.read_bytes()
    begins = content.rindex(b"\n", 0, -1) + 1
    assert len(content) - begins > 50
    for length in range(begins, len(content) + 1):
        folder = tmp_path / "try"
        shutil.copytree(tmp_path / "cut", folder)
        (folder / "optuna.journal").write_bytes(content[:length])
        mend_journal(StudyPaths(folder))
        run(config, folder)
        assert {arm: told(folder, arm) for arm in config.arms} == wanted, f"cut at {length}"
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A real trial, killed in its third epoch; and how it ends when nothing happens to it."""
    folder = tmp_path_factory.mktemp("trial")
    config = studies.load(
        "smoke", {"training.epochs": (5, ""), "training.checkpoint_s": (1e-9, "")}
    )
    paths = StudyPaths(folder / "killed")
    paths.root.mkdir()
    assignment = Ledger(config, paths, open_storage(None, paths), "me").next()
    assigned = {key: getattr(assignment, key) for key in ("arm", "phase", "number", "params")}
    splits = load_splits(config.data, config.seed)

    def go(root, report=lambda _: None):
        trial = StudyPaths(root).trial(assignment.arm, assignment.number)
        result = run_trial(
            assigned, study=config, splits=splits, paths=trial, gpu_fraction=0.0, every_epoch=True,
            report=report, pause=pytest.fail, term=1,
        )  # fmt: skip
        epochs = [record | {"wall_s": 0} for record in read_json_lines(trial.epochs)]
        return dataclasses.replace(result, wall_s=0.0, ended_s=None, note=None), epochs, result.note

    def die(report):
        if report["epoch"] == 3:
            raise Stop

    with pytest.raises(Stop):
        go(folder / "killed", die)
    shutil.copytree(folder / "killed", folder / "whole")
    result, epochs, note = go(folder / "whole")
    assert note is None
    return folder, assignment, go, (result, epochs)


@pytest.fixture
def trial(interrupted, tmp_path):
    """A copy of the interrupted trial, to be damaged, and the same end to be reached."""
    folder, assignment, go, wanted = interrupted
    root = tmp_path / "study"

    def damaged(damage):
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(folder / "killed", root)
        damage(StudyPaths(root).trial(assignment.arm, assignment.number))
        result, epochs, note = go(root)
        assert (result, epochs) == wanted
        return note

    return damaged


def test_a_checkpoint_is_flipped_at_100_random_bytes(trial):
    """The trial goes on from the one before, and says so."""
    chance = random.Random(0)
    quiet = 0

    def flip(paths):
        content = bytearray(paths.checkpoint.read_bytes())
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        paths.checkpoint.write_bytes(content)

    for _ in range(100):
        note = trial(flip)
        quiet += note is None  # the two bytes that nobody reads
        assert note is None or "checkpoint.pt is" in note
        assert note is None or "went on from epoch 2" in note or "went on from epoch 3" in note
    assert quiet <= 2


def test_a_checkpoint_is_cut(trial):
    chance = random.Random(1)
    for _ in range(20):
        note = trial(lambda paths: _cut(paths.checkpoint, chance.random()))
        assert "checkpoint.pt is" in note


def _cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def test_both_checkpoints_are_damaged(trial):
    def damage(paths):
        for path in (paths.checkpoint, paths.previous):
            _cut(path, 0.5)

    assert "went on from epoch 0" in trial(damage)


@pytest.mark.parametrize("key", ["number", "arm", "settings"])
def test_a_checkpoint_of_another_trial_is_not_gone_on_from(trial, key):
    def swap(paths):
        for path in (paths.checkpoint, paths.previous):
            state = checkpoint.load(path)
            other = json.loads(state["trial"]) | {key: "another"}
            checkpoint.save(path, state | {"trial": json.dumps(other, sort_keys=True)})

    assert "is of another trial; " in trial(swap)


def test_a_checkpoint_of_other_seeds_is_not_gone_on_from(trial):
    def swap(paths):
        for path in (paths.checkpoint, paths.previous):
            state = checkpoint.load(path)
            state["pairing"]["init"] = ["0" * 16 for _ in state["pairing"]["init"]]
            checkpoint.save(path, state)

    assert "began with other weights" in trial(swap)


def test_only_the_one_before_is_there(trial):
    """Killed between the two renames of a save."""
    assert trial(lambda paths: paths.checkpoint.unlink()) is None


def test_records_are_torn_or_lost(trial):
    def tear(paths):
        with paths.epochs.open("ab") as file:
            file.write(b'{"epoch": 4, "ta')

    assert trial(tear) is None
    assert "lacks epochs" in trial(lambda paths: paths.epochs.unlink())
