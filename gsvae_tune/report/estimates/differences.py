"""What a verdict rests on, seed by seed and sum by sum.

Losses are nats per example, lower is better; a difference is arm - baseline within one pair of
replicates (same seed), so that below 0 the arm is better. Failed replicates (diverged, collapsed,
never finished) are marked and kept: in a difference they count as a loss, as `inference` says.

Sources: the pairing and the interval are those of the verdict (`report.pairs`, Efron 1987), the
judgement on compute that of `report.audit`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, replace

import pandas as pd

from gsvae_tune.report import inference
from gsvae_tune.report.audit import SLACK_S, Compute, unequal
from gsvae_tune.report.pairs import METRICS, Pairs, confirmed_rows, sound
from gsvae_tune.report.verdict import Comparison
from gsvae_tune.study.config import StudyConfig


def finalist_losses(
    replicates: pd.DataFrame, finalists: Mapping[str, int], metric: str, wanted: int
) -> pd.DataFrame:
    """Return what each finalist gave on the test split, one row a (arm, replicate).

    Args:
        replicates: the study's table of replicates.
        finalists: arm -> number of the trial that stands for it.
        metric: the column that is compared.
        wanted: replicates that each was to be trained on.

    Returns:
        Columns arm, replicate, loss_nats (NaN where nothing was measured) and failed: diverged,
        collapsed, without a finite loss, or not there at all.
    """
    found = []
    for arm, number in finalists.items():
        rows = confirmed_rows(replicates, arm, number).set_index("replicate").reindex(range(wanted))
        loss = rows[metric].astype("float64")
        failed = ~sound(rows) | ~loss.between(-1e300, 1e300)
        found.append(
            pd.DataFrame(
                {"arm": arm, "replicate": range(wanted), "loss_nats": loss, "failed": failed}
            )
        )
    empty = pd.DataFrame(columns=["arm", "replicate", "loss_nats", "failed"])
    return pd.concat(found, ignore_index=True) if found else empty


def mean_losses(losses: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Return each arm's mean loss over its sound replicates, in the order the arms come.

    Args:
        losses: as `finalist_losses` returns them.
        confidence: of the BCa interval of the mean over seeds.

    Returns:
        Columns arm, n (sound replicates), failed, mean_nats, low_nats, high_nats; NaN where there
        are too few.
    """
    rows = []
    for arm, own in losses.groupby("arm", sort=False):
        kept = own.loss_nats[~own.failed]
        low, high = inference.bca_interval(kept, confidence)
        rows.append(
            {"arm": arm, "n": len(kept), "failed": int(own.failed.sum()),
             "mean_nats": kept.mean(), "low_nats": low, "high_nats": high}
        )  # fmt: skip
    return pd.DataFrame(rows, columns=["arm", "n", "failed", "mean_nats", "low_nats", "high_nats"])


def paired_differences(
    config: StudyConfig,
    comparisons: Iterable[Comparison],
    trials: pd.DataFrame,
    replicates: pd.DataFrame,
) -> pd.DataFrame:
    """Return the differences whose mean each comparison judges, one row a (comparison, replicate).

    Args:
        config: the study.
        comparisons: those of its verdict: which two trials were compared stands there.
        trials: the table of trials.
        replicates: the table of replicates.

    Returns:
        Columns arm, baseline, replicate, difference_nats, failed (in either arm: the difference is
        the one that a failure is charged) and lost (failed in both). No rows where an arm has no
        finalist.
    """
    metric, wanted = METRICS[config.protocol.metric], config.protocol.replicates
    found = []
    for one in comparisons:
        names = (one.arm, one.baseline)
        numbers = [one.arm_trial, one.baseline_trial]
        pairs = Pairs.of(config, names, numbers, trials, replicates, config.protocol.alpha)
        if not len(pairs.differences):
            continue
        failed, lost = (pd.Series(data=start, index=range(wanted)) for start in (False, True))
        for arm, number in zip(names, numbers, strict=True):
            own = finalist_losses(replicates, {arm: number or 0}, metric, wanted)
            failed |= own.failed
            lost &= own.failed
        found.append(
            pd.DataFrame(
                {"arm": one.arm, "baseline": one.baseline, "replicate": range(wanted),
                 "difference_nats": pairs.differences, "failed": failed, "lost": lost}
            )
        )  # fmt: skip
    columns = ["arm", "baseline", "replicate", "difference_nats", "failed", "lost"]
    empty = pd.DataFrame(columns=columns)
    return pd.concat(found, ignore_index=True) if found else empty


def compute_shares(
    computes: Mapping[str, Compute], baseline: str, tolerance: float
) -> pd.DataFrame:
    """Return what each arm was given beside the baseline, one row a (arm, measure).

    Args:
        computes: arm -> what it was given; the baseline is among them.
        baseline: whom the others are held against.
        tolerance: how far device-seconds may differ, as a share of the smaller.

    Returns:
        Columns arm, measure (a field of `Compute`), value, share (of the baseline's; NaN where
        that has none), low and high (which values count as equal) and equal, which is the audit's
        own judgement on this measure.
    """
    reference = computes[baseline]
    rows = []
    for arm, given in computes.items():
        for field in fields(Compute):
            value, base = asdict(given)[field.name], asdict(reference)[field.name]
            alone = replace(reference, **{field.name: value})  # differs in this measure, if at all
            low = high = float(base)
            if field.name == "device_seconds":
                low = max(0.0, min(base / (1.0 + tolerance), base - SLACK_S))
                high = max(base * (1.0 + tolerance), base + SLACK_S)
            rows.append(
                {"arm": arm, "measure": field.name, "value": float(value),
                 "share": value / base if base else float("nan"), "low": low, "high": high,
                 "equal": not unequal(alone, reference, tolerance)}
            )  # fmt: skip
    return pd.DataFrame(rows)
