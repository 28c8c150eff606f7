"""Arms: training methods with settings of their own.

An arm is a validated set of settings and a recipe for its controller. Field descriptions and
bounds are what the JSON schema and the error messages show; defaults are what a setting has that a
space does not name.

To add one: subclass `Arm`, list it in `ARMS`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from gsvae_tune.study.config import Estimator, Signal
from gsvae_tune.study.parameters import Frozen
from gsvae_tune.tau import (
    COUPLINGS,
    RULES,
    Controller,
    OpenLoopController,
    PairController,
)
from gsvae_tune.tau.schedules import FixedFactor

Temperature = Annotated[float, Field(gt=0.0, le=1000.0)]
Factor = Annotated[float, Field(gt=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]


def _one_of(what: str, family: Iterable[str]) -> tuple[AfterValidator, object]:
    names = list(family)

    def check(name: str) -> str:
        if name not in names:
            raise ValueError(f"unknown {what} {name!r}; legal: {', '.join(names)}")
        return name

    return AfterValidator(check), Field(json_schema_extra={"enum": [*names]})


RuleName = Annotated[(str, *_one_of("rule", RULES))]
CouplingName = Annotated[(str, *_one_of("coupling", COUPLINGS))]


class Arm(Frozen):
    """What every arm has. The learning rate is here because its best value depends on tau."""

    learning_rate: Positive = Field(3e-3, le=1.0, description="of Adam, for both members")
    estimator: Estimator = Field(
        "soft",
        description="gradient estimator: relaxed codes, or one-hot codes with their gradient",
    )

    # (lower, upper, strict): settings that must be in this order in every configuration
    ordered: ClassVar[tuple[tuple[str, str, bool], ...]] = ()

    @abstractmethod
    def controller(self, replicates: int, steps_per_epoch: int, epochs: int) -> Controller:
        """Return a fresh controller for one trial."""

    @property
    def told(self) -> Signal:
        """The loss its controller is told."""
        return "control"


class PairArm(Arm):
    """Two temperatures moved by two losses (closed loop)."""

    tau_start: Temperature = Field(1.0, description="temperature of both branches at the start")
    tau_min: Temperature = Field(0.05, description="lower end of the active range")
    tau_max: Temperature = Field(5.0, description="upper end of the active range")
    rule_a: RuleName = Field("cool", description="how branch a moves if left alone")
    rule_b: RuleName = Field("warm", description="how branch b moves if left alone")
    factor_a: Factor = Field(0.9, description="move of cool, warm and return on branch a")
    factor_b: Factor = Field(0.9, description="move of cool, warm and return on branch b")
    step_a: Positive = Field(0.05, description="move of step-down and step-up on branch a")
    step_b: Positive = Field(0.05, description="move of step-down and step-up on branch b")
    rate_a: Positive = Field(1e-4, description="decay per optimizer step of exponential, branch a")
    rate_b: Positive = Field(1e-4, description="decay per optimizer step of exponential, branch b")
    coupling: CouplingName = Field("follow-winner", description="how the two losses act")
    pull: float = Field(0.5, ge=0.0, le=1.0, description="of coupling loser-follows, in log tau")
    gain: Positive = Field(0.1, description="step length of coupling finite-difference")
    period: int = Field(1, ge=1, le=1_000_000, description="epochs between decisions")
    smoothing: float = Field(0.0, ge=0.0, lt=1.0, description="weight of the past losses")
    margin: float = Field(0.0, ge=0.0, description="losses closer than this tie, nats per example")
    collapse_guard: bool = Field(True, description="cool both where the losses carry no signal")
    signal: Signal = Field(
        "control",
        description="the loss the controller is told: one-hot codes on the control split, relaxed "
        "codes on the control split, or the training loss",
    )

    ordered = (
        ("tau_min", "tau_max", True),
        ("tau_min", "tau_start", False),
        ("tau_start", "tau_max", False),
    )

    def controller(self, replicates: int, steps_per_epoch: int, epochs: int) -> Controller:
        own = self.model_dump(exclude={"learning_rate", "estimator", "signal"})
        return PairController(
            **own, replicates=replicates, steps_per_epoch=steps_per_epoch, horizon=epochs
        )

    @property
    def told(self) -> Signal:
        return self.signal


class FixedFactorArm(Arm):
    """The baseline: each temperature times a fixed factor an epoch, down to a floor (open loop).

    Its second member runs a second factor. A baseline that trained one schedule twice would throw
    half of its compute away; this one gets two tries a replicate, as the pair does.
    """

    tau_start: Temperature = Field(1.0, description="temperature of both members at the start")
    tau_min: Temperature = Field(0.5, description="floor of the schedule")
    factor_a: Factor = Field(0.98, description="factor per epoch, member a")
    factor_b: Factor = Field(0.95, description="factor per epoch, member b")

    ordered = (("tau_min", "tau_start", False),)

    def controller(self, replicates: int, steps_per_epoch: int, epochs: int) -> Controller:
        schedule_a, schedule_b = (
            FixedFactor(self.tau_start, factor, self.tau_min)
            for factor in (self.factor_a, self.factor_b)
        )
        return OpenLoopController(schedule_a, schedule_b, replicates)


ARMS: dict[str, type[Arm]] = {"pair": PairArm, "fixed-factor": FixedFactorArm}
