"""Couplings: how the two losses of a pair act on its two temperatures.

A coupling is asked only where there is a signal: ties, collapsed and ended replicates are settled
by the controller before. It gets the temperatures, the losses and `Moves` (what the two rules
would do), and says where the temperatures go and whose weights are copied.

Claims about invariance are class attributes and are tested: where ``shift_invariant`` holds,
losses plus a constant change no temperature; where ``scale_invariant`` holds, losses times a
positive constant change none (with margin 0).

To add one: subclass `Coupling`, list it in `COUPLINGS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

NO_COPY = -1


@dataclass(frozen=True)
class Moves:
    """What the rules of a pair make of temperatures of shape (replicates, 2), inside the range."""

    own: Callable[[Array], Array]  # column a by rule_a, column b by rule_b
    other: Callable[[Array], Array]  # column a by rule_b, column b by rule_a


@dataclass(frozen=True)
class Outcome:
    """What a coupling decided: temperatures (clipped after), copies, what it wants remembered."""

    tau: Array  # (replicates, 2)
    copy_from: Ints | None = None  # (replicates,): 0 or 1, `NO_COPY` for none; None: no copies
    memory: dict[str, Ints] = field(default_factory=dict)  # name -> (replicates,)


@dataclass(frozen=True)
class Coupling(ABC):
    """One way for two losses to act on two temperatures."""

    name: ClassVar[str]
    shift_invariant: ClassVar[bool] = True
    scale_invariant: ClassVar[bool] = True

    @abstractmethod
    def decide(self, tau: Array, losses: Array, moves: Moves, memory: dict[str, Ints]) -> Outcome:
        """Return where the temperatures go.

        Args:
            tau: (replicates, 2), present temperatures.
            losses: (replicates, 2), smoothed losses in nats per example, finite, never tied.
            moves: the two rules of the pair.
            memory: what this coupling remembered at the previous decision, see `remember`.
        """

    def remember(self, replicates: int) -> dict[str, Ints]:
        """Return the memory before the first decision (most couplings keep none)."""
        return {}


def _of(values: Array, branch: Ints) -> Array:
    """Pick one branch's column per replicate: (replicates, 2) -> (replicates, 1)."""
    return np.take_along_axis(values, branch[:, None], axis=1)


@dataclass(frozen=True)
class Independent(Coupling):
    """Each branch follows its own rule; the losses do nothing (a control)."""

    name: ClassVar[str] = "independent"

    def decide(self, tau: Array, losses: Array, moves: Moves, memory: dict[str, Ints]) -> Outcome:
        return Outcome(moves.own(tau))


@dataclass(frozen=True)
class FollowWinner(Coupling):
    """Both branches restart from the winner's temperature, each by its own rule.

    With rules ``cool`` and ``warm`` the pair brackets the better temperature: a line search.
    """

    name: ClassVar[str] = "follow-winner"

    def decide(self, tau: Array, losses: Array, moves: Moves, memory: dict[str, Ints]) -> Outcome:
        winner = losses.argmin(axis=1)
        return Outcome(moves.own(np.repeat(_of(tau, winner), 2, axis=1)))


@dataclass(frozen=True)
class LoserFollows(Coupling):
    """Both move by their rules; the loser is then pulled towards the winner in log tau.

    ``pull`` in [0, 1]: 0 leaves the loser alone, 1 puts it on the winner's temperature.
    """

    pull: float
    name: ClassVar[str] = "loser-follows"

    def decide(self, tau: Array, losses: Array, moves: Moves, memory: dict[str, Ints]) -> Outcome:
        moved = moves.own(tau)
        winner = losses.argmin(axis=1)
        pulled = _of(moved, winner) ** self.pull * _of(moved, 1 - winner) ** (1 - self.pull)
        loses = np.arange(2) != winner[:, None]
        return Outcome(np.where(loses, pulled, moved))


@dataclass(frozen=True)
class SwapRules(Coupling):
    """The branches exchange rules when the lead changes hands.

    The branch that was overtaken goes on by the rule that overtook it, and the new leader turns
    round instead of running past the temperature at which it took the lead. (On a tie no coupling
    is asked: each branch then moves by the rule it was built with.)
    """

    name: ClassVar[str] = "swap-rules"

    def remember(self, replicates: int) -> dict[str, Ints]:
        return {
            "leader": np.full(replicates, -1, dtype=np.int64),
            "swapped": np.zeros(replicates, dtype=np.int64),
        }

    def decide(self, tau: Array, losses: Array, moves: Moves, memory: dict[str, Ints]) -> Outcome:
        leader = losses.argmin(axis=1)
        overtaken = (memory["leader"] >= 0) & (leader != memory["leader"])
        swapped = np.where(overtaken, 1 - memory["swapped"], memory["swapped"])
        new = np.where(swapped[:, None] == 1, moves.other(tau), moves.own(tau))
        return Outcome(new, memory={"leader": leader, "swapped": swapped})


@dataclass(frozen=True)
class FiniteDifference(Coupling):
    """A gradient step in log tau, the slope taken between the two branches.

    The pair's centre (mean log tau) moves by -gain * slope, slope in nats per unit of log tau, at
    most a factor of two at a time; the rules then place the branches around the centre. Branches
    at the same temperature have no slope: each goes by its own rule.
    """

    gain: float
    name: ClassVar[str] = "finite-difference"
    scale_invariant: ClassVar[bool] = False

    def decide(self, tau: Array, losses: Array, moves: Moves, memory: dict[str, Ints]) -> Outcome:
        log_tau = np.log(tau)
        distance = log_tau[:, 1] - log_tau[:, 0]
        apart = distance != 0.0
        slope = np.divide(
            losses[:, 1] - losses[:, 0], distance, out=np.zeros_like(distance), where=apart
        )
        move = np.clip(-self.gain * slope, -np.log(2.0), np.log(2.0))
        centre = np.exp(log_tau.mean(axis=1) + move)
        probed = moves.own(np.repeat(centre[:, None], 2, axis=1))
        return Outcome(np.where(apart[:, None], probed, moves.own(tau)))


@dataclass(frozen=True)
class Tournament(Coupling):
    """The loser takes over the winner's weights and temperature; each then goes by its rule.

    Exploit and explore as in population based training (Jaderberg et al. 2017), population two.
    """

    name: ClassVar[str] = "tournament"

    def decide(self, tau: Array, losses: Array, moves: Moves, memory: dict[str, Ints]) -> Outcome:
        winner = losses.argmin(axis=1)
        return Outcome(moves.own(np.repeat(_of(tau, winner), 2, axis=1)), copy_from=winner)


COUPLINGS: dict[str, type[Coupling]] = {
    coupling.name: coupling
    for coupling in (
        Independent,
        FollowWinner,
        LoserFollows,
        SwapRules,
        FiniteDifference,
        Tournament,
    )
}
