"""The adapter between Ray Tune and the ledger; all that differs between the two is in here.

Ray's own OptunaSearch leaves trials with a non-finite value running for ever, tells stopped ones
as complete at their partial value, and cannot continue a trial under its number. The ledger does
all three; what is left here is Ray's calling convention, and when to hand out no more.
"""

from __future__ import annotations

import time
from typing import Any

from ray.tune.search import Searcher

from gsvae_tune.execution.halting import died, disk_full, first_all_alike
from gsvae_tune.search.ledger import Ledger
from gsvae_tune.search.storage import Assignment
from gsvae_tune.study.errors import UnfinishedError
from gsvae_tune.study.faults import Fault, is_disk_full
from gsvae_tune.study.fence import Claim, FencedError
from gsvae_tune.study.lease import Lease
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import TrialResult, TrialState, read_json_lines

PAUSE = "pause"  # key of a trial's last report: why the study has to pause
CONFIRMING = "confirming"  # key of what a confirmation reports


class LedgerSearcher(Searcher):
    """Hands the ledger's trials to Tune and Tune's endings to the ledger.

    Args:
        ledger: of the study.
        paths: its folder.
        lease: this process's right to drive the study.
        give_up_after: stop when so many first trials fail for the same reason; 0 never does.
    """

    def __init__(
        self, ledger: Ledger, paths: StudyPaths, lease: Lease, give_up_after: int = 0
    ) -> None:
        super().__init__(metric="value", mode="min")
        self._ledger, self._paths, self._lease = ledger, paths, lease
        self._give_up_after = give_up_after
        self._first: list[TrialResult] = []  # to end in this run
        self._shut = False  # the ledger can take nothing more; the next run tells it
        self.assigned: dict[str, Assignment] = {}
        self.causes: dict[str, str] = {}  # why Tune gave a trial up, as far as it knows
        self.halt: UnfinishedError | None = None  # why nothing more is handed out

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune stores a copy of its searcher in the experiment that we throw away

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        return True  # metric and direction are the ledger's

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        finished: str = Searcher.FINISHED
        try:
            if self.halt is not None or not self._ledger.remaining:
                return finished
            self._lease.check()
            assignment = self._ledger.next()
        except (OSError, UnfinishedError) as error:
            self._stop(error)
            return finished
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
        last = {key.rpartition("/")[2]: value for key, value in (result or {}).items()}
        cause = self.causes.pop(trial_id, "") if error else None
        try:
            if PAUSE in last:  # it has not ended: the study goes on with it
                self.halt = self.halt or disk_full(self._paths, self._ledger.remaining, last[PAUSE])
            elif not self._shut:
                self._lease.check()
                ended = self._ended(assignment, last, cause)
                self._ledger.finish(assignment, ended)
                self._watch(ended)
        except FencedError as fenced:
            self._stop(UnfinishedError(f"{fenced}\n  next:  run the same command again to go on"))
        except (OSError, UnfinishedError) as failure:
            self._stop(failure)

    def _stop(self, error: OSError | UnfinishedError) -> None:
        """Hand out nothing more, and write nothing more: a torn record may be the ledger's last."""
        self._shut = True
        if isinstance(error, UnfinishedError):
            self.halt = self.halt or error
        elif is_disk_full(error):
            self.halt = self.halt or disk_full(self._paths, self._ledger.remaining, str(error))
        else:
            raise error

    def _watch(self, ended: TrialResult) -> None:
        if len(self._first) < self._give_up_after:
            self._first.append(ended)
            if len(self._first) == self._give_up_after and self.halt is None:
                self.halt = first_all_alike(self._paths, self._first)

    def _ended(
        self, assignment: Assignment, last: dict[str, Any], cause: str | None
    ) -> TrialResult:
        """Return the trial's own result; without one, it was stopped or its process died."""
        folder = self._paths.trial(assignment.arm, assignment.number, assignment.phase)
        claim = Claim(folder, self._lease.term).take()  # its process may live where none sees it
        own = TrialResult.read(folder.result)
        if own is not None:
            return own
        records = list(read_json_lines(folder.epochs))
        at: dict[str, Any] = {"epoch": 0, "steps": 0, "wall_s": 0.0}
        at |= records[-1] if records else {}
        fault: Fault | None = None
        detail = ""
        if cause is not None:
            fault, detail = died(cause)
        stopped = TrialResult(
            state=TrialState.PRUNED if fault is None else TrialState.FAILED,
            value=last.get("value") if fault is None else None,
            error=fault and fault.says(detail),
            epochs=at["epoch"],
            steps=at["steps"],
            wall_s=at["wall_s"],
            device="",
            fault=fault,
            ended_s=time.time(),
        )
        stopped.write(folder.result, claim)
        return stopped

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is on disk, and no Tune experiment is ever restored."""

    def restore(self, checkpoint_path: str) -> None:
        raise RuntimeError("a Tune experiment is never restored; run the study again")
