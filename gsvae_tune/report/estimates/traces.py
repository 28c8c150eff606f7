"""What the temperatures and losses of two members did, epoch by epoch.

Functions take `epochs`, the epochs of trials of one arm and one phase, in any order, with columns

number, replicate, branch   whose; branch is "a" or "b"
epoch                       from 1
tau                         the temperature that the epoch was trained at
control_loss_discrete       one-hot codes, control split, nats per example
control_loss_relaxed        relaxed codes at tau, control split, nats per example
event                       what the controller then did, a name of `tau.controller.Event`

A path is one member's temperature over the epochs: one a (number, replicate, branch). Temperatures
act as ratios, so they are averaged and compared as logarithms.

The gap, relaxed minus one-hot loss, is what a relaxation gains on paper alone (the integrality gap
of Maddison, Mnih and Teh 2017, 1611.00712, appendix C): it hangs on tau.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

ENDED = "ENDED"
LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)  # of a fan, each a column of its own
_REPLICATE = ["number", "replicate"]


def endings(epochs: pd.DataFrame) -> pd.DataFrame:
    """Return the replicates that ended early: number, replicate, epoch (the first one lost).

    A replicate ends, with both its members, in the first epoch whose event is ENDED or in which a
    member's one-hot control loss or temperature is missing or not finite.
    """
    unsound = ~np.isfinite(epochs["control_loss_discrete"]) | ~(epochs["tau"] > 0)
    lost = epochs[unsound | (epochs["event"] == ENDED).fillna(value=False).astype(bool)]
    first: pd.DataFrame = lost.groupby(_REPLICATE)["epoch"].min().reset_index()
    return first


def living(epochs: pd.DataFrame, ended: pd.DataFrame) -> pd.DataFrame:
    """Return the epochs before their replicate ended, sorted by path and epoch.

    Args:
        epochs: all of them.
        ended: as `endings` gives it.
    """
    kept = epochs
    if len(ended):
        ends = epochs.merge(ended.rename(columns={"epoch": "end"}), on=_REPLICATE, how="left")
        kept = epochs[~(ends["epoch"] >= ends["end"]).to_numpy()]
    return kept.sort_values([*_REPLICATE, "branch", "epoch"], ignore_index=True)


def stops(paths: pd.DataFrame, ended: pd.DataFrame) -> pd.DataFrame:
    """Return the last living row of each member of the replicates that ended early.

    One that ended in its first epoch has none.
    """
    early = paths.merge(ended[_REPLICATE], on=_REPLICATE)
    return early.drop_duplicates([*_REPLICATE, "branch"], keep="last")


def mean_paths(paths: pd.DataFrame) -> pd.DataFrame:
    """Return the geometric mean of tau over the replicates of each trial, member and epoch.

    Columns number, branch, epoch, tau, n: how many replicates were alive then.
    """
    logs = paths.assign(log_tau=np.log(paths["tau"])).groupby(["number", "branch", "epoch"])
    found = logs["log_tau"].agg(["mean", "size"]).reset_index()
    tau = np.exp(found.pop("mean"))
    return found.rename(columns={"size": "n"}).assign(tau=tau)


@dataclass(frozen=True)
class Thirds:
    """The numbers of the best and of the worst third of trials; both empty: they have no order."""

    best: list[int]
    worst: list[int]


def thirds(values: pd.Series) -> Thirds:
    """Return the best and the worst third of trials by loss, n // 3 each.

    Args:
        values: loss of each trial, indexed by number; NaN is a trial that failed and ranks last.

    Of equal values the lower number ranks first. Where the two thirds meet in one value, nothing
    tells them apart, and both are empty.
    """
    ranked = values.fillna(np.inf).sort_index().sort_values(kind="stable")
    size = len(ranked) // 3
    if not size or ranked.iloc[size - 1] == ranked.iloc[-size]:
        return Thirds([], [])
    numbers = [int(number) for number in ranked.index]
    return Thirds(numbers[:size], numbers[-size:])


def fan(means: pd.DataFrame, numbers: Sequence[int]) -> pd.DataFrame:
    """Return quantiles of tau over some trials, epoch by epoch, both members pooled.

    Args:
        means: as `mean_paths` gives it: a trial counts once a member, whatever its replicates.
        numbers: of the trials.

    Columns epoch, each of `LEVELS` (interpolated linearly in log tau), n (paths alive then),
    median_a and median_b (NaN where that member has none).
    """
    own = means[means["number"].isin(numbers)]
    own = own.assign(log_tau=np.log(own["tau"]))
    table = own.pivot_table(index="epoch", columns=["branch", "number"], values="log_tau")
    found = pd.DataFrame({"epoch": table.index.to_numpy(), "n": table.notna().sum(axis=1)})
    logs = table.to_numpy(dtype=np.float64)
    nothing = np.empty((len(LEVELS), 0))
    quantiles = np.nanquantile(logs, LEVELS, axis=1) if logs.size else nothing
    found[list(LEVELS)] = np.exp(quantiles.T)
    for branch in "ab":
        member = own[own["branch"] == branch].groupby("epoch")["log_tau"].median()
        found[f"median_{branch}"] = np.exp(member.reindex(table.index))
    return found.reset_index(drop=True)


def loss_bands(paths: pd.DataFrame) -> pd.DataFrame:
    """Return each member's one-hot control loss over the replicates, epoch by epoch, nats.

    Columns branch, epoch, mean, low, high (the lowest and highest replicate), n. One trial.
    """
    losses = paths.groupby(["branch", "epoch"])["control_loss_discrete"]
    found = losses.agg(["mean", "min", "max", "size"]).reset_index()
    return found.rename(columns={"min": "low", "max": "high", "size": "n"})


def leads(paths: pd.DataFrame) -> pd.DataFrame:
    """Return in which share of the replicates each member had the lower loss, epoch by epoch.

    Columns epoch, a, b, equal (to the last digit), n; the three shares sum to 1. One trial; only
    epochs in which both members have a loss count.
    """
    both = paths.pivot_table(
        index=["replicate", "epoch"], columns="branch", values="control_loss_discrete"
    )
    both = both.reindex(columns=["a", "b"]).dropna()
    ahead = pd.DataFrame(
        {"a": both["a"] < both["b"], "b": both["b"] < both["a"], "equal": both["a"] == both["b"]}
    ).astype("float64")
    by_epoch = ahead.groupby(level="epoch")
    return by_epoch.mean().assign(n=by_epoch.size()).reset_index()


def lead_changes(paths: pd.DataFrame) -> float:
    """Return how often the lead changed hands, mean over the replicates of one trial.

    The member with the lower one-hot control loss leads; epochs in which both have the same loss
    are skipped. NaN without replicates.
    """
    both = paths.pivot_table(
        index=["replicate", "epoch"], columns="branch", values="control_loss_discrete"
    )
    both = both.reindex(columns=["a", "b"]).dropna()
    sign = np.sign(both["a"] - both["b"])
    told = sign[sign != 0]
    before = told.groupby(level="replicate").shift()
    changes = (before.notna() & (before != told)).sum()
    replicates = both.index.get_level_values("replicate").nunique()
    return float(changes / replicates) if replicates else np.nan


def leading(paths: pd.DataFrame) -> pd.DataFrame:
    """Return of each replicate the epochs of one member: the one that ended ahead.

    That is the member whose one-hot control loss is lower in the replicate's last epoch, which is
    also the one that the study measures; a of two that are equal.
    """
    last = paths[paths["epoch"] == paths.groupby(_REPLICATE)["epoch"].transform("max")]
    ahead = last.sort_values(["control_loss_discrete", "branch"]).drop_duplicates(_REPLICATE)
    return paths.merge(ahead[[*_REPLICATE, "branch"]], on=[*_REPLICATE, "branch"])


def gap_path(paths: pd.DataFrame) -> pd.DataFrame:
    """Return the mean gap over the replicates, epoch by epoch, of the member that ended ahead.

    Columns epoch, gap_nats, n. Epochs without a finite relaxed loss are left out.
    """
    ahead = leading(paths)
    gap = ahead["control_loss_relaxed"] - ahead["control_loss_discrete"]
    sound = ahead.assign(gap_nats=gap)[np.isfinite(gap)]
    found = sound.groupby("epoch")["gap_nats"].agg(["mean", "size"]).reset_index()
    return found.rename(columns={"mean": "gap_nats", "size": "n"})


def last_gaps(paths: pd.DataFrame) -> pd.DataFrame:
    """Return what each member of each trial ended with, averaged over the replicates.

    Columns number, branch, tau (geometric mean), gap_nats, n. Give it whole replicates only: of
    one that ended early the last epoch says nothing.
    """
    last = paths[paths["epoch"] == paths.groupby("number")["epoch"].transform("max")]
    gap = last["control_loss_relaxed"] - last["control_loss_discrete"]
    sound = last.assign(gap_nats=gap, log_tau=np.log(last["tau"]))[np.isfinite(gap)]
    groups = sound.groupby(["number", "branch"])
    found = groups[["gap_nats", "log_tau"]].mean().assign(n=groups.size()).reset_index()
    tau = np.exp(found.pop("log_tau"))
    return found.assign(tau=tau)


def trend(last: pd.DataFrame, bins: int = 12, least: int = 10) -> pd.DataFrame:
    """Return the median gap over tau: columns tau, gap_nats, n; bins that hold equally many.

    Args:
        last: with columns tau and gap_nats.
        bins: at most so many.
        least: members in each bin; fewer bins where there are not enough.
    """
    count = min(bins, len(last) // least)
    ordered = last.sort_values("tau")
    parts = [part for part in np.array_split(np.arange(len(ordered)), max(count, 1)) if count]
    rows = [
        (np.exp(np.log(part["tau"]).median()), part["gap_nats"].median(), len(part))
        for part in (ordered.iloc[places] for places in parts)
    ]
    return pd.DataFrame(rows, columns=["tau", "gap_nats", "n"])


@dataclass(frozen=True)
class Misranking:
    """What ranking trials by their relaxed loss would have done; losses on the control split."""

    number: int  # of the trial with the lowest relaxed loss
    best: int  # of the trial with the lowest one-hot loss
    lost_nats: float  # by how much the first is worse with one-hot codes
    agreement: float  # Kendall's tau-b of the two rankings; NaN: one of them is all ties
    n: int  # trials


def misranking(paths: pd.DataFrame) -> Misranking | None:
    """Return what ranking by the relaxed loss would have chosen; None for fewer than two trials.

    A trial's two losses are those of its last epoch, of each replicate's member that ended ahead,
    averaged over the replicates. Of equal losses the lower number ranks first.
    """
    from gsvae_tune.report.inference import rank_stability

    ahead = leading(paths)
    last = ahead[ahead["epoch"] == ahead.groupby("number")["epoch"].transform("max")]
    names = {"control_loss_discrete": "discrete", "control_loss_relaxed": "relaxed"}
    losses = last.groupby("number")[list(names)].mean().rename(columns=names).dropna()
    if len(losses) < 2:
        return None
    chosen, best = int(losses["relaxed"].argmin()), int(losses["discrete"].argmin())
    return Misranking(
        number=int(losses.index[chosen]),
        best=int(losses.index[best]),
        lost_nats=float(losses["discrete"].iloc[chosen] - losses["discrete"].min()),
        agreement=rank_stability(losses["discrete"], losses["relaxed"]),
        n=len(losses),
    )
