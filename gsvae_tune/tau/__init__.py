"""Temperature control for a pair of Gumbel-Softmax models, in plain numpy.

Usable in any training loop: it needs neither torch nor Ray nor the rest of this package.

Notation
    tau         temperature of the Gumbel-Softmax relaxation, > 0
    replicate   one seed; all arrays have one row a replicate
    branch      column 0 is member ``a``, column 1 is member ``b`` of the pair
    decision    an epoch at which temperatures move; every ``period`` epochs

Start with `PairController` (closed loop) or `OpenLoopController` (a schedule, for baselines).
"""

from gsvae_tune.tau.controller import (
    Controller,
    EndState,
    Event,
    LearnedController,
    OpenLoopController,
    RandomWalkController,
    ReplayController,
    TraceRow,
)
from gsvae_tune.tau.couplings import COUPLINGS, Coupling
from gsvae_tune.tau.pair import PairController
from gsvae_tune.tau.rules import RULES, Rule
from gsvae_tune.tau.schedules import SCHEDULES, Schedule

__all__ = [
    "COUPLINGS",
    "RULES",
    "SCHEDULES",
    "Controller",
    "Coupling",
    "EndState",
    "Event",
    "LearnedController",
    "OpenLoopController",
    "PairController",
    "RandomWalkController",
    "ReplayController",
    "Rule",
    "Schedule",
    "TraceRow",
]
