"""Samples against torch's own relaxed distribution, limits in tau, stability in float32."""

import pytest
import torch
from scipy import stats
from torch.distributions import RelaxedOneHotCategorical

from gsvae_tune.vae import streams
from gsvae_tune.vae.relaxation import one_hot, soft, straight_through


def gumbel(*shape, seed=0):
    return streams.gumbel(shape, [seed], "test", device="cpu")[0]


def test_noise_is_standard_gumbel():
    noise = gumbel(200_000)
    assert torch.isfinite(noise).all()
    assert stats.kstest(noise.double().numpy(), "gumbel_r").pvalue > 1e-3


@pytest.mark.parametrize("tau", [0.1, 0.5, 1.0, 3.0])
def test_soft_samples_are_those_of_torchs_relaxed_distribution(tau):
    torch.manual_seed(0)
    logits = torch.tensor([1.0, -0.5, 0.3])
    ours = soft(logits[:, None], gumbel(3, 20_000), torch.tensor(tau)).T
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
    ours = soft(logits.float()[:, None], gumbel(2, 100_000), tau.float())
    assert (ours[0] > 0.5).double().mean() == pytest.approx(float(upper), abs=0.006)


def test_limits_in_tau():
    logits, noise = torch.randn(6, 50, generator=torch.Generator().manual_seed(1)), gumbel(6, 50)
    cold = soft(logits, noise, torch.tensor(1e-4))
    assert torch.equal(cold.round(), one_hot(logits, noise))
    hot = soft(logits, noise, torch.tensor(1e5))
    torch.testing.assert_close(hot, torch.full_like(hot, 1 / 6), atol=1e-3, rtol=0)


def test_one_hot_samples_follow_the_categorical():
    logits = torch.tensor([1.0, 0.0, -1.0, 2.0])
    share = one_hot(logits[:, None], gumbel(4, 100_000)).mean(1)
    torch.testing.assert_close(share, torch.softmax(logits, 0), atol=0.006, rtol=0)


@pytest.mark.parametrize("tau", [0.01, 0.05, 1.0, 10.0, 100.0])
def test_stable_in_float32_with_extreme_logits(tau):
    logits = torch.tensor([[80.0, 1e4], [-80.0, 0.0], [0.0, -1e4]], requires_grad=True)
    for sample in (soft, straight_through):
        codes = sample(logits, gumbel(3, 2), torch.tensor(tau))
        (gradient,) = torch.autograd.grad((codes * torch.randn(3, 2)).sum(), logits)
        assert torch.isfinite(codes).all()
        assert torch.isfinite(gradient).all()
        torch.testing.assert_close(codes.sum(0), torch.ones(2))


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


def test_ties_leave_one_winner():
    codes = one_hot(torch.zeros(2, 3, 5), torch.zeros(2, 3, 5))
    assert torch.equal(codes.sum(-2), torch.ones(2, 5))
    assert set(codes.unique().tolist()) == {0.0, 1.0}


def test_noise_that_broadcasts_gives_whole_codes():
    codes = one_hot(torch.zeros(4, 2, 3, 5), gumbel(2, 3, 5))
    assert codes.shape == (4, 2, 3, 5)
    assert torch.equal(codes[0], codes[3])
