import numpy as np
import pandas as pd
import pytest

from gsvae_tune.report.estimates import anytime

# arm, number, phase, stratum, state, value, wall_s, ended_s
ROWS = [
    ("a", 0, "search", "random", "complete", 5.0, 10.0, 110.0),
    ("a", 1, "search", "random", "complete", 3.0, 30.0, 140.0),
    ("a", 2, "search", "tpe", "failed", np.nan, 5.0, 120.0),
    ("a", 3, "search", "tpe", "complete", 4.0, 10.0, 150.0),
    ("a", 4, "search", "tpe", "running", np.nan, np.nan, np.nan),
    ("a", 1, "confirm", "confirm", "complete", 1.0, 99.0, 300.0),
    ("b", 0, "search", "random", "complete", 4.5, 20.0, 125.0),
    ("b", 1, "search", "tpe", "pruned", 0.5, 2.0, 130.0),
]
COLUMNS = ["arm", "number", "phase", "stratum", "state", "value", "wall_s", "ended_s"]


def table(rows=ROWS):
    return pd.DataFrame(rows, columns=COLUMNS)


def test_trials_are_taken_in_order_of_ending():
    curve = anytime.best_so_far(table())
    a = curve[curve.arm == "a"]
    assert a.number.tolist() == [0, 2, 1, 3]
    assert a.ended.tolist() == [1, 2, 3, 4]
    assert a.best_nats.tolist() == [5.0, 5.0, 3.0, 3.0]
    assert a.spent_s.tolist() == [10.0, 15.0, 45.0, 55.0]  # the failed trial's 5 s count
    assert a.elapsed_s.tolist() == [10.0, 20.0, 40.0, 50.0]  # the first trial began at 100 s


def test_a_pruned_trial_costs_time_and_gives_no_value():
    curve = anytime.best_so_far(table())
    assert curve[curve.arm == "b"].best_nats.tolist() == [4.5, 4.5]
    assert curve[curve.arm == "b"].spent_s.tolist() == [20.0, 22.0]


def test_one_unknown_time_of_ending_leaves_no_time_axis():
    trials = table()
    trials.loc[0, "ended_s"] = np.nan
    curve = anytime.best_so_far(trials)
    assert curve.elapsed_s.isna().all()
    assert curve[curve.arm == "a"].number.tolist() == [0, 1, 2, 3]


def test_trials_that_were_stopped_at_an_unknown_time_are_in_order_of_number():
    trials = table([*ROWS, ("b", 2, "search", "tpe", "complete", 4.0, 9.0, 139.0)])
    trials.loc[trials.state == "pruned", "ended_s"] = np.nan
    curve = anytime.best_so_far(trials)
    b = curve[curve.arm == "b"]
    assert b.number.tolist() == [0, 1, 2]
    assert b.best_nats.tolist() == [4.5, 4.5, 4.0]
    assert curve.elapsed_s.isna().all()


def test_a_failed_trial_without_a_result_spoils_no_time_axis():
    trials = table()
    trials.loc[2, ["ended_s", "wall_s"]] = np.nan
    curve = anytime.best_so_far(trials)
    assert curve[curve.arm == "a"].number.tolist() == [0, 1, 2, 3]  # after those before it
    assert curve[curve.arm == "a"].spent_s.tolist() == [10.0, 40.0, 40.0, 50.0]
    assert curve[curve.number != 2].elapsed_s.notna().all()


def test_improvements_and_the_last_row_say_all():
    told = anytime.improvements(anytime.best_so_far(table()))
    assert told[told.arm == "a"].ended.tolist() == [1, 3, 4]
    assert told[told.arm == "a"].improved.tolist() == [True, True, False]
    assert told[told.arm == "b"].improved.tolist() == [True, False]


def test_the_random_stratum_ends_with_its_last_trial_to_end():
    ends = anytime.random_ends(anytime.best_so_far(table()))
    assert ends.set_index("arm").number.to_dict() == {"a": 1, "b": 0}
    only = table([row for row in ROWS if row[3] == "random"])
    assert anytime.random_ends(anytime.best_so_far(only)).empty


def test_equal_compute_is_what_the_most_frugal_arm_spent():
    equal = anytime.equal_compute(anytime.best_so_far(table())).set_index("arm")
    assert equal.spent.tolist() == [22.0, 22.0]
    assert equal.best_nats.to_dict() == {"a": 5.0, "b": 4.5}  # a's 3.0 came at 45 s
    by_trials = anytime.equal_compute(anytime.best_so_far(table()), "ended").set_index("arm")
    assert by_trials.best_nats.to_dict() == {"a": 5.0, "b": 4.5}


def test_an_arm_that_never_finished_a_trial_has_no_value():
    trials = table()
    trials.loc[trials.arm == "b", "state"] = "failed"
    curve = anytime.best_so_far(trials)
    assert curve[curve.arm == "b"].best_nats.isna().all()
    assert set(anytime.improvements(curve).arm) == {"a"}


@pytest.mark.parametrize("rows", [[], [ROWS[4]]])
def test_no_trial_that_ended_gives_no_row(rows):
    curve = anytime.best_so_far(table(rows).astype({"value": "float64", "wall_s": "float64"}))
    assert curve.empty
    assert anytime.improvements(curve).empty
    assert anytime.random_ends(curve).empty
