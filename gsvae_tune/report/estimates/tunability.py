"""What is lost by leaving a setting at its default while all others are at their best.

Sources: Probst, Boulesteix and Bischl 2019 (tunability, 1802.09596).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gsvae_tune.report.estimates.configurations import Configurations, Rows, default_of, varied
from gsvae_tune.report.estimates.surrogate import Predictor, Surrogate, interval_around

DRAWN = 500  # random configurations, beside those of the trials


def tunability(surrogate: Surrogate, halves: Sequence[Predictor], seed: int = 0) -> pd.DataFrame:
    """Return what each setting's default costs, in the order in which the arm lists them.

    Args:
        surrogate: of the arm.
        halves: what halves of its trials predict, for the intervals.
        seed: of configurations.

    Returns:
        One row a setting: name, conditional, varied, default, lost_nats, low_nats, high_nats. The
        interval is that of `interval_around`; it knows nothing of configurations that no trial came
        near. NaN where the setting did not vary, and where its default breaks an order in every
        configuration.
    """
    space = surrogate.configurations
    generator = np.random.default_rng(seed)
    pool = np.concatenate([surrogate.rows, space.drawn(DRAWN, generator)])
    left = at_default(space, pool, generator)
    known = varied(surrogate.rows)
    lost = np.where(known, lost_nats(surrogate, pool, left), np.nan)
    of_halves = np.array([lost_nats(half, pool, left) for half in halves])
    low, high = interval_around(lost, of_halves, least=0.0)
    return pd.DataFrame(
        {
            "name": space.names,
            "conditional": [bool(setting.when) for setting in space.settings],
            "varied": known,
            "default": [space.shown(one.name, default_of(one)) for one in space.settings],
            "lost_nats": lost,
            "low_nats": low,
            "high_nats": high,
        }
    )


def at_default(
    space: Configurations, pool: Rows, generator: np.random.Generator
) -> list[NDArray[np.float64]]:
    """Return for each setting the pool's configurations with that setting at its default.

    What the default switches on is drawn; a configuration that does not have the setting stays as
    it is, and one in which the default breaks an order is left out.
    """
    found = []
    for place, setting in enumerate(space.settings):
        rows = pool.copy()
        rows[~np.isnan(rows[:, place]), place] = default_of(setting)
        rows = space.completed(rows, generator)
        found.append(rows[space.is_legal(rows)])
    return found


def lost_nats(predictor: Predictor, pool: Rows, left: list[Rows]) -> NDArray[np.float64]:
    """Return how much lower the loss falls where each setting is free, nats, (settings,).

    The lowest predicted loss among the configurations with a setting at its default, minus the
    lowest among these and the pool's: never below 0. NaN where no configuration has the default.
    """
    counts = [len(rows) for rows in left]
    losses = predictor.predicted_nats(np.concatenate([pool, *left]))
    best = losses[: len(pool)].min()
    parts = np.split(losses[len(pool) :], np.cumsum(counts)[:-1])
    lowest = np.array([part.min() if part.size else np.nan for part in parts])
    lost: NDArray[np.float64] = lowest - np.minimum(lowest, best)
    return lost
