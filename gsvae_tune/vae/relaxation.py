"""Samples from categorical codes, relaxed and one-hot, and the gradients that train through them.

Notation
    logits  (..., latents, categories, batch), unnormalized log q(z|x); never through a ReLU
    noise   standard Gumbel: -log(-log u), u uniform; broadcast against logits
    tau     temperature, broadcast against logits
    D       the one-hot sample of q that logits and noise give
    g       gradient of the loss by the code

The batch comes last because a softmax over the last of few categories cannot be vectorized: over
the dimension before it, it takes a fifteenth of the time on a CPU.

One noise serves both kinds of sample: the one-hot code is the limit of the relaxed one as
tau -> 0 (Gumbel-max), so their losses differ by the relaxation alone. It serves all estimators:
the hard ones give D and differ in its gradient (decoupled gives D where its forward temperature
is 1).
"""

from __future__ import annotations

import functools
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


def _in_value(hard: Tensor, surrogate: Tensor) -> Tensor:
    """Return ``hard`` in value with the gradient of ``surrogate``."""
    # Subtracting first would round: (hard - soft) + soft need not be exactly one-hot.
    return hard + (surrogate - surrogate.detach())


def straight_through(logits: Tensor, noise: Tensor, tau: Tensor) -> Tensor:
    """Return the one-hot sample in value with the gradient of the soft one (Jang 2017, 2.2)."""
    return _in_value(one_hot(logits, noise), soft(logits, noise, tau))


def gumbel_rao(logits: Tensor, noise: Tensor, tau: Tensor, exponentials: Tensor) -> Tensor:
    """Return D with the mean of the straight-through gradients of S noises that also give D.

    Gumbel-Rao (Paulus, Maddison, Krause, arXiv 2010.04838): its expectation is that of the
    straight-through gradient, its variance is no larger. The noise given D counts as a constant:
    with a gradient through it, the two expectations would differ.

    Args:
        logits: as the module says; so noise and tau.
        noise: gives D.
        tau: temperature.
        exponentials: (S, ..., latents, categories, batch), standard exponential numbers,
            independent of ``noise``.
    """
    hard = one_hot(logits, noise)
    given = _noise_given(hard, logits, exponentials)
    return _in_value(hard, torch.softmax((logits + given) / tau, dim=CATEGORIES).mean(0))


@torch.no_grad()
def _noise_given(hard: Tensor, logits: Tensor, exponentials: Tensor) -> Tensor:
    """Return Gumbel noise conditioned on the winner, shaped like ``exponentials``.

    With E exponential, i the winner and Z the sum of exp(logits), the perturbed logits are
    -log(E_i) + log Z for i and -log(E_j / exp(logits_j) + E_i / Z) for the others. Less logits,
    both are one formula in q = exp(logits) / Z, and nothing in it overflows.
    """
    q = torch.softmax(logits, dim=CATEGORIES)
    winners = (hard * exponentials).sum(CATEGORIES, keepdim=True)
    shares = torch.addcmul(q * winners, 1.0 - hard, exponentials)
    return shares.clamp_(min=torch.finfo(shares.dtype).tiny).log_().neg_()


def reinmax(logits: Tensor, noise: Tensor, tau: Tensor) -> Tensor:
    """Return D with ReinMax's gradient, of second order (Liu et al. 2023, arXiv 2304.08612).

    With pi_0 = softmax(logits) and pi_1 = (softmax(logits / tau) + D) / 2, the gradient by logits
    is 2 (diag(pi_1) - pi_1 pi_1^T) g - 1/2 (diag(pi_0) - pi_0 pi_0^T) g. None reaches tau.
    """
    hard = one_hot(logits, noise)
    with torch.no_grad():
        pi_1 = (torch.softmax(logits / tau, dim=CATEGORIES) + hard) / 2
        log_pi_1 = pi_1.clamp_(min=torch.finfo(pi_1.dtype).tiny).log_()
    # logits - logits.detach() is 0 with a gradient: the softmax is that of log pi_1.
    second = torch.softmax(log_pi_1 + (logits - logits.detach()), dim=CATEGORIES)
    return _in_value(hard, 2.0 * second - 0.5 * torch.softmax(logits, dim=CATEGORIES))


def decoupled(
    logits: Tensor, noise: Tensor, tau: Tensor, *, tau_forward: Tensor | float = 1.0
) -> Tensor:
    """Return a one-hot sample at one temperature with the gradient of another.

    Decoupled straight-through (arXiv 2410.13331) [ABSTRACT], our reading. In value a sample of
    softmax(logits / tau_forward), which is D and a sample of q for ``tau_forward`` 1; in gradient
    softmax(logits / tau), tau being what controllers move.
    """
    surrogate = torch.softmax(logits / tau, dim=CATEGORIES)
    return _in_value(one_hot(logits / tau_forward, noise), surrogate)


def sampler(estimator: Estimator, tau_forward: Tensor | float = 1.0) -> Callable[..., Tensor]:
    """Return the training sample of an estimator.

    Args:
        estimator: its name.
        tau_forward: for decoupled; as a tensor, another value is no new program to a compiler.

    Returns:
        A function of (logits, noise, tau), for gumbel-rao of (logits, noise, tau, exponentials).
    """
    samples: dict[Estimator, Callable[..., Tensor]] = {
        "soft": soft,
        "straight-through": straight_through,
        "gumbel-rao": gumbel_rao,
        "reinmax": reinmax,
        "decoupled": functools.partial(decoupled, tau_forward=tau_forward),
    }
    return samples[estimator]
