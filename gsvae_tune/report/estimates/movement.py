"""How temperatures moved: held by their range, turning round, settling, decided by the losses.

`paths` are epochs as `estimates.traces.living` gives them: of one arm and one phase, sorted by
path and epoch. What is asked of a path (one member of one replicate of one trial) is averaged over
the paths of a trial; what is asked of epochs is a share of all epochs of all of its paths.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

# Ratios of temperatures nearer to 1 than this are rounding: a learned one is trained in float32.
ROUNDING = 1e-6
SETTLED = 1.05  # a temperature within this factor of its last one has settled
DECIDED = ("A_WON", "B_WON")  # the two losses differed, and the coupling was asked
PAIR_EVENTS = (*DECIDED, "COLLAPSED", "TIE", "WAITED")  # all that a pair's controller records
_PATH = ["number", "replicate", "branch"]


def end_shares(paths: pd.DataFrame, ranges: pd.DataFrame) -> pd.DataFrame:
    """Return the share of a trial's epochs spent at each end of its active range.

    Args:
        paths: the epochs.
        ranges: indexed by number, columns tau_min and tau_max; NaN: there is no such end.

    Columns number, lower, upper, in [0, 1]; NaN where there is no such end. An epoch is at an end
    where its temperature lies on it or beyond, up to rounding; also one that started there.
    """
    own = paths.join(ranges[["tau_min", "tau_max"]], on="number")
    lower = (own["tau"] <= own["tau_min"] * (1 + ROUNDING)).where(own["tau_min"].notna())
    upper = (own["tau"] >= own["tau_max"] * (1 - ROUNDING)).where(own["tau_max"].notna())
    shares = pd.DataFrame({"number": own["number"], "lower": lower, "upper": upper})
    return shares.astype({"lower": "float64", "upper": "float64"}).groupby(
        "number", as_index=False
    ).mean()  # fmt: skip


def reversals(paths: pd.DataFrame) -> pd.DataFrame:
    """Return how often a trial's temperatures turned round: columns number, reversals.

    Moves are the differences of log tau from one epoch to the next; those of 0 (up to rounding)
    are skipped, and a reversal is a move whose sign is not that of the move before. Mean over the
    trial's paths.
    """
    moves = _moves(paths)
    signs = np.sign(moves).where(moves.abs() > ROUNDING)
    moving = paths[_PATH].assign(sign=signs)[signs.notna()]
    before = moving.groupby(_PATH)["sign"].shift()
    turned = (before.notna() & (before != moving["sign"])).reindex(paths.index, fill_value=False)
    each = paths[_PATH].assign(reversals=turned.astype("float64")).groupby(_PATH).sum()
    return each.groupby(level="number").mean().reset_index()


def settling(paths: pd.DataFrame, within: float = SETTLED) -> pd.DataFrame:
    """Return when a trial's temperatures settled: columns number, epoch.

    A path settles in the first epoch from which on it stays within the factor `within` of its last
    temperature, ends included; one that moves at the end settles in its last epoch. Mean over the
    trial's paths. Give it whole replicates only: one that ended early had no time to settle.
    """
    logs = np.log(paths["tau"])
    keys = [paths[name] for name in _PATH]
    away = (logs - logs.groupby(keys).transform("last")).abs() > np.log(within) * (1 + 1e-9)
    # The epoch after the last one away from it; a path that never was is there in its first.
    after = (paths["epoch"] + 1).where(away, paths["epoch"].groupby(keys).transform("first"))
    each = after.groupby(keys).max()
    return each.groupby(level="number").mean().rename("epoch").reset_index()


def event_shares(paths: pd.DataFrame) -> pd.DataFrame:
    """Return the share of a trial's epochs, over all replicates, that ended in each event.

    Indexed by number, one column an event that occurs; rows sum to 1. Events are those of a
    replicate: both members share them and count once.
    """
    once = paths.drop_duplicates(["number", "replicate", "epoch"])
    return pd.crosstab(once["number"], once["event"].astype("object"), normalize="index")


def decided(shares: pd.DataFrame) -> pd.DataFrame:
    """Return what `event_shares` says of the losses, indexed by number.

    Columns decided: share of epochs at which the two losses differed and the coupling was asked,
    and waited: share of those between decisions.
    """
    whole = shares.reindex(columns=[*DECIDED, "WAITED"], fill_value=0.0)
    return pd.DataFrame({"decided": whole[list(DECIDED)].sum(axis=1), "waited": whole["WAITED"]})


def moved_after(paths: pd.DataFrame, events: Sequence[str]) -> tuple[int, int]:
    """Return after how many of some events a temperature moved, and of how many.

    A replicate's event counts where an epoch follows it; it moved something where either member's
    next temperature is another, beyond rounding.
    """
    moved = _moves(paths).groupby([paths[name] for name in _PATH]).shift(-1).abs()
    asked = paths.assign(moved=moved)[paths["event"].isin(events) & moved.notna()]
    most = asked.groupby(["number", "replicate", "epoch"])["moved"].max()
    return int((most > ROUNDING).sum()), len(most)


def still(paths: pd.DataFrame) -> int:
    """Return how many trials never moved a temperature, in any replicate."""
    most = _moves(paths).abs().groupby(paths["number"]).max().fillna(0.0)
    return int((most <= ROUNDING).sum())


def spread(last: NDArray[np.float64]) -> float:
    """Return the factor between the highest and the lowest temperature; 1: they are all one."""
    return float(np.exp(np.ptp(np.log(last)))) if last.size else np.nan


def quartiles(values: pd.Series) -> tuple[float, float, float]:
    """Return the quartiles (low, median, high) of the values that are known; three NaN of none."""
    low, median, high = values.dropna().quantile([0.25, 0.5, 0.75])
    return float(low), float(median), float(high)


def _moves(paths: pd.DataFrame) -> pd.Series:
    """Return log tau minus that of the epoch before, NaN in the first epoch of a path."""
    logs: pd.Series = np.log(paths["tau"])
    moves: pd.Series = logs.groupby([paths[name] for name in _PATH]).diff()
    return moves
