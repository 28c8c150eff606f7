"""How much a search's settings tell its best trials from all: Optuna's PED-ANOVA.

Sources: Watanabe, Bansal and Hutter 2023 (PED-ANOVA, 2304.10255), and conditional PED-ANOVA
(2601.20800), which Optuna 5 does: where a setting is switched off is a regime of its own.

Optuna is not given the study itself but its trials with one fixed range a setting. Where the end of
a range is another setting, every trial has a range of its own, and Optuna, to which each range is
another regime, would find too few trials in all of them and call the setting unimportant.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from gsvae_tune.search.space import SearchedSetting
from gsvae_tune.study.parameters import Scalar

SHARE, FEWEST = 0.1, 5  # the best tenth, Optuna's own; fewer trials than five it calls unstable


def best_count(count: int) -> int:
    """Return how many of so many trials count as best: a tenth or five, at most half of them.

    Ties at the edge come on top.
    """
    return max(1, min(max(math.ceil(SHARE * count), FEWEST), count // 2))


def ped_anova(
    settings: Sequence[SearchedSetting],
    configurations: Sequence[Mapping[str, Scalar]],
    losses: Sequence[float],
    draws: Sequence[NDArray[np.intp]],
) -> NDArray[np.float64]:
    """Return each setting's share of the importance for being among the best trials.

    They compare the best trials with all trials, not with the range searched: what an adaptive
    sampler had settled early tells none from the other. Optuna's choice of kernels is taken as is.

    Args:
        settings: what is asked about.
        configurations: the trials', without the settings that were switched off.
        losses: theirs, finite; lower is better.
        draws: of each resample its trials by place, which may repeat. As large a share of a
            resample counts as best as of all trials, rounded up: a smaller one asks the same.

    Returns:
        (resamples, settings), each resample's shares summing to 1. NaN: a setting that did not
        vary; a whole resample in which no trial is worse than the best, or in which no setting
        tells the best from all.
    """
    known = _distributions(settings, configurations)
    trials = [
        _trial(number, known, row, loss)
        for number, (row, loss) in enumerate(zip(configurations, losses, strict=True))
    ]
    shares = np.full((len(draws), len(settings)), np.nan)
    study, share = _Drawn(), best_count(len(losses)) / max(len(losses), 1)
    for resample, places in zip(shares, draws, strict=True):
        study.drawn = [trials[place] for place in places]
        # Rounding to 9 digits: 0.1 * 70 is a little more than 7.
        found = _importances(study, max(1, math.ceil(round(share * len(places), 9))))
        total = sum(found.values())
        for place, setting in enumerate(settings):
            if total > 0 and setting.name in known:
                # A resample may have lost every trial with the setting: it found nothing in it.
                resample[place] = found.get(setting.name, 0.0) / total
    return shares


class _Drawn(optuna.Study):
    """A study whose trials are given, not stored: storing them anew takes as long as the answer."""

    def __init__(self) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        storage = optuna.storages.InMemoryStorage()
        directions = [optuna.study.StudyDirection.MINIMIZE]
        storage.create_new_study(directions, "drawn")
        super().__init__("drawn", storage)
        self.drawn: list[optuna.trial.FrozenTrial] = []

    def get_trials(
        self, deepcopy: bool = True, states: Any = None
    ) -> list[optuna.trial.FrozenTrial]:
        return self.drawn


def _importances(study: _Drawn, best: int) -> dict[str, float]:
    values = np.sort([trial.value for trial in study.drawn])
    if values[best - 1] == values[-1]:
        return {}
    # Half a trial less, as Optuna rounds up what is a whole number only up to rounding.
    share = (best - 0.5) / len(values)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=share)
    with warnings.catch_warnings():
        # A condition that one trial of a resample meets is left out, which Optuna says each time.
        warnings.simplefilter("ignore", UserWarning)
        return evaluator.evaluate(study)


def _trial(
    number: int, known: Mapping[str, BaseDistribution], row: Mapping[str, Scalar], loss: float
) -> optuna.trial.FrozenTrial:
    own = {
        name: int(value) if isinstance(known[name], IntDistribution) else value
        for name, value in row.items()
        if name in known
    }
    # optuna.create_trial gives every trial one number, by which Optuna tells the best from others.
    return optuna.trial.FrozenTrial(
        number=number, trial_id=number, state=optuna.trial.TrialState.COMPLETE,
        value=float(loss), params=own, distributions={name: known[name] for name in own},
        user_attrs={}, system_attrs={}, intermediate_values={}, datetime_start=None,
        datetime_complete=None,
    )  # fmt: skip


def _distributions(
    settings: Sequence[SearchedSetting], configurations: Sequence[Mapping[str, Scalar]]
) -> dict[str, BaseDistribution]:
    """Return one distribution for each setting that varied: over all that was searched."""
    found: dict[str, BaseDistribution] = {}
    for setting in settings:
        values = [row[setting.name] for row in configurations if setting.name in row]
        if len(set(values)) < 2:
            continue
        if setting.choices is not None:
            found[setting.name] = CategoricalDistribution(setting.choices)
            continue
        ends = [float(setting.low or 0.0), float(setting.high or 0.0)]
        # Drawn values are whole by chance never: a setting that only ever was is one of integers.
        if all(float(value).is_integer() for value in [*values, *ends]):
            low, high = (int(end) for end in ends)
            found[setting.name] = IntDistribution(low, high, log=setting.log)
        else:
            found[setting.name] = FloatDistribution(ends[0], ends[1], log=setting.log)
    return found
