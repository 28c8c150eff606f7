"""Rules: how one branch's temperature moves if left alone.

A rule is a small frozen dataclass whose fields are its settings. ``move`` knows no losses and no
range: couplings decide which temperature a rule starts from, the controller keeps the range.

To add one: subclass `Rule`, give it a ``name``, list it in `RULES`; the contract test and the
search spaces pick it up from there.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rule(ABC):
    """One way for a temperature to move at a decision."""

    name: ClassVar[str]

    @abstractmethod
    def move(self, tau: Array, epoch: int, elapsed: int) -> Array:
        """Return the temperature after a decision, before it is clipped to the active range.

        Args:
            tau: temperatures, any shape, > 0.
            epoch: epochs finished so far, >= 1.
            elapsed: epochs since the previous decision, >= 1.
        """


@dataclass(frozen=True)
class Hold(Rule):
    """Stay."""

    name: ClassVar[str] = "hold"

    def move(self, tau: Array, epoch: int, elapsed: int) -> Array:
        return tau.copy()


@dataclass(frozen=True)
class Cool(Rule):
    """Multiply by ``factor`` in (0, 1] at each decision."""

    factor: float
    name: ClassVar[str] = "cool"

    def move(self, tau: Array, epoch: int, elapsed: int) -> Array:
        return tau * self.factor


@dataclass(frozen=True)
class Warm(Rule):
    """Divide by ``factor`` in (0, 1] at each decision: the exact inverse of `Cool`."""

    factor: float
    name: ClassVar[str] = "warm"

    def move(self, tau: Array, epoch: int, elapsed: int) -> Array:
        return tau / self.factor


@dataclass(frozen=True)
class StepDown(Rule):
    """Subtract ``step`` at each decision; below ``step`` the range's lower end takes over."""

    step: float
    name: ClassVar[str] = "step-down"

    def move(self, tau: Array, epoch: int, elapsed: int) -> Array:
        return tau - self.step


@dataclass(frozen=True)
class StepUp(Rule):
    """Add ``step`` at each decision."""

    step: float
    name: ClassVar[str] = "step-up"

    def move(self, tau: Array, epoch: int, elapsed: int) -> Array:
        return tau + self.step


@dataclass(frozen=True)
class Exponential(Rule):
    """Decay by exp(-rate) per optimizer step (Jang et al. 2017, arXiv 1611.01144, section 3).

    Jang's r lies in {1e-5, 1e-4}; here it acts on the present temperature and not on a clock, so
    that a branch that was pulled elsewhere goes on from there.
    """

    rate: float
    steps_per_epoch: int
    name: ClassVar[str] = "exponential"

    def move(self, tau: Array, epoch: int, elapsed: int) -> Array:
        return tau * math.exp(-self.rate * self.steps_per_epoch * elapsed)


@dataclass(frozen=True)
class Cosine(Rule):
    """Close the distance to ``tau_min`` along a half cosine that ends at ``horizon`` epochs."""

    horizon: int
    tau_min: float
    name: ClassVar[str] = "cosine"

    def move(self, tau: Array, epoch: int, elapsed: int) -> Array:
        before, after = self._height(epoch - elapsed), self._height(epoch)
        share = after / before if before > 0 else 0.0
        return self.tau_min + (tau - self.tau_min) * share

    def _height(self, epoch: int) -> float:
        return 0.5 * (1.0 + math.cos(math.pi * min(epoch, self.horizon) / self.horizon))


@dataclass(frozen=True)
class Return(Rule):
    """Go back towards the starting temperature: log(tau / tau_start) shrinks by ``factor``."""

    factor: float
    tau_start: float
    name: ClassVar[str] = "return"

    def move(self, tau: Array, epoch: int, elapsed: int) -> Array:
        moved: Array = self.tau_start * (tau / self.tau_start) ** self.factor
        return moved


RULES: dict[str, type[Rule]] = {
    rule.name: rule for rule in (Hold, Cool, Warm, StepDown, StepUp, Exponential, Cosine, Return)
}
