"""Running a study without training: an event loop in simulated time in Ray Tune's place.

Searcher, ledger, records and resuming are those of a real run; only who calls the searcher differs.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

from gsvae_tune.execution.objectives import Objective
from gsvae_tune.execution.searcher import LedgerSearcher
from gsvae_tune.search.storage import Assignment
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import TrialResult

Started = Callable[[Assignment], None]
Ended = Callable[[Assignment, TrialResult], None]


@dataclass
class Simulated:
    """How a simulation went; seconds are simulated ones."""

    slots: int
    trials: int = 0
    wall_s: float = 0.0
    busy_s: float = 0.0  # over all slots

    @property
    def idle_share(self) -> float:
        """Share of the slots' time in which they had nothing to train."""
        return 1.0 - self.busy_s / (self.slots * self.wall_s) if self.wall_s else 0.0


def simulate(
    searcher: LedgerSearcher,
    objective: Objective,
    slots: int,
    paths: StudyPaths,
    started: Started,
    ended: Ended,
    began_s: float = 0.0,
) -> Simulated:
    """Hand trials to slots, and results back in the order in which they would end.

    Args:
        searcher: gives trials and takes their ends.
        objective: gives a trial's result, `wall_s` being how long it would have trained.
        slots: trials at once.
        paths: the study's folder, where the results are written.
        started: called as a trial begins.
        ended: called with its result too, when it has ended.
        began_s: what the clock of the study shows at the start.
    """
    done = Simulated(slots)
    running: list[tuple[float, int, Assignment, TrialResult]] = []
    names = itertools.count()
    while True:
        while len(running) < slots:
            name = next(names)
            suggested = searcher.suggest(str(name))
            if not isinstance(suggested, dict):
                break  # nothing is left, or the next trial waits for a result
            assignment = searcher.assigned[str(name)]
            result = objective(assignment)
            started(assignment)
            heapq.heappush(running, (done.wall_s + result.wall_s, name, assignment, result))
        if not running:
            if searcher.halt is not None:
                raise searcher.halt
            return done
        done.wall_s, name, assignment, result = heapq.heappop(running)
        folder = paths.trial(assignment.arm, assignment.number, assignment.phase)
        replace(result, ended_s=began_s + done.wall_s).write(folder.result)
        searcher.on_trial_complete(str(name))
        done.trials += 1
        done.busy_s += result.wall_s
        ended(assignment, result)
