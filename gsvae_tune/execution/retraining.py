"""Confirmed models that were lost or damaged on disk: trained again, to the same end.

A trial that has ended is never touched, but its model is what the test phase measures. Training
is a function of the seeds, so the same configuration gives the same model: it is trained in a
folder of its own, compared with the result that stands, and only then takes the lost one's place.
"""

from __future__ import annotations

import math
import shutil

from gsvae_tune.study.config import StudyConfig
from gsvae_tune.study.paths import TrialPaths
from gsvae_tune.study.records import TrialResult, read_json, read_json_lines, write_json
from gsvae_tune.vae.data import Splits

_SAME = 1e-3  # relative; on a CPU the two are equal, a GPU's sums may come in another order


def is_lost(folder: TrialPaths) -> bool:
    """Whether the model of a trial that ended, or a record of its epochs, is not there whole."""
    from gsvae_tune.execution.restoring import check_whose
    from gsvae_tune.vae import checkpoint

    if not _has_epochs(folder):
        return True
    try:
        state = checkpoint.load(folder.checkpoint)
        if state is not None:
            check_whose(state, read_json(folder.config), folder.checkpoint)
    except (ValueError, KeyError):
        return True
    return state is None


def _has_epochs(folder: TrialPaths) -> bool:
    result = TrialResult.read(folder.result)
    count = sum(1 for _ in read_json_lines(folder.epochs))
    return result is not None and count == result.epochs


def train_again(
    config: StudyConfig, splits: Splits, folder: TrialPaths, gpu_fraction: float, term: int
) -> None:
    """Train a confirmed configuration again, in a worker; interrupted, it goes on like any trial.

    Raises:
        ValueError: it ended otherwise than its result says.
    """
    from gsvae_tune.execution.trial import ASSIGNED, run_trial

    def pause(why: str) -> None:
        raise OSError(why)

    again = TrialPaths(folder.root / "again")
    if again.result.is_file() and not again.checkpoint.is_file():
        shutil.rmtree(again.root)  # of an earlier loss: it was put into place
    again.root.mkdir(exist_ok=True)
    settings = read_json(folder.config)
    write_json(again.config, settings)
    found = run_trial(
        {key: settings[key] for key in ASSIGNED},
        study=config,
        splits=splits,
        paths=again,
        gpu_fraction=gpu_fraction,
        every_epoch=False,
        report=lambda _: None,
        pause=pause,
        term=term,
    )
    stands = TrialResult.read(folder.result)
    values = [result.value for result in (found, stands) if result is not None]
    if len(values) < 2 or None in values or not math.isclose(*values, rel_tol=_SAME):  # type: ignore[arg-type]
        raise ValueError(f"{folder.root}: trained again it gave {values[0]}, not {values[-1]}")
    if not _has_epochs(folder):  # whole ones stay: they also say how long it took
        again.epochs.replace(folder.epochs)
    again.checkpoint.replace(folder.checkpoint)
    shutil.rmtree(again.root)
