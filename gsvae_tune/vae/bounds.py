"""The terms of the negative ELBO, in nats per example; the prior over codes is uniform.

    -ELBO(x) = E_q [ -log p(x|z) ] + KL(q(z|x) || p(z))

*relaxed*: z is a Gumbel-Softmax sample, the number depends on tau and is no bound on log p(x);
it is trained on and never ranked on. *discrete*: z is one-hot, a bound on log p(x) of the model
with categorical codes, and no function of tau.

The IWAE bound with k samples (Burda et al. 2016, arXiv 1509.00519) lies between the ELBO and
log p(x): log (1/k) sum_s w_s, with the importance weights w = p(x|z) p(z) / q(z|x) of codes z ~ q.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax

from gsvae_tune.vae.relaxation import CATEGORIES

ACTIVE_VARIANCE = 0.01  # Burda et al. 2016 (arXiv 1509.00519), section 5.2
VERTEX_SHARE = 0.8  # within 0.2 of a vertex of the simplex: IGR's metric (arXiv 1912.09588)


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


def log_importance_weight(nll: Tensor, codes: Tensor, log_q: Tensor) -> Tensor:
    """Return log p(x|z) + log p(z) - log q(z|x) of one-hot codes: (..., B).

    Args:
        nll: (..., B), -log p(x|z) of each code.
        codes: (..., L, K, B), one-hot.
        log_q: (..., L, K, B), normalized log q(z_l = k | x).
    """
    latents, categories = codes.shape[-3:-1]
    log_q_of_codes = (codes * log_q).sum(dim=(-3, -2))
    return -nll - latents * math.log(categories) - log_q_of_codes


def code_perplexity(mean_posterior: Tensor) -> Tensor:
    """Return how many categories are in use, 1 to K: (..., L, K) -> (...).

    The exponential of the entropy of the aggregate posterior, the mean over latents.

    Args:
        mean_posterior: (..., L, K), mean over images of q(z_l = k | x).
    """
    entropy: Tensor = torch.special.entr(mean_posterior).sum(dim=-1)
    return entropy.exp().mean(dim=-1)


def vertex_share(codes: Tensor) -> Tensor:
    """Return which share of relaxed codes is nearly one-hot: (..., L, K, B) -> (...).

    Each latent of each example counts by itself: it is near a vertex of the simplex when its
    largest component is at least `VERTEX_SHARE`.
    """
    near = codes.amax(dim=CATEGORIES) >= VERTEX_SHARE
    return near.to(codes.dtype).mean(dim=(-2, -1))
