"""Products stay exact in float32 whichever library computes them."""

import pytest
import torch

from gsvae_tune.vae.precision import onednn_is_exact, product


def error(multiply, members, batch, width, out):
    """Largest error of a product over the largest sum of magnitudes."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(members, width, batch, generator=generator).mT
    weight = torch.randn(members, width, out, generator=generator)
    bias = torch.randn(members, 1, out, generator=generator)
    exact = inputs.double() @ weight.double() + bias.double()
    scale = (inputs.double().abs() @ weight.double().abs()).max()
    return float((multiply(bias, inputs, weight) - exact).abs().max() / scale)


@pytest.mark.parametrize("shape", [(2, 50, 64, 128), (10, 100, 784, 512), (6, 1000, 200, 256)])
def test_float32_products_are_float32_products(shape):
    assert error(product("float32"), *shape) < 1e-6
    assert error(product("tf32"), *shape) < 1e-6  # this is no NVIDIA GPU


def test_bfloat16_rounds_and_no_more_than_that():
    assert 1e-5 < error(product("bfloat16"), 2, 50, 64, 128) < 1e-2


def test_a_library_that_would_round_is_not_used(monkeypatch):
    monkeypatch.setattr("gsvae_tune.vae.precision._FLOAT32_ERROR", 0.0)  # nothing is this exact
    onednn_is_exact.cache_clear()
    try:
        assert not onednn_is_exact()
        product("float32")
        assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
    finally:
        onednn_is_exact.cache_clear()


@pytest.mark.parametrize("setting", ["ieee", "bf16"])
def test_the_probe_leaves_the_setting_as_it_was(setting):
    before = torch.backends.mkldnn.matmul.fp32_precision
    torch.backends.mkldnn.matmul.fp32_precision = setting
    onednn_is_exact.cache_clear()
    onednn_is_exact()
    assert torch.backends.mkldnn.matmul.fp32_precision == setting
    torch.backends.mkldnn.matmul.fp32_precision = before
