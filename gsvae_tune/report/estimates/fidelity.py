"""Whether a short run tells what a long one gives: the order of trials at an epoch and at the end.

The validation loss a trial would have reported at epoch e is the mean over its replicates of the
branch that was better on the control split at that epoch: what happens later is not used. A failed
replicate is infinitely bad, and so is the mean it is in. Losses are nats, lower is better.

Source of the rank correlation: Spearman 1904; intervals: Efron 1979 (percentile bootstrap).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from gsvae_tune.study.records import TrialState

RESAMPLES = 1_000
EPOCHS = 20  # along a curve, at most
TRIALS = 400  # of an arm, at most: more would change no digit that is shown
CONFIDENCE = 0.95

Floats = NDArray[np.float64]


def proxy_curves(trials: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """Return for each arm and epoch how well the loss there orders the search's trials.

    Args:
        trials: the study's table of trials. Finished and failed ones of the search count, a failed
            one as worse than all; what a pruned one would have come to is unknown: left out.
        epochs: the study's table of epochs.

    Returns:
        One row an arm and epoch, up to EPOCHS of an arm, evenly in log, the last one among them:
        `arm`, `epoch`, `correlation` (Spearman's, of the losses at the epoch and the final
        values; NaN where either side is all one), `low` and `high` (percentile bootstrap interval
        over trials, at CONFIDENCE), `regret_nats` (final value of the trial that is first at the
        epoch, minus the best final value; mean over those that tie; a failed trial's final value is
        the worst finite one), `of` (trials used), `failed` (of those) and `pruned` (left out).
    """
    found = []
    searched = trials[trials.phase == "search"]
    records = epochs[epochs.phase == "search"]
    for arm, own in searched.groupby("arm", sort=False):
        finals = _finals(own)
        if finals.empty or not np.isfinite(finals).any():
            continue
        losses = losses_at(records[records.arm == arm], finals.index)
        if losses.empty:
            continue
        pruned = int((own.state == TrialState.PRUNED.value).sum())
        found.append(_curve(losses, finals).assign(arm=arm, pruned=pruned))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def losses_at(records: pd.DataFrame, numbers: pd.Index[int]) -> pd.DataFrame:
    """Return the loss that each trial of one arm would have reported at some epochs.

    Args:
        records: the arm's rows of the table of epochs.
        numbers: of the trials wanted.

    Returns:
        Trials (rows, as `numbers`) by epochs (columns, ascending), nats; infinite where a replicate
        had failed, or the trial had ended. No columns where there are no records.
    """
    own = records[records.number.isin(numbers)]
    if own.empty:
        return pd.DataFrame(index=numbers)
    kept = _spaced(int(own.epoch.max()))
    own = own[own.epoch.isin(kept)].set_index(["number", "epoch", "replicate"])
    a, b = (own[own.branch == branch] for branch in "ab")
    b = b.reindex(a.index)
    first = ~(b.control_loss_discrete < a.control_loss_discrete)  # a tie goes to branch a
    loss = a.val_neg_elbo_nats.where(first & a.control_loss_discrete.notna(), b.val_neg_elbo_nats)
    mean = loss.fillna(np.inf).groupby(level=["number", "epoch"]).mean()
    by_epoch = mean.unstack("epoch")  # noqa: PD010 - one value each, nothing to aggregate
    return by_epoch.reindex(numbers).fillna(np.inf)


def rank_correlations(first: ArrayLike, second: ArrayLike, counts: ArrayLike) -> Floats:
    """Return Spearman's correlation in resamples of n pairs.

    Args:
        first: (n,) values, infinite ones allowed; equal values share their mean rank.
        second: (n,) values paired with them.
        counts: (B, n) how often each pair is in each resample.

    Returns:
        (B,); NaN where either side of a resample is all one value.
    """
    weights = np.asarray(counts, dtype=np.float64)
    x, y = _centred_ranks(first, weights), _centred_ranks(second, weights)
    cross, xx, yy = ((weights * p * q).sum(axis=1) for p, q in ((x, y), (x, x), (y, y)))
    scale = np.sqrt(xx * yy)
    sound = scale > 1e-9 * weights.sum(axis=1)
    return np.where(sound, cross / np.where(sound, scale, 1.0), np.nan)


def _finals(trials: pd.DataFrame) -> pd.Series[float]:
    """Return the final values by number; infinite for failed trials."""
    finished = trials.state == TrialState.COMPLETE.value
    ended = trials[(finished & trials.value.notna()) | (trials.state == TrialState.FAILED.value)]
    values = ended.value.where(ended.state == TrialState.COMPLETE.value, np.inf).astype("float64")
    finals = pd.Series(values.to_numpy(), index=ended.number.to_numpy())
    if finals.size <= TRIALS:
        return finals
    chosen = np.random.default_rng(0).choice(finals.size, TRIALS, replace=False)
    return finals.iloc[np.sort(chosen)]


def _curve(losses: pd.DataFrame, finals: pd.Series[float]) -> pd.DataFrame:
    size = finals.size
    rng = np.random.default_rng(0)
    resamples = rng.multinomial(size, np.full(size, 1 / size), size=RESAMPLES)
    counts = np.vstack([np.ones((1, size)), resamples])  # the trials themselves first
    end = finals.to_numpy()
    tail = (1 - CONFIDENCE) / 2
    rows = []
    for epoch in losses.columns:
        early = losses[epoch].to_numpy()
        seen, *others = rank_correlations(early, end, counts)
        known = np.asarray(others)[np.isfinite(others)]
        low, high = np.quantile(known, [tail, 1 - tail]) if known.size else (np.nan, np.nan)
        rows.append((int(epoch), seen, low, high, _regret(early, end)))
    columns = ["epoch", "correlation", "low", "high", "regret_nats"]
    failed = int(np.isinf(end).sum())
    return pd.DataFrame(rows, columns=columns).assign(of=size, failed=failed)


def _regret(early: ArrayLike, final: ArrayLike) -> float:
    """Return what choosing the lowest loss so far costs in the end, nats."""
    losses, ends = np.asarray(early, dtype=np.float64), np.asarray(final, dtype=np.float64)
    finite = ends[np.isfinite(ends)]
    capped = np.minimum(ends, finite.max())
    return float(capped[losses == losses.min()].mean() - finite.min())


def _centred_ranks(values: ArrayLike, weights: Floats) -> Floats:
    """Return (B, n) mid-ranks of the values in each resample, minus their mean."""
    _, group = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    within = np.add.reduceat(weights[:, order], starts, axis=1)  # of each distinct value
    ranks = np.cumsum(within, axis=1) - within / 2
    return np.asarray(ranks[:, group] - weights.sum(axis=1, keepdims=True) / 2)


def _spaced(last: int) -> NDArray[np.int64]:
    """Return epochs from 1 to the last, all of them or EPOCHS at most, evenly in log."""
    if last <= EPOCHS:
        return np.arange(1, last + 1)
    spaced = np.unique(np.rint(np.geomspace(1, last, EPOCHS)).astype(np.int64))
    return np.asarray(spaced, dtype=np.int64)
