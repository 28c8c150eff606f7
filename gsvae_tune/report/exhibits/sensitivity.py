"""What the search says about tau's settings: marginals, choices, two-way maps, robustness, spread.

All of it is exploratory: trials of one search, most of them where the sampler wanted them. Failed
trials count as losses at the top of every axis, and as configurations that missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gsvae_tune.report.estimates.marginal import median_interval, near_lowest, smoothed_loss
from gsvae_tune.report.exhibits import landscape, robustness
from gsvae_tune.report.exhibits.ended import (
    SOUND,
    at_the_edge,
    counted,
    cut,
    ended,
    failures,
    left_out,
    span,
)
from gsvae_tune.report.exhibits.exhibit import ENOUGH, Exhibit, NothingToShow, listed
from gsvae_tune.report.figures import sensitivity, style
from gsvae_tune.report.loaded import LoadedStudy
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
    points, curves, ranges = [], [], []
    margin = study.config.protocol.smallest_effect_nats
    panel: Any
    for panel in panels.itertuples():
        key: dict[str, Any] = {"arm": panel.arm, "setting": panel.setting}
        own = _points(frames[panel.arm], panel.setting, numeric=True)
        points.append(own.assign(**key))
        drawn = _drawn(own, log=panel.log, choices=panel.choices)
        curves += [curve.assign(stratum=name, **key) for name, curve in drawn.items()]
        if drawn:
            near = _near(own, drawn, margin)
            ranges.append(key | near | {"share": _axis_share(panel, near)})
    figure = sensitivity.marginals(
        panels, pd.concat(points), _stacked(curves), pd.DataFrame(ranges, columns=_RANGES),
        style.arm_styles(study.arms),
        _counts(study, frames, panels, top) + silent + _numbers_caption(margin, panels, curves),
    )  # fmt: skip
    return figure, _numbers_finding(ranges, margin) + failures(_shown(frames, panels))


_RANGES = [
    "arm", "setting", "near_low", "near_high", "possible_low", "possible_high",
]  # fmt: skip


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


def _drawn(own: pd.DataFrame, *, log: bool, choices: Any) -> dict[str, pd.DataFrame]:
    """Return the curves of the strata with enough trials: all, and random."""
    curves = {}
    for stratum, trials in _strata(own):
        if len(trials) >= ENOUGH:
            at = np.unique(trials["at"]) if choices else None
            curve = smoothed_loss(trials["at"], trials.loss_nats, log=log, at=at)
            if len(curve) > 1:
                curves[stratum] = curve
    return curves


def _strata(own: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return what is summed up: the random trials if there are enough, and all if that is more."""
    random = own[own.random]
    strata = [("random", random)] if len(random) >= SOUND else []
    return strata if strata and len(random) == len(own) else [*strata, ("all", own)]


def _near(own: pd.DataFrame, drawn: dict[str, pd.DataFrame], margin: float) -> dict[str, Any]:
    """Return where a curve stays near its lowest, and whether its interval rules out any place."""
    stratum = "random" if "random" in drawn else "all"
    curve = drawn[stratum]
    near = near_lowest(curve, margin)
    ends = {
        f"{name}_{end}": value
        for name, pair in near.items()
        for end, value in zip(("low", "high"), pair, strict=True)
    }
    n = int(own.random.sum()) if stratum == "random" else len(own)
    limited = near["possible"] != (curve["at"].min(), curve["at"].max())
    return {"stratum": stratum, "n": n, "limited": limited} | ends


def _axis_share(panel: Any, near: dict[str, Any]) -> float:
    """Return how much of what was searched is not ruled out."""
    ends = [panel.low, panel.high, near["possible_low"], near["possible_high"]]
    low, high, first, last = np.log(ends) if panel.log else ends
    return float((last - first) / (high - low))


def _stacked(frames: list[pd.DataFrame]) -> pd.DataFrame:
    columns = ["arm", "setting", "stratum", "at", "loss_nats", "low_nats", "high_nats"]
    return pd.concat(frames) if frames else pd.DataFrame(columns=columns)


def _numbers_finding(ranges: list[dict[str, Any]], margin: float) -> str:
    """Say where the smoothed loss stays near its lowest, for settings where values are ruled out.

    Where none is, a curve's lowest point is where noise put it, and is not named.
    """
    if not ranges:
        return f"No setting here varied over enough trials for a curve: it takes {ENOUGH}."
    limited = [one for one in ranges if one["limited"]]
    free = len(ranges) - len(limited)
    if not limited:
        return (
            f"In this search no value is ruled out, on {_all_of(free)}: every one may give a "
            f"loss within {margin:g} nats of the lowest (95 % interval, {_trials_of(ranges)})."
        )
    named = sorted(limited, key=lambda one: one["share"])[:3]
    more = f"; likewise {len(limited) - 3} more" if len(limited) > 3 else ""
    rest = f"; on {free} of {len(ranges)} curves no value is ruled out" if free else ""
    return (
        f"In this search the smoothed loss stays within {margin:g} nats of its lowest for "
        f"{'; '.join(_near_said(one) for one in named)}{more}{rest}."
    )


def _all_of(curves: int) -> str:
    return "the one curve" if curves == 1 else f"all {curves} curves"


def _trials_of(ranges: list[dict[str, Any]]) -> str:
    fewest, most = min(one["n"] for one in ranges), max(one["n"] for one in ranges)
    return f"{fewest:,} trials" if fewest == most else f"{fewest:,} to {most:,} trials each"


def _near_said(one: dict[str, Any]) -> str:
    near, possible = (
        span(one[f"{name}_low"], one[f"{name}_high"]) for name in ("near", "possible")
    )
    which = "random trials" if one["stratum"] == "random" else "trials, the sampler's among them"
    return (
        f"{one['setting']} {near} of {one['arm']} ({possible} not ruled out, {one['n']:,} {which})"
    )


def _numbers_caption(margin: float, panels: pd.DataFrame, curves: list[pd.DataFrame]) -> str:
    said = ""
    if curves:
        said = (
            " Curves: local-linear mean of the trials with a setting near it, whatever their other "
            "settings; bands: pointwise 95 % bootstrap intervals over trials; of random trials "
            f"alone from {SOUND} on; ending where fewer than three trials carry them. Bars: within "
            f"{margin:g} nats of the curve's lowest point (thick), from the first to the last "
            "point that the 95 % interval of its distance to that point does not rule out (thin)."
        )
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
        for stratum, trials in _strata(own):
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
        main = own[own.stratum == ("random" if (own.stratum == "random").any() else "all")]
        known = main[main.n >= ENOUGH].sort_values("median_nats", kind="stable")
        if len(known) > 1:
            gap = known.median_nats.iloc[-1] - known.median_nats.iloc[0]
            gaps.append((gap, arm, setting, known.iloc[0], known.iloc[-1]))
    if not gaps:
        return f"In this search no setting has two choices with {ENOUGH} trials each to compare."
    gap, arm, setting, low, high = max(gaps, key=lambda one: one[0])
    if gap == 0:
        return f"In this search the medians of all choices with {ENOUGH} trials are equal."
    which = "random trials" if low.stratum == "random" else "trials, the sampler's among them"
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
