import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsvae_tune.report.estimates import timeline


def table(rows):
    """Rows of (arm, start, end)."""
    return pd.DataFrame(
        {"arm": [row[0] for row in rows], "phase": "search", "number": range(len(rows)),
         "state": "complete", "wall_s": [float(row[2] - row[1]) for row in rows],
         "ended_s": [float(row[2]) for row in rows]}
    )  # fmt: skip


BUSY = [("a", 100, 110), ("b", 100, 120), ("a", 110, 130), ("b", 120, 125), ("a", 140, 150)]


def test_by_hand():
    timed = timeline.intervals(table(BUSY))
    assert timed.start_s.tolist() == [0, 0, 10, 20, 40]
    assert timed.slot.tolist() == [0, 1, 0, 1, 0]
    whole = timeline.occupation(timed)
    assert whole == timeline.Occupation(slots=2, span_s=50.0, busy_s=65.0, gap_s=10.0)
    assert whole.idle_share == pytest.approx(0.35)


def test_what_was_not_timed_and_what_still_runs_is_left_out():
    trials = table(BUSY)
    trials.loc[0, "ended_s"] = np.nan
    trials.loc[1, "wall_s"] = np.nan
    trials.loc[2, "state"] = "running"
    assert timeline.intervals(trials).number.tolist() == [3, 4]
    assert timeline.intervals(trials.iloc[:0]).empty


def test_untimed_is_what_trained_and_ended_at_no_recorded_moment():
    trials = table(BUSY)
    trials["ended_s"] = np.nan
    trials["state"] = ["complete", "pruned", "failed", "failed", "running"]
    trials.loc[2, "wall_s"] = 0.0
    trials.loc[3, "wall_s"] = np.nan
    assert timeline.untimed(trials).tolist() == [True, True, False, False, False]
    assert not timeline.untimed(table(BUSY)).any()


def test_an_end_minus_a_duration_may_be_off_by_rounding():
    ends = np.cumsum(np.full(50, 0.1))
    rows = [("a", end - 0.1, end) for end in ends]
    assert timeline.occupation(timeline.intervals(table(rows))).slots == 1


def test_a_resumed_trial_that_overlaps_takes_a_row_of_its_own():
    timed = timeline.intervals(table([*BUSY, ("a", 101, 131)]))
    assert timed.slot.max() == 2


jobs = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)), min_size=1, max_size=60)


@given(jobs)
def test_no_two_in_a_slot_overlap_and_slots_are_as_few_as_can_be(drawn):
    start, end = np.array(sorted((begin, begin + lasts) for begin, lasts in drawn), float).T
    slots = timeline.slots(start, end)
    for slot in set(slots):
        own = slots == slot
        assert (start[own][1:] >= end[own][:-1] - 0.2).all()
    at_once = max(((start <= moment) & (end > moment)).sum() for moment in start)
    assert slots.max() + 1 == at_once


@given(jobs)
def test_occupancy_adds_up_to_the_time_trained(drawn):
    rows = [("ab"[place % 2], begin, begin + lasts) for place, (begin, lasts) in enumerate(drawn)]
    timed = timeline.intervals(table(rows))
    at_once = timeline.running_at_once(timed, ["a", "b"], bins=17)
    width = timed.end_s.max() / 17
    for arm in "ab":
        own = timed[timed.arm == arm]
        assert at_once[arm].sum() * width == pytest.approx((own.end_s - own.start_s).sum())
    assert (at_once >= -1e-9).all(axis=None)


def test_occupancy_by_hand():
    timed = timeline.intervals(table([("a", 0, 10), ("a", 5, 10), ("b", 0, 5)]))
    at_once = timeline.running_at_once(timed, ["a", "b"], bins=2)
    assert at_once.a.tolist() == [1, 2]
    assert at_once.b.tolist() == [1, 0]
    assert at_once.index.tolist() == [2.5, 7.5]


def test_trials_that_took_no_time():
    timed = timeline.intervals(table([("a", 7, 7)] * 3))
    whole = timeline.occupation(timed)
    assert whole.slots == 1
    assert whole.idle_share == 0
