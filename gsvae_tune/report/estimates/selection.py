"""What a selected score is worth: the search's best configurations, trained again on fresh seeds.

The best of many tries is partly luck, so fresh seeds usually give a higher loss: the winner's curse
(Bouthillier et al. 2021, 2103.03098). Both scores are of the validation split, nats, lower is
better. A seed that diverged or collapsed is left out of the means, as in the verdict.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from gsvae_tune.report import inference
from gsvae_tune.report.pairs import sound

RANGED = 5  # configurations up to which a bootstrap over them would promise too much


def confirmations(trials: pd.DataFrame, replicates: pd.DataFrame) -> pd.DataFrame:
    """Return each confirmed configuration with the score that won and what fresh seeds give.

    Args:
        trials: the study's table of trials, of the arms wanted.
        replicates: the study's table of replicates.

    Returns:
        One row a configuration whose confirmation has ended, best score first in each arm: `arm`,
        `number`, `selected_nats`, `again_nats` (mean over the fresh seeds that are sound; NaN where
        none is), `low_nats` and `high_nats` (BCa interval of that mean; NaN for fewer than two),
        `seeds` (on record), `failed` (of those, left out of the mean) and `rank` (of the selected
        score among those confirmed, from 1).
    """
    own = trials[["arm", "phase", "number", "state", "value"]]
    chosen = own[(own.phase == "search") & own.value.notna()]
    again = own[(own.phase == "confirm") & (own.state != "running")][["arm", "number"]]
    both = chosen.merge(again, on=["arm", "number"])
    both = both.sort_values(["arm", "value", "number"], kind="stable", ignore_index=True)
    fresh = replicates[replicates.phase == "confirm"]
    loss = fresh.val_neg_elbo_nats.astype("float64").where(sound(fresh))
    losses = {key: own.to_numpy() for key, own in loss.groupby([fresh.arm, fresh.number])}
    rows = [
        (row.arm, row.number, row.value, *_score(losses.get((row.arm, row.number), np.empty(0))))
        for row in both.itertuples()
    ]
    columns = ["arm", "number", "selected_nats", "again_nats", "low_nats", "high_nats"]
    found = pd.DataFrame(rows, columns=[*columns, "seeds", "failed"])
    found = found.astype(dict.fromkeys(columns[2:], "float64"))
    return found.assign(rank=found.groupby("arm").cumcount() + 1)


def _score(losses: np.ndarray) -> tuple[float, float, float, int, int]:
    """Return the mean of the finite ones, its interval, how many there are and how many failed."""
    kept = losses[np.isfinite(losses)]
    mean = float(kept.mean()) if kept.size else np.nan
    return mean, *inference.bca_interval(kept), losses.size, losses.size - kept.size


def stability(confirmed: pd.DataFrame) -> pd.DataFrame:
    """Return one row an arm of what `confirmations` returns, in its order.

    Returns:
        Columns arm, `configurations`, `failed` (of those: no seed is sound, and nothing here counts
        them), `tau_b` (Kendall's, of the selected scores and those again), `curse_nats` (mean of
        again minus selected; NaN where all failed), `low_nats` and `high_nats`, whose meaning
        hangs on how many did not fail. One: the BCa interval over its fresh seeds, with the score
        taken as it is. Up to RANGED: the lowest and highest of them. More: the BCa interval over
        configurations.
    """
    rows = []
    for arm, own in confirmed.groupby("arm", sort=False):
        scored = own[own.again_nats.notna()]
        tau = inference.rank_stability(scored.selected_nats, scored.again_nats)
        curse = inference.winners_curse(scored.selected_nats, scored.again_nats)
        rows.append((arm, len(own), len(own) - len(scored), tau, curse, *_span(scored)))
    columns = ["arm", "configurations", "failed", "tau_b", "curse_nats", "low_nats", "high_nats"]
    return pd.DataFrame(rows, columns=columns)


def _span(scored: pd.DataFrame) -> tuple[float, float]:
    if len(scored) == 1:
        one = scored.iloc[0]
        return one.low_nats - one.selected_nats, one.high_nats - one.selected_nats
    rises = scored.again_nats - scored.selected_nats
    if len(scored) > RANGED:
        return inference.bca_interval(rises)
    return rises.min(), rises.max()
