"""What is recorded of one epoch; a line of epochs.jsonl."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

Pairs = list[list[float]]  # (replicates, 2)


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of all replicates; every pair is (replicates, 2), losses in nats per example.

    `tau` is the temperature the epoch was trained at, a learned one that at its start; `event` is
    what the controller then did.
    """

    epoch: int  # from 1
    wall_s: float  # since the trial began, interruptions not counted
    steps: int  # optimizer steps so far
    tau: Pairs
    train_loss_relaxed: Pairs | None  # None for estimators whose forward pass is one-hot
    train_loss_discrete: Pairs | None  # None for estimators whose forward pass is relaxed
    control_loss_discrete: Pairs
    control_loss_relaxed: Pairs
    control_kl_nats: Pairs
    val_neg_elbo_nats: Pairs  # one-hot codes
    kl_nats: Pairs  # validation split
    active_units: list[list[int]]  # validation split
    event: list[str]  # per replicate

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> EpochRecord:
        """Read a record back; null in a pair was a number that was not finite."""
        pairs = {
            name: [[math.nan if v is None else v for v in pair] for pair in value]
            for name, value in raw.items()
            if isinstance(value, list) and name != "event"
        }
        return cls(**{**raw, **pairs})
