"""Where in its space a search went, and what its best configurations share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gsvae_tune.report.estimates import footprint
from gsvae_tune.report.exhibits.exhibit import Exhibit, NothingToShow, require_trials
from gsvae_tune.report.exhibits.search_words import each, left_out, so_far
from gsvae_tune.report.figures import footprint as figures
from gsvae_tune.report.loaded import LoadedStudy
from gsvae_tune.study.records import TrialState

MAPPED = 500  # trials of an arm on its map, at most
MAPPED_IN_ALL = 900
LINES = 300  # trials of an arm side by side, at most


def exhibits(study: LoadedStudy) -> Iterator[Exhibit]:
    """Return the exhibits on the configurations that a search tried."""
    yield Exhibit(
        "search-footprint",
        "Which parts of the space did the search visit, and where is it good?",
        "Each mark is a configuration, near to those that resemble it; squares were drawn at "
        "random, circles where the sampler looked, dark is good.",
        partial(_footprint, study),
    )
    yield Exhibit(
        "search-parallel",
        "What do the best configurations have in common?",
        "Each line is a trial, crossing each setting at its value; where the thick lines meet, the "
        "best trials agree, and a line breaks where a setting is switched off.",
        partial(_parallel, study),
    )


def _footprint(study: LoadedStudy) -> tuple[Figure, str]:
    found = _tried(study)
    limit = min(MAPPED, max(100, MAPPED_IN_ALL // len(found)))
    maps, stresses, spread, full = [], {}, {}, 0
    for arm, tried in found.items():
        confirmed = _is_confirmed(study, arm, tried)
        values = tried.value.to_numpy(np.float64)
        kept = footprint.subsample(
            len(tried), limit, [int(np.nanargmin(values)), *np.flatnonzero(confirmed)]
        )
        settings = study.settings[arm]
        unit = footprint.unit_settings(tried.iloc[kept], settings)
        apart = footprint.distances(unit, settings).mean(axis=0)
        if not apart.any():
            continue  # every trial has the same settings
        places, stresses[arm] = footprint.plane(apart)
        random = (tried.stratum == "random").to_numpy(np.bool_)[kept]
        spread[arm] = [
            footprint.mean_distance(apart, np.flatnonzero(own)) for own in (random, ~random)
        ]
        maps.append(figures.Footprint(arm, places, values[kept], random, confirmed[kept]))
        full += len(kept) < len(tried)
    if not maps:
        raise NothingToShow(
            f"In every one of {len(found)} arms all trials have the same settings, so there is "
            "nothing to map."
        )
    note = (
        "Maps by multidimensional scaling of Gower's distance: the mean difference over settings, "
        "each on its searched range, 0 to 1 (axes have no meaning of their own). Stress, the "
        f"distortion, is {each(pd.Series(stresses), '.2f')}; above 0.2 only neighbourhoods count. "
        "Colours end at the 80 % quantile. "
    )
    note += f"{full} arms: a random {limit} of their trials. " if full else ""
    note += left_out(study, [one.arm for one in maps])
    colours = footprint.loss_range(np.concatenate([one.losses for one in maps]))
    return figures.footprints(maps, colours, note), so_far(study) + _narrowed(maps, spread)


def _narrowed(maps: list[figures.Footprint], spread: Mapping[str, list[float]]) -> str:
    counts = [len(one.losses) for one in maps]
    text = f"{sum(counts)} configurations of {len(maps)} {'arm' if len(maps) == 1 else 'arms'}"
    both = {arm: two for arm, two in spread.items() if np.isfinite(two).all() and two[0] > 0}
    if both:
        shares = pd.Series({arm: two[1] / two[0] for arm, two in both.items()})
        return (
            f"{text}: those that the sampler chose lie {each(shares, '.2f')} times as far from "
            "each other as random ones do (below 1 the search closed in on a region)."
        )
    apart = pd.Series({arm: np.nanmax(two) for arm, two in spread.items()})
    return f"{text}, all of one kind, differ by {each(apart, '.2f')} of their ranges on average."


def _parallel(study: LoadedStudy) -> tuple[Figure, str]:
    found = _tried(study)
    rows, said, full = [], [], 0
    for arm, tried in found.items():
        settings = study.settings[arm]
        values = tried.value.to_numpy(np.float64)
        kept = footprint.subsample(len(tried), LINES, [int(np.nanargmin(values))])
        full += len(kept) < len(tried)
        losses = values[kept]
        unit = footprint.unit_settings(tried.iloc[kept], settings)
        best = footprint.best_places(losses)
        if np.nanmin(losses) == np.nanmax(losses):
            best = best[:0]  # all are equally good
        rows.append(figures.Parallel(arm, settings, unit, losses, best))
        if len(best):
            said.append(_shared(arm, rows[-1]))
    note = (
        "Highlighted: the best 10 % of an arm's trials, at least 3. Settings searched in log are "
        "drawn so; trials with one choice lie side by side. Colours end at the 80 % quantile. "
    )
    note += f"{full} arms: a random {LINES} of their trials. " if full else ""
    note += left_out(study, [row.arm for row in rows])
    colours = footprint.loss_range(np.concatenate([row.losses for row in rows]))
    figure = figures.parallels(rows, colours, note)
    if not said:
        return figure, f"{so_far(study)}All trials of an arm have the same loss: none is best."
    text = " ".join(said[:4])
    if len(said) > 4:
        text += f" The other {len(said) - 4} arms are in the figure alone."
    return figure, so_far(study) + text


def _shared(arm: str, row: figures.Parallel) -> str:
    """Say in which setting the best agree most, and whether chance does as well.

    Settings that hang on others are not asked: where they are off the others say so.
    """
    free = [setting for setting in row.settings if not setting.when]
    shares, chance = footprint.closeness(footprint.distances(row.unit, free), row.best)
    best = f"the best {len(row.best)} of {len(row.losses)} trials"
    if np.isnan(shares).all():
        return f"In {arm} no setting varied over {len(row.losses)} trials."
    closest = free[int(np.nanargmin(shares))].name
    share = f"{100 * np.nanmin(shares):.0f} % of the differences among all"
    often = "less than 1" if chance < 0.01 else f"{100 * chance:.0f}"
    drawn = f"{often} % of random sets of {len(row.best)} agree as much in some setting"
    if chance > 0.05:
        return (
            f"In {arm} {best} agree in no setting beyond chance: most in {closest}, with {share}, "
            f"and {drawn}."
        )
    return f"In {arm} {best} agree in {closest}, with {share}; {drawn}."


def _tried(study: LoadedStudy) -> dict[str, pd.DataFrame]:
    """Return by arm the trials that finished or failed, settings as columns; value NaN if failed.

    Only of arms with enough finished trials and a setting that is searched.
    """
    enough = require_trials(
        {arm: study.searched(arm) for arm in study.searched_arms if study.settings[arm]}
    )
    return {arm: _with_failed(study, arm, finished) for arm, finished in enough.items()}


def _with_failed(study: LoadedStudy, arm: str, finished: pd.DataFrame) -> pd.DataFrame:
    rows = study.trials[(study.trials.arm == arm) & (study.trials.phase == "search")]
    failed = rows[rows.state == TrialState.FAILED.value]
    names = {f"param_{setting.name}": setting.name for setting in study.settings[arm]}
    columns = ["number", "stratum", "value", *names.values()]
    failed = failed.rename(columns=names).reindex(columns=columns)
    if failed.empty:
        return finished[columns].reset_index(drop=True)
    both = pd.concat([finished[columns], failed.assign(value=np.nan)], ignore_index=True)
    return both.sort_values("number", ignore_index=True)


def _is_confirmed(study: LoadedStudy, arm: str, tried: pd.DataFrame) -> NDArray[np.bool_]:
    rows = study.trials[(study.trials.arm == arm) & (study.trials.phase == "confirm")]
    return tried.number.isin(rows.number).to_numpy(np.bool_)
