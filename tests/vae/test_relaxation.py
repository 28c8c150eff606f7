"""Samples against torch's own relaxed distribution, limits in tau, stability in float32."""

import itertools
from typing import get_args

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch.distributions import RelaxedOneHotCategorical

from gsvae_tune.study.config import Estimator
from gsvae_tune.vae import streams
from gsvae_tune.vae.relaxation import (
    _noise_given,
    decoupled,
    gumbel_rao,
    one_hot,
    reinmax,
    sampler,
    soft,
    straight_through,
)

ESTIMATORS = get_args(Estimator)
HARD = [estimator for estimator in ESTIMATORS if estimator != "soft"]


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


def exponentials(estimator, *shape, samples=10):
    """What an estimator takes beside logits, noise and tau."""
    if estimator != "gumbel-rao":
        return ()
    return (streams.exponential((samples, *shape), [1], "test", device="cpu")[0],)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("tau", [0.01, 0.05, 1.0, 10.0, 100.0])
def test_stable_in_float32_with_extreme_logits(tau, estimator):
    logits = torch.tensor([[80.0, 1e4], [-80.0, 0.0], [0.0, -1e4]], requires_grad=True)
    more = exponentials(estimator, 3, 2)
    codes = sampler(estimator)(logits, gumbel(3, 2), torch.tensor(tau), *more)
    (gradient,) = torch.autograd.grad((codes * torch.randn(3, 2)).sum(), logits)
    assert torch.isfinite(codes).all()
    assert torch.isfinite(gradient).all()
    torch.testing.assert_close(codes.sum(0), torch.ones(2))


@pytest.mark.parametrize("estimator", HARD)
def test_hard_estimators_share_one_forward_pass(estimator):
    logits = torch.randn(4, 2, 6, 9, generator=torch.Generator().manual_seed(3))
    noise, tau = gumbel(4, 2, 6, 9), torch.rand(4, 1, 1, 1) + 0.2
    codes = sampler(estimator)(logits, noise, tau, *exponentials(estimator, 4, 2, 6, 9))
    assert torch.equal(codes, one_hot(logits, noise))  # exactly one-hot, no rounding
    # and each member's is that of its own temperature alone
    more = [extra[:, 1] for extra in exponentials(estimator, 4, 2, 6, 9)]
    weight = torch.randn(4, 2, 6, 9)
    logits.requires_grad_(True)
    whole = sampler(estimator)(logits, noise, tau, *exponentials(estimator, 4, 2, 6, 9))
    alone = sampler(estimator)(logits[1], noise[1], tau[1], *more)
    (one,) = torch.autograd.grad((whole * weight).sum(), logits)
    (other,) = torch.autograd.grad((alone * weight[1]).sum(), logits)
    torch.testing.assert_close(one[1], other[1])


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


def softmax_jacobian(y):
    return np.diag(y) - np.outer(y, y)


def gradient_of(sample, logits, weight, *given):
    """The gradient of <weight, code> by one categorical's logits, in float64."""
    values = torch.tensor(logits[:, None], requires_grad=True)
    codes = sample(values, *given)
    (gradient,) = torch.autograd.grad((codes[:, 0] * torch.tensor(weight)).sum(), values)
    return gradient[:, 0].numpy()


def noise_for(winner, categories=4):
    """Gumbel noise (by its value alone) that lets a category win."""
    return torch.eye(categories, dtype=torch.float64)[:, winner : winner + 1] * 50.0


LOGITS = np.array([0.7, -0.4, 1.1, -1.0])
WEIGHT = np.array([0.3, -1.2, 0.5, 2.0])
TAU = 0.6


def double(tau):
    return torch.tensor(tau, dtype=torch.float64)


def test_gumbel_rao_against_the_papers_formula_and_an_explicit_jacobian():
    draws = np.random.default_rng(0).standard_exponential((5, 4))
    total = np.exp(LOGITS).sum()
    for winner in range(4):
        expected = np.zeros(4)
        for row in draws:
            perturbed = -np.log(row / np.exp(LOGITS) + row[winner] / total)
            perturbed[winner] = -np.log(row[winner]) + np.log(total)
            assert perturbed.argmax() == winner
            jacobian = softmax_jacobian(special.softmax(perturbed / TAU)) / TAU
            expected += jacobian @ WEIGHT / len(draws)
        given = (noise_for(winner), double(TAU), torch.tensor(draws[..., None]))
        np.testing.assert_allclose(gradient_of(gumbel_rao, LOGITS, WEIGHT, *given), expected)


def rejected(winner, count):
    """Gumbel noise under which ``winner`` wins, by drawing until it does: (draws, K)."""
    noise = np.random.default_rng(1).gumbel(size=(count, 4))
    return noise[(LOGITS + noise).argmax(1) == winner]


def test_the_noise_given_a_winner_is_that_of_rejection_sampling():
    draws = torch.tensor(np.random.default_rng(2).standard_exponential((20_000, 4, 1)))
    for winner in range(4):
        hard = one_hot(torch.tensor(LOGITS[:, None]), noise_for(winner))
        given = _noise_given(hard, torch.tensor(LOGITS[:, None]), draws)[..., 0].numpy()
        plain = rejected(winner, 40_000)
        for category in range(4):
            pvalue = stats.ks_2samp(given[:, category], plain[:, category]).pvalue
            assert pvalue > 1e-3, (winner, category)


def test_gumbel_rao_has_the_mean_of_straight_through_and_less_variance():
    winner = 1
    plain = rejected(winner, 200_000)
    jacobians = [softmax_jacobian(y) for y in special.softmax((LOGITS + plain) / TAU, axis=1)]
    through = np.array(jacobians) @ WEIGHT / TAU
    draws = np.random.default_rng(3).standard_exponential((2000, 10, 4, 1))
    rao = np.array(
        [
            gradient_of(
                gumbel_rao, LOGITS, WEIGHT, noise_for(winner), double(TAU), torch.tensor(row)
            )
            for row in draws
        ]
    )
    error = np.sqrt(through.var(0) / len(through) + rao.var(0) / len(rao))
    assert (np.abs(rao.mean(0) - through.mean(0)) < 4 * error).all()
    assert (rao.var(0) < through.var(0) / 5).all()  # ten samples: a tenth


@pytest.mark.parametrize("tau", [0.3, 1.0, 1.4])
def test_reinmax_against_an_explicit_jacobian(tau):
    pi_0 = special.softmax(LOGITS)
    for winner in range(4):
        pi_1 = (special.softmax(LOGITS / tau) + np.eye(4)[winner]) / 2
        expected = 2 * softmax_jacobian(pi_1) @ WEIGHT - 0.5 * softmax_jacobian(pi_0) @ WEIGHT
        ours = gradient_of(reinmax, LOGITS, WEIGHT, noise_for(winner), double(tau))
        np.testing.assert_allclose(ours, expected, atol=1e-14)


def test_reinmax_is_exact_for_quadratic_losses_at_tau_one():
    """Second order: its expectation over D is the gradient of E f(D), found by enumeration."""
    random = np.random.default_rng(4)
    quadratic, linear = random.normal(size=(4, 4)), random.normal(size=4)
    values = np.array([quadratic[k, k] + linear[k] for k in range(4)])  # f(one-hot k)
    exact = softmax_jacobian(special.softmax(LOGITS)) @ values
    expected = np.zeros(4)
    for winner, share in enumerate(special.softmax(LOGITS)):
        slope = (quadratic + quadratic.T)[winner] + linear
        given = (noise_for(winner), double(1.0))
        expected += share * gradient_of(reinmax, LOGITS, slope, *given)
    np.testing.assert_allclose(expected, exact, atol=1e-14)


@pytest.mark.parametrize("tau_forward", [0.5, 1.0, 2.0])
def test_decoupled_samples_at_one_temperature_and_descends_at_another(tau_forward):
    sample = sampler("decoupled", tau_forward)
    logits = torch.tensor(LOGITS, dtype=torch.float32)[:, None]
    share = sample(logits, gumbel(4, 100_000), double(TAU)).mean(1).numpy()
    np.testing.assert_allclose(share, special.softmax(LOGITS / tau_forward), atol=0.006)
    expected = softmax_jacobian(special.softmax(LOGITS / TAU)) @ WEIGHT / TAU
    for winner in range(4):
        ours = gradient_of(sample, LOGITS, WEIGHT, noise_for(winner), double(TAU))
        np.testing.assert_allclose(ours, expected)


def test_a_forward_temperature_of_one_samples_q():
    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(1))
    assert torch.equal(decoupled(logits, gumbel(6, 50), torch.tensor(0.3)), one_hot(logits, gumbel(6, 50)))  # fmt: skip


def test_every_gradient_sums_to_nothing_over_categories():
    """Logits are free up to a constant, and no estimator may move that."""
    for estimator, winner in itertools.product(ESTIMATORS, range(4)):
        more = [extra.double() for extra in exponentials(estimator, 4, 1)]
        given = (noise_for(winner), double(TAU), *more)
        gradient = gradient_of(sampler(estimator), LOGITS, WEIGHT, *given)
        assert np.abs(gradient.sum()) < 1e-12
