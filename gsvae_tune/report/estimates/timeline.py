"""When trials ran, how many at once, and how much of the slots' time stood idle.

A trial is taken to have run in one piece, for as long as it trained, up to the moment it ended. One
that was interrupted and resumed really began earlier, with a pause in between; drawn so it may
overlap with more trials than there were slots.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from gsvae_tune.study.records import TrialState

# A trial may seem to begin this share of the median trial before another ends and still follow it:
# clocks of several machines, and what rounding does to an end minus a duration.
SLACK = 0.005

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Occupation:
    """How full the slots were between the first trial's beginning and the last one's end."""

    slots: int  # the most that ran at once
    span_s: float
    busy_s: float  # over all slots
    gap_s: float  # the longest time in which nothing ran

    @property
    def idle_share(self) -> float:
        """Share of the slots' time in which they trained nothing; 0 where no time passed."""
        whole = self.slots * self.span_s
        return max(0.0, 1.0 - self.busy_s / whole) if whole > 0 else 0.0


def untimed(trials: pd.DataFrame) -> pd.Series[bool]:
    """Whether each trial ended, and finished or trained for some time, at no recorded moment.

    So do trials that a scheduler stopped, in studies of old, and those that a repair wrote anew.
    """
    over = trials.state != TrialState.RUNNING.value
    took = (trials.state == TrialState.COMPLETE.value) | (trials.wall_s > 0).fillna(value=False)
    return (over & took & trials.ended_s.isna()).astype(bool)


def intervals(trials: pd.DataFrame) -> pd.DataFrame:
    """Return when each trial that has ended ran, of every arm and both phases, in order of time.

    Trials whose time of ending or duration was not recorded are left out.

    Returns:
        Columns arm, phase, number, state, `start_s` and `end_s` (since the first start) and `slot`
        (from 0 on: the lowest that was free).
    """
    timed = trials.ended_s.notna() & trials.wall_s.notna()
    over = trials[timed & (trials.state != TrialState.RUNNING.value)]
    start = over.ended_s - over.wall_s
    found = over[["arm", "phase", "number", "state"]].assign(
        start_s=start - start.min(), end_s=over.ended_s - start.min()
    )
    found = found.sort_values(["start_s", "end_s", "arm", "number"], ignore_index=True)
    return found.assign(slot=slots(found.start_s, found.end_s))


def slots(start: ArrayLike, end: ArrayLike) -> NDArray[np.int64]:
    """Return a slot for each trial, so that no two in one slot overlap: as few as can be.

    Greedy colouring of intervals in order of their start; SLACK of the median duration may overlap.

    Args:
        start: (n,) ascending, seconds.
        end: (n,) seconds.
    """
    starts, ends = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
    slack = SLACK * float(np.median(ends - starts)) if starts.size else 0.0
    running: list[tuple[float, int]] = []
    free: list[int] = []
    given, opened = np.empty(starts.size, dtype=np.int64), 0
    for place, (begin, stop) in enumerate(zip(starts, ends, strict=True)):
        while running and running[0][0] <= begin + slack:
            heapq.heappush(free, heapq.heappop(running)[1])
        if not free:
            heapq.heappush(free, opened)
            opened += 1
        given[place] = heapq.heappop(free)
        heapq.heappush(running, (stop, int(given[place])))
    return given


def occupation(timed: pd.DataFrame) -> Occupation:
    """Sum up what `intervals` returns; at least one trial."""
    stop = np.maximum.accumulate(timed.end_s.to_numpy())
    gaps = timed.start_s.to_numpy()[1:] - stop[:-1]
    return Occupation(
        slots=int(timed.slot.max()) + 1,
        span_s=float(stop[-1]),
        busy_s=float((timed.end_s - timed.start_s).sum()),
        gap_s=float(max(gaps.max(initial=0.0), 0.0)),
    )


def running_at_once(timed: pd.DataFrame, arms: Sequence[str], bins: int = 300) -> pd.DataFrame:
    """Return how many trials of each arm ran, averaged over each of `bins` equal times.

    Returns:
        Index `time_s` (the middle of each), a column an arm. Times times width add up to all the
        seconds the arm trained.
    """
    edges = np.linspace(0.0, float(timed.end_s.max()), bins + 1)
    rows = {arm: _trained_by(timed[timed.arm == arm], edges) for arm in arms}
    width = edges[1] - edges[0]
    return pd.DataFrame(
        {arm: np.diff(trained) / width for arm, trained in rows.items()},
        index=pd.Index((edges[:-1] + edges[1:]) / 2, name="time_s"),
    )


def _trained_by(timed: pd.DataFrame, times: Floats) -> Floats:
    """Return the seconds that trials had trained by each time, together."""
    return _since(timed.start_s, times) - _since(timed.end_s, times)


def _since(moments: pd.Series[float], times: Floats) -> Floats:
    """Return the sum over moments of the time that has passed since, 0 before it."""
    ordered = np.sort(moments.to_numpy())
    passed = np.searchsorted(ordered, times, side="right")
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    return np.asarray(passed * times - sums[passed])
