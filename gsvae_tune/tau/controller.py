"""Controllers: (temperatures, losses of an epoch) -> temperatures of the next epoch.

`PairController` closes the loop over two losses; `OpenLoopController` plays two schedules and
ignores the losses. Both have one interface, so that a training loop need not know which it has:

    controller = PairController(tau_start=1.0, rule_a="cool", rule_b="warm")
    for epoch in range(epochs):
        losses = train_one_epoch(controller.tau)   # (replicates, 2), nats per example
        controller.update(losses)

What the paper behind this project leaves open (how weights are shared, which loss is read, how
far a temperature moves) is a setting here, never a claim about that paper.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import Enum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gsvae_tune.tau.couplings import COUPLINGS, NO_COPY, Array, Coupling, Ints, Moves
from gsvae_tune.tau.rules import RULES, Rule
from gsvae_tune.tau.schedules import Schedule

BRANCHES = ("a", "b")
COLLAPSED_KL_NATS = 0.1  # a code that carries less than this about its input carries nothing
_STATE_VERSION = 1


class Event(str, Enum):
    """What happened to a replicate's temperatures after an epoch; the value is the sentence."""

    WAITED = "between decisions: both temperatures stay"
    A_WON = "branch a won"
    B_WON = "branch b won"
    TIE = "tie: each branch moved by its own rule"
    COLLAPSED = "collapsed, no signal: both branches cooled"
    SCHEDULED = "both branches follow their schedules"
    ENDED = "ended: a loss was not finite"


@dataclass(frozen=True)
class EndState:
    """Why a replicate ended early: a branch's loss was not finite after an epoch (from 1)."""

    epoch: int
    branch: str

    def __str__(self) -> str:
        return f"diverged: branch {self.branch} had a non-finite loss after epoch {self.epoch}"


class TraceRow(NamedTuple):
    """One replicate's step of the control loop; the losses are those of the epoch just trained."""

    epoch: int
    replicate: int
    tau_a: float  # in force for the next epoch
    tau_b: float
    loss_a: float
    loss_b: float
    event: Event


class Controller(ABC):
    """The interface of every controller, and the state that all of them share."""

    def __init__(self, tau: Array) -> None:
        self._tau = tau
        self._epoch = 0
        self._copy_from: Ints = np.full(len(tau), NO_COPY, dtype=np.int64)
        self._ended: list[EndState | None] = [None] * len(tau)
        self._trace: list[TraceRow] = []

    @property
    def tau(self) -> Array:
        """Temperatures now in force, (replicates, 2), a copy."""
        return self._tau.copy()

    @property
    def replicates(self) -> int:
        return len(self._tau)

    @property
    def epoch(self) -> int:
        """Epochs seen so far."""
        return self._epoch

    @property
    def copy_from(self) -> Ints:
        """Which member's weights to copy into the other now, (replicates,): 0, 1, or -1 (none)."""
        return self._copy_from.copy()

    @property
    def ended(self) -> tuple[EndState | None, ...]:
        """Per replicate, why it ended, or None while it goes on."""
        return tuple(self._ended)

    @property
    def trace(self) -> tuple[TraceRow, ...]:
        """Every update so far, one row a replicate."""
        return tuple(self._trace)

    def update(self, losses: ArrayLike, kl: ArrayLike | None = None) -> Array:
        """Take the losses of one epoch and return the temperatures for the next.

        Args:
            losses: (replicates, 2), nats per example. A non-finite loss ends its replicate: its
                temperatures stay where they are and `ended` says why.
            kl: (replicates, 2), KL(q(z|x) || p(z)) in nats per example, for the collapse guard.

        Returns:
            (replicates, 2), the same as `tau`.

        Raises:
            ValueError: for another shape.
        """
        loss = self._pair_of("losses", losses)
        divergence = None if kl is None else self._pair_of("kl", kl)
        self._epoch += 1
        for replicate, row in enumerate(np.isfinite(loss)):
            if self._ended[replicate] is None and not row.all():
                self._ended[replicate] = EndState(self._epoch, BRANCHES[int(row.argmin())])
        active = np.array([end is None for end in self._ended])
        self._copy_from = np.full(self.replicates, NO_COPY, dtype=np.int64)
        new, events = self._next(loss, divergence, active)
        self._tau = np.where(active[:, None], new, self._tau)
        for replicate, event in enumerate(events):
            shown = event if active[replicate] else Event.ENDED
            tau_a, tau_b = self._tau[replicate].tolist()
            loss_a, loss_b = loss[replicate].tolist()
            row = TraceRow(self._epoch, replicate, tau_a, tau_b, loss_a, loss_b, shown)
            self._trace.append(row)
        return self.tau

    @abstractmethod
    def _next(self, losses: Array, kl: Array | None, active: NDArray[np.bool_]) -> _Step:
        """Return new temperatures and an event per replicate; rows not active are ignored."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that moves, as JSON-compatible Python values (settings are not included)."""
        return {
            "version": _STATE_VERSION,
            "epoch": self._epoch,
            "tau": self._tau.tolist(),
            "copy_from": self._copy_from.tolist(),
            "ended": [None if end is None else asdict(end) for end in self._ended],
            "trace": [
                [*row[:4], *map(_strict, (row.loss_a, row.loss_b)), row.event.name]
                for row in self._trace
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave, on a controller built with the same settings.

        Raises:
            ValueError: for another version or another number of replicates.
        """
        if state["version"] != _STATE_VERSION:
            raise ValueError(
                f"controller state has version {state['version']}; legal: {_STATE_VERSION}"
            )
        if len(state["tau"]) != self.replicates:
            raise ValueError(
                f"controller state holds {len(state['tau'])} replicates; "
                f"this controller has {self.replicates}"
            )
        self._epoch = state["epoch"]
        self._tau = np.array(state["tau"], dtype=np.float64)
        self._copy_from = np.array(state["copy_from"], dtype=np.int64)
        self._ended = [None if end is None else EndState(**end) for end in state["ended"]]
        self._trace = [
            TraceRow._make((*row[:4], float(row[4]), float(row[5]), Event[row[6]]))
            for row in state["trace"]
        ]

    def _pair_of(self, name: str, values: ArrayLike) -> Array:
        array = np.asarray(values, dtype=np.float64)
        if array.shape != self._tau.shape:
            raise ValueError(
                f"{name} must have shape (replicates, 2) = {self._tau.shape}; got {array.shape}"
            )
        return array


_Step = tuple[Array, list[Event]]


def _strict(loss: float) -> float | str:
    """Spell a number that JSON has no sign for; float() reads it back."""
    return loss if np.isfinite(loss) else str(loss)


class OpenLoopController(Controller):
    """Plays one schedule a branch, whatever the losses are (the baselines)."""

    def __init__(self, schedule_a: Schedule, schedule_b: Schedule, replicates: int = 1) -> None:
        self.schedules = (schedule_a, schedule_b)
        _require_whole("replicates", replicates)
        super().__init__(np.tile(self._at(0), (replicates, 1)))

    def _at(self, epoch: int) -> Array:
        return np.array([schedule.tau_at(epoch) for schedule in self.schedules])

    def _next(self, losses: Array, kl: Array | None, active: NDArray[np.bool_]) -> _Step:
        tau = np.tile(self._at(self._epoch), (self.replicates, 1))
        return tau, [Event.SCHEDULED] * self.replicates


class PairController(Controller):
    """Moves the two temperatures of a pair by its two losses, once per epoch.

    Each decision goes: smooth the losses; where a replicate has no signal (collapsed) cool both
    branches; where the losses tie let each branch follow its own rule; elsewhere ask the
    coupling; clip to the active range.

    Args:
        tau_start: temperature of both branches in the first epoch, inside the range.
        tau_min: lower end of the active range, > 0.
        tau_max: upper end of the active range, > tau_min.
        rule_a: how branch a moves if left alone, a key of `RULES`.
        rule_b: the same for branch b.
        coupling: how the losses act, a key of `COUPLINGS`.
        period: epochs between decisions, >= 1.
        smoothing: weight in [0, 1) of the past in the exponential average of the losses.
        margin: losses closer than this are a tie, nats per example, >= 0.
        collapse_guard: cool where the losses carry no signal: the KL of both branches below
            ``collapse_kl``, or both losses equal at different temperatures.
        replicates: independent pairs controlled side by side.
        factor_a: multiplicative move of rules cool, warm and return on branch a, in (0, 1].
        factor_b: the same for branch b.
        step_a: additive move of step-down and step-up on branch a, > 0.
        step_b: the same for branch b.
        rate_a: decay per optimizer step of rule exponential on branch a, > 0.
        rate_b: the same for branch b.
        pull: share of the way, in log tau, that loser-follows pulls the loser, in [0, 1].
        gain: step length of finite-difference, log-temperature per nat per log-temperature, > 0.
        collapse_kl: KL in nats per example under which a branch counts as collapsed, >= 0.
        guard_factor: what the collapse guard multiplies both temperatures by, in (0, 1).
        steps_per_epoch: optimizer steps in an epoch, for rule exponential.
        horizon: epochs over which rule cosine reaches tau_min.

    Raises:
        ValueError: naming the setting, its value and what is legal.
    """

    def __init__(
        self,
        tau_start: float = 1.0,
        tau_min: float = 0.05,
        tau_max: float = 5.0,
        rule_a: str = "cool",
        rule_b: str = "warm",
        coupling: str = "follow-winner",
        period: int = 1,
        smoothing: float = 0.0,
        margin: float = 0.0,
        collapse_guard: bool = True,
        replicates: int = 1,
        *,
        factor_a: float = 0.9,
        factor_b: float = 0.9,
        step_a: float = 0.05,
        step_b: float = 0.05,
        rate_a: float = 1e-4,
        rate_b: float = 1e-4,
        pull: float = 0.5,
        gain: float = 0.1,
        collapse_kl: float = COLLAPSED_KL_NATS,
        guard_factor: float = 0.7,
        steps_per_epoch: int = 1,
        horizon: int = 100,
    ) -> None:
        for name, number in (
            ("tau_start", tau_start), ("tau_min", tau_min), ("tau_max", tau_max),
            ("smoothing", smoothing), ("margin", margin), ("factor_a", factor_a),
            ("factor_b", factor_b), ("step_a", step_a), ("step_b", step_b), ("rate_a", rate_a),
            ("rate_b", rate_b), ("pull", pull), ("gain", gain), ("collapse_kl", collapse_kl),
            ("guard_factor", guard_factor),
        ):  # fmt: skip
            real = isinstance(number, int | float | np.number) and not isinstance(number, bool)
            _require(name, number, real, "a number")
        _require_range(tau_start, tau_min, tau_max)
        for name, count in (
            ("period", period),
            ("replicates", replicates),
            ("steps_per_epoch", steps_per_epoch),
            ("horizon", horizon),
        ):
            _require_whole(name, count)
        _require("smoothing", smoothing, 0.0 <= smoothing < 1.0, "a number in [0, 1)")
        _require("margin", margin, 0.0 <= margin < np.inf, "a finite number >= 0, in nats")
        _require("pull", pull, 0.0 <= pull <= 1.0, "a number in [0, 1]")
        _require("gain", gain, 0.0 < gain < np.inf, "a finite number > 0")
        _require("collapse_kl", collapse_kl, 0.0 <= collapse_kl < np.inf, "a finite number >= 0")
        _require("guard_factor", guard_factor, 0.0 < guard_factor < 1.0, "a number in (0, 1)")
        for branch, factor, step, rate in (
            ("a", factor_a, step_a, rate_a),
            ("b", factor_b, step_b, rate_b),
        ):
            _require(f"factor_{branch}", factor, 0.0 < factor <= 1.0, "a number in (0, 1]")
            _require(f"step_{branch}", step, 0.0 < step < np.inf, "a finite number > 0")
            _require(f"rate_{branch}", rate, 0.0 < rate < np.inf, "a finite number > 0")

        super().__init__(np.full((replicates, 2), tau_start, dtype=np.float64))
        self._range = (float(tau_min), float(tau_max))
        shared = {
            "tau_start": tau_start,
            "tau_min": tau_min,
            "steps_per_epoch": steps_per_epoch,
            "horizon": horizon,
        }
        of_a = {"factor": factor_a, "step": step_a, "rate": rate_a}
        of_b = {"factor": factor_b, "step": step_b, "rate": rate_b}
        self._rules: tuple[Rule, Rule] = (
            _member(RULES, "rule_a", rule_a, shared | of_a),
            _member(RULES, "rule_b", rule_b, shared | of_b),
        )
        self._coupling: Coupling = _member(
            COUPLINGS, "coupling", coupling, {"pull": pull, "gain": gain}
        )
        self._period = period
        self._smoothing = smoothing
        self._margin = margin
        self._collapse_kl = collapse_kl if collapse_guard else None
        self._guard_factor = guard_factor
        self._smoothed: Array | None = None
        self._memory = self._coupling.remember(replicates)

    def _next(self, losses: Array, kl: Array | None, active: NDArray[np.bool_]) -> _Step:
        # Ended replicates take part with dummy losses, so that arrays keep their shape.
        losses = np.where(active[:, None], losses, 0.0)
        if self._smoothed is None:
            self._smoothed = losses
        else:
            self._smoothed = self._smoothing * self._smoothed + (1 - self._smoothing) * losses
        if self._epoch % self._period:
            return self._tau, [Event.WAITED] * self.replicates

        tau, smoothed = self._tau, self._smoothed
        moves = Moves(own=lambda t: self._move(t, (0, 1)), other=lambda t: self._move(t, (1, 0)))
        collapsed = self._collapsed(losses, kl)
        gap = np.abs(smoothed[:, 0] - smoothed[:, 1])
        tie = ~collapsed & (gap <= self._margin)
        decided = active & ~collapsed & ~tie
        outcome = self._coupling.decide(tau, smoothed, moves, self._memory)

        new = np.where(tie[:, None], moves.own(tau), outcome.tau)
        new = np.where(collapsed[:, None], tau * self._guard_factor, new)
        self._memory = {
            name: np.where(decided, value, self._memory[name])
            for name, value in outcome.memory.items()
        }
        if outcome.copy_from is not None:
            self._copy_from = np.where(decided, outcome.copy_from, NO_COPY)
            # After a copy both members are the winner: their past losses are the winner's too.
            best = smoothed.min(axis=1, keepdims=True)
            self._smoothed = np.where(decided[:, None], best, smoothed)
        events = [
            Event.COLLAPSED
            if collapsed[r]
            else Event.TIE
            if tie[r]
            else (Event.A_WON if smoothed[r, 0] < smoothed[r, 1] else Event.B_WON)
            for r in range(self.replicates)
        ]
        return np.clip(new, *self._range), events

    def _move(self, tau: Array, rule_of: tuple[int, int]) -> Array:
        columns = [
            self._rules[rule].move(tau[:, branch], self._epoch, self._period)
            for branch, rule in enumerate(rule_of)
        ]
        return np.clip(np.stack(columns, axis=1), *self._range)

    def _collapsed(self, losses: Array, kl: Array | None) -> NDArray[np.bool_]:
        if self._collapse_kl is None:
            return np.zeros(self.replicates, dtype=np.bool_)
        equal: NDArray[np.bool_] = (losses[:, 0] == losses[:, 1]) & (
            self._tau[:, 0] != self._tau[:, 1]
        )
        if kl is not None:
            equal |= (kl < self._collapse_kl).all(axis=1)
        return equal

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "smoothed": None if self._smoothed is None else self._smoothed.tolist(),
            "memory": {name: value.tolist() for name, value in self._memory.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        remembered = sorted(state["memory"]) if "memory" in state else None
        if remembered != sorted(self._memory):
            raise ValueError(
                "controller state was written by another controller or coupling: it remembers "
                f"{json.dumps(remembered)}, this coupling {json.dumps(sorted(self._memory))}"
            )
        super().load_state_dict(state)
        smoothed = state["smoothed"]
        self._smoothed = None if smoothed is None else np.array(smoothed, dtype=np.float64)
        self._memory = {
            name: np.array(value, dtype=np.int64) for name, value in state["memory"].items()
        }


def _member(family: Mapping[str, Any], setting: str, name: str, settings: dict[str, Any]) -> Any:
    """Build a family's member from those of the settings that are its fields."""
    if name not in family:
        raise ValueError(f"{setting} is {name!r}; legal: {', '.join(family)}")
    cls = family[name]
    return cls(**{field.name: settings[field.name] for field in fields(cls)})


def _require(name: str, value: object, holds: bool, legal: str) -> None:
    if not holds:
        raise ValueError(f"{name} is {value!r}; legal: {legal}")


def _require_whole(name: str, value: object) -> None:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    _require(name, value, whole and int(value) >= 1, "a whole number >= 1")  # type: ignore[call-overload]


def _require_range(tau_start: float, tau_min: float, tau_max: float) -> None:
    _require("tau_min", tau_min, 0.0 < tau_min < np.inf, "a finite number > 0")
    _require(
        "tau_max", tau_max, tau_min < tau_max < np.inf, f"a finite number > tau_min = {tau_min}"
    )
    _require(
        "tau_start",
        tau_start,
        tau_min <= tau_start <= tau_max,
        f"inside the active range [tau_min, tau_max] = [{tau_min}, {tau_max}]",
    )
