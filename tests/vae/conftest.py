import numpy as np
import pytest
import torch

from gsvae_tune.study.config import ModelConfig, TrainingConfig
from gsvae_tune.tau import PairController
from gsvae_tune.vae.data import Splits
from gsvae_tune.vae.training import PairTraining


@pytest.fixture(autouse=True)
def one_thread():
    """Sums are split among threads, so bitwise claims are about one thread (what Ray gives)."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def splits():
    images = np.random.default_rng(0).integers(0, 2, (150, 16), dtype=np.uint8) * np.uint8(255)
    images[:, :8] = images[:, :1]  # something to learn
    return Splits(images[:90], images[90:120], images[120:], 4, 4, "made up", redraw=False)


@pytest.fixture
def make(splits):
    """Build a small training; keyword arguments override."""

    def build(seeds=(11, 22), controller=None, epochs=4, data=splits, hidden=(12,), **more):
        controller = controller or PairController(replicates=len(seeds), coupling="tournament")
        how = {key: more.pop(key) for key in ("precision", "compile") if key in more}
        return PairTraining(
            data,
            ModelConfig(hidden=hidden, latents=3, categories=4),
            TrainingConfig(epochs=epochs, batch_size=20, evaluation_samples=2, **how),
            seeds,
            controller,
            **({"learning_rate": 1e-2} | more),
        )

    return build
