"""Samples from categorical codes, relaxed and one-hot.

Notation
    logits  (..., latents, categories, batch), unnormalized log q(z|x); never through a ReLU
    noise   standard Gumbel: -log(-log u), u uniform; broadcast against logits
    tau     temperature, broadcast against logits

The batch comes last because a softmax over the last of few categories cannot be vectorized: over
the dimension before it, it takes a fifteenth of the time on a CPU.

One noise serves both kinds of sample: the one-hot code is the limit of the relaxed one as
tau -> 0 (Gumbel-max), so their losses differ by the relaxation alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gsvae_tune.study.config import Estimator

CATEGORIES = -2  # the dimension of logits and codes that sums to 1


def soft(logits: Tensor, noise: Tensor, tau: Tensor) -> Tensor:
    """Return the Gumbel-Softmax sample softmax((logits + noise) / tau) (Jang 2017, eq. 2)."""
    return torch.softmax((logits + noise) / tau, dim=CATEGORIES)


def one_hot(logits: Tensor, noise: Tensor) -> Tensor:
    """Return an exact one-hot sample of q by the Gumbel-max trick; no gradient."""
    with torch.no_grad():
        noisy = logits + noise
        winner = noisy.max(dim=CATEGORIES, keepdim=True).indices  # argmax() is not vectorized
        return torch.zeros_like(noisy).scatter_(CATEGORIES, winner, 1.0)


def straight_through(logits: Tensor, noise: Tensor, tau: Tensor) -> Tensor:
    """Return the one-hot sample in value with the gradient of the soft one (Jang 2017, 2.2)."""
    relaxed = soft(logits, noise, tau)
    # Subtracting first would round: (hard - soft) + soft need not be exactly one-hot.
    return one_hot(logits, noise) + (relaxed - relaxed.detach())


def sampler(estimator: Estimator) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return the training sample of an estimator."""
    return {"soft": soft, "straight-through": straight_through}[estimator]
