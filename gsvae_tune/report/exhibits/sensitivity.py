"""What the search says about tau's settings: marginals, choices, two-way maps, robustness, spread.

All of it is exploratory: trials of one search, most of them where the sampler wanted them. Failed
trials count as losses at the top of every axis, and as configurations that missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gsvae_tune.report.estimates.marginal import (
    NAMED,
    Shape,
    median_interval,
    shape,
    smoothed_loss,
)
from gsvae_tune.report.exhibits import landscape, robustness
from gsvae_tune.report.exhibits.ended import (
    SOUND,
    at_the_edge,
    counted,
    cut,
    ended,
    failures,
    figured,
    left_out,
    span,
    strata,
)
from gsvae_tune.report.exhibits.exhibit import ENOUGH, Exhibit, NothingToShow, listed
from gsvae_tune.report.figures import sensitivity, style
from gsvae_tune.report.loaded import LoadedStudy
from gsvae_tune.search.ledger import RANDOM_STRATUM
from gsvae_tune.search.space import SearchedSetting

START = ["tau_start", "tau_a", "tau_b", "tau_forward"]
RANGE = ["tau_min", "tau_max", "tau_end_a", "tau_end_b"]
MOVES = [
    "factor_a", "factor_b", "rate_a", "rate_b", "step_a", "step_b", "period", "refresh_steps",
    "pull", "gain", "smoothing", "margin",
]  # fmt: skip
RULES = ["rule_a", "rule_b", "coupling", "signal", "estimator", "collapse_guard"]
UNITS = {
    "tau_a": "member a", "tau_b": "member b", "tau_forward": "of the one-hot sample",
    "rate_a": "per step", "rate_b": "per step", "period": "epochs", "refresh_steps": "steps",
    "margin": "nats",
}  # fmt: skip

ALL = 5  # curves up to which each one's amount is said
MOST = 4  # curves of which a range is said where there are more
FEW = 3  # trials of a choice below which its median is one trial's luck

_READING = (
    "Each mark is a trial of the search: filled ones were drawn at random, hollow ones chosen by "
    "the sampler, which crowds where it liked what it saw; trust the curve of the random ones "
    "(solid) where there is one, and look how wide its interval is."
)


def exhibits(study: LoadedStudy) -> Iterator[Exhibit]:
    """Yield the exhibits, in the order of a report."""
    asked = {
        "start": ("Does it matter at which temperature training starts?", START),
        "range": ("Does it matter how low and how high tau may go?", RANGE),
        "moves": ("Does it matter how far and how often tau moves?", MOVES),
    }
    for key, (title, names) in asked.items():
        build = partial(_numbers, study, names)
        yield Exhibit(f"sensitivity-{key}", title, _READING, build)
    yield Exhibit(
        "sensitivity-rules",
        "Does it matter by which rules tau moves?",
        "Each mark is a trial of the search, filled if drawn at random; the diamond below them is "
        "the median of that choice, and choices whose intervals overlap widely are not told apart.",
        partial(_choices, study),
    )
    yield from landscape.exhibits(study)
    yield from robustness.exhibits(study)


def _numbers(study: LoadedStudy, names: list[str]) -> tuple[Figure, str]:
    """Draw trials and curves along the numeric settings of these names."""
    frames, top = cut(ended(study))
    panels, silent = _panels(study, frames, names)
    points, curves, found = [], [], []
    margin = study.config.protocol.smallest_effect_nats
    panel: Any
    for panel in panels.itertuples():
        key: dict[str, Any] = {"arm": panel.arm, "setting": panel.setting}
        own = _points(frames[panel.arm], panel.setting, numeric=True)
        points.append(own.assign(**key))
        drawn = _drawn(own, panel, len(panels))
        curves += [curve.assign(stratum=name, **key) for name, curve in drawn.items()]
        if drawn:
            stratum = RANDOM_STRATUM if RANDOM_STRATUM in drawn else "all"
            seen = _shape(dict(strata(own))[stratum], drawn[stratum], panel, margin, len(panels))
            found.append(Curve(panel.arm, panel.setting, stratum, seen))
    figure = sensitivity.marginals(
        panels, pd.concat(points), _stacked(curves), _bars(found),
        style.arm_styles(study.arms),
        _counts(study, frames, panels, top) + silent + _numbers_caption(margin, panels, found),
    )  # fmt: skip
    finding = curves_finding(found, margin, len(panels))
    return figure, finding + failures(_shown(frames, panels))


@dataclass(frozen=True)
class Curve:
    """What may be said of one curve, and of which trials it is."""

    arm: str
    setting: str
    stratum: str
    shape: Shape


def _bars(found: list[Curve]) -> pd.DataFrame:
    """Return the ranges that hold; elsewhere the lowest point is where noise put it."""
    rows = [
        (one.arm, one.setting, one.stratum, *one.shape.near, *one.shape.possible)
        for one in found
        if one.shape.held
    ]
    names = ["arm", "setting", "stratum", "near_low", "near_high", "possible_low", "possible_high"]
    return pd.DataFrame(rows, columns=names)


def _shown(frames: dict[str, pd.DataFrame], panels: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {arm: frames[arm] for arm in dict.fromkeys(panels.arm)}


def _counts(
    study: LoadedStudy, frames: dict[str, pd.DataFrame], panels: pd.DataFrame, top: float
) -> str:
    """Say which trials are shown, which arms are missing, and what stands at the edge."""
    shown = _shown(frames, panels)
    return f"{counted(study, shown)}{left_out(study, frames)}{at_the_edge(shown, top)}"


def _panels(
    study: LoadedStudy, frames: dict[str, pd.DataFrame], names: list[str]
) -> tuple[pd.DataFrame, str]:
    """Return the panels of settings that varied, and a sentence on those that did not."""
    found, silent = [], []
    for arm, frame in frames.items():
        for setting in study.settings[arm]:
            if setting.name not in names:
                continue
            active = int(frame[setting.name].notna().sum())
            if frame[setting.name].nunique() < 2:
                silent.append(f"{setting.name} of {arm}")
                continue
            found.append({"arm": arm, "setting": setting.name} | _panel(setting, active, frame))
    if not found:
        have = f": {listed(silent)} had one value or none" if silent else ""
        raise NothingToShow(
            f"No arm with {ENOUGH} trials varied any of these settings, {listed(names)}{have}."
        )
    said = f" Not shown, with one value or none: {listed(silent)}." if silent else ""
    return pd.DataFrame(found), said


def _panel(setting: SearchedSetting, active: int, frame: pd.DataFrame) -> dict[str, Any]:
    """Return label and axis of one setting."""
    unit = UNITS.get(setting.name)
    label = f"{setting.name} ({unit})" if unit else setting.name
    if setting.when:
        label += f"\nactive in {active:,} of {len(frame):,} trials"
    names = tuple(str(choice) for choice in setting.choices or ())
    if setting.choices is None:
        low, high, log = setting.low, setting.high, setting.log
    else:
        values = pd.to_numeric(pd.Series(setting.choices), errors="coerce").astype(float)
        low, high = values.min(), values.max()
        log = bool(low > 0 and high / low >= 10)
    return {"label": label, "low": low, "high": high, "log": log, "choices": names}


def _points(frame: pd.DataFrame, setting: str, *, numeric: bool) -> pd.DataFrame:
    """Return the trials in which a setting is active, with its value as `at`."""
    own = frame[frame[setting].notna()]
    at = pd.to_numeric(own[setting]).astype(float) if numeric else own[setting].astype(str)
    return pd.DataFrame(
        {name: own[name] for name in ("number", "loss_nats", "random", "failed", "beyond")}
        | {"at": at}
    )


def _drawn(own: pd.DataFrame, panel: Any, looked_at: int) -> dict[str, pd.DataFrame]:
    """Return the curves of the strata with enough trials: random, and all."""
    curves = {}
    for stratum, trials in strata(own):
        if len(trials) >= ENOUGH:
            at = np.unique(trials["at"]) if panel.choices else None
            curve = smoothed_loss(
                trials["at"], trials.loss_nats, log=panel.log, at=at, curves=looked_at
            )
            if len(curve) > 1:
                curves[stratum] = curve
    return curves


def _shape(
    trials: pd.DataFrame, curve: pd.DataFrame, panel: Any, margin: float, looked_at: int
) -> Shape:
    at = np.unique(trials["at"]) if panel.choices else None
    return shape(
        trials["at"], trials.loss_nats, curve, margin, log=panel.log, at=at, curves=looked_at
    )


def _stacked(frames: list[pd.DataFrame]) -> pd.DataFrame:
    columns = ["arm", "setting", "stratum", "stretch", "at", "loss_nats", "low_nats", "high_nats"]
    return pd.concat(frames) if frames else pd.DataFrame(columns=columns)


def curves_finding(found: list[Curve], margin_nats: float, looked_at: int) -> str:
    """Say how much the loss varies along each curve, and where it is safe, if that can be told.

    Where a curve is not told from a flat line, its lowest point is where noise put it, and is not
    named. What rests on the sampler's own picks is never called safe.

    Args:
        found: the curves.
        margin_nats: within which of the lowest a setting is safe.
        looked_at: panels that share the level of the intervals.
    """
    if not found:
        return f"No setting here varied over enough trials for a curve: it takes {ENOUGH}."
    told = sorted((one for one in found if one.shape.told), key=lambda one: -one.shape.amount_nats)
    rest = [one for one in found if not one.shape.told]
    calm = [one for one in rest if _calm(one, margin_nats)]
    flat = [one for one in rest if not _calm(one, margin_nats)]
    most = len(told) if len(found) <= ALL else MOST
    parts = [_told_said(one) for one in told[:most]]
    if len(told) > most:
        parts.append(f"by {_amounts(told[most:])} along {len(told) - most} more")
    every = len(found) <= ALL
    if calm:
        said = _flat_said(calm, every=every, alone=len(calm) == len(found))
        parts.append(f"{said}: every value on the curve is safe")
    if flat:
        said = _flat_said(flat, every=every, alone=len(flat) == len(found))
        parts.append(
            f"{said}, which chance alone could do: no value is ruled out there, none known to be "
            "safe"
        )
    ranges = any(one.shape.held for one in told[:most])
    safe = f"; ranges lie within {margin_nats:g} nats of the lowest" if ranges else ""
    return (
        "In this search the smoothed loss varies, from its highest to its lowest, "
        f"{'; '.join(parts)} ({_panels_said(looked_at)} looked at, {_trials_of(found)}{safe})."
    )


def _told_said(one: Curve) -> str:
    seen = one.shape
    amount = f"by {_amount(seen)} along {one.setting} of {one.arm}"
    if not seen.held:
        return f"{amount}, where no range is sure"
    near = span(*seen.near)
    if one.stratum != RANDOM_STRATUM:
        return f"{amount}, lowest at {near} among the sampler's own picks, which is biased"
    (first, last), (low, high) = seen.possible, seen.ends
    worse = [f"below {figured(first)}"] if first > low else []
    worse += [f"above {figured(last)}"] if last < high else []
    return f"{amount}, safe at {near}, on average worse {' and '.join(worse)}"


def _flat_said(flat: list[Curve], *, every: bool, alone: bool) -> str:
    """Say how much curves vary that are not told from flat ones."""
    if every:
        said = listed(f"{_amount(one.shape)} along {one.setting} of {one.arm}" for one in flat)
    else:
        said = f"{_amounts(flat)} along {f'all {len(flat)}' if alone else f'{len(flat)} more'}"
    return f"by {said}"


def _calm(one: Curve, margin_nats: float) -> bool:
    """Return whether a curve of random trials varies by no more than a margin, even at most."""
    sound = one.stratum == RANDOM_STRATUM and one.shape.trials >= NAMED
    return sound and one.shape.amount_high_nats <= margin_nats


def _amount(seen: Shape) -> str:
    return f"{seen.amount_nats:.2f} nats [{seen.amount_low_nats:.2f}, {seen.amount_high_nats:.2f}]"


def _amounts(curves: list[Curve]) -> str:
    amounts = [f"{one.shape.amount_nats:.2f}" for one in curves]
    ends = sorted({amounts[0], *amounts}, key=float)
    return f"{ends[0]} to {ends[-1]} nats" if len(ends) > 1 else f"{ends[0]} nats"


def _panels_said(panels: int) -> str:
    return "one panel" if panels == 1 else f"{panels} panels"


def _trials_of(found: list[Curve]) -> str:
    counts = [one.shape.trials for one in found]
    said = (
        f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,} to {max(counts):,}"
    )
    random = sum(one.stratum == RANDOM_STRATUM for one in found)
    which = "random trials" if random == len(found) else "trials, the sampler's among them"
    if 0 < random < len(found):
        which += f" on {len(found) - random}"
    return f"{said} {which}"


def _numbers_caption(margin: float, panels: pd.DataFrame, found: list[Curve]) -> str:
    said = ""
    if found:
        said = (
            " Curves: local-linear mean of the trials with a setting near it, whatever their other "
            "settings; bands: pointwise 95 % bootstrap intervals over trials; of random trials "
            f"alone from {SOUND} on; ending where fewer than five trials carry them. Of "
            f"{_panels_said(len(panels))} looked at, a shape is told only where shuffled losses "
            f"bend fewer than 5 %/{len(panels)} of curves as much, and from {NAMED} trials on; "
            f"brackets in the text: intervals at 1 - 5 %/{len(panels)}, "
            "from 0 where no shape is told. None counts what smoothing flattens."
        )
    if any(one.shape.held for one in found):
        said += (
            f" Bars: within {margin:g} nats of the curve's lowest point (thick), and what is not "
            "ruled out (thin)."
        )
    if any(one.shape.held and one.stratum != RANDOM_STRATUM for one in found):
        said += " Grey bars rest on the sampler's own picks, and are biased."
    if panels.setting.isin(["tau_min", "tau_max"]).any():
        said += (
            " The lower end, the start and the upper end of tau bound each other in every trial: "
            "what one does is partly what the others do."
        )
    if panels.setting.str.endswith(("_a", "_b")).any():
        said += " A replicate's loss is that of the better of its members a and b."
    return said


def _choices(study: LoadedStudy) -> tuple[Figure, str]:
    """Draw trials by choice, with medians."""
    frames, top = cut(ended(study))
    panels, silent = _panels(study, frames, RULES)
    points, medians = [], []
    panel: Any
    for panel in panels.itertuples():
        key: dict[str, Any] = {"arm": panel.arm, "setting": panel.setting}
        own = _points(frames[panel.arm], panel.setting, numeric=False)
        points.append(own.assign(**key))
        for stratum, trials in strata(own):
            for choice, losses in trials.groupby("at").loss_nats:
                ends = dict(zip(_MEDIANS, median_interval(losses), strict=True))
                medians.append(
                    key | {"stratum": stratum, "choice": choice, "n": len(losses)} | ends
                )
    table = pd.DataFrame(medians)
    caption = (
        f"{_counts(study, frames, panels, top)}{silent} Diamonds: medians of "
        f"{FEW} trials or more; bars: 95 % "
        "intervals of the median by order statistics, from 6 trials on (for trials that are "
        "independent, which the sampler's are not quite). Random trials have a median of their "
        f"own from {SOUND} on. Vertical scatter means nothing."
    )
    arms = style.arm_styles(study.arms)
    figure = sensitivity.strips(panels, pd.concat(points), table[table.n >= FEW], arms, caption)
    return figure, _choices_finding(table) + failures(_shown(frames, panels))


_MEDIANS = ("median_nats", "low_nats", "high_nats")


def _choices_finding(medians: pd.DataFrame) -> str:
    """Name the setting whose choices lie farthest apart, and whether their intervals overlap."""
    gaps = []
    for (arm, setting), own in medians.groupby(["arm", "setting"], sort=False):
        main = own[
            own.stratum == (RANDOM_STRATUM if (own.stratum == RANDOM_STRATUM).any() else "all")
        ]
        known = main[main.n >= ENOUGH].sort_values("median_nats", kind="stable")
        if len(known) > 1:
            gap = known.median_nats.iloc[-1] - known.median_nats.iloc[0]
            gaps.append((gap, arm, setting, known.iloc[0], known.iloc[-1]))
    if not gaps:
        return f"In this search no setting has two choices with {ENOUGH} trials each to compare."
    gap, arm, setting, low, high = max(gaps, key=lambda one: one[0])
    if gap == 0:
        return f"In this search the medians of all choices with {ENOUGH} trials are equal."
    which = "random trials" if low.stratum == RANDOM_STRATUM else "trials, the sampler's among them"
    return (
        f"In this search, of choices with {ENOUGH} trials at least, medians lie farthest apart for "
        f"{setting} of {arm}: {low.median_nats:.2f} nats with {low.choice} ({low.n:,}), "
        f"{high.median_nats:.2f} with {high.choice} ({high.n:,} {which}); {_overlap(low, high)}."
    )


def _overlap(low: pd.Series, high: pd.Series) -> str:
    if np.isnan(low.low_nats) or np.isnan(high.low_nats):
        return "one of them has too few trials for an interval"
    apart = low.high_nats < high.low_nats
    return f"their 95 % intervals {'do not overlap' if apart else 'overlap'}"
