"""Equal compute: what each arm was given, and whether two arms were given the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pandas as pd

from gsvae_tune.search.confirm import original
from gsvae_tune.study.config import StudyConfig
from gsvae_tune.study.records import TrialState
from gsvae_tune.tau.controller import BRANCHES

SLACK_S = 60.0  # device-seconds: starting up and a busy machine, in studies of minutes


@dataclass(frozen=True)
class Compute:
    """What an arm was given: its search (a yoked arm: its original's) and its confirmations.

    A replicate that diverged and a trial that failed are charged in full: what they did not use
    was theirs. One that a scheduler stopped is charged with what it trained.
    """

    configurations: int  # tried in the search
    confirmed: int
    steps: int  # optimizer steps, all members
    samples: int  # images seen, all members
    device_seconds: float  # during which a trial held its share of a device


def compute_of(
    config: StudyConfig, arm: str, trials: pd.DataFrame, chosen: Sequence[int]
) -> Compute:
    """Return what an arm was given.

    Args:
        config: the study.
        arm: its name.
        trials: the table of trials.
        chosen: the numbers of the trials it confirmed.
    """
    searched = trials[(trials.arm == original(config, arm)) & (trials.phase == "search")]
    searched = searched[searched.state != TrialState.RUNNING.value]
    confirmed = trials[(trials.arm == arm) & (trials.phase == "confirm")]
    confirmed = confirmed[confirmed.number.isin(list(chosen))]
    whole = int(trials.steps.max()) if trials.steps.notna().any() else 0
    steps = config.replicates * _charged(searched, whole)
    steps += config.protocol.replicates * _charged(confirmed, whole)
    steps *= len(BRANCHES)
    return Compute(
        configurations=len(searched),
        confirmed=len(confirmed),
        steps=steps,
        samples=steps * config.training.batch_size,
        device_seconds=float(searched.wall_s.sum() + confirmed.wall_s.sum()),
    )


def _charged(trials: pd.DataFrame, whole: int) -> int:
    """Return the steps of one member of each trial, summed."""
    pruned = trials[trials.state == TrialState.PRUNED.value]
    return int(pruned.steps.fillna(0).sum()) + whole * (len(trials) - len(pruned))


def unequal(one: Compute, other: Compute, tolerance: float) -> str:
    """Return what two arms were not given alike, in words; "" where they were.

    Args:
        one: an arm's.
        other: the other's.
        tolerance: how far device-seconds may differ, as a share of the smaller; `SLACK_S` may
            always lie between them.
    """
    pairs = {key: (value, asdict(other)[key]) for key, value in asdict(one).items()}
    seconds = sorted(pairs.pop("device_seconds"))
    found = [f"{key} {a:,} against {b:,}" for key, (a, b) in pairs.items() if a != b]
    if seconds[1] > (1.0 + tolerance) * seconds[0] and seconds[1] - seconds[0] > SLACK_S:
        found.append(f"device-seconds {seconds[1]:,.1f} against {seconds[0]:,.1f}")
    return ", ".join(found)
