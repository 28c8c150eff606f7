"""What several studies say together: does an answer hold from one data set to the next?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from gsvae_tune.report.estimates import across as estimates
from gsvae_tune.report.estimates.marginal import shape
from gsvae_tune.report.exhibits.ended import cut, ended, span, strata
from gsvae_tune.report.exhibits.exhibit import ENOUGH, Exhibit, NothingToShow, listed
from gsvae_tune.report.exhibits.sensitivity import Curve
from gsvae_tune.report.figures import across as figures
from gsvae_tune.report.figures.style import ArmStyle, arm_styles
from gsvae_tune.report.loaded import LoadedStudy
from gsvae_tune.search.ledger import RANDOM_STRATUM


def exhibits(studies: Sequence[LoadedStudy]) -> Iterator[Exhibit]:
    """Yield the exhibits over several studies."""
    named = labels(studies)
    styles = arm_styles(list(dict.fromkeys(arm for study in studies for arm in study.arms)))
    yield Exhibit(
        "across-differences",
        "Does the same arm come out ahead on every data set?",
        "Left of 0 the first arm is better. Only an interval over seeds and searches (thin) that "
        "leaves 0 out is a claim; the word at the right is the verdict.",
        lambda: _differences(named, styles),
    )
    yield Exhibit(
        "across-start",
        "Is the same starting temperature safe on every data set?",
        "Each curve is the loss that trials of an arm gave around a starting temperature; where "
        "curves are flat and low, the start hardly matters. Levels of different studies are not "
        "comparable, shapes are.",
        lambda: _starts(named, styles),
    )
    yield Exhibit(
        "across-temperatures",
        "Do the best temperatures agree across data sets?",
        "Each row is the configuration that stands for an arm in a study: where tau starts, and "
        "between which ends it may move.",
        lambda: _temperatures(named, styles),
    )


def labels(studies: Sequence[LoadedStudy]) -> dict[str, LoadedStudy]:
    """Return the studies by name; where names are shared, with as much of the path as differs."""
    names = [study.name for study in studies]
    most = max((len(study.paths.root.parts) for study in studies), default=1)
    for parts in range(1, most + 1):
        found = {
            study.name
            if names.count(study.name) == 1
            else f"{study.name} ({'/'.join(study.paths.root.parts[-parts:])})": study
            for study in studies
        }
        if len(found) == len(studies):
            return found
    return {f"{study.name} ({place})": study for place, study in enumerate(studies, 1)}


def _differences(
    studies: Mapping[str, LoadedStudy], styles: dict[str, ArmStyle]
) -> tuple[Figure, str]:
    verdicts = {name: one.verdict for name, one in studies.items() if one.verdict is not None}
    frame = estimates.differences(verdicts)
    if frame.empty:
        raise NothingToShow(
            f"None of the {len(studies)} studies has a comparison that could be measured yet."
        )
    supported = frame[frame.verdict == "supported"]
    found = (
        listed(f"{row.arm} over {row.baseline} in {row.study}" for row in supported.itertuples())
        or "no comparison"
    )
    names = (frame.arm + " ahead of " + frame.baseline).rename("who")
    counts = listed(
        f"{who} in {int((own.effect_nats < 0).sum())} of {len(own)}"
        for who, own in frame.groupby(names, sort=False)
    )
    return figures.differences(frame, styles), (
        f"Supported: {found}. By the mean alone, which proves nothing: {counts}."
    )


def _starts(studies: Mapping[str, LoadedStudy], styles: dict[str, ArmStyle]) -> tuple[Figure, str]:
    found: dict[tuple[str, str], pd.DataFrame] = {}
    strata_of: dict[tuple[str, str], str] = {}
    for label, study in studies.items():
        for arm, (stratum, trials) in _started(study).items():
            found[label, arm], strata_of[label, arm] = trials, stratum
    frame = estimates.starts(found)
    if frame.empty:
        raise NothingToShow(
            f"No arm of the {len(studies)} studies has {ENOUGH} finished trials with different "
            "starting temperatures."
        )
    key: Any
    said = []
    for key, own in frame.groupby(["study", "arm"], sort=False):
        label, arm = key
        margin = studies[label].config.protocol.smallest_effect_nats
        trials = found[key]
        seen = shape(trials.start, trials.loss_nats, own, margin, log=True, curves=len(found))
        said.append((label, Curve(arm, "the start", strata_of[key], seen), margin))
    frame = frame.assign(
        stratum=[strata_of[key] for key in zip(frame.study, frame.arm, strict=True)]
    )
    return figures.starts(frame, styles), _starts_finding(said, len(found))


def _started(study: LoadedStudy) -> dict[str, tuple[str, pd.DataFrame]]:
    """Return, by arm, the trials whose start is followed: random ones where there are enough."""
    try:
        frames, _ = cut(ended(study))
    except NothingToShow:
        return {}
    found = {}
    for arm, frame in frames.items():
        name = next((one for one in ("tau_start", "tau_a") if one in frame), None)
        if name is None:
            continue
        started = frame.assign(start=pd.to_numeric(frame[name]).astype("float64"))
        stratum, trials = strata(started[started.start.notna()])[0]
        if len(trials) >= ENOUGH:
            found[arm] = (stratum, trials[["start", "loss_nats"]])
    return found


def _starts_finding(said: list[tuple[str, Curve, float]], looked_at: int) -> str:
    """Say where a start holds as safe, by the rule of the exhibit on one study."""
    held = [one for one in said if one[1].shape.held]
    ranges = [
        f"{one.arm} in {label} at {span(*one.shape.near)} "
        + (
            f"(safe: within {margin:g} nats)"
            if one.stratum == RANDOM_STRATUM
            else "(among the sampler's own picks, which is biased)"
        )
        for label, one, margin in held
    ]
    rest = looked_at - len(held)
    parts = [f"the smoothed loss is lowest for {listed(ranges)}"] if held else []
    if rest:
        parts.append(
            f"on {rest} of {looked_at} curves looked at, no range of starts can be told from chance"
        )
    return f"In these searches {'; '.join(parts)}. A search result, and no evidence."


def _temperatures(
    studies: Mapping[str, LoadedStudy], styles: dict[str, ArmStyle]
) -> tuple[Figure, str]:
    best = [
        (label, arm, found)
        for label, study in studies.items()
        for arm, found in best_of(study).items()
    ]
    frame = estimates.temperatures(best)
    frame = frame[frame[["start_a", "low", "high"]].notna().any(axis=1)].reset_index(drop=True)
    if frame.empty:
        raise NothingToShow(f"No trial of the {len(studies)} studies has ended with a value.")
    spans = [
        f"{arm} {span(own.min(), own.max())} over {_studies(own.notna().sum())}"
        for arm, own in frame.groupby("arm", sort=False).start_a
        if own.notna().any()
    ]
    return figures.temperatures(frame, styles), (
        f"In these searches, starting temperatures (member a): {listed(spans)}. Each is one "
        "configuration's setting, a search result without an interval: others may do as well."
    )


def _studies(count: int) -> str:
    return "one study" if count == 1 else f"{count} studies"


def best_of(study: LoadedStudy) -> dict[str, dict[str, Any]]:
    """Return the settings that stand for each searched arm: its finalist's, else its best trial's.

    Settings that are fixed in the study, or left at their default, are among them.
    """
    best = {arm: number for arm in study.searched_arms if (number := study.best(arm)) is not None}
    return {arm: study.settings_of(arm, number) for arm, number in best.items()}
