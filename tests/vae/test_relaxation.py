"""Samples against torch's own relaxed distribution, limits in tau, stability in float32."""

import math

import pytest
import torch
from scipy import stats
from torch.distributions import RelaxedOneHotCategorical

from gsvae_tune.vae.relaxation import fill_gumbel, one_hot, soft, straight_through


def gumbel(*shape, seed=0):
    return fill_gumbel(torch.empty(*shape), torch.Generator().manual_seed(seed))


def test_noise_is_standard_gumbel():
    noise = gumbel(200_000)
    assert torch.isfinite(noise).all()
    assert stats.kstest(noise.double().numpy(), "gumbel_r").pvalue > 1e-3


@pytest.mark.parametrize("tau", [0.1, 0.5, 1.0, 3.0])
def test_soft_samples_are_those_of_torchs_relaxed_distribution(tau):
    torch.manual_seed(0)
    logits = torch.tensor([1.0, -0.5, 0.3])
    ours = soft(logits.expand(20_000, 3), gumbel(20_000, 3), torch.tensor(tau))
    theirs = RelaxedOneHotCategorical(torch.tensor(tau), logits=logits).sample((20_000,))
    for category in range(3):
        # torch rounds samples near a vertex differently; to the test those would be huge ties
        pair = (sample[:, category].clamp(1e-5, 1 - 1e-5).numpy() for sample in (ours, theirs))
        assert stats.ks_2samp(*pair).pvalue > 1e-3


def test_the_density_agrees_where_torch_gives_one():
    # P(z_1 > 1/2) by our sampler against the integral of torch's density over two categories
    tau = torch.tensor(0.7, dtype=torch.float64)
    logits = torch.tensor([0.8, -0.2], dtype=torch.float64)
    share = torch.linspace(1e-6, 1 - 1e-6, 400_001, dtype=torch.float64)
    points = torch.stack([share, 1 - share], dim=-1)
    density = RelaxedOneHotCategorical(tau, logits=logits).log_prob(points).exp()
    upper = torch.trapezoid(density[share > 0.5], share[share > 0.5])
    ours = soft(logits.float().expand(100_000, 2), gumbel(100_000, 2), tau.float())
    assert (ours[:, 0] > 0.5).double().mean() == pytest.approx(float(upper), abs=0.006)


def test_limits_in_tau():
    logits, noise = torch.randn(50, 6, generator=torch.Generator().manual_seed(1)), gumbel(50, 6)
    cold = soft(logits, noise, torch.tensor(1e-4))
    assert torch.equal(cold.round(), one_hot(logits, noise))
    hot = soft(logits, noise, torch.tensor(1e5))
    torch.testing.assert_close(hot, torch.full_like(hot, 1 / 6), atol=1e-3, rtol=0)


def test_one_hot_samples_follow_the_categorical():
    logits = torch.tensor([1.0, 0.0, -1.0, 2.0])
    share = one_hot(logits.expand(100_000, 4), gumbel(100_000, 4)).mean(0)
    torch.testing.assert_close(share, torch.softmax(logits, 0), atol=0.006, rtol=0)


@pytest.mark.parametrize("tau", [0.01, 0.05, 1.0, 10.0, 100.0])
def test_stable_in_float32_with_extreme_logits(tau):
    logits = torch.tensor([[80.0, -80.0, 0.0], [1e4, 0.0, -1e4]], requires_grad=True)
    for sample in (soft, straight_through):
        codes = sample(logits, gumbel(2, 3), torch.tensor(tau))
        (gradient,) = torch.autograd.grad((codes * torch.randn(2, 3)).sum(), logits)
        assert torch.isfinite(codes).all()
        assert torch.isfinite(gradient).all()
        torch.testing.assert_close(codes.sum(-1), torch.ones(2))


def test_soft_gradient_against_finite_differences():
    noise = gumbel(4, 5).double()
    logits = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    tau = torch.tensor(0.6, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda values: soft(values, noise, tau), (logits,))


def test_straight_through_is_one_hot_in_value_and_soft_in_gradient():
    noise, weight = gumbel(8, 5), torch.randn(8, 5, generator=torch.Generator().manual_seed(2))
    logits = torch.randn(8, 5, generator=torch.Generator().manual_seed(3), requires_grad=True)
    tau = torch.tensor(0.7)
    hard = straight_through(logits, noise, tau)
    assert torch.equal(hard.detach(), one_hot(logits, noise))  # exactly one-hot, no rounding
    (through,) = torch.autograd.grad((hard * weight).sum(), logits)
    (relaxed,) = torch.autograd.grad((soft(logits, noise, tau) * weight).sum(), logits)
    torch.testing.assert_close(through, relaxed)


def test_a_zero_draw_gives_finite_noise():
    class Zero(torch.Tensor):
        pass

    drawn = torch.zeros(3)
    drawn.exponential_ = lambda generator: drawn  # what a generator may return at worst
    noise = fill_gumbel(drawn, torch.Generator())
    assert torch.isfinite(noise).all()
    assert noise[0] == pytest.approx(-math.log(torch.finfo(torch.float32).tiny))
