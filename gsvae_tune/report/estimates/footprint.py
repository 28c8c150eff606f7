"""Where in its space a search went: distances between configurations, and a map of them.

The distance of two configurations is Gower's (1971): the mean over settings of |x - y| on the
setting's own range (in log where it is searched in log), or of 0 and 1 for choices. Where a setting
is switched off in one of the two it counts 1, in both 0. So it lies between 0 and 1.

Sources: Gower 1971 (distance), Torgerson 1952 (classical scaling), de Leeuw 1977 (SMACOF), Kruskal
1964 (stress), Biedenkapp et al. 2018 (configuration footprints).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from gsvae_tune.search.space import SearchedSetting

DRAWS = 500  # of chance sets of trials

Floats = NDArray[np.float64]


def unit_settings(frame: pd.DataFrame, settings: Sequence[SearchedSetting]) -> pd.DataFrame:
    """Return every setting on the scale from 0 to 1, NaN where it is switched off.

    Args:
        frame: one row a trial, a column each setting.
        settings: those of the arm.

    Returns:
        Rows as `frame`, one column a setting in the order given: its place in its range, in log
        where it is searched in log; a choice's place among the choices. A range of one value, or a
        single choice, is 0.5.
    """
    return pd.DataFrame(
        {setting.name: _unit(frame[setting.name], setting) for setting in settings},
        index=frame.index,
        dtype="float64",
    )


def _unit(values: pd.Series, setting: SearchedSetting) -> Floats:
    if setting.choices is not None:
        places = {choice: place for place, choice in enumerate(setting.choices)}
        found = values.map(places).to_numpy(np.float64)
        unit = found / (len(places) - 1) if len(places) > 1 else found + 0.5
        return np.asarray(unit, dtype=np.float64)
    assert setting.low is not None  # noqa: S101 - a range, for it has no choices
    assert setting.high is not None  # noqa: S101
    numbers = pd.to_numeric(values).to_numpy(np.float64, na_value=np.nan)
    low, high = setting.low, setting.high
    if high <= low:
        return np.asarray(np.where(np.isnan(numbers), np.nan, 0.5), dtype=np.float64)
    if setting.log:
        logs = np.log(numbers) - math.log(low)
        return np.asarray(logs / math.log(high / low), dtype=np.float64)
    return np.asarray((numbers - low) / (high - low), dtype=np.float64)


def distances(unit: pd.DataFrame, settings: Sequence[SearchedSetting]) -> Floats:
    """Return Gower's distance of each setting between each two trials: (settings, n, n) in [0, 1].

    Args:
        unit: (n, settings) as `unit_settings` returns it.
        settings: the same, in the same order.

    The distance of two configurations is the mean over the first axis.
    """
    return np.stack(
        [_apart(unit[setting.name].to_numpy(), setting.choices is not None) for setting in settings]
    )


def _apart(values: Floats, category: bool) -> Floats:
    off = np.isnan(values)
    apart = np.abs(values[:, None] - values[None, :])
    if category:
        apart = np.ceil(apart)
    return np.where(off[:, None] | off[None, :], off[:, None] ^ off[None, :], apart)


def plane(apart: Floats) -> tuple[Floats, float]:
    """Return places in the plane, (n, 2), whose distances come near those given, and their stress.

    Metric scaling by SMACOF, begun from the classical solution, so that nothing is random; turned
    and mirrored so that the first axis has the most spread and each axis' largest place is > 0.

    Args:
        apart: (n, n) distances, n >= 2, not all 0.

    Returns:
        The places in units of the distances, and stress sqrt(sum (d - d')^2 / sum d^2): 0 is exact;
        Kruskal calls 0.05 good, 0.1 fair and 0.2 poor.
    """
    from sklearn.manifold import smacof

    places, _ = smacof(
        apart, n_components=2, init=_classical(apart), n_init=1, max_iter=40, eps=1e-5,
        normalized_stress=False,
    )  # fmt: skip
    places = places - places.mean(axis=0)
    _, _, axes = np.linalg.svd(places, full_matrices=False)
    places = _mirrored(places @ axes.T)
    shown = np.linalg.norm(places[:, None, :] - places[None, :, :], axis=2)
    return places, float(np.sqrt(((apart - shown) ** 2).sum() / (apart**2).sum()))


def _classical(apart: Floats) -> Floats:
    """Return Torgerson's places: the two leading axes of the doubly centred squared distances."""
    from scipy.linalg import eigh

    squared = apart**2
    rows = squared.mean(axis=0)
    centred = -0.5 * (squared - rows[None, :] - rows[:, None] + rows.mean())
    size = len(apart)
    values, vectors = eigh(centred, subset_by_index=[size - 2, size - 1])
    return _mirrored(vectors[:, ::-1] * np.sqrt(np.maximum(values[::-1], 0.0)))


def _mirrored(places: Floats) -> Floats:
    largest = places[np.abs(places).argmax(axis=0), np.arange(places.shape[1])]
    return np.asarray(places * np.where(largest < 0, -1.0, 1.0))


def mean_distance(apart: Floats, chosen: ArrayLike | None = None) -> float:
    """Return the mean distance between two different trials, of those chosen or of all.

    NaN for fewer than two.
    """
    places = np.arange(apart.shape[-1]) if chosen is None else np.asarray(chosen, dtype=np.intp)
    size = places.size
    if size < 2:
        return np.nan
    return float(apart[np.ix_(places, places)].sum() / (size * (size - 1)))


def closeness(apart: Floats, chosen: ArrayLike) -> tuple[Floats, float]:
    """Say in which settings the chosen trials agree, and how often chance agrees as much.

    Args:
        apart: (settings, n, n) as `distances` returns it.
        chosen: places of k >= 2 trials.

    Returns:
        (settings,) the mean distance among the chosen as a share of that among all (NaN where all
        agree), and the share of DRAWS random sets of k trials whose closest setting is at least as
        close as the chosen ones' (the set chosen counted as one more): the closest of many settings
        is close by chance alone. NaN where no setting varies.
    """
    size = apart.shape[-1]
    picked = np.asarray(chosen, dtype=np.intp)
    pairs = size * (size - 1)
    overall = apart.sum(axis=(1, 2)) / pairs
    varied = overall > 0
    shares = np.full(overall.shape, np.nan)
    if not varied.any():
        return shares, np.nan
    scaled = apart[varied] / overall[varied, None, None]
    shares[varied] = _within(scaled, picked)
    rng = np.random.default_rng(0)
    draws = [rng.choice(size, picked.size, replace=False) for _ in range(DRAWS)]
    by_chance = np.array([_within(scaled, draw).min() for draw in draws])
    as_close = int((by_chance <= np.nanmin(shares) + 1e-12).sum())
    return shares, (as_close + 1) / (DRAWS + 1)


def _within(apart: Floats, chosen: NDArray[np.intp]) -> Floats:
    inside = apart[:, chosen[:, None], chosen[None, :]]
    return np.asarray(inside.sum(axis=(1, 2)) / (chosen.size * (chosen.size - 1)))


def subsample(size: int, limit: int, kept: Sequence[int] = ()) -> NDArray[np.intp]:
    """Return up to `limit` places out of `size`, ascending, drawn from a fixed seed.

    Args:
        size: how many there are.
        limit: how many may stay.
        kept: places that stay in any case; they count towards the limit.
    """
    if size <= limit:
        return np.arange(size)
    others = np.setdiff1d(np.arange(size), kept)
    wanted = max(limit - len(set(kept)), 0)
    drawn = np.random.default_rng(0).choice(others, wanted, replace=False)
    return np.sort(np.concatenate([np.asarray(sorted(set(kept)), dtype=np.intp), drawn]))


def best_places(values: ArrayLike, share: float = 0.1, least: int = 3) -> NDArray[np.intp]:
    """Return the places of the lowest values, best first: this share of the finite ones.

    At least `least` of them, if there are as many. Of equal values the earlier come first.
    """
    losses = np.asarray(values, dtype=np.float64)
    known = int(np.isfinite(losses).sum())
    count = min(known, max(least, round(share * known)))
    return np.argsort(losses, kind="stable")[:count]


def loss_range(values: ArrayLike) -> tuple[float, float]:
    """Return the range that colours span: from the best to the 80 % quantile of finite values.

    A few diverging trials would else make all others one colour. NaN where there are none.
    """
    losses = np.asarray(values, dtype=np.float64)
    losses = losses[np.isfinite(losses)]
    return (losses.min(), float(np.quantile(losses, 0.8))) if losses.size else (np.nan, np.nan)
