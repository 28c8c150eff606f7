"""How much each setting mattered: PED-ANOVA and fANOVA, with intervals over halves of the trials.

PED-ANOVA asks in which settings the best trials differ from all trials; no surrogate is involved.
fANOVA asks for the share of the variance of a forest's predictions, over everything searched, that
one setting explains alone; what is left belongs to settings acting together.

Sources: Hutter, Hoos and Leyton-Brown 2014 (fANOVA), Watanabe, Bansal and Hutter 2023 (PED-ANOVA,
2304.10255).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gsvae_tune.report.estimates.configurations import Configurations, Rows, varied
from gsvae_tune.report.estimates.surrogate import (
    FEWEST,
    TREES,
    Surrogate,
    halves,
    interval_around,
    shares,
)
from gsvae_tune.search.importance import ped_anova
from gsvae_tune.study.parameters import Scalar

_HALVES_TREES = 8  # a half's forest: its own error is small beside that of the trials


def importances(surrogate: Surrogate, seed: int = 0) -> pd.DataFrame:
    """Return the importance of every setting, in the order in which the arm lists them.

    Args:
        surrogate: of the arm: its trials are asked, and on its scale of losses the variance is
            taken. Its own forest is not used: that of fANOVA knows no conditional settings.
        seed: of the halves and forests.

    Returns:
        One row a setting: name, conditional, varied, trials (that have it), ped, ped_low, ped_high,
        fanova, fanova_low, fanova_high. PED-ANOVA's shares sum to 1, fANOVA's to 1 or less. The
        intervals are those of `interval_around`, over halves of the trials. NaN: a setting that did
        not vary, or that fewer than `FEWEST` trials have, of which two among the best would make it
        the most important one; fANOVA of a conditional setting, whose variance over configurations
        that do not have it is not defined; everything where all losses are equal.
    """
    space, rows = surrogate.configurations, surrogate.rows
    draws = [np.arange(len(rows)), *halves(len(rows), seed)]
    known = (~np.isnan(rows)).sum(axis=0)
    asked = np.flatnonzero(varied(rows) & (known >= FEWEST))
    return pd.DataFrame(
        {
            "name": space.names,
            "conditional": [bool(setting.when) for setting in space.settings],
            "varied": varied(rows),
            "trials": known,
        }
        | _with_interval("ped", _ped_anova(surrogate, draws, asked))
        | _with_interval("fanova", _fanova(surrogate, draws, asked, seed))
    )


def fanova_shares(
    cube: NDArray[np.float64], target: NDArray[np.float64], trees: int, seed: int
) -> NDArray[np.float64]:
    """Return each coordinate's share of a forest's variance over the unit cube, (coordinates,).

    Args:
        cube: the trials' places in the unit cube, (n, coordinates), over which configurations are
            taken to be uniform.
        target: their losses, (n,).
        trees: of the forest.
        seed: of the forest.

    The mean over trees of the share in each, as Hutter et al. 2014 take it and Optuna does; trees
    without variance are left out, and where all are, every share is NaN.

    Optuna's own walks each tree in Python once for every value of every setting: 0.4 s for 67
    trials and 64 trees, a hundred times what this takes after the forest is grown. And it knows no
    log scale, and gives a choice's columns values that no configuration has.
    """
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(trees, random_state=seed, n_jobs=1).fit(cube, target)
    found = np.array([_tree_shares(tree.tree_) for tree in forest.estimators_])
    found = found[~np.isnan(found).any(axis=1)]
    none = np.full(cube.shape[1], np.nan)
    return found.mean(axis=0) if len(found) else none


def unit_cube(space: Configurations, rows: Rows) -> NDArray[np.float64]:
    """Return configurations in the unit cube, (n, settings).

    A number runs from 0 to 1 over what is searched, in the logarithm where it is searched so. The k
    choices are the middles of k equal parts: a split falls between two of them, so each is weighted
    alike.
    """
    columns = [
        shares(space, rows, place)
        if setting.choices is None
        else (rows[:, place] + 0.5) / len(setting.choices)
        for place, setting in enumerate(space.settings)
    ]
    return np.column_stack(columns)


def _tree_shares(tree: Any) -> NDArray[np.float64]:
    """Return each coordinate's share of one tree's variance over the unit cube.

    A tree is constant on boxes, its leaves. The mean over all coordinates but one is constant
    between the boxes' ends along that one: each box adds its value times its volume in the other
    coordinates from its lower end on, and takes it away at its upper end.
    """
    low, high = _leaves(tree)
    values = tree.value[tree.children_left < 0, 0, 0]
    values = values - values.mean()  # squares of small numbers lose no digits
    width = high - low
    volume = width.prod(axis=1)
    mean = float(values @ volume)
    variance = float(values**2 @ volume) - mean**2
    if variance <= 0 or len(values) == 1:
        return np.full(low.shape[1], np.nan)
    steps = (values * volume)[:, None] / width
    ends = np.concatenate([low, high])
    order = np.argsort(ends, axis=0, kind="stable")
    level = np.take_along_axis(np.concatenate([steps, -steps]), order, axis=0).cumsum(axis=0)
    length = np.diff(np.take_along_axis(ends, order, axis=0), axis=0)
    alone: NDArray[np.float64] = (level[:-1] ** 2 * length).sum(axis=0) - mean**2
    return np.maximum(alone, 0.0) / variance


def _leaves(tree: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lower and upper ends of a tree's leaves, (leaves, coordinates) each."""
    low = np.zeros((tree.node_count, tree.n_features))
    high = np.ones_like(low)
    nodes = np.array([0])
    while len(nodes):  # all nodes of one depth
        nodes = nodes[tree.children_left[nodes] >= 0]
        left, right = tree.children_left[nodes], tree.children_right[nodes]
        for child in (left, right):
            low[child], high[child] = low[nodes], high[nodes]
        split, threshold = tree.feature[nodes], tree.threshold[nodes]
        high[left, split] = threshold
        low[right, split] = threshold
        nodes = np.concatenate([left, right])
    leaf = tree.children_left < 0
    return low[leaf], high[leaf]


def _ped_anova(
    surrogate: Surrogate, draws: Sequence[NDArray[np.intp]], asked: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return PED-ANOVA's shares, (draws, settings), of the settings asked about, by place."""
    space = surrogate.configurations
    found = np.full((len(draws), len(space.settings)), np.nan)
    found[:, asked] = ped_anova(
        [space.settings[place] for place in asked],
        _written(space, surrogate.rows),
        surrogate.losses_nats.tolist(),
        draws,
    )
    return found


def _fanova(
    surrogate: Surrogate, draws: Sequence[NDArray[np.intp]], asked: NDArray[np.intp], seed: int
) -> NDArray[np.float64]:
    """Return fANOVA's shares, (draws, settings), of those asked about that hang on no other."""
    space = surrogate.configurations
    always = [int(place) for place in asked if not space.settings[place].when]
    found = np.full((len(draws), len(space.settings)), np.nan)
    if always:
        cube = unit_cube(space, surrogate.rows)[:, always]
        target = surrogate.scale.compressed(surrogate.losses_nats)
        for at, drawn in enumerate(draws):
            trees = _HALVES_TREES if at else TREES
            found[at, always] = fanova_shares(cube[drawn], target[drawn], trees, seed + at)
    return found


def _with_interval(name: str, found: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return columns of what all trials say, and of the interval that their halves give."""
    low, high = interval_around(found[0], found[1:], least=0.0, most=1.0)
    return {name: found[0], f"{name}_low": low, f"{name}_high": high}


def _written(space: Configurations, rows: Rows) -> list[dict[str, Scalar]]:
    return [
        {
            name: space.shown(name, value)
            for name, value in zip(space.names, row, strict=True)
            if not np.isnan(value)
        }
        for row in rows
    ]
