"""The terms of the negative ELBO, in nats per example; the prior over codes is uniform.

    -ELBO(x) = E_q [ -log p(x|z) ] + KL(q(z|x) || p(z))

*relaxed*: z is a Gumbel-Softmax sample, the number depends on tau and is no bound on log p(x);
it is trained on and never ranked on. *discrete*: z is one-hot, a bound on log p(x) of the model
with categorical codes, and no function of tau.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax

from gsvae_tune.vae.relaxation import CATEGORIES

ACTIVE_VARIANCE = 0.01  # Burda et al. 2016 (arXiv 1509.00519), section 5.2


def categorical_kl(logits: Tensor) -> Tensor:
    """Return KL(q || uniform), analytic, SUMMED over latents: (..., L, K, B) -> (..., B)."""
    log_q = log_softmax(logits, dim=CATEGORIES)
    return (log_q.exp() * (log_q + math.log(logits.shape[CATEGORIES]))).sum(dim=(-3, -2))


def bernoulli_nll(pixel_logits: Tensor, images: Tensor) -> Tensor:
    """Return -log p(x|z) from logits, summed over pixels: (..., D), (..., D) -> (...)."""
    images = images.expand_as(pixel_logits)
    return binary_cross_entropy_with_logits(pixel_logits, images, reduction="none").sum(dim=-1)


def active_units(first: Tensor, second: Tensor) -> Tensor:
    """Return how many latents change with x.

    A latent counts when the variance over images of its posterior probabilities, summed over
    categories, exceeds `ACTIVE_VARIANCE`.

    Args:
        first: (..., L, K), mean over images of q(z_l = k | x).
        second: (..., L, K), mean over images of its square.
    """
    variance = (second - first.square()).sum(dim=-1)
    return (variance > ACTIVE_VARIANCE).sum(dim=-1).to(torch.int64)
