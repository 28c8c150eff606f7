"""Samples from categorical codes, relaxed and one-hot.

Notation
    logits  (..., latents, categories), unnormalized log q(z|x); never passed through a ReLU
    noise   same shape, standard Gumbel: -log(-log u), u uniform
    tau     temperature, broadcast against logits

One noise serves both kinds of sample: the one-hot code is the limit of the relaxed one as
tau -> 0 (Gumbel-max), so their losses differ by the relaxation alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gsvae_tune.study.config import Estimator


def fill_gumbel(out: Tensor, generator: torch.Generator) -> Tensor:
    """Fill ``out`` with standard Gumbel noise in place and return it.

    -log(E) with E standard exponential: one logarithm where -log(-log u) takes two. The smallest
    normal number keeps a draw of exactly 0 from becoming infinite.
    """
    out.exponential_(generator=generator)
    return out.clamp_(min=torch.finfo(out.dtype).tiny).log_().neg_()


def soft(logits: Tensor, noise: Tensor, tau: Tensor) -> Tensor:
    """Return the Gumbel-Softmax sample softmax((logits + noise) / tau) (Jang 2017, eq. 2)."""
    return torch.softmax((logits + noise) / tau, dim=-1)


def one_hot(logits: Tensor, noise: Tensor) -> Tensor:
    """Return an exact one-hot sample of q by the Gumbel-max trick; no gradient."""
    with torch.no_grad():
        index = (logits + noise).argmax(dim=-1, keepdim=True)
        return torch.zeros_like(logits).scatter_(-1, index, 1.0)


def straight_through(logits: Tensor, noise: Tensor, tau: Tensor) -> Tensor:
    """Return the one-hot sample in value with the gradient of the soft one (Jang 2017, 2.2)."""
    relaxed = soft(logits, noise, tau)
    # Subtracting first would round: (hard - soft) + soft need not be exactly one-hot.
    return one_hot(logits, noise) + (relaxed - relaxed.detach())


def sampler(estimator: Estimator) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return the training sample of an estimator."""
    return {"soft": soft, "straight-through": straight_through}[estimator]
