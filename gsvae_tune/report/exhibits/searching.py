"""Can I believe this search? How far it got, what more would bring, how much of it is luck."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gsvae_tune.report.estimates import anytime, expected, fidelity, selection, timeline
from gsvae_tune.report.exhibits import footprint
from gsvae_tune.report.exhibits.exhibit import (
    Exhibit,
    NothingToShow,
    listed,
    require_trials,
)
from gsvae_tune.report.exhibits.search_words import (
    counted,
    each,
    held,
    in_order,
    left_out,
    so_far,
    styles_of,
)
from gsvae_tune.report.figures import searching as figures
from gsvae_tune.report.figures import timeline as timelines
from gsvae_tune.report.loaded import LoadedStudy
from gsvae_tune.study.records import TrialState


def exhibits(study: LoadedStudy) -> Iterator[Exhibit]:
    """Return the exhibits on the search of a study."""
    yield Exhibit(
        "search-anytime",
        "How far did the search get, and was it still improving?",
        "A curve falls where an arm found something better; compare arms where they had spent the "
        "same, at the dotted line, and not at the ends of their curves.",
        partial(_anytime, study),
    )
    yield Exhibit(
        "search-expected",
        "What would a random search of this size give on average?",
        "Each curve is the best loss to expect of n independent random trials: where it still "
        "falls, more trials would pay, and where bands overlap, luck may have ordered the arms.",
        partial(_expected, study),
    )
    yield Exhibit(
        "search-fidelity",
        "Would shorter training have chosen the same configurations?",
        "Left, 1 means that the losses at an epoch order the trials as the final ones do; right, "
        "what is lost in the end if training stops there and the first is taken.",
        partial(_fidelity, study),
    )
    yield from footprint.exhibits(study)
    yield Exhibit(
        "search-timeline",
        "Were the slots kept busy?",
        "Each bar is a trial and each row a slot; white is time for which no training is on "
        "record.",
        partial(_timeline, study),
    )
    yield Exhibit(
        "search-selection",
        "Do the best configurations hold up on fresh seeds?",
        "Each line leads from the score in the search to the mean over fresh seeds; a score whose "
        "line rises was flattered by luck, and lines that cross changed places.",
        partial(_selection, study),
    )


def _anytime(study: LoadedStudy) -> tuple[Figure, str]:
    enough = require_trials({arm: study.searched(arm) for arm in study.searched_arms})
    trials = study.trials[study.trials.arm.isin(list(enough))]
    curve = anytime.best_so_far(trials)
    drawn = anytime.improvements(curve)
    ends = anytime.random_ends(curve)
    equal = anytime.equal_compute(curve)
    totals = curve.groupby("arm")[["ended", "spent_s"]].max().loc[list(enough)]
    least = {
        name: float(totals[name].min()) for name in ("ended", "spent_s") if np.ptp(totals[name]) > 0
    }
    note = "Failed and pruned trials count as trials and as time. "
    if least:
        note += "Dotted: what the most frugal arm spent in all. "
    if drawn.elapsed_s.isna().all():
        missing = int(timeline.untimed(trials[trials.phase == "search"]).sum())
        note += (
            "Over time since the start: not shown, for this study does not say when each trial "
            f"ended ({missing} of {len(curve)} have no time of ending on record); trials are in "
            "order of number. "
        )
    else:
        note += "Time since the start includes any in which the study did not run. "
    note += f"Values of early trials may lie above the panels. {left_out(study, enough)}"
    figure = figures.anytime(drawn, ends, least, styles_of(study), note)
    return figure, so_far(study) + _progress(drawn, equal, totals)


def _progress(drawn: pd.DataFrame, equal: pd.DataFrame, totals: pd.DataFrame) -> str:
    best = drawn[drawn.improved].groupby("arm").tail(1).set_index("arm").loc[totals.index]
    fewest, most = int(totals.ended.min()), int(totals.ended.max())
    trials = counted(most, "trial") if fewest == most else f"{fewest} to {most} trials"
    one = len(totals) == 1
    text = f"After {trials}{'' if one else ' an arm'} the lowest value in this search is "
    text += f"{each(best.best_nats, unit='nats')}"
    text += f"; {_latest(best.ended, totals.ended)}."
    if one or not totals.spent_s.min() > 0:
        return text
    then = equal.set_index("arm").best_nats.dropna()
    scale, unit = timelines.time_unit(totals.spent_s.min())
    text += f" With the {totals.spent_s.min() / scale:.3g} device-{unit} of the most frugal arm, "
    leaders = [arm for arm in then.index if then[arm] == then.min()]
    same = leaders == [arm for arm in then.index if best.best_nats[arm] == best.best_nats.min()]
    return text + (
        f"{listed(leaders)} would {'still' if same else 'then'} have the lowest, "
        f"{then.min():.3f} nats."
    )


def _latest(ended: pd.Series[int], of: pd.Series[int]) -> str:
    """Say which arms improved last, as a share of their trials, and with which trial.

    Args:
        ended: by arm, trials that had ended when it improved for the last time.
        of: by arm, trials that have ended.
    """
    share = ended / of
    last = [str(arm) for arm in share.index[share == share.max()]]
    if len(share) == 1:
        return f"its last improvement came with trial {ended[last[0]]} of {of[last[0]]}"
    if len(last) > 4:
        return f"{len(last)} arms improved last, after {100 * share.max():.0f} % of their trials"
    when = listed(f"{arm} (with trial {ended[arm]} of {of[arm]})" for arm in last)
    return f"of all arms {when} improved last"


def _expected(study: LoadedStudy) -> tuple[Figure, str]:
    finished = {arm: study.searched(arm) for arm in study.searched_arms}
    try:
        enough = require_trials(
            {arm: frame[frame.stratum == "random"] for arm, frame in finished.items()}
        )
    except NothingToShow as few:
        raise NothingToShow(f"{few} Only independent random trials count here.") from None
    curves = expected.expected_curves(study.trials[study.trials.arm.isin(list(enough))])
    curves = in_order(study, curves)
    failed = int(curves.groupby("arm").failed.first().sum())
    note = (
        f"Random trials only ({_counts(curves.groupby('arm')['of'].first())} an arm): the others "
        "were chosen by what came before. Thick: draws with replacement (Dodge 2019); thin: "
        "without (Tang 2020), unbiased. "
    )
    note += _bands(curves, "low_nats", "high_nats", "percentile bootstrap over trials")
    note += " Towards the right end a band is too short below: nothing better can be resampled. "
    if failed:
        missing = counted(failed, "trial")
        note += f"Counted as the worst of their arm: {missing} without a final value. "
    note += left_out(study, enough)
    figure = figures.expected(curves, styles_of(study), note)
    return figure, so_far(study) + _outlook(curves, list(enough))


def _outlook(curves: pd.DataFrame, arms: list[str]) -> str:
    budget = int(curves.groupby("arm").trials.max().min())
    at = {arm: _nearest(curves[curves.arm == arm], budget) for arm in arms}
    half = {arm: _nearest(curves[curves.arm == arm], budget / 2) for arm in arms}
    first = min(arms, key=lambda arm: at[arm].with_nats)
    interval = f"[{at[first].low_nats:.3f}, {at[first].high_nats:.3f}]"
    text = (
        f"The best of {budget} random trials is expected at "
        f"{each(pd.Series({arm: at[arm].with_nats for arm in arms}), unit='nats')}"
    )
    if len(arms) > 1:
        overlap = [arm for arm in arms if arm != first and at[arm].low_nats <= at[first].high_nats]
        said = f"overlaps that of {len(overlap)} of the {len(arms) - 1} other arms"
        if len(arms) == 2:
            said = f"{'overlaps' if overlap else 'does not overlap'} that of the other arm"
        text += f"; the interval of the lowest, {interval} of {first}, {said}."
    else:
        text += f" (interval {interval})."
    gains = pd.Series({arm: half[arm].with_nats - at[arm].with_nats for arm in arms})
    fewer = int(half[first].trials)
    return (
        text + f" From {fewer} to {counted(budget, 'trial')} it fell by {each(gains, unit='nats')}."
    )


def _nearest(own: pd.DataFrame, trials: float) -> pd.Series:
    return own.iloc[int((own.trials - trials).abs().to_numpy().argmin())]


def _bands(curves: pd.DataFrame, low: str, high: str, kind: str) -> str:
    """Say what the bands are; where they are left out, how wide they would be."""
    if curves.arm.nunique() <= figures.BANDS:
        return f"Bands: 95 % interval, {kind}."
    width = (curves[high] - curves[low]).median()
    return (
        f"With more than {figures.BANDS} arms the bands are left out: the 95 % interval ({kind}) "
        f"spans {width:.2g} in the median."
    )


def _fidelity(study: LoadedStudy) -> tuple[Figure, str]:
    if study.epochs.empty:
        raise NothingToShow(
            "The study holds no losses by epoch (0 rows), so short runs cannot be compared with "
            "long ones."
        )
    enough = require_trials({arm: study.searched(arm) for arm in study.searched_arms})
    curves = fidelity.proxy_curves(study.trials[study.trials.arm.isin(list(enough))], study.epochs)
    if curves.empty or curves.correlation.isna().all():
        raise NothingToShow(
            "No arm has both epochs on record and final values that differ, so there is no order "
            f"to compare ({counted(len(enough), 'arm')} with enough trials)."
        )
    if curves.epoch.max() < 2:
        raise NothingToShow("Trials last 1 epoch: there is no shorter run to compare them with.")
    curves = in_order(study, curves)
    by_arm = curves.groupby("arm", sort=False).first()
    note = (
        "Loss at an epoch: mean over replicates of the member that was better on the control "
        f"split at that epoch, one-hot codes, validation split. Trials an arm: "
        f"{_counts(by_arm['of'])}. Spearman's correlation. "
    )
    note += _bands(curves, "low", "high", "percentile bootstrap over trials") + " "
    if failed := int(by_arm.failed.sum()):
        note += f"Ranked last, at the cost of the worst one: {counted(failed, 'failed trial')}. "
    if pruned := int(by_arm.pruned.sum()):
        missing = counted(pruned, "pruned trial")
        note += f"Left out, for what they would have given is unknown: {missing}. "
    if by_arm["of"].max() == fidelity.TRIALS:
        note += f"Of more than {fidelity.TRIALS} trials, so many drawn at random. "
    note += left_out(study, enough)
    return figures.fidelity(curves, styles_of(study), note), so_far(study) + _shortcut(curves)


def _shortcut(curves: pd.DataFrame) -> str:
    last = int(curves.epoch.max())
    nearest = (curves.epoch - last / 4).abs().groupby(curves.arm, sort=False).idxmin()
    early = curves.loc[nearest].set_index("arm")
    known = early.correlation.dropna()
    if known.empty:
        return f"A quarter of the way through {last} epochs, no arm's losses differ yet."
    worst = str(known.idxmin())
    row = early[early.index == worst].iloc[0]
    text = (
        f"At epoch {int(row.epoch)} of {last} losses correlate in rank with the final ones at "
        f"{each(known, '.2f', higher=True)} (95 % interval of {worst}: {row.low:.2f} to "
        f"{row.high:.2f}, n = {int(row['of'])} trials)"
    )
    text += f"; taking the first there costs {each(early.regret_nats, unit='nats')} in the end."
    below = curves.epoch[~(curves.correlation >= 0.9)]
    slowest = int(below.max()) if len(below) else 0
    # At its last epoch an arm's trials correlate with themselves.
    shortest = curves.groupby("arm").epoch.max().min()
    shorter = curves.epoch[(curves.epoch > slowest) & (curves.epoch < shortest)]
    every = "" if len(early) == 1 else " in every arm shown"
    if shorter.empty:
        return f"{text} No shorter run keeps it at 0.9 or more{every} from there on."
    return f"{text} From epoch {shorter.min():.0f} on the correlation is 0.9 or more{every}."


def _timeline(study: LoadedStudy) -> tuple[Figure, str]:
    ended = study.trials[study.trials.state != TrialState.RUNNING.value]
    timed = timeline.intervals(ended)
    missing, unknown = len(ended) - len(timed), int(timeline.untimed(ended).sum())
    if ended.empty:
        raise NothingToShow("No trial has ended yet (0), so there is no timeline.")
    if timed.empty or unknown > len(timed):
        raise NothingToShow(
            f"Of {counted(len(ended), 'trial')} that ended, "
            f"{missing if missing < len(ended) else 'all'} left no time of ending or of training "
            "on record, so there is no timeline."
        )
    whole = timeline.occupation(timed)
    note = (
        f"{counted(len(timed), 'trial')} of the search and of its confirmation. A bar is as long "
        "as the trial trained and ends where it ended. Times of training hold no interruptions, so "
        "a gap may be one, and a resumed trial may overlap others and take a row of its own. "
    )
    if missing:
        note += f"Left out: {counted(missing, 'trial')} without a recorded time. "
    styles = styles_of(study)
    if whole.slots > timelines.SLOTS:
        note += f"With more than {timelines.SLOTS} slots: mean number running in each of 300 times."
        at_once = timeline.running_at_once(timed, list(styles))
        figure = timelines.occupancy(at_once, whole.slots, styles, note)
    else:
        figure = timelines.timeline(timed, styles, note)
    return figure, so_far(study) + _occupied(timed, whole, unknown)


def _occupied(timed: pd.DataFrame, whole: timeline.Occupation, unknown: int) -> str:
    """Say how full the slots were, or that trials that ran at an unknown time leave that open."""
    scale, unit = timelines.time_unit(whole.span_s)
    confirm = int((timed.phase == "confirm").sum())
    text = (
        f"{counted(len(timed), 'trial')}, {counted(confirm, 'confirmation')} among them, ran at "
        f"most {whole.slots} at once within {whole.span_s / scale:.3g} {unit}"
    )
    if unknown:
        return (
            f"{unknown} of {len(timed) + unknown} trials that trained have no time of ending on "
            f"record, so how busy the slots were is unknown; of the others, {text}."
        )
    text += f"; {100 * whole.idle_share:.1f} % of the slots' time trained nothing"
    if whole.gap_s > 0.01 * whole.span_s:
        short, name = timelines.time_unit(whole.gap_s)
        return f"{text}, and for {whole.gap_s / short:.3g} {name} in one piece nothing ran at all."
    return text + ", with no pause in which nothing ran for more than a hundredth of it."


def _selection(study: LoadedStudy) -> tuple[Figure, str]:
    own = study.trials[study.trials.arm.isin(study.searched_arms)]
    confirmed = selection.confirmations(own, study.replicates)
    confirmed = in_order(study, confirmed)
    if not confirmed.again_nats.notna().any():
        raise NothingToShow(
            "No configuration has been confirmed on fresh seeds"
            + (f": {_all_failed(len(confirmed))}." if len(confirmed) else " (0 so far).")
        )
    told = selection.stability(confirmed)
    note = (
        f"The {_counts(told.configurations)} best of each arm's search. Bars: 95 % BCa bootstrap "
        f"interval of the mean over {_counts(confirmed.seeds[confirmed.seeds > 0])} fresh seeds. "
        "Thick: first in the search. Number: fresh seeds minus search, mean. "
    )
    if failed := int(confirmed.failed.sum()):
        note += f"Hollow: some seeds failed ({failed} in all), and are not in the mean. "
    if lost := int(told.failed.sum()):
        note += f"A cross: no seed is sound ({counted(lost, 'configuration')}); nowhere counted. "
    figure = figures.selection(confirmed, told, styles_of(study), note)
    return figure, so_far(study) + held(confirmed, told)


def _all_failed(configurations: int) -> str:
    if configurations == 1:
        return "all seeds of the one that was tried failed"
    return f"all seeds of all {configurations} that were tried failed"


def _counts(numbers: pd.Series) -> str:
    low, high = int(numbers.min()), int(numbers.max())
    return str(low) if low == high else f"{low} to {high}"
