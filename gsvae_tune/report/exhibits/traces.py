"""What the temperatures did, epoch by epoch, and whether it mattered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gsvae_tune.report import inference
from gsvae_tune.report.estimates import traces as estimates
from gsvae_tune.report.exhibits import movement
from gsvae_tune.report.exhibits.exhibit import ENOUGH, Exhibit, NothingToShow, listed
from gsvae_tune.report.exhibits.runs import Recordings, Run, Search, left_out
from gsvae_tune.report.figures import traces as figures
from gsvae_tune.report.figures.style import ArmStyle, arm_styles
from gsvae_tune.report.loaded import LoadedStudy

THIRDS = 9  # trials of an arm that make thirds of at least three
_WARM_UP = (
    0.1  # share of epochs whose losses may leave the axis, so that the rest can be told apart
)


def exhibits(study: LoadedStudy) -> Iterator[Exhibit]:
    """Yield the exhibits of the controllers' traces."""
    recorded, styles = Recordings(study), arm_styles(study.arms)
    yield Exhibit(
        "traces-tau",
        "What did the temperatures do?",
        "Each panel is the trial that stands for an arm: both members' temperatures on one "
        "logarithmic axis, epoch by epoch; where thin lines part, replicates went ways of their "
        "own.",
        lambda: _taus(recorded, styles),
    )
    yield Exhibit(
        "traces-losses",
        "Which member was ahead, and by how much?",
        "Lower is better; where the two lines part the members differ, and the strip under each "
        "panel shows in how many replicates each one leads.",
        lambda: _losses(recorded, styles),
    )
    yield Exhibit(
        "traces-fan",
        "Which temperature paths did the best trials take, and which the worst?",
        "Left the best third of an arm's trials, right its worst: half of the paths lie in the "
        "dark band, four fifths in the light one.",
        lambda: _fans(recorded, styles),
    )
    yield Exhibit(
        "traces-behaviour",
        "How did temperatures move over a trial: held by their range, to and fro, settled when?",
        "Each point is a trial; the stroke is the median, the bar the middle half.",
        lambda: movement.behaviour(recorded, styles),
    )
    yield Exhibit(
        "traces-decisions",
        "How often did the two losses decide anything?",
        "Each column is a trial, the best at the left; the lowest two shares are the epochs after "
        "which a difference between the two losses was asked where the temperatures go.",
        lambda: movement.decisions(recorded, styles),
    )
    yield Exhibit(
        "traces-gap",
        "Why is nothing ranked on the relaxed loss?",
        "Away from 0, a loss measured on relaxed codes is not the loss of the one-hot codes that "
        "are used in the end; if the distance hangs on tau, a ranking by it ranks tau.",
        lambda: _gaps(recorded, styles),
    )


def _taus(recorded: Recordings, styles: Mapping[str, ArmStyle]) -> tuple[Figure, str]:
    runs = recorded.runs
    panels = [
        figures.TauPanel(
            title=f"{run.arm} #{run.number}",
            style=styles[run.arm],
            paths=run.paths,
            means=estimates.mean_paths(run.paths),
            stops=estimates.stops(run.paths, run.ended),
            lower=run.setting["tau_min"],
            upper=run.setting["tau_max"],
        )
        for run in runs
    ]
    unbounded = [run.arm for run in runs if run.setting[["tau_min", "tau_max"]].isna().all()]
    note = _who(recorded) + " Thick: geometric mean over the replicates still alive."
    for run in runs:
        if (played := recorded.study.original(run.arm)) != run.arm:
            note += f" {run.arm} replays {played}, whose range is shown."
    if unbounded:
        note += f" No active range: {', '.join(unbounded)}."
    return figures.taus(panels, note + _ended(runs)), movement.told(recorded)


def _losses(recorded: Recordings, styles: Mapping[str, ArmStyle]) -> tuple[Figure, str]:
    runs = recorded.runs
    panels = [
        figures.LossPanel(
            f"{run.arm} #{run.number}",
            styles[run.arm],
            estimates.loss_bands(run.paths),
            estimates.leads(run.paths),
        )
        for run in runs
    ]
    bands = pd.concat([panel.bands for panel in panels])
    later = bands[bands["epoch"] > _WARM_UP * bands["epoch"].max()]
    top = float((later if len(later) else bands)["high"].quantile(0.98))
    top += 0.05 * (top - float(bands["low"].min())) or 0.5
    note = _who(recorded) + " One-hot codes on the control split; lines are means, bands reach "
    note += "from the lowest to the highest replicate."
    if (bands["high"] > top).any():
        note += f" Losses above {top:.4g} nats leave the axes."
    return figures.losses(panels, top, note + _ended(runs)), _ahead(recorded)


def _ahead(recorded: Recordings) -> str:
    """Say who was ahead: of the pair in detail, of the others at the end."""
    run = movement.spoken_of(recorded)
    shares = estimates.leads(run.paths)
    if shares.empty:
        first = f"{run.name} has no epoch in which both members have a loss."
    elif (shares["equal"] == 1).all():
        first = (
            f"Both members of {run.name} had the same loss to the last digit in all {_count(run)}: "
            "nothing could tell them apart."
        )
    else:
        bands = estimates.loss_bands(run.paths)
        last = bands[bands["epoch"] == bands["epoch"].max()].set_index("branch")["mean"]
        first = (
            f"In {run.name}, over {_count(run)}, the lead changed hands "
            f"{estimates.lead_changes(run.paths):.1f} times a replicate; in the last epoch a's "
            f"mean loss was {last['a']:.2f} and b's {last['b']:.2f} nats."
        )
    ends = {one.arm: estimates.leads(one.paths).tail(1) for one in recorded.runs}
    ends = {arm: end for arm, end in ends.items() if len(end)}
    if len(ends) <= 4:
        counts = "; ".join(f"{arm} {_places(end.iloc[0])}" for arm, end in ends.items())
        return f"{first} Replicates in which a / b / neither ended ahead: {counts}."
    equal = sum(end["equal"].iloc[0] == 1 for end in ends.values())
    return (
        f"{first} In the last epoch the two losses were equal in every replicate of {equal} of "
        f"{len(ends)} arms."
    )


def _places(end: pd.Series) -> str:
    """Return "6 / 4 / 0": replicates in which a, b and neither is ahead."""
    return " / ".join(str(round(end[name] * end["n"])) for name in ("a", "b", "equal"))


def _fans(recorded: Recordings, styles: Mapping[str, ArmStyle]) -> tuple[Figure, str]:
    searches = recorded.searches(THIRDS)
    split = {search.arm: estimates.thirds(search.losses) for search in searches}
    alike = [search.arm for search in searches if not split[search.arm].best]
    drawn = [search for search in searches if split[search.arm].best]
    pairs, ends, blank = [], {}, []
    for search in drawn:
        own, means = split[search.arm], estimates.mean_paths(search.paths)
        both = [estimates.fan(means, numbers) for numbers in (own.best, own.worst)]
        if any(fan.empty for fan in both):
            blank.append(search.arm)
            continue
        ends[search.arm] = (float(both[0][0.5].iloc[-1]), float(both[1][0.5].iloc[-1]), search)
        panels = [
            figures.FanPanel(
                search.arm,
                f"{which} {len(own.best)} of {len(search.losses)}",
                styles[search.arm],
                fan,
            )
            for which, fan in zip(("best", "worst"), both, strict=True)
        ]
        pairs.append((panels[0], panels[1]))
    if not pairs:
        raise NothingToShow(
            f"The trials of {listed(search.arm for search in searches)} have no best and worst "
            "third that can be told apart by their losses and their epochs."
        )
    note = "A path is a member of a trial, the geometric mean over its replicates; both members "
    note += (
        "pooled in the bands, lines are their medians. Trials by validation loss; failed ones rank "
    )
    note += "last."
    note += "".join(_troubled(recorded, search, split[search.arm]) for search in drawn)
    if alike:
        note += f" Best and worst third have one loss: {', '.join(alike)}."
    if blank:
        note += f" A third without a sound epoch: {', '.join(blank)}."
    note += " " + left_out(searches, recorded.study.searched_arms, THIRDS)
    return figures.fans(pairs, note.strip()), _contrast(ends)


def _troubled(recorded: Recordings, search: Search, split: estimates.Thirds) -> str:
    """Say how many trials of each third failed or held a collapsed replicate; "" for none."""
    replicates = recorded.study.replicates
    own = replicates[(replicates["arm"] == search.arm) & (replicates["phase"] == "search")]
    collapsed = set(own.loc[own["collapsed"], "number"])
    failed = set(search.losses.index[search.losses.isna()])
    counts = [
        f"{len(bad & set(numbers))} {word} among its {which}"
        for which, numbers in (("best", split.best), ("worst", split.worst))
        for bad, word in ((failed, "failed"), (collapsed, "collapsed"))
        if bad & set(numbers)
    ]
    return f" {search.arm}: {listed(counts)}." if counts else ""


def _contrast(ends: Mapping[str, tuple[float, float, Search]]) -> str:
    """Say where the two thirds ended, of each arm or of the two that differ most and least."""
    ratio = {arm: abs(np.log(best / worst)) for arm, (best, worst, _) in ends.items()}
    order = sorted(ratio, key=lambda arm: -ratio[arm])
    named = order if len(order) <= 3 else [order[0], order[-1]]
    parts = [
        f"{arm} {ends[arm][0]:.2g} against {ends[arm][1]:.2g} "
        f"(of {len(ends[arm][2].losses)} trials)"
        for arm in named
    ]
    which = "" if named == order else f" (largest and smallest contrast of {len(order)} arms)"
    return (
        "In this search, median tau in the last epoch of the best third against the worst third"
        f"{which}: {listed(parts)}."
    )


def _gaps(recorded: Recordings, styles: Mapping[str, ArmStyle]) -> tuple[Figure, str]:
    searches = recorded.searches(ENOUGH)
    last = {search.arm: estimates.last_gaps(search.complete) for search in searches}
    runs = {run.arm: estimates.gap_path(run.paths) for run in recorded.runs}
    nothing = pd.DataFrame(columns=["number", "branch", "tau", "gap_nats", "n"], dtype="float64")
    panels = [
        figures.GapPanel(arm, styles[arm], runs.get(arm), last.get(arm, nothing))
        for arm in recorded.study.arms
        if arm in runs or arm in last
    ]
    pooled = pd.concat([frame for frame in last.values() if len(frame)] or [nothing])
    if pooled.empty:
        raise NothingToShow("No relaxed loss on the control split is on record.")
    lines = estimates.trend(pooled)
    note = (
        _who(recorded, numbered=True) + " Left: the member that ended ahead, mean over replicates. "
    )
    note += f"Right: {len(pooled):,} members of {sum(map(_trials, last.values())):,} trials of the "
    note += "search, means over replicates"
    if len(lines):
        note += f"; line: medians of all arms in {len(lines)} bins of equal count"
    note += ". " + left_out(searches, recorded.study.searched_arms, ENOUGH)
    return figures.gaps(panels, lines, note.strip()), _misled(pooled, searches)


def _trials(last: pd.DataFrame) -> int:
    return int(last["number"].nunique())


def _misled(pooled: pd.DataFrame, searches: Sequence[Search]) -> str:
    """Say how large the gap is, whether it hangs on tau, and what it would have chosen."""
    gap = pooled["gap_nats"]
    first = (
        f"Over {len(pooled):,} members at the end of the search, relaxed minus one-hot loss goes "
        f"from {gap.min():+.2f} to {gap.max():+.2f} nats"
    )
    agreement = inference.rank_stability(pooled["tau"], gap)
    if np.isfinite(agreement):
        first += f" (Kendall's tau-b with the temperature {agreement:+.2f})"
    found = {search.arm: estimates.misranking(search.complete) for search in searches}
    wrong = {arm: one for arm, one in found.items() if one is not None and one.lost_nats > 0}
    known = sum(one is not None for one in found.values())
    if not wrong:
        return (
            f"{first}. In this search, the relaxed loss would have chosen no worse trial in any of "
            f"{known} arms."
        )
    arm = max(wrong, key=lambda arm: wrong[arm].lost_nats)
    worst = wrong[arm]
    return (
        f"{first}. In this search, the relaxed loss would have chosen a worse trial in "
        f"{len(wrong)} of {known} arms, at most by {worst.lost_nats:.2f} nats with one-hot codes "
        f"on the control split ({arm}: #{worst.number} and not #{worst.best}, of {worst.n})."
    )


def _count(run: Run) -> str:
    """Return "600 epochs of its 10 replicates"."""
    epochs = len(run.paths[["replicate", "epoch"]].drop_duplicates())
    return f"{epochs:,} epochs of its {run.replicates} replicates"


def _who(recorded: Recordings, *, numbered: bool = False) -> str:
    """Return which trials stand for their arms, and which arms have none."""
    kinds: dict[tuple[str, int], list[str]] = {}
    for run in recorded.runs:
        name = f"{run.arm} #{run.number}" if numbered else run.arm
        kinds.setdefault((run.what, run.replicates), []).append(name)
    parts = [
        f"{', '.join(names)}: {what}, {n} {'replicates' if n > 1 else 'replicate'} each."
        for (what, n), names in kinds.items()
    ]
    none = [arm for arm in recorded.study.arms if arm not in {run.arm for run in recorded.runs}]
    return " ".join(parts) + (f" None yet: {', '.join(none)}." if none else "")


def _ended(runs: Sequence[Run]) -> str:
    """Return the end of a caption: replicates that ended early."""
    early = [f"{len(run.ended)} of {run.arm}" for run in runs if len(run.ended)]
    return f" Replicates that ended early: {', '.join(early)}." if early else ""
