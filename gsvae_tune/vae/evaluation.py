"""Losses of trained members on a split, with one-hot codes: in every epoch, and once on the test.

Images go through in blocks and every block's noise is a stream of its own, named by the
replicate's seed, the split and the block. So memory is bounded whatever the number of images and
samples, and numbers do not depend on how many replicates are evaluated together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gsvae_tune.study.config import ModelConfig, Precision
from gsvae_tune.study.records import ReplicateTest
from gsvae_tune.vae.bounds import (
    active_units,
    bernoulli_nll,
    categorical_kl,
    code_perplexity,
    log_importance_weight,
    vertex_share,
)
from gsvae_tune.vae.network import BRANCHES, StackedVAE, to_pixels
from gsvae_tune.vae.relaxation import CATEGORIES, one_hot, soft
from gsvae_tune.vae.streams import gumbel

EVALUATION_BATCH = 1000  # images in a block, and codes decoded at once: bounds the memory
_BRANCH_NAMES = ("a", "b")


@dataclass(frozen=True)
class Evaluation:
    """What all members make of one split; losses in nats, each (members,)."""

    discrete: Tensor  # negative ELBO, one-hot codes
    relaxed: Tensor | None  # with relaxed codes
    kl: Tensor
    active_units: Tensor
    mean_posterior: Tensor  # (members, L, K), mean over images of q(z_l = k | x)


@torch.no_grad()
def evaluate(
    model: StackedVAE,
    images: Tensor,
    split: str,
    seeds: Sequence[int],
    tau: Tensor | None,
    *,
    samples: int,
    between_chunks: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Evaluate every member on a split, with the same noise whenever it is called.

    The noise depends on the replicate's seed and the split, so that differences between
    epochs, members and trials are not differences of luck.

    Args:
        model: its members are shared out evenly among the seeds.
        images: (images, D), bytes.
        split: names the noise.
        seeds: one a replicate.
        tau: (members, 1, 1, 1); relaxed losses only where given.
        samples: one-hot codes an image.
        between_chunks: called after each batch of codes.
    """
    device = images.device
    discrete, relaxed, kl = (torch.zeros(model.members, device=device) for _ in range(3))
    first = torch.zeros(model.members, model.latents, model.categories, device=device)
    second = torch.zeros_like(first)
    for block, pixels, logits in _encoded(model, images):
        posterior = torch.softmax(logits, dim=CATEGORIES)
        first += posterior.sum(-1)
        second += posterior.square().sum(-1)
        kl += categorical_kl(logits).sum(1)
        for sample in range(samples):
            noise = _noise(logits, seeds, "evaluate", split, block, sample)
            codes = one_hot(logits, noise)
            discrete += bernoulli_nll(model.decode(codes), pixels).sum(1) / samples
            if tau is not None and sample == 0:
                codes = soft(logits, noise, tau)
                relaxed += bernoulli_nll(model.decode(codes), pixels).sum(1)
            between_chunks()
    count = len(images)
    return Evaluation(
        discrete=(discrete + kl) / count,
        relaxed=None if tau is None else (relaxed + kl) / count,
        kl=kl / count,
        active_units=active_units(first / count, second / count),
        mean_posterior=first / count,
    )


def rebuild(
    config: ModelConfig,
    pixels: int,
    replicates: int,
    precision: Precision,
    weights: Mapping[str, Tensor],
) -> StackedVAE:
    """Return a trained model from the weights that its `state_dict` gave, on the CPU.

    Raises:
        ValueError: weights of another architecture.
    """
    model = StackedVAE(config, pixels, range(replicates), precision)  # the seeds do not matter
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"weights of another model: {error}") from error
    return model


def evaluate_test(
    model: StackedVAE,
    images: Tensor,
    seeds: Sequence[int],
    branches: Sequence[str],
    tau: Sequence[float],
    *,
    samples: int,
    iwae_samples: int,
    replicates: Sequence[int] | None = None,
    between_chunks: Callable[[], None] = lambda: None,
) -> list[ReplicateTest]:
    """Return what one branch of each replicate gives on the test split.

    Args:
        model: all members, two a replicate.
        images: (images, D), the test split, bytes, on the model's device.
        seeds: one a replicate.
        branches: per replicate "a" or "b", chosen before and not on these images.
        tau: of those branches, for the relaxed codes of `vertex_share` and the gap.
        samples: one-hot codes an image for the negative ELBO.
        iwae_samples: one-hot codes an image for the IWAE bound.
        replicates: those of the model that seeds, branches and tau speak of; default: all.
        between_chunks: called after each batch of codes.

    Raises:
        ValueError: a branch that is neither, or lists of different lengths.
    """
    replicates = range(len(seeds)) if replicates is None else replicates
    rows = list(zip(replicates, seeds, branches, tau, strict=True))
    chosen = model.subset([BRANCHES * row[0] + _BRANCH_NAMES.index(row[2]) for row in rows])
    members_tau = torch.tensor(tau, dtype=torch.float32, device=images.device).view(-1, 1, 1, 1)
    told = evaluate(
        chosen, images, "test", seeds, members_tau, samples=samples, between_chunks=between_chunks
    )
    iwae = negative_iwae(
        chosen, images, "test", seeds, samples=iwae_samples, between_chunks=between_chunks
    )
    assert told.relaxed is not None  # noqa: S101 - it was given temperatures
    measured = {
        "test_neg_elbo_nats": told.discrete,
        "test_iwae_nats": iwae,
        "test_kl_nats": told.kl,
        "test_active_units": told.active_units,
        "code_perplexity": code_perplexity(told.mean_posterior),
        "vertex_share": relaxed_near_vertices(chosen, images, "test", seeds, members_tau),
        "relaxed_gap_nats": told.relaxed - told.discrete,
    }
    columns = {name: column.tolist() for name, column in measured.items()}
    return [
        ReplicateTest(
            replicate=replicate,
            seed=seed,
            branch=branch,
            tau=float(own_tau),
            iwae_samples=iwae_samples,
            **{name: column[row] for name, column in columns.items()},
        )
        for row, (replicate, seed, branch, own_tau) in enumerate(rows)
    ]


@torch.no_grad()
def negative_iwae(
    model: StackedVAE,
    images: Tensor,
    split: str,
    seeds: Sequence[int],
    *,
    samples: int,
    rows: int | None = None,
    between_chunks: Callable[[], None] = lambda: None,
) -> Tensor:
    """Return each member's negative IWAE bound with one-hot codes, (members,), float64.

    Weights are added up as they come, so ``samples`` costs time and no memory.

    Args:
        model: as for `evaluate`, so images, split, seeds and between_chunks.
        images: (images, D), bytes.
        split: names the noise.
        seeds: one a replicate.
        samples: codes an image in the bound, its k.
        rows: codes of a member decoded at once, where a block has fewer images; default: as many
            as a block may have. Changes the numbers by rounding alone.
        between_chunks: called after each batch of codes.
    """
    total = torch.zeros(model.members, dtype=torch.float64, device=images.device)
    for block, pixels, logits in _encoded(model, images):
        count = pixels.shape[1]
        together = max(1, (EVALUATION_BATCH if rows is None else rows) // count)
        # float64: thousands of rounded additions would show in the third decimal.
        log_sum = torch.full_like(logits[:, 0, 0], -torch.inf, dtype=torch.float64)
        for first in range(0, samples, together):
            draws = range(first, min(first + together, samples))
            noise = torch.cat(
                [_noise(logits, seeds, "iwae", split, block, draw) for draw in draws], dim=-1
            )
            weights = _log_weights(model, pixels, logits, noise).double()
            chunk = weights.view(-1, len(draws), count).logsumexp(1)
            log_sum = torch.logaddexp(log_sum, chunk)
            between_chunks()
        total += (math.log(samples) - log_sum).sum(1)
    return total / len(images)


def _log_weights(model: StackedVAE, pixels: Tensor, logits: Tensor, noise: Tensor) -> Tensor:
    """Return log importance weights (members, S n), the draws of all images side by side.

    Args:
        model: decodes.
        pixels: (1, n, D).
        logits: (members, L, K, n).
        noise: (members, L, K, S n).
    """
    draws = noise.shape[-1] // logits.shape[-1]
    log_q = torch.log_softmax(logits, dim=CATEGORIES).repeat(1, 1, 1, draws)
    codes = one_hot(log_q, noise)
    nll = bernoulli_nll(model.decode(codes), pixels.repeat(1, draws, 1))
    return log_importance_weight(nll, codes, log_q)


@torch.no_grad()
def relaxed_near_vertices(
    model: StackedVAE, images: Tensor, split: str, seeds: Sequence[int], tau: Tensor
) -> Tensor:
    """Return `vertex_share` of one relaxed code an image, (members,), at ``tau`` as `evaluate`."""
    total = torch.zeros(model.members, device=images.device)
    for block, pixels, logits in _encoded(model, images):
        noise = _noise(logits, seeds, "evaluate", split, block, 0)
        total += vertex_share(soft(logits, noise, tau)) * pixels.shape[1]
    return total / len(images)


def _encoded(model: StackedVAE, images: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield each block's number, its pixels (1, n, D) and logits (members, L, K, n)."""
    for block, chunk in enumerate(torch.split(images, EVALUATION_BATCH)):
        pixels = to_pixels(chunk)[None]
        yield block, pixels, model.encode(pixels)


def _noise(logits: Tensor, seeds: Sequence[int], *names: str | int) -> Tensor:
    """Return Gumbel noise shaped like logits; members of a replicate get the same."""
    noise = gumbel(logits.shape[1:], seeds, *names, device=logits.device)
    return noise.repeat_interleave(len(logits) // len(seeds), dim=0)
