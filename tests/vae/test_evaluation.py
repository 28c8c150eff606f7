"""Bounds of a tiny code against exact enumeration: ELBO <= IWAE-2 <= IWAE-10 <= log p(x)."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import special

from gsvae_tune.study.config import ModelConfig
from gsvae_tune.vae import checkpoint, evaluation
from gsvae_tune.vae.evaluation import evaluate, evaluate_test, negative_iwae, rebuild
from gsvae_tune.vae.network import StackedVAE

LATENTS, CATEGORIES, PIXELS = 2, 3, 6
CONFIG = ModelConfig(hidden=(5,), latents=LATENTS, categories=CATEGORIES)
IMAGES = torch.tensor(
    np.random.default_rng(0).integers(0, 2, (8, PIXELS), dtype=np.uint8) * np.uint8(255)
)
SEEDS = [5, 6]


@pytest.fixture
def model():
    model = StackedVAE(CONFIG, PIXELS, SEEDS)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():  # far from the prior, and no two members alike
            parameter.mul_(2.0).add_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


def enumerated(model, member):
    """All 9 codes by numpy: q(z|x) and log weights, each (images, codes); analytic KL (images,)."""
    weights = {name: value[member].double().numpy() for name, value in model.state_dict().items()}

    def perceptron(name, values):
        hidden = np.maximum(values @ weights[f"{name}.0.weight"] + weights[f"{name}.0.bias"], 0)
        return hidden @ weights[f"{name}.2.weight"] + weights[f"{name}.2.bias"]

    images = IMAGES.double().numpy() / 255
    log_q = special.log_softmax(perceptron("encoder", images).reshape(-1, LATENTS, CATEGORIES), 2)
    kl = (np.exp(log_q) * (log_q + math.log(CATEGORIES))).sum((1, 2))
    of_codes, log_weights = [], []
    for pair in itertools.product(range(CATEGORIES), repeat=LATENTS):
        code = np.zeros((LATENTS, CATEGORIES))
        code[range(LATENTS), pair] = 1.0
        pixels = perceptron("decoder", code.reshape(1, -1))
        log_p_x = (images * pixels - np.logaddexp(0, pixels)).sum(1)
        of_codes.append((log_q * code).sum((1, 2)))
        log_weights.append(log_p_x - LATENTS * math.log(CATEGORIES) - of_codes[-1])
    return np.exp(np.array(of_codes).T), np.array(log_weights).T, kl


def many(model, member, draws):
    """A model of one member many times over, and as many seeds: independent draws."""
    return model.subset([member] * draws), range(draws)


def mean_and_error(values):
    values = values.numpy()
    return values.mean(), values.std(ddof=1) / math.sqrt(len(values))


def test_one_hot_elbo_is_the_enumerated_one(model):
    for member in range(4):
        q, log_weights, kl = enumerated(model, member)
        np.testing.assert_allclose(q.sum(1), 1.0)
        exact = -(q * log_weights).sum(1).mean()  # the expectation of -log w is the negative ELBO
        copies, seeds = many(model, member, 400)
        told = evaluate(copies, IMAGES, "test", seeds, None, samples=4)
        estimate, error = mean_and_error(told.discrete.double())
        assert abs(estimate - exact) < 4 * error
        assert error < 0.05
        np.testing.assert_allclose(told.kl.numpy(), kl.mean(), rtol=1e-5)


def test_single_sample_elbo_then_iwae_then_the_exact_likelihood(model):
    for member in range(4):
        q, log_weights, _ = enumerated(model, member)
        exact = special.logsumexp(np.log(q) + log_weights, axis=1)
        pairs = np.logaddexp(log_weights[:, :, None], log_weights[:, None, :]) - math.log(2)
        expected = {
            1: (q * log_weights).sum(1).mean(),
            2: (q[:, :, None] * q[:, None, :] * pairs).sum((1, 2)).mean(),  # all pairs of codes
        }
        copies, seeds = many(model, member, 400)
        bounds = []
        for k in (1, 2, 10, 100):
            bound = -negative_iwae(copies, IMAGES, "test", seeds, samples=k)
            bounds.append(mean_and_error(bound))
            if k in expected:
                assert abs(bounds[-1][0] - expected[k]) < 4 * bounds[-1][1]
        bounds.append((exact.mean(), 0.0))
        for (low, low_error), (high, high_error) in itertools.pairwise(bounds):
            assert low <= high + 4 * math.hypot(low_error, high_error)
        assert bounds[0][0] < bounds[2][0] - 0.1  # and there was something to gain


def test_iwae_converges_to_the_exact_likelihood(model, monkeypatch):
    monkeypatch.setattr(evaluation, "EVALUATION_BATCH", 5)  # two blocks
    samples = 5000
    found = -negative_iwae(model, IMAGES, "test", SEEDS, samples=samples, rows=1000)
    for member in range(4):
        q, log_weights, _ = enumerated(model, member)
        exact = special.logsumexp(np.log(q) + log_weights, axis=1)
        # delta method: log of a mean of weights with this relative variance each
        variance = (q * np.exp(log_weights - exact[:, None]) ** 2).sum(1) - 1
        error = math.sqrt(variance.sum() / samples) / len(exact)
        bias = variance.mean() / (2 * samples)
        assert abs(found[member].item() - exact.mean()) < 4 * error + bias
        assert error < 0.05


@pytest.mark.parametrize("rows", [1, 8, 24, 70, 100_000])
def test_how_many_codes_are_decoded_at_once_does_not_matter(model, rows):
    whole = negative_iwae(model, IMAGES, "test", SEEDS, samples=25, rows=1000)
    again = negative_iwae(model, IMAGES, "test", SEEDS, samples=25, rows=rows)
    torch.testing.assert_close(again, whole, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("count", "samples"), [(8, 100), (70, 3), (45, 1)])
def test_memory_is_bounded_whatever_the_images_and_samples(model, monkeypatch, count, samples):
    monkeypatch.setattr(evaluation, "EVALUATION_BATCH", 20)
    seen = []
    decode = StackedVAE.decode
    monkeypatch.setattr(
        StackedVAE, "decode", lambda self, codes: (seen.append(codes.shape), decode(self, codes))[1]
    )
    images = IMAGES.repeat(9, 1)[:count]
    calls = []
    evaluate_test(model, images, SEEDS, "ab", [0.5, 1.0], samples=2, iwae_samples=samples,
                  between_chunks=lambda: calls.append(len(seen)))  # fmt: skip
    assert max(shape[-1] for shape in seen) <= 20
    assert {shape[0] for shape in seen} == {2}  # one branch a replicate
    assert calls[-1] == len(seen)
    assert len(calls) >= 3


def test_only_the_given_branch_of_each_replicate_is_measured(model):
    told = evaluate(model, IMAGES, "test", SEEDS, torch.full((4, 1, 1, 1), 0.5), samples=3)
    bound = negative_iwae(model, IMAGES, "test", SEEDS, samples=7)
    rows = evaluate_test(model, IMAGES, SEEDS, "ba", [0.5, 0.5], samples=3, iwae_samples=7)
    for row, member in zip(rows, (1, 2), strict=True):
        assert (row.seed, row.branch) == (SEEDS[member // 2], "ab"[member % 2])
        assert (row.tau, row.iwae_samples) == (0.5, 7)
        assert row.test_neg_elbo_nats == pytest.approx(told.discrete[member].item(), rel=1e-5)
        assert row.test_kl_nats == pytest.approx(told.kl[member].item(), rel=1e-5)
        assert row.test_iwae_nats == pytest.approx(bound[member].item(), rel=1e-5)
        assert row.test_active_units == told.active_units[member].item()
        gap = (told.relaxed - told.discrete)[member].item()
        assert row.relaxed_gap_nats == pytest.approx(gap, abs=1e-4)
        assert 1.0 <= row.code_perplexity <= CATEGORIES
    with pytest.raises(ValueError):
        evaluate_test(model, IMAGES, SEEDS, "ac", [0.5, 0.5], samples=1, iwae_samples=1)
    with pytest.raises(ValueError):
        evaluate_test(model, IMAGES, SEEDS, "a", [0.5, 0.5], samples=1, iwae_samples=1)


def test_a_replicate_measures_the_same_alone_and_together(model):
    how = {"samples": 2, "iwae_samples": 30}
    together = evaluate_test(model, IMAGES, SEEDS, "ab", [0.5, 1.0], **how)
    for replicate, row in enumerate(together):
        (alone,) = evaluate_test(
            model, IMAGES, [SEEDS[replicate]], [row.branch], [row.tau],
            replicates=[replicate], **how,
        )  # fmt: skip
        for name, value in vars(row).items():
            same = value if isinstance(value, str) else pytest.approx(value, rel=1e-6)
            assert getattr(alone, name) == same


def test_relaxed_codes_near_vertices_and_the_gap_follow_the_temperature(model):
    def at(tau):
        return evaluate_test(model, IMAGES, SEEDS, "aa", [tau, tau], samples=1, iwae_samples=1)

    for cold, warm, hot in zip(at(1e-4), at(0.5), at(50.0), strict=True):
        assert cold.vertex_share == 1.0
        assert cold.relaxed_gap_nats == pytest.approx(0.0, abs=1e-3)
        assert 0.0 < warm.vertex_share < 1.0
        assert hot.vertex_share == 0.0
        assert abs(hot.relaxed_gap_nats) > 0.1
        assert cold.test_neg_elbo_nats == hot.test_neg_elbo_nats  # no function of tau
        assert cold.test_iwae_nats == hot.test_iwae_nats


def test_a_model_is_rebuilt_from_its_trainings_checkpoint(make, splits, tmp_path):
    training = make()
    list(training.epochs())
    checkpoint.save(tmp_path / "checkpoint.pt", training.state_dict(with_optimizer=False))
    weights = checkpoint.load(tmp_path / "checkpoint.pt")["model"]
    config = ModelConfig(hidden=(12,), latents=3, categories=4)
    again = rebuild(config, splits.pixels, 2, "float32", weights)
    images = torch.tensor(splits.validation)
    how = {"samples": 2, "iwae_samples": 5}
    one, other = (
        evaluate_test(model, images, [11, 22], "ab", [0.5, 1.0], **how)
        for model in (training.model, again)
    )
    assert one == other
    with pytest.raises(ValueError, match="weights of another model"):
        rebuild(config, splits.pixels, 3, "float32", weights)
