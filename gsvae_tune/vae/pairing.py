"""Hashes of what a replicate shares with the same replicate of every other trial.

Trials are compared seed by seed, which is fair only where initial weights, the order of images and
the noise really are the same. Each is hashed from the tensors that were trained with, so that
equal hashes are evidence and not a repetition of the seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from gsvae_tune.vae.network import BRANCHES, StackedVAE

_DIGITS = 16


@dataclass
class Pairing:
    """Hashes of all replicates, hexadecimal; those of order and noise are chained over epochs."""

    init: list[str]
    order: list[str]
    noise: list[str]

    @classmethod
    def of(cls, model: StackedVAE) -> Pairing:
        """Start from a model's initial weights, both members of a replicate in one hash."""
        replicates = range(model.members // BRANCHES)
        parameters = list(model.parameters())
        init = [
            _hash("", (p[BRANCHES * r : BRANCHES * (r + 1)] for p in parameters))
            for r in replicates
        ]
        return cls(init, ["" for _ in replicates], ["" for _ in replicates])

    def add_epoch(self, order: Tensor, noise: Tensor) -> None:
        """Take in an epoch: its order of images and the noise of its first step.

        Args:
            order: (replicates, images).
            noise: (replicates, ...).
        """
        self.order = _chained(self.order, order)
        self.noise = _chained(self.noise, noise)

    def state_dict(self) -> dict[str, list[str]]:
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from saved hashes.

        Raises:
            ValueError: they began with other weights: other seeds, or another model.
        """
        if list(state["init"]) != self.init:
            raise ValueError("checkpoint of a training that began with other weights")
        self.init, self.order, self.noise = (
            list(state[name]) for name in ("init", "order", "noise")
        )


def _chained(before: list[str], tensor: Tensor) -> list[str]:
    return [_hash(old, [own]) for old, own in zip(before, tensor.cpu(), strict=True)]


def _hash(before: str, tensors: Iterable[Tensor]) -> str:
    digest = hashlib.sha256(before.encode())
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:_DIGITS]
