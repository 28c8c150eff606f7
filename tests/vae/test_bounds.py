"""The bound's terms against torch.distributions, hand-worked numbers and exact enumeration."""

import itertools
import math

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, kl_divergence

from gsvae_tune.study.config import ModelConfig
from gsvae_tune.vae.bounds import (
    active_units,
    bernoulli_nll,
    categorical_kl,
    code_perplexity,
    log_importance_weight,
    vertex_share,
)
from gsvae_tune.vae.network import StackedVAE
from gsvae_tune.vae.relaxation import one_hot
from gsvae_tune.vae.streams import gumbel


def test_kl_is_summed_over_latents_and_equals_torchs():
    logits = torch.randn(7, 3, 5, generator=torch.Generator().manual_seed(0))
    uniform = Categorical(logits=torch.zeros(5))
    expected = kl_divergence(Categorical(logits=logits), uniform).sum(-1)
    torch.testing.assert_close(categorical_kl(logits.movedim(0, -1)), expected)


def test_kl_by_hand():
    assert categorical_kl(torch.zeros(4, 3, 1)).item() == pytest.approx(0.0, abs=1e-6)
    certain = torch.tensor([[[50.0, 0.0, 0.0], [0.0, 50.0, 0.0]]])
    assert categorical_kl(certain.movedim(0, -1)).item() == pytest.approx(
        2 * math.log(3)
    )  # a sum, not a mean


def test_reconstruction_equals_torchs_bernoulli_summed_over_pixels():
    logits = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    images = (torch.rand(4, 9, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    expected = -Bernoulli(logits=logits).log_prob(images).sum(-1)
    torch.testing.assert_close(bernoulli_nll(logits, images), expected)
    extreme = bernoulli_nll(torch.tensor([[300.0, -300.0]]), torch.tensor([[0.0, 1.0]]))
    assert extreme.item() == pytest.approx(600.0)


def test_the_single_sample_bound_never_beats_the_exact_likelihood():
    """2 latents of 3 categories: log p(x) by enumeration of all 9 codes."""
    model = StackedVAE(ModelConfig(hidden=(6,), latents=2, categories=3), 5, [3]).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)  # far from the prior, so that the bound has something to lose
    generator = torch.Generator().manual_seed(0)
    images = (torch.rand(8, 5, generator=generator) > 0.5).double().expand(2, 8, 5)
    codes = torch.zeros(9, 2, 3, dtype=torch.float64)
    for row, pair in enumerate(itertools.product(range(3), repeat=2)):
        for latent, category in enumerate(pair):
            codes[row, latent, category] = 1.0
    with torch.no_grad():
        logits = model.encode(images)
        joint = torch.stack(
            [
                -bernoulli_nll(model.decode(code[..., None].expand(2, 2, 3, 8)), images)
                - 2 * math.log(3)
                for code in codes
            ]
        )
        exact = torch.logsumexp(joint, 0)
        log_q = torch.log_softmax(logits, -2)
        weight = torch.stack([(log_q * code[..., None]).sum((1, 2)).exp() for code in codes])
        torch.testing.assert_close(weight.sum(0), torch.ones(2, 8, dtype=torch.float64))
        # the exact expectation of what one sample estimates
        elbo = sum(
            w * -bernoulli_nll(model.decode(code[..., None].expand(2, 2, 3, 8)), images)
            for w, code in zip(weight, codes, strict=True)
        ) - categorical_kl(logits)
        assert (elbo <= exact + 1e-12).all()
        assert (elbo < exact - 1e-3).any()
        # and the samples the trainer draws have that expectation
        draws = 20_000
        many = logits.repeat_interleave(draws, dim=-1)  # each image's draws lie side by side
        noise = gumbel((2, 3, 8 * draws), [0], "test", device="cpu").double()
        pixels = model.decode(one_hot(many, noise))
        nll = bernoulli_nll(pixels, images.repeat_interleave(draws, dim=1))
        total = -nll.view(2, 8, draws).sum(-1)
        estimate = total / draws - categorical_kl(logits)
        torch.testing.assert_close(estimate, elbo, atol=0.05, rtol=0)


def test_active_units_by_hand():
    # latent 0 follows x between two categories, latent 1 never moves
    posterior = torch.tensor([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]])
    first, second = posterior.mean(0), posterior.square().mean(0)
    assert active_units(first, second).item() == 1


def test_code_perplexity_by_hand():
    even = torch.full((2, 4), 0.25)
    assert code_perplexity(even).item() == pytest.approx(4.0)
    assert code_perplexity(torch.eye(4)[:2]).item() == pytest.approx(1.0)  # 0 log 0 is 0
    half = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]])
    assert code_perplexity(half).item() == pytest.approx(3.0)  # the mean of 2 and 4
    assert code_perplexity(torch.stack([even, half])).tolist() == pytest.approx([4.0, 3.0])


def test_vertex_share_by_hand():
    near, at, away = [0.9, 0.1, 0.0], [0.8, 0.1, 0.1], [0.79, 0.21, 0.0]
    codes = torch.tensor([[near, at], [away, near]]).movedim(1, -1)  # 2 latents, 2 examples
    assert vertex_share(codes).item() == pytest.approx(0.75)
    assert vertex_share(torch.eye(3)[:, :, None]).item() == 1.0
    assert vertex_share(torch.stack([codes, torch.full_like(codes, 1 / 3)])).tolist() == [0.75, 0.0]


def test_importance_weights_by_hand():
    log_q = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]).log()[..., None]
    codes = torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])[..., None]
    expected = -7.0 + math.log((1 / 9) / (0.25 * 0.8))
    assert log_importance_weight(torch.tensor([7.0]), codes, log_q).item() == pytest.approx(expected)  # fmt: skip
