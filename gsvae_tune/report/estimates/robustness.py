"""How many configurations of a search come near the best: is it easy to get tau right?

Sources: Clopper and Pearson 1934 (the band).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from gsvae_tune.report.inference import binomial_interval


def share_within(excess: ArrayLike, n: int, within_nats: float) -> tuple[float, float, float]:
    """Return (share, low, high): the share of configurations within so many nats of the best.

    The interval is Clopper and Pearson's at 95 %, for independent configurations.

    Args:
        excess: loss minus the best loss, nats, of the configurations that have a loss; values that
            are not finite count as not near.
        n: configurations, those without a loss among them; 0 gives (nan, 0, 1).
        within_nats: how near; the end counts as near.
    """
    values = np.asarray(excess, dtype=np.float64)
    count = int((values <= within_nats).sum())
    return count / n if n else np.nan, *binomial_interval(count, n)


def near_best(excess: ArrayLike, n: int) -> pd.DataFrame:
    """Return the share of configurations within x nats of the best, for every x where it steps.

    Args:
        excess: as in `share_within`.
        n: as in `share_within`, at least 1.

    Returns:
        Columns within_nats (ascending from 0, distinct), share, low and high: the share holds from
        this x to the next. low and high are the Clopper-Pearson interval of each share by itself.
    """
    values = np.asarray(excess, dtype=np.float64)
    values = np.sort(values[np.isfinite(values)])
    steps = np.unique(np.append(values, 0.0))
    reached = np.searchsorted(values, steps, side="right")
    band = np.array([binomial_interval(int(count), n) for count in reached])
    return pd.DataFrame(
        {"within_nats": steps, "share": reached / n, "low": band[:, 0], "high": band[:, 1]}
    )
