"""The loop a user would write: DataLoader, nn.Linear, Adam, loss.item(), one VAE at a time.

It is the measure of our trainer, so it uses nothing of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset


@dataclass(frozen=True)
class Architecture:
    """The VAE's shape."""

    pixels: int
    hidden: Sequence[int]
    latents: int
    categories: int


class PlainVAE(nn.Module):
    """A categorical VAE."""

    def __init__(self, shape: Architecture) -> None:
        super().__init__()
        self.shape = shape
        widths = [shape.pixels, *shape.hidden, shape.latents * shape.categories]
        self.encoder, self.decoder = _perceptron(widths), _perceptron(widths[::-1])

    def forward(
        self, images: Tensor, tau: float, *, hard: bool = False, samples: int = 1
    ) -> Tensor:
        """Return each image's negative ELBO, (batch,), the mean of so many code samples."""
        logits = self.encoder(images).view(-1, self.shape.latents, self.shape.categories)
        log_q = functional.log_softmax(logits, dim=-1)
        loss = (log_q.exp() * (log_q + math.log(self.shape.categories))).sum((-2, -1))
        for _ in range(samples):
            codes = functional.gumbel_softmax(logits, tau=tau, hard=hard)
            nll = functional.binary_cross_entropy_with_logits(
                self.decoder(codes.flatten(1)), images, reduction="none"
            )
            loss = loss + nll.sum(-1) / samples
        return loss


def _perceptron(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def loader(images: np.ndarray, batch_size: int, *, shuffle: bool) -> DataLoader[tuple[Tensor, ...]]:
    """Wrap images (count, pixels), bytes, the usual way."""
    data = TensorDataset(torch.tensor(images, dtype=torch.float32) / 255)
    return DataLoader(data, batch_size=batch_size, shuffle=shuffle, drop_last=shuffle)


def train_epoch(
    model: PlainVAE,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[tuple[Tensor, ...]],
    tau: float,
    device: str = "cpu",
) -> float:
    """Train one epoch; return the mean loss."""
    total, count = 0.0, 0
    for (batch,) in batches:
        loss = model(batch.to(device), tau).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
        count += 1
    return total / count


@torch.no_grad()
def evaluate(model: PlainVAE, batches: Iterable[tuple[Tensor, ...]], samples: int) -> float:
    """Return the mean negative ELBO with one-hot codes."""
    total, count = 0.0, 0
    for (batch,) in batches:
        total += model(batch, 1.0, hard=True, samples=samples).sum().item()
        count += len(batch)
    return total / count
