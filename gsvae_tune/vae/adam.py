"""Adam (Kingma and Ba 2015, arXiv 1412.6980, algorithm 1) on PyTorch's fused kernel.

torch.optim.Adam(fused=True) calls the same kernel. But making one imports PyTorch's compiler, which
takes as long as importing PyTorch itself, in every worker process; and its bookkeeping is a tenth
of a small training step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8  # the paper's, and torch.optim's


class FusedAdam:
    """Adam without weight decay.

    Args:
        parameters: float32, all on one device.
        learning_rate: the paper's alpha.
    """

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float) -> None:
        self._parameters = list(parameters)
        self._learning_rate = learning_rate
        self._first = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._second = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._step = torch.zeros((), device=self._parameters[0].device)

    @property
    def parameters(self) -> list[Tensor]:
        """What it trains, in the order given."""
        return list(self._parameters)

    @property
    def moments(self) -> list[Tensor]:
        """Running means of gradients, then of their squares; each shaped like its parameter."""
        return self._first + self._second

    def zero_grad(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter by its gradient; each must have one."""
        self._step += 1
        torch._fused_adam_(  # the kernel has no public name
            self._parameters,
            [p.grad for p in self._parameters if p.grad is not None],
            self._first,
            self._second,
            [],
            [self._step] * len(self._parameters),
            lr=self._learning_rate,
            beta1=_BETA_1,
            beta2=_BETA_2,
            weight_decay=0.0,
            eps=_EPSILON,
            amsgrad=False,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Any]:
        return {"first": self._first, "second": self._second, "step": self._step}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave.

        Raises:
            ValueError: it belongs to other parameters.
        """
        saved = [*state["first"], *state["second"]]
        if [tensor.shape for tensor in saved] != [tensor.shape for tensor in self.moments]:
            raise ValueError("optimizer state of another model")
        for tensor, value in zip(self.moments, saved, strict=True):
            tensor.copy_(value)
        self._step.copy_(state["step"])
