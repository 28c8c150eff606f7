"""The best value an arm had so far: over its trials, over time, and over the device time it took.

Three axes, for each can hide what another shows: an arm may win by trials because its trials are
long, and by time because more of them ran at once. Losses are nats per example, lower is better.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from gsvae_tune.report.estimates.timeline import untimed
from gsvae_tune.study.records import TrialState

_LASTING = ["arm", "number", "stratum", "state", "value", "wall_s", "ended_s"]


def best_so_far(trials: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each trial of the search that has ended, arm by arm in order of ending.

    Args:
        trials: the study's table of trials; running ones and confirmations are left out.

    Returns:
        Columns arm, number, stratum, `ended` (trials of the arm that have ended, this one counted:
        failed and pruned ones too), `elapsed_s` (since the first trial of any arm's search began),
        `spent_s` (device-seconds of the arm so far; a trial whose time was not recorded adds 0) and
        `best_nats` (lowest value of a finished trial so far; NaN before the first).

        If the time of ending of any trial that finished or trained is unknown, trials are in order
        of number and `elapsed_s` is NaN throughout: half a curve would show a false race. One that
        left no time of training either, as its process died, comes after the trials before it.
    """
    searched = (trials.phase == "search") & (trials.state != TrialState.RUNNING.value)
    over = trials.loc[searched, _LASTING]
    over = over.sort_values(["arm", "number"], ignore_index=True)
    known = not untimed(over).any()
    if known:
        ended = over.ended_s.astype("float64")
        by_then = ended.groupby(over.arm).cummax().groupby(over.arm).ffill()
        over = over.assign(place=ended.fillna(by_then))
        over = over.sort_values(["arm", "place", "number"], na_position="first", ignore_index=True)
    finished = over.state == TrialState.COMPLETE.value
    began = (over.ended_s - over.wall_s).min()
    by_arm = over.arm
    value = over.value.where(finished)
    return pd.DataFrame(
        {
            "arm": by_arm,
            "number": over.number,
            "stratum": over.stratum,
            "ended": over.groupby("arm").cumcount() + 1,
            "elapsed_s": over.ended_s - began if known else np.nan,
            "spent_s": over.wall_s.fillna(0.0).groupby(by_arm).cumsum(),
            "best_nats": value.groupby(by_arm).cummin().groupby(by_arm).ffill(),
        }
    )


def improvements(curve: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `best_so_far` that say all: each new best value, and each arm's last row.

    Column `improved` tells the two apart. Rows before an arm's first value are left out.
    """
    before = curve.groupby("arm").best_nats.shift()
    improved = curve.best_nats.notna() & ~(curve.best_nats >= before)
    last = curve.groupby("arm").cumcount(ascending=False) == 0
    return curve.assign(improved=improved)[(improved | last) & curve.best_nats.notna()]


def random_ends(curve: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `best_so_far` at which each arm's last random trial ended.

    Arms whose trials are all random, or none, have no such moment and no row.
    """
    random = curve.stratum == "random"
    share = random.groupby(curve.arm).transform("mean")
    ends = curve[random & (share < 1)].groupby("arm").tail(1)
    return ends[ends.best_nats.notna()]


def equal_compute(curve: pd.DataFrame, spent: str = "spent_s") -> pd.DataFrame:
    """Return what every arm had found when it had spent what the most frugal arm spent in all.

    Args:
        curve: as `best_so_far` returns it.
        spent: the column that counts: `spent_s`, or `ended` for trials.

    Returns:
        Columns arm, `spent` (the same for all) and `best_nats`; a trial that ended later does not
        count, and an arm without a value by then has NaN.
    """
    least = curve.groupby("arm")[spent].max().min()
    within = curve[curve[spent] <= least].groupby("arm").best_nats.min()
    arms = curve.arm.drop_duplicates()
    return pd.DataFrame(
        {"arm": arms, "spent": float(least), "best_nats": arms.map(within).astype("float64")}
    ).reset_index(drop=True)
