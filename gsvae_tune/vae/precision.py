"""How float32 matrix products are computed: exactly as fast as this machine can, or rounded.

PyTorch's CPU build sends float32 products to MKL, which uses half the vector width that AMD
processors with AVX-512 have. Allowing bfloat16 makes PyTorch call oneDNN instead. Only on
processors with matrix units for bfloat16 does oneDNN then round; elsewhere it computes in float32
at full width. Which of the two it is, a probe finds out, and rounding is not accepted unasked.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from gsvae_tune.study.config import Precision

# Error over sum |a||b| of a product with 512 terms: float32 makes 2e-7, bfloat16 over 2e-5.
_FLOAT32_ERROR = 2e-6


def product(precision: Precision) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Set this process up for a precision; return its affine product (bias, inputs, weight).

    float32 is exact; tf32 lets NVIDIA GPUs round operands to 10 bits of mantissa and changes
    nothing elsewhere; bfloat16 rounds operands and results to 7 bits on every device and
    accumulates in float32.

    PyTorch has one such setting a process: it holds for the caller's own products too, and until
    this is called again.
    """
    torch.backends.cuda.matmul.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    onednn = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    onednn.fp32_precision = "bf16" if onednn_is_exact() else "ieee"
    return _rounded if precision == "bfloat16" else torch.baddbmm


def _rounded(bias: Tensor, inputs: Tensor, weight: Tensor) -> Tensor:
    bias, inputs, weight = (x.to(torch.bfloat16) for x in (bias, inputs, weight))
    return torch.baddbmm(bias, inputs, weight).to(torch.float32)


@functools.cache
def onednn_is_exact() -> bool:
    """Return whether oneDNN, where it may use bfloat16, computes to float32's accuracy here."""
    onednn = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = onednn.fp32_precision
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(2, 128, 512, generator=generator)
    right = torch.randn(2, 512, 256, generator=generator)
    scale = (left.double().abs() @ right.double().abs()).max()
    exact = left.double() @ right.double()
    try:
        onednn.fp32_precision = "bf16"
        products = (
            left @ right,
            left.mT.contiguous().mT @ right,
            left @ right.mT.contiguous().mT,
        )
    except RuntimeError:
        return False
    finally:
        onednn.fp32_precision = before
    return all(bool((found - exact).abs().max() < _FLOAT32_ERROR * scale) for found in products)
