"""Random numbers in bulk, each replicate's from a seed of its own.

A stream is named, never carried on: (replicate's seed, purpose, epoch, ...) spell the seed of each
block of numbers. So a checkpoint holds no generator, and a replicate draws the same numbers
whether it is trained alone or stacked with others.

The same name gives other numbers on a GPU than on a CPU (each draws with its own generator), so
trials that are to be compared seed by seed train on the same kind of device.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gsvae_tune.study.seeds import derive


def fill_exponential(out: Tensor, seed: int) -> None:
    """Fill a contiguous float32 tensor with standard exponential numbers."""
    if out.device.type == "cpu":  # NumPy's ziggurat takes a fifth of the time of PyTorch's log
        generator = np.random.Generator(np.random.SFC64(seed))
        generator.standard_exponential(dtype=np.float32, out=out.numpy())
    else:
        out.exponential_(generator=torch.Generator(out.device).manual_seed(seed))


def fill_uniform(out: Tensor, seed: int) -> None:
    """Fill a contiguous float32 tensor with numbers uniform in [0, 1)."""
    if out.device.type == "cpu":
        np.random.Generator(np.random.SFC64(seed)).random(dtype=np.float32, out=out.numpy())
    else:
        out.uniform_(generator=torch.Generator(out.device).manual_seed(seed))


def exponential(
    shape: Sequence[int], seeds: Sequence[int], *names: str | int, device: torch.device | str
) -> Tensor:
    """Return standard exponential numbers (replicates, *shape), replicate r's from seeds[r].

    The smallest normal number stands for a draw of exactly 0, which has no logarithm.
    """
    out = torch.empty(len(seeds), *shape, device=device)
    for own, seed in zip(out, seeds, strict=True):
        fill_exponential(own, derive(seed, *names))
    return out.clamp_(min=torch.finfo(out.dtype).tiny)


def gumbel(
    shape: Sequence[int], seeds: Sequence[int], *names: str | int, device: torch.device | str
) -> Tensor:
    """Return standard Gumbel noise (replicates, *shape), replicate r's from seeds[r] and names.

    -log(E) with E standard exponential: one logarithm where -log(-log u) takes two.
    """
    return exponential(shape, seeds, *names, device=device).log_().neg_()


def uniform(
    shape: Sequence[int], seeds: Sequence[int], *names: str | int, device: torch.device | str
) -> Tensor:
    """Return numbers uniform in [0, 1), (replicates, *shape), as `gumbel` draws its own."""
    out = torch.empty(len(seeds), *shape, device=device)
    for own, seed in zip(out, seeds, strict=True):
        fill_uniform(own, derive(seed, *names))
    return out
