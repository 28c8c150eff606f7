"""The interface of every controller, what all of them record, and the open loop of the baselines.

A controller maps (temperatures, losses of an epoch) to the temperatures of the next epoch. A
training loop need not know which one it has. `gsvae_tune.tau.pair` closes the loop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gsvae_tune.tau.couplings import NO_COPY, Array, Ints
from gsvae_tune.tau.schedules import Schedule

BRANCHES = ("a", "b")
_STATE_VERSION = 1


class Event(str, Enum):
    """What happened to a replicate's temperatures after an epoch; the value is the sentence."""

    WAITED = "between decisions: both temperatures stay"
    A_WON = "branch a won"
    B_WON = "branch b won"
    TIE = "tie: each branch moved by its own rule"
    COLLAPSED = "collapsed, no signal: both branches cooled"
    SCHEDULED = "both branches follow their schedules"
    REPLAYED = "both branches follow a recorded path"
    WALKED = "both branches moved at random"
    LEARNED = "both temperatures are trained with the weights"
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
    def _next(self, losses: Array, kl: Array | None, active: NDArray[np.bool_]) -> Step:
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


Step = tuple[Array, list[Event]]


def _strict(loss: float) -> float | str:
    """Spell a number that JSON has no sign for; float() reads it back."""
    return loss if np.isfinite(loss) else str(loss)


class OpenLoopController(Controller):
    """Plays one schedule a branch, whatever the losses are (the baselines)."""

    def __init__(self, schedule_a: Schedule, schedule_b: Schedule, replicates: int = 1) -> None:
        self.schedules = (schedule_a, schedule_b)
        require_whole("replicates", replicates)
        super().__init__(np.tile(self._at(0), (replicates, 1)))

    def _at(self, epoch: int) -> Array:
        return np.array([schedule.tau_at(epoch) for schedule in self.schedules])

    def _next(self, losses: Array, kl: Array | None, active: NDArray[np.bool_]) -> Step:
        tau = np.tile(self._at(self._epoch), (self.replicates, 1))
        return tau, [Event.SCHEDULED] * self.replicates


class ReplayController(Controller):
    """Plays recorded temperatures, whatever the losses are (the yoked control).

    Args:
        paths: (replicates, epochs, 2), the temperatures of each epoch; the last one stays.

    Raises:
        ValueError: another shape, or a temperature that is not positive and finite.
    """

    def __init__(self, paths: ArrayLike) -> None:
        self._paths = np.array(paths, dtype=np.float64)
        shaped = self._paths.ndim == 3 and self._paths.shape[2] == 2 and self._paths.size > 0
        require("paths", self._paths.shape, shaped, "(replicates, epochs, 2)")
        sound = bool((np.isfinite(self._paths) & (self._paths > 0)).all())
        require("paths", "a temperature", sound, "finite numbers > 0")
        super().__init__(self._paths[:, 0].copy())

    def _next(self, losses: Array, kl: Array | None, active: NDArray[np.bool_]) -> Step:
        at = min(self._epoch, self._paths.shape[1] - 1)
        return self._paths[:, at].copy(), [Event.REPLAYED] * self.replicates


class RandomWalkController(Controller):
    """Moves each temperature up or down at random, by a factor, inside the range.

    A control: the pair's step sizes without its losses.

    Args:
        tau_start: temperature of both branches in the first epoch.
        tau_min: lower end of the active range.
        tau_max: upper end.
        factor_a: in (0, 1]; a move multiplies or divides branch a's temperature by it.
        factor_b: the same for branch b.
        period: epochs between moves.
        seeds: one a replicate; moves depend on it and on the epoch alone.
    """

    def __init__(
        self,
        tau_start: float,
        tau_min: float,
        tau_max: float,
        factor_a: float,
        factor_b: float,
        period: int,
        seeds: Sequence[int],
    ) -> None:
        for name, value in (("factor_a", factor_a), ("factor_b", factor_b)):
            require(name, value, 0.0 < value <= 1.0, "a number in (0, 1]")
        require_whole("period", period)
        legal = "a finite number > 0, tau_min <= tau_start <= tau_max, tau_min < tau_max"
        inside = 0.0 < tau_min <= tau_start <= tau_max < np.inf and tau_min < tau_max
        require("tau_start", tau_start, inside, legal)
        self._range = (tau_min, tau_max)
        self._log_factors = np.log([factor_a, factor_b])
        self._period = period
        self._seeds = list(seeds)
        super().__init__(np.full((len(self._seeds), 2), float(tau_start)))

    def _next(self, losses: Array, kl: Array | None, active: NDArray[np.bool_]) -> Step:
        if self._epoch % self._period:
            return self._tau, [Event.WAITED] * self.replicates
        signs = np.array(
            [np.random.default_rng([seed, self._epoch]).choice((-1, 1), 2) for seed in self._seeds]
        )
        moved = self._tau * np.exp(signs * self._log_factors)
        return np.clip(moved, *self._range), [Event.WALKED] * self.replicates


class LearnedController(Controller):
    """Holds temperatures that are trained with the weights, by the gradient of the training loss.

    Whoever trains them says through `observe` where they are, before each `update`.

    Args:
        tau_a: temperature of branch a at the start.
        tau_b: temperature of branch b at the start.
        tau_min: lower end of the active range, which training has to keep.
        tau_max: upper end.
        replicates: independent pairs.
    """

    def __init__(
        self, tau_a: float, tau_b: float, tau_min: float, tau_max: float, replicates: int = 1
    ) -> None:
        for name, value in (("tau_a", tau_a), ("tau_b", tau_b)):
            inside = 0.0 < tau_min <= value <= tau_max < np.inf
            require(name, value, inside, f"inside [tau_min, tau_max] = [{tau_min}, {tau_max}]")
        require_whole("replicates", replicates)
        self.range = (float(tau_min), float(tau_max))
        super().__init__(np.tile([float(tau_a), float(tau_b)], (replicates, 1)))
        self._observed = self.tau

    def observe(self, tau: ArrayLike) -> None:
        """Take over where training has moved the temperatures: (replicates, 2)."""
        self._observed = self._pair_of("tau", tau)

    def _next(self, losses: Array, kl: Array | None, active: NDArray[np.bool_]) -> Step:
        return self._observed, [Event.LEARNED] * self.replicates


def require(name: str, value: object, holds: bool, legal: str) -> None:
    if not holds:
        raise ValueError(f"{name} is {value!r}; legal: {legal}")


def require_whole(name: str, value: object) -> None:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    require(name, value, whole and int(value) >= 1, "a whole number >= 1")  # type: ignore[call-overload]
