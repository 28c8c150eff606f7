"""What exhibits of a search say in the same words."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from gsvae_tune.report.exhibits.exhibit import listed
from gsvae_tune.report.figures.style import ArmStyle, arm_styles
from gsvae_tune.report.loaded import LoadedStudy


def styles_of(study: LoadedStudy) -> dict[str, ArmStyle]:
    """Return the style of every arm, the same in every figure."""
    return arm_styles(study.arms)


def so_far(study: LoadedStudy) -> str:
    """Begin a finding on a study that still runs."""
    return "So far, with the study still running: " if study.running else ""


def left_out(study: LoadedStudy, shown: Iterable[str]) -> str:
    """Say which searched arms are not in a figure, for want of trials."""
    missing = [arm for arm in study.searched_arms if arm not in set(shown)]
    if not missing:
        return ""
    return f"Left out, for too few trials with a value: {listed(missing)}."


def in_order(study: LoadedStudy, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with the arms in the study's order, each arm's as they were."""
    places = {arm: place for place, arm in enumerate(study.arms)}
    return frame.sort_values("arm", key=lambda arms: arms.map(places), kind="stable")


def each(
    values: pd.Series[float], form: str = ".3f", unit: str = "", *, higher: bool = False
) -> str:
    """Return "20.605 (pair) and 20.475 (constant) nats"; of more than four arms the two ends.

    Args:
        values: by arm; NaN is left out.
        form: of a number.
        unit: after the numbers.
        higher: the highest of many comes first.
    """
    known, after = values.dropna(), f" {unit}" if unit else ""
    if len(known) <= 4:
        return listed(f"{number:{form}} ({arm})" for arm, number in known.items()) + after
    ends = known.sort_values(ascending=not higher, kind="stable").iloc[[0, -1]]
    said = " to ".join(f"{number:{form}} ({arm})" for arm, number in ends.items())
    return f"{said}{after} over {len(known)} arms"
