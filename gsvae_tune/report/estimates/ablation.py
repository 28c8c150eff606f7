"""The way from the default configuration to the best trial, one setting at a time.

Every step is predicted by a surrogate; nothing is trained for it.

Sources: Fawcett and Hoos 2016 (ablation analysis), Biedenkapp et al. 2017 (with surrogates).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gsvae_tune.report.estimates.configurations import Configurations
from gsvae_tune.report.estimates.surrogate import Predictor, interval_around


def ablation_path(
    predictor: Predictor,
    halves: Sequence[Predictor],
    configurations: Configurations,
    start: NDArray[np.float64],
    target: NDArray[np.float64],
) -> pd.DataFrame:
    """Return the path from one configuration to another that falls fastest, greedily.

    At each step that change towards the target is made after which the predicted loss is lowest;
    of equal ones the setting listed first. A choice changes together with the settings that hang on
    it, and no step breaks an order between settings, which one of the remaining ones always keeps.
    The path ends at the target also where its last steps predict a loss.

    Args:
        predictor: of losses; the path is the one that it finds.
        halves: what halves of the trials predict, for the intervals.
        configurations: what they may be.
        start: a configuration, (settings,).
        target: another.

    Returns:
        One row a configuration on the path, `start` first: changed (the names of what was changed
        for it), values (theirs, None: switched off), loss_nats, low_nats, high_nats (the ends of
        its interval as of `interval_around`), and fall_nats, fall_low_nats, fall_high_nats: how far
        the predicted loss falls with this step, NaN at `start`.
    """
    row = start.copy()
    left = [list(step) for step in configurations.steps() if _differing(row, target, step)]
    path, changes = [row], [_change(configurations, row, row)]
    while left:
        reached = np.repeat(row[None], len(left), axis=0)
        for candidate, step in zip(reached, left, strict=True):
            candidate[step] = target[step]
        legal = configurations.is_legal(reached)
        taken = int(np.where(legal, predictor.predicted_nats(reached), np.inf).argmin())
        changes.append(_change(configurations, row, reached[taken]))
        row = reached[taken]
        path.append(row)
        del left[taken]
    rows = np.array(path)
    losses = predictor.predicted_nats(rows)
    of_halves = np.array([half.predicted_nats(rows) for half in halves])
    falls, falls_of_halves = -np.diff(losses), -np.diff(of_halves, axis=1)
    low, high = interval_around(losses, of_halves)
    fall_low, fall_high = interval_around(falls, falls_of_halves)
    return pd.DataFrame(
        {
            "changed": [tuple(change) for change in changes],
            "values": [tuple(change.values()) for change in changes],
            "loss_nats": losses,
            "low_nats": low,
            "high_nats": high,
            "fall_nats": [np.nan, *falls],
            "fall_low_nats": [np.nan, *fall_low],
            "fall_high_nats": [np.nan, *fall_high],
        }
    )


def _differing(
    row: NDArray[np.float64], other: NDArray[np.float64], places: tuple[int, ...]
) -> list[int]:
    """Return the places at which two configurations differ; both switched off is no difference."""
    return [
        place
        for place in places
        if row[place] != other[place] and not np.isnan([row[place], other[place]]).all()
    ]


def _change(
    configurations: Configurations, row: NDArray[np.float64], reached: NDArray[np.float64]
) -> dict[str, object]:
    """Return the settings that differ, with their new values; None: switched off."""
    return {
        configurations.names[place]: None
        if np.isnan(reached[place])
        else configurations.shown(configurations.names[place], reached[place])
        for place in _differing(row, reached, tuple(range(len(row))))
    }
