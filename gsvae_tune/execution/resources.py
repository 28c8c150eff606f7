"""How many trials run at once, and what each gets."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gsvae_tune.study.config import ResourcesConfig
from gsvae_tune.study.errors import InputError

GPU_FRACTION = 0.25  # four trials a GPU: replicates are stacked inside each already


@dataclass(frozen=True)
class TrialResources:
    """What Ray reserves for one trial, and how many fit."""

    cpus: float
    gpus: float
    slots: int


def one_of(trials: int) -> float:
    """Return the fraction of a GPU that lets so many trials share it, to four digits."""
    return math.floor(1e4 / trials) / 1e4  # rounded up, one trial fewer would fit


def plan(wanted: ResourcesConfig, cpus: float, gpus: float) -> TrialResources:
    """Divide a machine or cluster among trials.

    Raises:
        InputError: one trial asks for more than there is.
    """
    share = wanted.gpus_per_trial
    if share is None:
        share = GPU_FRACTION if gpus else 0.0
    if share > 0 and not gpus:
        raise InputError(
            f"{share:g} of a GPU, but Ray sees no GPU",
            where="resources.gpus_per_trial (--gpus-per-trial)",
            legal="0 here",
            next_step="--gpus N declares logical GPUs where detection fails",
        )
    on_gpus = int(gpus) * math.floor(1.0 / share + 1e-9) if share > 0 else None
    each = wanted.cpus_per_trial
    if each is None:
        each = 1.0 if on_gpus is None else min(1.0, cpus / on_gpus)
    if each > cpus:
        raise InputError(
            f"{each:g} CPUs, but there are {cpus:g}",
            where="resources.cpus_per_trial (--cpus-per-trial)",
            legal=f"at most {cpus:g}",
        )
    on_cpus = math.floor(cpus / each + 1e-9)
    return TrialResources(each, share, on_cpus if on_gpus is None else min(on_cpus, on_gpus))
