"""What a selected score is worth: the search's best configurations, trained again on fresh seeds.

The best of many tries is partly luck, so fresh seeds usually give a higher loss: the winner's curse
(Bouthillier et al. 2021, 2103.03098). Both scores are of the validation split, nats, lower is
better.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from gsvae_tune.report import inference


def confirmations(trials: pd.DataFrame, replicates: pd.DataFrame) -> pd.DataFrame:
    """Return each confirmed configuration with the score that won and what fresh seeds give.

    Args:
        trials: the study's table of trials, of the arms wanted.
        replicates: the study's table of replicates.

    Returns:
        One row a configuration whose confirmation has ended, best score first in each arm: `arm`,
        `number`, `selected_nats`, `again_nats` (mean over the fresh seeds; infinite where one of
        them failed), `low_nats` and `high_nats` (BCa interval of that mean), `seeds` and `rank`
        (of the selected score among those confirmed, from 1).
    """
    own = trials[["arm", "phase", "number", "state", "value"]]
    chosen = own[(own.phase == "search") & own.value.notna()]
    again = own[(own.phase == "confirm") & (own.state != "running")][["arm", "number"]]
    both = chosen.merge(again, on=["arm", "number"])
    both = both.sort_values(["arm", "value", "number"], kind="stable", ignore_index=True)
    fresh = replicates[replicates.phase == "confirm"].groupby(["arm", "number"]).val_neg_elbo_nats
    losses = {key: values.to_numpy(np.float64, na_value=np.nan) for key, values in fresh}
    rows = [
        (row.arm, row.number, row.value, *_score(losses.get((row.arm, row.number), np.empty(0))))
        for row in both.itertuples()
    ]
    columns = ["arm", "number", "selected_nats", "again_nats", "low_nats", "high_nats", "seeds"]
    found = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[2:6], "float64"))
    return found.assign(rank=found.groupby("arm").cumcount() + 1)


def _score(losses: np.ndarray) -> tuple[float, float, float, int]:
    """Return the mean, its interval and the number of seeds; one that failed spoils them all."""
    if losses.size == 0 or not np.isfinite(losses).all():
        return np.inf, np.nan, np.nan, losses.size
    return float(losses.mean()), *inference.bca_interval(losses), losses.size


def stability(confirmed: pd.DataFrame) -> pd.DataFrame:
    """Return one row an arm of what `confirmations` returns, in its order.

    Returns:
        Columns arm, `configurations`, `failed` (of those), `tau_b` (Kendall's, of the selected
        scores and those again; a failed confirmation ranks last) and `curse_nats` (mean of again
        minus selected over those that did not fail; NaN where all did).
    """
    rows = []
    for arm, own in confirmed.groupby("arm", sort=False):
        sound = own[np.isfinite(own.again_nats)]
        tau = inference.rank_stability(own.selected_nats, own.again_nats)
        curse = inference.winners_curse(sound.selected_nats, sound.again_nats)
        rows.append((arm, len(own), len(own) - len(sound), tau, curse))
    columns = ["arm", "configurations", "failed", "tau_b", "curse_nats"]
    return pd.DataFrame(rows, columns=columns)
