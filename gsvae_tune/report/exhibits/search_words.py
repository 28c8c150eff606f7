"""What exhibits of a search say in the same words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from gsvae_tune.report.estimates import selection
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


def counted(number: int, noun: str) -> str:
    """Return "1 trial" or "3 trials"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def each(
    values: pd.Series[float],
    form: str = ".3f",
    unit: str = "",
    *,
    higher: bool = False,
    spans: Mapping[str, str] | None = None,
) -> str:
    """Return "20.605 (pair) and 20.475 (constant) nats"; of more than four arms the two ends.

    Args:
        values: by arm; NaN is left out.
        form: of a number.
        unit: after the numbers.
        higher: the highest of many comes first.
        spans: by arm, what is said right after its number.
    """
    known, after = values.dropna(), f" {unit}" if unit else ""
    told = {arm: f"{number:{form}}{(spans or {}).get(str(arm), '')} ({arm})"
            for arm, number in known.items()}  # fmt: skip
    if len(known) <= 4:
        return listed(told.values()) + after
    ends = known.sort_values(ascending=not higher, kind="stable").iloc[[0, -1]]
    said = " to ".join(told[arm] for arm in ends.index)
    return f"{said}{after} over {len(known)} arms"


def held(confirmed: pd.DataFrame, told: pd.DataFrame) -> str:
    """Say by how much, within what, and whether the order was kept.

    Args:
        confirmed: as `selection.confirmations` returns it; at least one with a mean.
        told: what `selection.stability` makes of it.
    """
    by_arm = told.set_index("arm")
    single = int((told.configurations - told.failed).sum()) == 1
    text = (
        f"On fresh seeds {_scored(told)} gave, minus {'its' if single else 'their'} score in the "
        f"search, {each(by_arm.curse_nats, '+.3f', 'nats', spans=_spans(by_arm))}"
        f"{'' if single else ' on average'}{_spans_in_words(by_arm)}; above 0 is the winner's "
        "curse."
    )
    if failed := int(confirmed.failed.sum()):
        seeds = counted(int(confirmed.seeds.sum()), "fresh seed")
        text += f" Failed, and in no mean: {failed} of {seeds}."
    ranked = by_arm.tau_b.dropna()
    if ranked.empty:
        return text + " With one configuration an arm, or equal scores, there is no order to keep."
    most = int((told.configurations - told.failed).max())
    text += f" Kendall's tau-b between both orders is {each(ranked, '.2f', higher=True)}"
    if most < 5:
        return text + f", which of {most} configurations at most says little."
    return text + f" (of up to {most} configurations an arm)."


def _scored(told: pd.DataFrame) -> str:
    """Say how many configurations were confirmed, and of which arms none was sound."""
    whole, lost = int(told.configurations.sum()), int(told.failed.sum())
    if not lost:
        return f"the {'one' if whole == 1 else whole} confirmed {_configurations(whole)}"
    none = [str(arm) for arm in told.arm[told.failed == told.configurations]]
    named = f", among them all of {_few(none)}" if none else ""
    return (
        f"{whole - lost} of {whole} confirmed configurations ({lost} without a sound seed{named})"
    )


def _configurations(number: int) -> str:
    return "configuration" if number == 1 else "configurations"


def _spans(by_arm: pd.DataFrame) -> dict[str, str]:
    known = by_arm[by_arm.low_nats.notna()]
    return {
        str(arm): f" [{low:+.3f}, {high:+.3f}]"
        for arm, low, high in zip(known.index, known.low_nats, known.high_nats, strict=True)
    }


def _spans_in_words(by_arm: pd.DataFrame) -> str:
    """Say what the brackets are, which hangs on how many configurations an arm has."""
    known = by_arm[by_arm.low_nats.notna()]
    scored = known.configurations - known.failed
    kinds = {
        "95 % BCa interval over the seeds of an arm's one configuration": scored == 1,
        "the lowest and highest of an arm's configurations": scored.between(2, selection.RANGED),
        "95 % BCa interval over an arm's configurations": scored > selection.RANGED,
    }
    used = {kind: [str(arm) for arm in known.index[own]] for kind, own in kinds.items()}
    used = {kind: arms for kind, arms in used.items() if arms}
    if not used:
        return " (no interval: one sound seed each)"
    if len(used) == 1:
        return f" (in brackets: {next(iter(used))})"
    return f" (in brackets: {'; '.join(f'{kind}, {_few(arms)}' for kind, arms in used.items())})"


def _few(arms: list[str]) -> str:
    return listed(arms) if len(arms) <= 4 else f"{len(arms)} arms"
