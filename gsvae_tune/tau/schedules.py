"""Open-loop schedules: the temperature as a function of the epoch alone, for baselines.

``tau_at(epoch)`` gives the temperature in force AFTER ``epoch`` finished epochs, so ``tau_at(0)``
is the starting temperature. Epochs past a schedule's end keep its last value.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar


@dataclass(frozen=True)
class Schedule(ABC):
    """A temperature that depends on nothing but time."""

    name: ClassVar[str]

    def __post_init__(self) -> None:
        """Refuse settings with which a temperature would not be positive and falling.

        Raises:
            ValueError: naming the setting, its value and what is legal.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            whole = field.name in {"epochs", "steps_per_epoch", "refresh_steps"}
            ceiling = 1.0 if field.name == "factor" else math.inf
            if whole and not (isinstance(value, int) and value >= 1):
                raise ValueError(f"{field.name} is {value!r}; legal: a whole number >= 1")
            if not whole and not (0 < value <= ceiling and value < math.inf):
                legal = "a number in (0, 1]" if field.name == "factor" else "a finite number > 0"
                raise ValueError(f"{field.name} is {value!r}; legal: {legal}")

    @abstractmethod
    def tau_at(self, epoch: int) -> float:
        """Return the temperature after ``epoch`` finished epochs (epoch >= 0)."""


@dataclass(frozen=True)
class Constant(Schedule):
    """One temperature for ever."""

    tau_start: float
    name: ClassVar[str] = "constant"

    def tau_at(self, epoch: int) -> float:
        return self.tau_start


@dataclass(frozen=True)
class FixedFactor(Schedule):
    """Times ``factor`` in (0, 1] each epoch, never below ``floor``: the baseline of the thesis."""

    tau_start: float
    factor: float
    floor: float
    name: ClassVar[str] = "fixed-factor"

    def tau_at(self, epoch: int) -> float:
        return max(self.floor, self.tau_start * self.factor**epoch)


@dataclass(frozen=True)
class Exponential(Schedule):
    """tau = max(floor, tau_start exp(-rate t)), t the optimizer step, renewed every N steps.

    Jang et al. 2017 (arXiv 1611.01144): tau_start 1, floor 0.5, rate in {1e-5, 1e-4}, N in
    {500, 1000}. Read at epoch ends: N below one epoch acts as one epoch.
    """

    tau_start: float
    rate: float
    floor: float
    steps_per_epoch: int
    refresh_steps: int = 1
    name: ClassVar[str] = "exponential"

    def tau_at(self, epoch: int) -> float:
        step = epoch * self.steps_per_epoch // self.refresh_steps * self.refresh_steps
        return max(self.floor, self.tau_start * math.exp(-self.rate * step))


@dataclass(frozen=True)
class Linear(Schedule):
    """A straight line from ``tau_start`` to ``tau_end`` over ``epochs`` epochs."""

    tau_start: float
    tau_end: float
    epochs: int
    name: ClassVar[str] = "linear"

    def tau_at(self, epoch: int) -> float:
        done = min(epoch / self.epochs, 1.0)
        return self.tau_start * (1.0 - done) + self.tau_end * done


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from ``tau_start`` to ``tau_end`` over ``epochs`` epochs (as DALL-E's dVAE)."""

    tau_start: float
    tau_end: float
    epochs: int
    name: ClassVar[str] = "cosine"

    def tau_at(self, epoch: int) -> float:
        height = 0.5 * (1.0 + math.cos(math.pi * min(epoch / self.epochs, 1.0)))
        return self.tau_start * height + self.tau_end * (1.0 - height)


SCHEDULES: dict[str, type[Schedule]] = {
    schedule.name: schedule for schedule in (Constant, FixedFactor, Exponential, Linear, Cosine)
}
