"""The adapter between Ray Tune and the ledger; all that differs between the two is in here.

Ray's own OptunaSearch leaves trials with a non-finite value running for ever, tells stopped ones
as complete at their partial value, and cannot continue a trial under its number. The ledger does
all three; what is left here is Ray's calling convention.
"""

from __future__ import annotations

from typing import Any

from ray.tune.search import Searcher

from gsvae_tune.search.ledger import Ledger
from gsvae_tune.search.storage import Assignment
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import TrialResult, TrialState, read_json_lines


class LedgerSearcher(Searcher):
    """Hands the ledger's trials to Tune and Tune's endings to the ledger."""

    def __init__(self, ledger: Ledger, paths: StudyPaths) -> None:
        super().__init__(metric="value", mode="min")
        self._ledger = ledger
        self._paths = paths
        self.assigned: dict[str, Assignment] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune stores a copy of its searcher in the experiment that we throw away

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        return True  # metric and direction are the ledger's

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if not self._ledger.remaining:
            finished: str = Searcher.FINISHED
            return finished
        assignment = self._ledger.next()
        if assignment is None:
            return None  # Tune asks again when a running trial has reported
        self.assigned[trial_id] = assignment
        return {
            "arm": assignment.arm,
            "phase": assignment.phase,
            "number": assignment.number,
            "params": assignment.params,
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        assignment = self.assigned.pop(trial_id)
        ended = self._ended(assignment, result or {}, error=error)
        self._ledger.finish(assignment, ended)

    def _ended(self, assignment: Assignment, last: dict[str, Any], *, error: bool) -> TrialResult:
        """Return the trial's own result; without one, it was stopped or its process died."""
        folder = self._paths.trial(assignment.arm, assignment.number, assignment.phase)
        own = TrialResult.read(folder.result)
        if own is not None:
            return own
        records = list(read_json_lines(folder.epochs))
        at: dict[str, Any] = {"epoch": 0, "steps": 0, "wall_s": 0.0}
        at |= records[-1] if records else {}
        stopped = TrialResult(
            state=TrialState.FAILED if error else TrialState.PRUNED,
            value=None if error else last.get("value"),
            error="its process died and could not be restarted" if error else None,
            epochs=at["epoch"],
            steps=at["steps"],
            wall_s=at["wall_s"],
            device="",
        )
        stopped.write(folder.result)
        return stopped

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is on disk, and no Tune experiment is ever restored."""

    def restore(self, checkpoint_path: str) -> None:
        raise RuntimeError("a Tune experiment is never restored; run the study again")
