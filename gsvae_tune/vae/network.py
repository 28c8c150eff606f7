"""Many VAEs as one model: every parameter carries a leading dimension of members.

Member 2 r + b is branch b of replicate r. One batched matrix product per layer serves all of
them; members share nothing but the call.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from gsvae_tune.study.config import ModelConfig, Precision
from gsvae_tune.study.seeds import derive
from gsvae_tune.vae.precision import product

BRANCHES = 2


class StackedLinear(nn.Module):
    """One affine layer for all members: (members, batch, in) -> (members, batch, out).

    Inputs of fewer groups than members are shared by neighbours: (groups, batch, in).
    """

    def __init__(
        self, members: int, inputs: int, outputs: int, product: Callable[..., Tensor]
    ) -> None:
        super().__init__()
        self._product = product
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        if len(inputs) != len(self.weight):
            inputs = inputs.repeat_interleave(len(self.weight) // len(inputs), dim=0)
        return self._product(self.bias, inputs, self.weight)

    def draw(self, member: int, generator: torch.Generator) -> None:
        """Draw one member's weights as torch.nn.Linear does: uniform within 1/sqrt(inputs)."""
        bound = 1.0 / math.sqrt(self.weight.shape[1])
        with torch.no_grad():
            for parameter in (self.weight, self.bias):
                parameter[member].uniform_(-bound, bound, generator=generator)


def _perceptron(
    members: int, widths: Sequence[int], product: Callable[..., Tensor]
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [StackedLinear(members, inputs, outputs, product), nn.ReLU()]
    return nn.Sequential(*layers[:-1])  # logits leave without a ReLU


class StackedVAE(nn.Module):
    """The VAEs of all replicates, two a replicate.

    Args:
        config: the architecture of every member.
        pixels: image size.
        seeds: one a replicate; both members of a replicate start from the same weights, which
            depend on that seed alone.
        precision: of the matrix products.
    """

    def __init__(
        self,
        config: ModelConfig,
        pixels: int,
        seeds: Sequence[int],
        precision: Precision = "float32",
    ) -> None:
        super().__init__()
        multiply = product(precision)
        self.members = BRANCHES * len(seeds)
        self.latents, self.categories = config.latents, config.categories
        code = config.latents * config.categories
        self.encoder = _perceptron(self.members, (pixels, *config.hidden, code), multiply)
        self.decoder = _perceptron(self.members, (code, *reversed(config.hidden), pixels), multiply)
        for member in range(self.members):
            generator = torch.Generator().manual_seed(derive(seeds[member // BRANCHES], "init"))
            for layer in self._layers():
                layer.draw(member, generator)

    def _layers(self) -> list[StackedLinear]:
        return [layer for layer in self.modules() if isinstance(layer, StackedLinear)]

    def encode(self, images: Tensor) -> Tensor:
        """Return logits of q(z|x), (members, L, K, B), from images (groups, B, D).

        Each group of images is shared by as many neighbouring members: as many groups as
        replicates give both members of a replicate the same batch, one group gives all the same.
        """
        flat: Tensor = self.encoder(images).mT.contiguous()
        return flat.view(len(flat), self.latents, self.categories, -1)

    def decode(self, codes: Tensor) -> Tensor:
        """Return pixel logits of p(x|z): (members, L, K, B) -> (members, B, D)."""
        pixels: Tensor = self.decoder(codes.flatten(1, 2).mT)
        return pixels

    def subset(self, members: Sequence[int]) -> StackedVAE:
        """Return a model of some members, in the order given, with copies of their weights.

        Raises:
            IndexError: no such member.
        """
        chosen = copy.deepcopy(self)
        chosen.members = len(members)
        for layer in chosen._layers():  # noqa: SLF001 - its own class
            layer.weight = nn.Parameter(layer.weight.detach()[list(members)])
            layer.bias = nn.Parameter(layer.bias.detach()[list(members)])
        return chosen


def to_pixels(images: Tensor) -> Tensor:
    """Return the values of pixels, 0 to 1, from bytes."""
    return images.to(torch.float32).div_(255.0)


def to_members(per_replicate: Tensor) -> Tensor:
    """Give both members of a replicate the same: (replicates, ...) -> (members, ...)."""
    return per_replicate.repeat_interleave(BRANCHES, dim=0)


def copy_members(tensors: Iterable[Tensor], copy_from: Sequence[int]) -> None:
    """Copy a member into the other of its replicate, in place.

    Args:
        tensors: weights and optimizer moments, each (members, ...).
        copy_from: per replicate 0 or 1, the branch to copy from, or -1 for none.
    """
    pairs = [
        (BRANCHES * replicate + branch, BRANCHES * replicate + 1 - branch)
        for replicate, branch in enumerate(copy_from)
        if branch >= 0
    ]
    with torch.no_grad():
        for tensor in tensors:
            for source, target in pairs:
                tensor[target].copy_(tensor[source])
