"""Arms: training methods with settings of their own.

An arm is a validated set of settings and a recipe for its controller. Field descriptions and
bounds are what the JSON schema and the error messages show; defaults are what a setting has that a
space does not name.

Every arm trains two members a replicate. Those of an open-loop arm have a setting each (`..._a`,
`..._b`): training one schedule twice would throw half of its compute away, and the pair gets two
tries a replicate as well.

To add one: subclass `Arm`, list it in `ARMS`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, field_validator

from gsvae_tune.study.config import Estimator, Signal
from gsvae_tune.study.errors import InputError
from gsvae_tune.study.loading import legal_keys
from gsvae_tune.study.parameters import Frozen
from gsvae_tune.tau import (
    COUPLINGS,
    RULES,
    Controller,
    LearnedController,
    OpenLoopController,
    PairController,
    RandomWalkController,
    ReplayController,
)
from gsvae_tune.tau.schedules import Constant, Cosine, Exponential, FixedFactor, Linear

Temperature = Annotated[float, Field(gt=0.0, le=1000.0)]
Factor = Annotated[float, Field(gt=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
TauPath = list[tuple[Temperature, Temperature]]  # one pair an epoch


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
        description="gradient estimator: relaxed codes (soft), or one-hot codes with a surrogate's "
        "gradient",
    )
    rao_samples: int = Field(
        10, ge=1, le=1000, description="conditional samples of estimator gumbel-rao"
    )
    tau_forward: Temperature = Field(
        1.0,
        description="of estimator decoupled: temperature of the one-hot sample; tau is the "
        "gradient's",
    )

    # (lower, upper, strict): settings that must be in this order in every configuration
    ordered: ClassVar[tuple[tuple[str, str, bool], ...]] = ()
    # Whether it is searched; else its configurations are another arm's.
    searched: ClassVar[bool] = True

    @abstractmethod
    def controller(self, seeds: Sequence[int], steps_per_epoch: int, epochs: int) -> Controller:
        """Return a fresh controller for one trial; ``seeds``: one a replicate."""

    @property
    def told(self) -> Signal:
        """The loss its controller is told."""
        return "control"


class _RuledArm(Arm):
    """Two branches, each with a rule."""

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
    period: int = Field(1, ge=1, le=1_000_000, description="epochs between decisions")

    ordered = (
        ("tau_min", "tau_max", True),
        ("tau_min", "tau_start", False),
        ("tau_start", "tau_max", False),
    )


class PairArm(_RuledArm):
    """Two temperatures moved by two losses (closed loop)."""

    coupling: CouplingName = Field("follow-winner", description="how the two losses act")
    pull: float = Field(0.5, ge=0.0, le=1.0, description="of coupling loser-follows, in log tau")
    gain: Positive = Field(0.1, description="step length of coupling finite-difference")
    smoothing: float = Field(0.0, ge=0.0, lt=1.0, description="weight of the past losses")
    margin: float = Field(0.0, ge=0.0, description="losses closer than this tie, nats per example")
    collapse_guard: bool = Field(True, description="cool both where the losses carry no signal")
    signal: Signal = Field(
        "control",
        description="the loss the controller is told: one-hot codes on the control split, relaxed "
        "codes on the control split, or the training loss",
    )

    def controller(self, seeds: Sequence[int], steps_per_epoch: int, epochs: int) -> Controller:
        own = self.model_dump(exclude={*Arm.model_fields, "signal"})
        return PairController(
            **own, replicates=len(seeds), steps_per_epoch=steps_per_epoch, horizon=epochs
        )

    @property
    def told(self) -> Signal:
        return self.signal


class SingleArm(_RuledArm):
    """Each branch's rule alone: the pair without its losses (open loop)."""

    def controller(self, seeds: Sequence[int], steps_per_epoch: int, epochs: int) -> Controller:
        own = self.model_dump(exclude={*Arm.model_fields})
        return PairController(
            **own,
            coupling="independent",
            collapse_guard=False,
            replicates=len(seeds),
            steps_per_epoch=steps_per_epoch,
            horizon=epochs,
        )


class RandomWalkArm(Arm):
    """Moves drawn at random, of the pair's step sizes: does any moving help?"""

    tau_start: Temperature = Field(1.0, description="temperature of both branches at the start")
    tau_min: Temperature = Field(0.05, description="lower end of the active range")
    tau_max: Temperature = Field(5.0, description="upper end of the active range")
    factor_a: Factor = Field(0.9, description="a move multiplies or divides by it, branch a")
    factor_b: Factor = Field(0.9, description="a move multiplies or divides by it, branch b")
    period: int = Field(1, ge=1, le=1_000_000, description="epochs between moves")

    ordered = _RuledArm.ordered

    def controller(self, seeds: Sequence[int], steps_per_epoch: int, epochs: int) -> Controller:
        own = self.model_dump(exclude={*Arm.model_fields})
        return RandomWalkController(**own, seeds=seeds)


class YokedArm(Arm):
    """Replays the temperature paths of another arm's trial on other seeds: is it the feedback?

    Each replicate gets the path that another seed's losses made. Temperatures only: where its
    original's losses also decided whose weights are copied, that feedback is gone too.
    """

    tau_paths: list[TauPath] = Field(
        min_length=1, description="(replicates, epochs, 2): the recorded temperatures"
    )

    searched = False

    def controller(self, seeds: Sequence[int], steps_per_epoch: int, epochs: int) -> Controller:
        paths = self.tau_paths
        return ReplayController([paths[index % len(paths)] for index in range(len(seeds))])


class LearnedTauArm(Arm):
    """log tau trained with the weights, by the gradient of the training loss.

    Not with estimator reinmax, in which no gradient reaches tau.
    """

    tau_a: Temperature = Field(1.0, description="temperature of member a at the start")
    tau_b: Temperature = Field(0.5, description="temperature of member b at the start")
    tau_min: Temperature = Field(0.05, description="lower end of the active range")
    tau_max: Temperature = Field(5.0, description="upper end of the active range")

    ordered = (
        ("tau_min", "tau_max", True),
        ("tau_min", "tau_a", False),
        ("tau_min", "tau_b", False),
        ("tau_a", "tau_max", False),
        ("tau_b", "tau_max", False),
    )

    @field_validator("estimator")
    @classmethod
    def _tau_has_a_gradient(cls, estimator: Estimator) -> Estimator:
        if estimator == "reinmax":
            raise ValueError(
                "'reinmax' gives tau no gradient; legal: soft, straight-through, gumbel-rao, "
                "decoupled"
            )
        return estimator

    def controller(self, seeds: Sequence[int], steps_per_epoch: int, epochs: int) -> Controller:
        return LearnedController(self.tau_a, self.tau_b, self.tau_min, self.tau_max, len(seeds))


class FixedFactorArm(Arm):
    """The baseline: each temperature times a fixed factor an epoch, down to a floor (open loop)."""

    tau_start: Temperature = Field(1.0, description="temperature of both members at the start")
    tau_min: Temperature = Field(0.5, description="floor of the schedule")
    factor_a: Factor = Field(0.98, description="factor per epoch, member a")
    factor_b: Factor = Field(0.95, description="factor per epoch, member b")

    ordered = (("tau_min", "tau_start", False),)

    def controller(self, seeds: Sequence[int], steps_per_epoch: int, epochs: int) -> Controller:
        schedule_a, schedule_b = (
            FixedFactor(self.tau_start, factor, self.tau_min)
            for factor in (self.factor_a, self.factor_b)
        )
        return OpenLoopController(schedule_a, schedule_b, len(seeds))


class ConstantArm(Arm):
    """One temperature for ever; a search over it finds the best constant (open loop)."""

    tau_a: Temperature = Field(0.5, description="temperature of member a")
    tau_b: Temperature = Field(1.0, description="temperature of member b")

    def controller(self, seeds: Sequence[int], steps_per_epoch: int, epochs: int) -> Controller:
        return OpenLoopController(Constant(self.tau_a), Constant(self.tau_b), len(seeds))


class ExponentialArm(Arm):
    """tau = max(tau_min, tau_start exp(-rate t)), t in steps (Jang et al. 2017; open loop)."""

    tau_start: Temperature = Field(1.0, description="temperature of both members at the start")
    tau_min: Temperature = Field(0.5, description="floor of the schedule")
    rate_a: Positive = Field(1e-4, description="decay per optimizer step, member a")
    rate_b: Positive = Field(1e-5, description="decay per optimizer step, member b")
    refresh_steps: int = Field(
        500, ge=1, le=1_000_000_000, description="optimizer steps between renewals of tau"
    )

    ordered = (("tau_min", "tau_start", False),)

    def controller(self, seeds: Sequence[int], steps_per_epoch: int, epochs: int) -> Controller:
        schedule_a, schedule_b = (
            Exponential(self.tau_start, rate, self.tau_min, steps_per_epoch, self.refresh_steps)
            for rate in (self.rate_a, self.rate_b)
        )
        return OpenLoopController(schedule_a, schedule_b, len(seeds))


class _RampArm(Arm):
    """From one temperature to another over all epochs."""

    tau_start: Temperature = Field(1.0, description="temperature of both members at the start")
    tau_end_a: Temperature = Field(0.5, description="temperature at the end, member a")
    tau_end_b: Temperature = Field(0.1, description="temperature at the end, member b")

    schedule: ClassVar[type[Linear | Cosine]]

    def controller(self, seeds: Sequence[int], steps_per_epoch: int, epochs: int) -> Controller:
        schedule_a, schedule_b = (
            self.schedule(self.tau_start, end, epochs) for end in (self.tau_end_a, self.tau_end_b)
        )
        return OpenLoopController(schedule_a, schedule_b, len(seeds))


class LinearArm(_RampArm):
    """A straight line from one temperature to another over all epochs (open loop)."""

    schedule = Linear


class CosineArm(_RampArm):
    """Half a cosine from one temperature to another over all epochs (DALL-E's dVAE; open loop)."""

    schedule = Cosine


ARMS: dict[str, type[Arm]] = {
    "pair": PairArm,
    "fixed-factor": FixedFactorArm,
    "constant": ConstantArm,
    "exponential": ExponentialArm,
    "linear": LinearArm,
    "cosine": CosineArm,
    "learned-tau": LearnedTauArm,
    "single": SingleArm,
    "random-walk": RandomWalkArm,
    "yoked": YokedArm,
}


def arm_of(name: str, method: str, where: str = "study") -> type[Arm]:
    """Return the class of an arm's method.

    Args:
        name: the arm's.
        method: its training method.
        where: the file, for the message.

    Raises:
        InputError: there is no such method.
    """
    if method not in ARMS:
        raise InputError(
            f"arms.{name}: unknown method {method!r}",
            where=where,
            legal=f"a method as its name, or as its key method: {legal_keys(method, [*ARMS])}",
        )
    return ARMS[method]
