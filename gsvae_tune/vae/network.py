"""Many VAEs as one model: every parameter carries a leading dimension of members.

Member 2 r + b is branch b of replicate r. One batched matrix product per layer serves all of
them; members share nothing but the call.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gsvae_tune.study.config import ModelConfig
from gsvae_tune.study.seeds import derive

BRANCHES = 2


class StackedLinear(nn.Module):
    """One affine layer for all members: (members, batch, in) -> (members, batch, out)."""

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, inputs, self.weight)

    def draw(self, member: int, generator: torch.Generator) -> None:
        """Draw one member's weights as torch.nn.Linear does: uniform within 1/sqrt(inputs)."""
        bound = 1.0 / math.sqrt(self.weight.shape[1])
        with torch.no_grad():
            for parameter in (self.weight, self.bias):
                parameter[member].uniform_(-bound, bound, generator=generator)


def _perceptron(members: int, widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [StackedLinear(members, inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])  # logits leave without a ReLU


class StackedVAE(nn.Module):
    """The VAEs of all replicates, two a replicate.

    Args:
        config: the architecture of every member.
        pixels: image size.
        seeds: one a replicate; both members of a replicate start from the same weights, which
            depend on that seed alone.
    """

    def __init__(self, config: ModelConfig, pixels: int, seeds: Sequence[int]) -> None:
        super().__init__()
        self.members = BRANCHES * len(seeds)
        self.latents, self.categories = config.latents, config.categories
        code = config.latents * config.categories
        self.encoder = _perceptron(self.members, (pixels, *config.hidden, code))
        self.decoder = _perceptron(self.members, (code, *reversed(config.hidden), pixels))
        layers = [layer for layer in self.modules() if isinstance(layer, StackedLinear)]
        for member in range(self.members):
            generator = torch.Generator().manual_seed(derive(seeds[member // BRANCHES], "init"))
            for layer in layers:
                layer.draw(member, generator)

    def encode(self, images: Tensor) -> Tensor:
        """Return logits of q(z|x): (members, B, D) -> (members, B, L, K)."""
        flat: Tensor = self.encoder(images)
        return flat.view(*flat.shape[:-1], self.latents, self.categories)

    def decode(self, codes: Tensor) -> Tensor:
        """Return pixel logits of p(x|z): (members, B, L, K) -> (members, B, D)."""
        pixels: Tensor = self.decoder(codes.flatten(-2))
        return pixels


def to_members(per_replicate: Tensor) -> Tensor:
    """Give both members of a replicate the same: (replicates, ...) -> (members, ...)."""
    return per_replicate.repeat_interleave(BRANCHES, dim=0)


def copy_members(
    model: nn.Module, optimizer: torch.optim.Optimizer, copy_from: Sequence[int]
) -> None:
    """Copy a member's weights and optimizer moments into the other of its replicate.

    Args:
        copy_from: per replicate 0 or 1, the branch to copy from, or -1 for none.
    """
    pairs = [
        (BRANCHES * replicate + branch, BRANCHES * replicate + 1 - branch)
        for replicate, branch in enumerate(copy_from)
        if branch >= 0
    ]
    with torch.no_grad():
        for parameter in model.parameters():
            moments = [
                value
                for value in optimizer.state[parameter].values()
                if value.shape == parameter.shape
            ]
            for tensor in (parameter, *moments):
                for source, target in pairs:
                    tensor[target].copy_(tensor[source])
