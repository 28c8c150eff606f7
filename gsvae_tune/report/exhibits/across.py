"""What several studies say together: does an answer hold from one data set to the next?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from gsvae_tune.report.estimates import across as estimates
from gsvae_tune.report.exhibits.exhibit import ENOUGH, Exhibit, NothingToShow, listed
from gsvae_tune.report.figures import across as figures
from gsvae_tune.report.figures.style import ArmStyle, arm_styles
from gsvae_tune.report.loaded import LoadedStudy


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
    found = {}
    for label, study in studies.items():
        for arm in study.searched_arms:
            trials = study.searched(arm)
            name = next((one for one in ("tau_start", "tau_a") if one in trials), None)
            if name is not None and len(trials) >= ENOUGH:
                start = trials[name].astype("float64")
                found[label, arm] = pd.DataFrame({"start": start, "value": trials.value})
    frame = estimates.starts(found)
    if frame.empty:
        raise NothingToShow(
            f"No arm of the {len(studies)} studies has {ENOUGH} finished trials with different "
            "starting temperatures."
        )
    lowest = [
        f"{study} {arm} at {own['at'].to_numpy()[own.loss_nats.argmin()]:.2g}"
        for (study, arm), own in frame.groupby(["study", "arm"], sort=False)
    ]
    return figures.starts(frame, styles), (
        f"In these searches the smoothed loss is lowest: {listed(lowest)}. A search result, and no "
        "evidence."
    )


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
        f"{arm} from {own.min():.2g} to {own.max():.2g} over {len(own)} studies"
        for arm, own in frame.groupby("arm", sort=False).start_a
        if own.notna().any()
    ]
    return figures.temperatures(frame, styles), (
        f"Best starting temperatures (member a): {listed(spans)}."
    )


def best_of(study: LoadedStudy) -> dict[str, dict[str, Any]]:
    """Return the settings that stand for each searched arm: its finalist's, else its best trial's.

    Settings that are fixed in the study, or left at their default, are among them.
    """
    best = {arm: number for arm in study.searched_arms if (number := study.best(arm)) is not None}
    return {arm: study.settings_of(arm, number) for arm, number in best.items()}
