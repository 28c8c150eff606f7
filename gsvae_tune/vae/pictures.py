"""What one trained member makes of images: reconstructions, and samples of the prior, as pixels.

Codes are one-hot: a reconstruction decodes the most probable code of q(z|x), a sample a code drawn
uniformly, which is the prior. Pixels are Bernoulli means, 0 to 1.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gsvae_tune.study.config import ModelConfig, Phase
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.vae import checkpoint
from gsvae_tune.vae.bounds import bernoulli_nll
from gsvae_tune.vae.evaluation import EVALUATION_BATCH, rebuild
from gsvae_tune.vae.files import Bytes
from gsvae_tune.vae.network import BRANCHES, StackedVAE, to_pixels
from gsvae_tune.vae.relaxation import one_hot

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Member:
    """One branch of one replicate of a trial."""

    arm: str
    phase: Phase
    number: int
    replicate: int
    branch: str  # "a" or "b"


def load_member(paths: StudyPaths, which: Member, config: ModelConfig, pixels: int) -> StackedVAE:
    """Return a model of that member alone, from its trial's checkpoint.

    Raises:
        ValueError: there is no checkpoint, or it is damaged, another trial's or another model's.
    """
    path = paths.trial(which.arm, which.number, which.phase).checkpoint
    state = checkpoint.load(path)
    if state is None:
        raise ValueError(f"{path} is not there")
    if _whose(state) != (which.arm, which.phase, which.number):
        raise ValueError(f"{path} is of another trial")
    first = BRANCHES * which.replicate
    try:
        # Its replicate's two members alone: the others would only have to be initialized.
        weights = {name: rows[first : first + BRANCHES] for name, rows in state["model"].items()}
        model = rebuild(config, pixels, 1, "float32", weights)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{path} holds no such model: {error}") from error
    return model.subset(["ab".index(which.branch)])


def _whose(state: dict[str, Any]) -> tuple[object, ...]:
    """Return arm, phase and number of the trial that a checkpoint says it is of."""
    try:
        trial = json.loads(state["trial"])
        return trial["arm"], trial["phase"], trial["number"]
    except (KeyError, TypeError, ValueError):
        return ()


@torch.no_grad()
def reconstructed(model: StackedVAE, images: Bytes) -> tuple[Pixels, Pixels]:
    """Return the images decoded from their most probable codes, and what each costs.

    Args:
        model: of one member.
        images: (n, D), bytes.

    Returns:
        Means (n, D), 0 to 1, and -log p(x|z) of the image under them (n,), nats.
    """
    means, nats = [], []
    for chunk in torch.split(torch.tensor(images), EVALUATION_BATCH):
        pixels = to_pixels(chunk)[None]
        logits = model.encode(pixels)
        decoded = model.decode(one_hot(logits, torch.zeros(())))  # without noise: the mode
        means.append(torch.sigmoid(decoded)[0])
        nats.append(bernoulli_nll(decoded, pixels)[0])
    return torch.cat(means).numpy(), torch.cat(nats).numpy()


@torch.no_grad()
def sampled(model: StackedVAE, count: int, seed: int) -> Pixels:
    """Return images of codes drawn from the prior, (count, D), 0 to 1.

    The codes depend on the seed and on the model's latents and categories alone; the first ones
    are the same whatever the count.
    """
    drawn = np.random.default_rng(seed).integers(model.categories, size=(count, model.latents))
    codes = torch.zeros(1, model.latents, model.categories, count)
    codes.scatter_(2, torch.tensor(drawn.T)[None, :, None], 1.0)
    return torch.sigmoid(model.decode(codes))[0].numpy()
