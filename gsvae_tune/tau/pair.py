"""`PairController`: two temperatures moved by two losses (closed loop).

    controller = PairController(tau_start=1.0, rule_a="cool", rule_b="warm")
    for epoch in range(epochs):
        losses = train_one_epoch(controller.tau)   # (replicates, 2), nats per example
        controller.update(losses)

What the paper behind this project leaves open (how weights are shared, which loss is read, how
far a temperature moves) is a setting here, never a claim about that paper.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvae_tune.tau.controller import Controller, Event, Step, require, require_whole
from gsvae_tune.tau.couplings import COUPLINGS, NO_COPY, Array, Coupling, Moves
from gsvae_tune.tau.rules import RULES, Rule

COLLAPSED_KL_NATS = 0.1  # a code that carries less than this about its input carries nothing


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
        given = locals()
        for name, (holds, legal) in _LEGAL.items():
            _require_number(name, given[name])
            require(name, given[name], holds(given[name]), legal)
        for name in ("period", "replicates", "steps_per_epoch", "horizon"):
            require_whole(name, given[name])
        _require_range(tau_start, tau_min, tau_max)

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

    def _next(self, losses: Array, kl: Array | None, active: NDArray[np.bool_]) -> Step:
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


_Test = Callable[[float], bool]
_PART: tuple[_Test, str] = (lambda v: 0.0 < v <= 1.0, "a number in (0, 1]")
_POSITIVE: tuple[_Test, str] = (lambda v: 0.0 < v < np.inf, "a finite number > 0")
_NOT_NEGATIVE: tuple[_Test, str] = (lambda v: 0.0 <= v < np.inf, "a finite number >= 0")

# What each numeric setting of a pair may be by itself; the range is checked as a whole.
_LEGAL: dict[str, tuple[_Test, str]] = {
    "smoothing": (lambda v: 0.0 <= v < 1.0, "a number in [0, 1)"),
    "margin": _NOT_NEGATIVE,
    "factor_a": _PART,
    "factor_b": _PART,
    "step_a": _POSITIVE,
    "step_b": _POSITIVE,
    "rate_a": _POSITIVE,
    "rate_b": _POSITIVE,
    "pull": (lambda v: 0.0 <= v <= 1.0, "a number in [0, 1]"),
    "gain": _POSITIVE,
    "collapse_kl": _NOT_NEGATIVE,
    "guard_factor": (lambda v: 0.0 < v < 1.0, "a number in (0, 1)"),
}


def _require_number(name: str, value: object) -> None:
    real = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    require(name, value, real, "a number")


def _require_range(tau_start: float, tau_min: float, tau_max: float) -> None:
    for name, value in (("tau_start", tau_start), ("tau_min", tau_min), ("tau_max", tau_max)):
        _require_number(name, value)
    require("tau_min", tau_min, 0.0 < tau_min < np.inf, "a finite number > 0")
    require(
        "tau_max", tau_max, tau_min < tau_max < np.inf, f"a finite number > tau_min = {tau_min}"
    )
    require(
        "tau_start",
        tau_start,
        tau_min <= tau_start <= tau_max,
        f"inside the active range [tau_min, tau_max] = [{tau_min}, {tau_max}]",
    )
