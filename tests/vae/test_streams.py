"""Random numbers by name: standard, the same alone and together, finite at worst."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from gsvae_tune.vae import streams


@pytest.mark.parametrize(
    ("draw", "distribution"),
    [(streams.gumbel, "gumbel_r"), (streams.uniform, "uniform"), (streams.exponential, "expon")],
)
def test_numbers_follow_their_distribution(draw, distribution):
    numbers = draw((200, 1000), [7], "test", device="cpu")
    assert torch.isfinite(numbers).all()
    assert stats.kstest(numbers.double().flatten().numpy(), distribution).pvalue > 1e-3


@pytest.mark.parametrize("draw", [streams.gumbel, streams.uniform, streams.exponential])
def test_a_replicates_numbers_depend_on_its_seed_and_the_name_alone(draw):
    together = draw((3, 4), [5, 6], "noise", 1, device="cpu")
    assert torch.equal(together[1:], draw((3, 4), [6], "noise", 1, device="cpu"))
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(together, draw((3, 4), [5, 6], "noise", 2, device="cpu"))
    assert not torch.equal(together, draw((3, 4), [5, 6], "other", 1, device="cpu"))


def test_a_zero_draw_gives_finite_noise(monkeypatch):
    monkeypatch.setattr(streams, "fill_exponential", lambda out, seed: out.zero_())
    noise = streams.gumbel((3,), [0], device="cpu")
    assert noise[0, 0] == pytest.approx(-math.log(torch.finfo(torch.float32).tiny))


def test_replicates_are_not_correlated():
    one, other = streams.gumbel((100_000,), [1, 2], "noise", device="cpu").numpy()
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.02
