"""Several studies side by side: their verdicts and their best settings, as tidy frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from gsvae_tune.report.estimates.marginal import CURVE, smoothed_loss
from gsvae_tune.report.verdict import Verdict

DIFFERENCES = ["study", "arm", "baseline", "effect_nats", "low", "high", "wide_low", "wide_high",
               "n", "verdict"]  # fmt: skip


def differences(verdicts: Mapping[str, Verdict]) -> pd.DataFrame:
    """Return every comparison of every study that could be measured, a row each.

    Args:
        verdicts: by study.

    Columns `DIFFERENCES`: effect and both intervals in nats, arm minus baseline, as `Comparison`
    has them; NaN where an interval is not known.
    """
    rows = [
        (study, one.arm, one.baseline, one.effect_nats, one.ci_low, one.ci_high, one.wide_low,
         one.wide_high, one.n, one.verdict)
        for study, verdict in verdicts.items()
        for one in verdict.comparisons
        if one.effect_nats is not None
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=DIFFERENCES)
    numbers = ["effect_nats", "low", "high", "wide_low", "wide_high"]
    return frame.astype(dict.fromkeys(numbers, "float64"))


def starts(found: Mapping[tuple[str, str], pd.DataFrame]) -> pd.DataFrame:
    """Return each arm's smoothed loss along its starting temperature, in every study.

    Args:
        found: by study and arm: columns start (above 0) and loss_nats (finite) of its trials.

    Columns study, arm, trials, and those of `marginal.smoothed_loss`, whose level all of `found`
    share. An arm whose start is the same in every trial, or whose curve has one point, has no row.
    """
    curves = [
        smoothed_loss(own.start, own.loss_nats, log=True, curves=len(found)).assign(
            study=study, arm=arm, trials=len(own)
        )
        for (study, arm), own in found.items()
    ]
    columns = ["study", "arm", "trials", *CURVE]
    curves = [curve for curve in curves if len(curve) > 1]
    return pd.concat(curves)[columns] if curves else pd.DataFrame(columns=columns)


def temperatures(
    best: Iterable[tuple[str, str, Mapping[str, object]]],
) -> pd.DataFrame:
    """Return each arm's best start and range, a row a (study, arm); columns in units of tau.

    Args:
        best: study, arm and that arm's settings; those not searched may be missing.

    Columns study, arm, start_a, start_b, low, high. Arms with one start have it twice; NaN where
    an arm has no such setting.
    """
    rows = []
    for study, arm, settings in best:
        start = settings.get("tau_start")
        start_a, start_b = settings.get("tau_a", start), settings.get("tau_b", start)
        low, high = settings.get("tau_min"), settings.get("tau_max")
        rows.append((study, arm, start_a, start_b, low, high))
    names = ["start_a", "start_b", "low", "high"]
    frame = pd.DataFrame(rows, columns=["study", "arm", *names])
    return frame.assign(**{name: pd.to_numeric(frame[name]).astype("float64") for name in names})
