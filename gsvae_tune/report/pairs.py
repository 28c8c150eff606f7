"""Two finalists, replicate by replicate: are they paired, how do they differ, by how much luck?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gsvae_tune.report import inference
from gsvae_tune.search.confirm import original
from gsvae_tune.search.space import ArmSpace
from gsvae_tune.study.config import StudyConfig
from gsvae_tune.study.seeds import derive

METRICS = {"neg_elbo": "test_neg_elbo_nats", "iwae": "test_iwae_nats"}
Scores = NDArray[np.float64] | None  # of an arm's search; None: nothing was searched
_HASHES = ["init_hash", "order_hash", "noise_hash"]


def scores_of(config: StudyConfig, arm: str, trials: pd.DataFrame) -> Scores:
    """Return the losses of an arm's search, None where there was nothing to search."""
    source = original(config, arm)
    if not ArmSpace(source, config.arms[source], "study").searched:
        return None
    scores = trials[(trials.arm == source) & (trials.phase == "search")].value
    return scores.dropna().to_numpy()


def leads_of(one: Scores, other: Scores, level: float) -> tuple[float, float]:
    """Return how far ahead each of two searches' bests must be, nats; nan: no lead would do.

    Where one was not searched, the other is held against a repetition of itself, and is as likely
    to have been unlucky.
    """
    if one is None and other is None:
        return 0.0, 0.0
    ours, theirs = (other if one is None else one), (one if other is None else other)
    assert ours is not None and theirs is not None  # noqa: S101, PT018 - one of them was searched
    return (
        inference.search_lead(ours, len(theirs), level),
        inference.search_lead(theirs, len(ours), level),
    )


def luck_of(*scores: Scores) -> float:
    """Return how far repeated searches would move two arms apart, as a standard deviation."""
    return math.hypot(*(inference.search_luck(one) for one in scores if one is not None))


def confirmed_rows(replicates: pd.DataFrame, arm: str, number: int) -> pd.DataFrame:
    which = (replicates.arm == arm) & (replicates.phase == "confirm")
    found = replicates[which & (replicates.number == number)]
    return found.sort_values("replicate")


def sound(replicates: pd.DataFrame) -> pd.Series[bool]:
    """Whether each replicate counts: not where it diverged or collapsed, nor where that is unknown.

    A replicate that has collapsed has a finite loss all the same.
    """
    lost = replicates.diverged.astype("boolean") | replicates.collapsed.astype("boolean")
    return ~lost.fillna(value=True).astype(bool)


@dataclass(frozen=True)
class Pairs:
    """Two finalists, replicate by replicate."""

    differences: NDArray[np.float64]
    lost: bool  # all replicates of both failed
    paired: bool
    leads: tuple[float, float]  # that luck in searching may give either, nats; nan: any
    luck: float  # standard deviation of what repeated searches may move, nats
    p: float | None
    interval: tuple[float, float]

    @classmethod
    def of(
        cls,
        config: StudyConfig,
        names: tuple[str, str],
        numbers: Sequence[int | None],
        trials: pd.DataFrame,
        replicates: pd.DataFrame,
        level: float,
    ) -> Pairs:
        """Pair up two arms' finalists on the test split.

        Args:
            config: the study.
            names: arm and baseline.
            numbers: of their finalists, None where an arm has none.
            trials: the table of trials.
            replicates: the table of replicates.
            level: of error in one direction, for what luck in searching may give.
        """
        found = [
            confirmed_rows(replicates, name, number).set_index("replicate")
            for name, number in zip(names, numbers, strict=True)
            if number is not None
        ]
        if len(found) < 2:
            unknown = (math.nan, math.nan)
            return cls(
                np.empty(0), False, paired=False, leads=unknown, luck=math.nan, p=None,
                interval=unknown,
            )  # fmt: skip
        wanted = range(config.protocol.replicates)
        ours, theirs = (frame.reindex(wanted) for frame in found)
        failed = ~sound(ours).to_numpy(), ~sound(theirs).to_numpy()
        metric = METRICS[config.protocol.metric]
        values, base = inference.paired_losses(
            ours[metric].to_numpy(float),
            theirs[metric].to_numpy(float),
            *failed,
            config.protocol.smallest_effect_nats,
        )
        differences = values - base
        seed = derive(config.seed, "bootstrap", *names) % 2**32
        paired = _is_paired(ours, theirs)
        scores = [scores_of(config, name, trials) for name in names]
        same_search = original(config, names[0]) == original(config, names[1])
        return cls(
            differences,
            lost=bool(np.logical_and(*failed).all()),
            paired=paired,
            # One configuration under two arms (a yoked one): no search lies between them.
            leads=(0.0, 0.0) if same_search else leads_of(scores[0], scores[1], level),
            luck=0.0 if same_search else luck_of(scores[0], scores[1]),
            p=inference.sign_flip_p(differences, seed) if paired else None,
            interval=inference.bca_interval(differences, seed=seed),
        )


def _is_paired(ours: pd.DataFrame, theirs: pd.DataFrame) -> bool:
    """Whether each pair shared seed, initial weights, batch order and noise.

    A replicate that ended early saw fewer epochs: its weights alone can be compared.
    """
    for (_, one), (_, other) in zip(ours.iterrows(), theirs.iterrows(), strict=True):
        if one.isna()["seed"] or other.isna()["seed"]:
            continue  # its whole trial failed: a loss, paired or not
        early = bool(one.diverged or other.diverged)
        for key in ["seed", "init_hash"] if early else ["seed", *_HASHES]:
            if pd.isna(one[key]) or one[key] != other[key]:
                return False
    return True
