"""Temperatures that are trained with the weights, by the gradient of the training loss.

A learned temperature acts like a regularization of the codes' entropy (Jang 2017); straight-through
with one is the baseline of ARSM's public code.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from gsvae_tune.tau import LearnedController


class LearnedTau:
    """log tau of all members as a parameter, kept inside the controller's range.

    Args:
        controller: gives the temperatures to start from and is told where they went.
        device: where they train.
    """

    def __init__(self, controller: LearnedController, device: torch.device) -> None:
        self._controller = controller
        start = torch.tensor(np.log(controller.tau), dtype=torch.float32, device=device)
        self.log = nn.Parameter(start.view(-1, 1, 1, 1))  # (members, 1, 1, 1)

    @property
    def value(self) -> Tensor:
        """Temperatures, (members, 1, 1, 1), without a gradient."""
        return self.log.detach().exp()

    @torch.no_grad()
    def clamp(self) -> None:
        """Put back what a step has moved out of the range.

        The logarithm is clamped and not the temperature, which would lose its gradient there.
        """
        low, high = self._controller.range
        self.log.clamp_(math.log(low), math.log(high))

    def report(self) -> None:
        """Tell the controller where the temperatures are now."""
        tau = self.log.detach().double().exp().cpu().numpy().reshape(-1, 2)
        # The range's ends need not be float32 numbers: their rounded logarithms can lie outside.
        self._controller.observe(np.clip(tau, *self._controller.range))

    @torch.no_grad()
    def load(self, log: Tensor | None) -> None:
        """Take over what `log` was.

        Raises:
            ValueError: it belongs to another training.
        """
        if log is None or log.shape != self.log.shape:
            raise ValueError("checkpoint of a training whose temperatures are not these")
        self.log.copy_(log)
