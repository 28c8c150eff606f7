"""Is the pair better than the baseline? What the verdict rests on, seed by seed, and images.

Claims are the verdict's alone: what is said here repeats its words. Curves and images are of the
validation split and of finalists; before there are any, of the search's best, and said to be so.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gsvae_tune.report.audit import Compute, compute_of, unequal
from gsvae_tune.report.estimates import curves as curve_estimates
from gsvae_tune.report.estimates import differences
from gsvae_tune.report.exhibits import images
from gsvae_tune.report.exhibits.exhibit import Exhibit, NothingToShow, listed
from gsvae_tune.report.exhibits.finalists import Chosen, chosen, described, judged
from gsvae_tune.report.figures import comparison as figures
from gsvae_tune.report.figures import style
from gsvae_tune.report.loaded import LoadedStudy
from gsvae_tune.report.pairs import sound
from gsvae_tune.report.verdict import Verdict
from gsvae_tune.study.records import TrialState

METRICS = {
    "test_neg_elbo_nats": "test negative ELBO with one-hot codes",
    "test_iwae_nats": "test negative IWAE bound with one-hot codes",
}
BANDS = 6  # curves up to which their bands can be told apart
MEASURES = {
    "configurations": "configurations\ntried", "confirmed": "configurations\nconfirmed",
    "steps": "optimizer\nsteps", "samples": "samples\nseen", "device_seconds": "device-\nseconds",
}  # fmt: skip


def exhibits(study: LoadedStudy) -> Iterator[Exhibit]:
    """Yield what compares the arms with the baseline."""
    yield Exhibit(
        "comparison-pairs",
        "By how much does each arm differ from the baseline, seed by seed?",
        "Each circle is one seed of both arms, left of 0 if the arm is better there; the thick bar "
        "is what other seeds may change, the thin one what another search may change as well, and "
        "differences inside the grey band are too small to matter.",
        functools.partial(_pairs, study),
    )
    yield Exhibit(
        "comparison-verdict",
        "What did each arm's best configuration give on the test split?",
        "Each line is one seed across all arms: where the lines run alike, seeds matter more than "
        "arms, and only differences along a line say something about the arms.",
        functools.partial(_losses, study),
    )
    yield Exhibit(
        "comparison-compute",
        "Were all arms given the same?",
        "Each bar that ends within the grey band counts as equal to the baseline's; without a band "
        "to be seen, only the very same number does.",
        functools.partial(_compute, study),
    )
    yield Exhibit(
        "comparison-curves",
        "How fast does each arm learn?",
        "Lower is better; the left panel asks what an epoch brings, the right one what a second "
        "brings.",
        functools.partial(_curves, study),
    )
    yield from images.exhibits(study)


def _named(
    study: LoadedStudy, names: dict[str, str] | None = None, between: str = "\n"
) -> dict[str, str]:
    """Return what each arm is called; which is the baseline is said."""
    base = study.config.protocol.baseline
    found = names or {arm: arm for arm in study.arms}
    if base in found:
        found = found | {base: f"{found[base]}{between}(baseline)"}
    return found


def _reserve(verdict: Verdict) -> str:
    """Return why what the verdict rests on is no evidence, as a sentence; "" where it is."""
    if verdict.simulated:
        return " Nothing was trained: the numbers are simulated and evidence of nothing."
    if verdict.reopened is not None:
        return f" The test split had been opened before ({verdict.reopened}): no evidence."
    return ""


def _pairs(study: LoadedStudy) -> tuple[Figure, str]:
    verdict = judged(study)
    if not verdict.comparisons:
        raise NothingToShow("No comparison is declared: there is one arm alone.")
    if not any(one.n for one in verdict.comparisons):
        raise NothingToShow(f"No two arms can be compared: {verdict.comparisons[0].reason}")
    pairs = differences.paired_differences(
        study.config, verdict.comparisons, study.trials, study.replicates
    )
    summary = pd.DataFrame([vars(one) for one in verdict.comparisons])
    numbers = [
        "effect_nats", "ci_low", "ci_high", "wide_low", "wide_high", "p_holm", "arm_trial",
        "baseline_trial",
    ]  # fmt: skip
    summary[numbers] = summary[numbers].astype("float64")
    # Where every seed of both arms failed, all differences are 0, and mean nothing.
    all_lost = pairs.groupby(["arm", "baseline"])["lost"].transform("all").astype(bool)
    nothing = {tuple(key) for key in pairs.loc[all_lost, ["arm", "baseline"]].to_numpy()}
    empty = [(one.arm, one.baseline) in nothing for one in verdict.comparisons]
    summary.loc[empty, [name for name in numbers if not name.endswith("trial")]] = np.nan
    pairs = pairs[~all_lost]
    level = 100.0 * (1.0 - verdict.alpha / len(summary))
    figure = figures.paired_differences(
        summary,
        pairs,
        style.arm_styles(study.arms),
        matters_nats=verdict.smallest_effect_nats,
        metric=METRICS[verdict.metric],
        wide=f"{level:.4g} %, seeds and searches",
    )
    failed = int(pairs.failed.sum())
    style.caption(
        figure,
        f"{_counted(one.n for one in verdict.comparisons)} pairs of seeds a comparison. Thick: 95 "
        f"% BCa bootstrap interval of the mean over seeds. Thin: {level:.4g} % interval over seeds "
        "and over what repeating both searches may change; what lies beyond an edge stands "
        "at it, see the numbers. p: sign-flip test over seeds, Holm over all comparisons here."
        + (f" {failed} differences hold a failed seed, charged as a loss." if failed else ""),
    )
    return figure, _verdict_in_words(study, verdict) + _reserve(verdict)


def _counted(numbers: Any) -> str:
    """Return "10" or "0 to 10"."""
    found = sorted(set(numbers))
    return str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"


def _verdict_in_words(study: LoadedStudy, verdict: Verdict) -> str:
    """Count the verdicts, quote the reason of the pair's, and name what else is supported."""
    words = [one.verdict for one in verdict.comparisons]
    order = ("supported", "not supported", "inconclusive")
    counts = listed(f"{words.count(word)} {word}" for word in order if word in words)
    whole = f"Of {len(words)} comparisons, {counts}" if len(words) > 1 else f"Verdict: {words[0]}"
    base = study.config.protocol.baseline
    # Not the largest difference: it would be the best of several again.
    told = min(
        verdict.comparisons,
        key=lambda one: (study.config.method(one.arm) != "pair", one.baseline != base),
    )
    others = [
        f"{one.arm} better than {one.baseline}"
        for one in verdict.comparisons
        if one.verdict == "supported" and one is not told
    ]
    more = f" Supported: {listed(others)}." if others else ""
    return f"{whole}. {told.arm} - {told.baseline}: {told.reason}{more}"


def _losses(study: LoadedStudy) -> tuple[Figure, str]:
    verdict = judged(study)
    finalists = {
        arm: known.finalist.number
        for arm in study.arms
        if (known := verdict.arms[arm]).finalist is not None
    }
    wanted = study.config.protocol.replicates
    losses = differences.finalist_losses(study.replicates, finalists, verdict.metric, wanted)
    means = differences.mean_losses(losses)
    if not means.n.sum():
        raise NothingToShow(
            f"No finalist has a sound seed: {len(finalists)} of {len(study.arms)} arms have one, "
            f"and all of its {wanted} seeds failed."
            if finalists
            else "No arm has a finalist: no trial was sound enough to be confirmed."
        )
    figure = figures.finalist_losses(
        losses,
        means,
        style.arm_styles(study.arms),
        names=_named(study, {arm: f"{arm} #{number}" for arm, number in finalists.items()}),
        metric=METRICS[verdict.metric],
    )
    style.caption(
        figure,
        f"{wanted} fresh seeds an arm. Bars: 95 % BCa bootstrap interval of the mean over an arm's "
        "sound seeds; it holds what seeds do to all arms alike, so bars that overlap say nothing "
        "about differences."
        + (" Failed seeds are set apart at the right." if losses.failed.any() else "")
        + " An arrow: beyond the edge.",
    )
    return figure, _spread_in_words(losses, means) + _reserve(verdict)


def _spread_in_words(losses: pd.DataFrame, means: pd.DataFrame) -> str:
    """Say what the arms gave, and how much of that seeds do alike to all."""
    known = means[means.n > 0].sort_values("mean_nats")
    best, worst = known.iloc[0], known.iloc[-1]
    words = f"{best.arm} with {best.mean_nats:.3f} nats (mean of {best.n} sound seeds)"
    if len(known) > 1:
        words = f"Means lie {worst.mean_nats - best.mean_nats:.3f} nats apart, from {words} to "
        words += f"{worst.arm} with {worst.mean_nats:.3f} ({worst.n} seeds)"
    else:
        words = f"The one finalist with a sound seed is {words}"
    sound = losses[~losses.failed.astype(bool)]
    spreads = sound.groupby("arm").loss_nats.agg(np.ptp)
    words += f"; seeds of one arm lie up to {spreads.max():.3f} nats apart."
    if failed := means[means.failed > 0].set_index("arm").failed.to_dict():
        words += (
            f" Failed seeds, {listed(f'{count} of {arm}' for arm, count in failed.items())}, are "
            "in no mean here; the verdict counts them as losses."
        )
    return words


def _compute(study: LoadedStudy) -> tuple[Figure, str]:
    if len(study.arms) < 2:
        raise NothingToShow("There is one arm alone: nothing to hold its compute against.")
    given = _given(study)
    named = study.config.protocol.baseline
    base = named if named in given else study.arms[0]
    if not any(one.configurations for one in given.values()):
        raise NothingToShow("No trial has ended yet: no arm was given anything so far.")
    tolerance = study.config.protocol.compute_tolerance
    shares = differences.compute_shares(given, base, tolerance)
    measures = {
        key: name for key, name in MEASURES.items() if shares.value[shares.measure == key].any()
    }
    figure = figures.compute(
        shares, style.arm_styles(study.arms), names=_named(study), headings=measures
    )
    style.caption(
        figure,
        f"Held against {base}. Counts must be equal; device-seconds may differ by "
        f"{100 * tolerance:g} % of the smaller, or by a minute. A control is charged with the "
        "search of the arm it replays; diverged seeds and failed trials are charged in full.",
    )
    found = {
        arm: words
        for arm in study.arms
        if arm != base and (words := unequal(given[arm], given[base], tolerance))
    }
    return figure, _compute_in_words(study, given, base, found)


def _given(study: LoadedStudy) -> dict[str, Compute]:
    """Return what each arm was given: as the verdict says, or so far."""
    if study.verdict is not None:
        return {arm: study.verdict.arms[arm].compute for arm in study.arms}
    again = study.trials[study.trials.phase == "confirm"]
    again = again[again.state != TrialState.RUNNING.value]
    return {
        arm: compute_of(study.config, arm, study.trials, again.number[again.arm == arm].tolist())
        for arm in study.arms
    }


def _compute_in_words(
    study: LoadedStudy, given: dict[str, Compute], named: str, found: dict[str, str]
) -> str:
    so_far = "" if study.verdict is not None else " so far"
    base, seconds = given[named], [one.device_seconds for one in given.values()]
    if not found:
        others = "Both" if len(given) == 2 else f"All {len(given)}"
        return (
            f"{others} arms were given the same{so_far}: {base.configurations:,} configurations, "
            f"{base.confirmed:,} confirmed, {base.steps:,} optimizer steps, and "
            f"{min(seconds):,.0f} to {max(seconds):,.0f} device-seconds, which counts as equal."
        )
    told = "; ".join(f"{arm} ({words})" for arm, words in list(found.items())[:3])
    more = "; ..." if len(found) > 3 else ""
    if len(given) == 2:
        return f"The other arm was not given the same as {named}{so_far}: {told}."
    return (
        f"{len(found)} of {len(given) - 1} arms {'was' if len(found) == 1 else 'were'} not given "
        f"the same as {named}{so_far}: {told}{more}."
    )


def _curves(study: LoadedStudy) -> tuple[Figure, str]:
    if study.config.simulate is not None:
        raise NothingToShow("The study is simulated: nothing was trained, so nothing was learned.")
    shown = chosen(study)
    if not shown:
        raise NothingToShow("No trial has ended with a value yet: there is no curve to draw.")
    whole, lost = {}, {}
    failed = {one.arm: _failed_of(study, one) for one in shown}
    apart = _left_out(study, shown, failed)
    for one in shown:
        curve = curve_estimates.learning_curve(_epochs_of(study, one), failed[one.arm])
        kept = curve_estimates.whole(curve)
        if len(kept):
            short = len(curve) - len(kept)
            lost[one.arm] = int((curve.replicates - curve.n).max()) if short else 0
            whole[one.arm] = kept.assign(arm=one.arm, lost=lost[one.arm])
    if not whole:
        raise NothingToShow(
            f"The records hold no sound epoch of {listed(shown)}: there is no curve to draw.{apart}"
        )
    drawn = pd.concat(whole.values(), ignore_index=True)
    figure = figures.learning_curves(
        drawn,
        style.arm_styles(study.arms),
        names=_named(study, {one.arm: str(one) for one in shown}, " "),
        bands=len(whole) <= BANDS,
        clock="device-seconds since its start",
    )
    seeds = _counted(int(curve.replicates.iloc[0]) for curve in whole.values())
    cut = [f"{arm} ({count})" for arm, count in lost.items() if count]
    style.caption(
        figure,
        f"{described(study)}. Means over {seeds} seeds, trained at once as one model; of each seed "
        "the member that is better on the control split."
        + (" Bands: 95 % t interval of the mean over seeds." if len(whole) <= BANDS else "")
        + " The first epochs lie above. Seconds hold what else the machine did at the time."
        + (f" An X: seeds fail after it, {', '.join(cut)}." if cut else "")
        + apart,
    )
    return figure, _curves_in_words(study, whole) + apart


def _epochs_of(study: LoadedStudy, one: Chosen) -> pd.DataFrame:
    own = study.epochs[study.epochs.number == one.number]  # numbers first: texts compare slowly
    return own[(own.arm == one.arm) & (own.phase == one.phase)]


def _seeds_of(study: LoadedStudy, one: Chosen) -> pd.DataFrame:
    own = study.replicates[study.replicates.number == one.number]
    return own[(own.arm == one.arm) & (own.phase == one.phase)]


def _failed_of(study: LoadedStudy, one: Chosen) -> list[int]:
    """Return the replicates that diverged or collapsed."""
    own = _seeds_of(study, one)
    return [int(place) for place in own.replicate[~sound(own)]]


def _left_out(study: LoadedStudy, shown: list[Chosen], failed: dict[str, list[int]]) -> str:
    """Say how many seeds are in no mean, as they failed; "" where all are."""
    told = []
    for one in shown:
        count, lost = len(_seeds_of(study, one)), len(failed[one.arm])
        if lost:
            told.append(f"{'all' if lost == count else f'{lost} of'} {count} seeds of {one}")
    more = [f"some of {len(told) - 4} more"] if len(told) > 4 else []
    return f" Failed, and in no mean: {listed(told[:4] + more)}." if told else ""


def _curves_in_words(study: LoadedStudy, whole: dict[str, pd.DataFrame]) -> str:
    ends = {arm: curve.iloc[-1] for arm, curve in whole.items()}
    best = min(ends, key=lambda arm: float(ends[arm].mean_nats))
    base = study.config.protocol.baseline
    words = (
        f"{best} ends lowest here, at {ends[best].mean_nats:.3f} nats after epoch "
        f"{ends[best].epoch:.0f} (validation, mean of {ends[best].replicates:.0f} seeds)"
        if len(ends) > 1
        else f"{best} ends at {ends[best].mean_nats:.3f} nats after epoch {ends[best].epoch:.0f} "
        f"(validation, mean of {ends[best].replicates:.0f} seeds)"
    )
    if base not in ends or len(ends) == 1:
        return f"{words}."
    target = float(ends[base].mean_nats)
    took = f"in {ends[base].wall_s:.1f} s"
    words += (
        f"; that is the baseline, {took}"
        if best == base
        else (f"; {base}, the baseline, comes to {target:.3f} {took}")
    )
    met = {
        arm: one
        for arm, curve in whole.items()
        if arm != base and (one := curve_estimates.crossing(curve, target)) is not None
    }
    told = [
        f"{arm} from epoch {one.epoch} on ({one.wall_s:.1f} s)"
        for arm, one in sorted(met.items(), key=lambda item: item[1].epoch)[:3]
    ]
    if len(met) > len(told):
        told.append(f"{len(met) - len(told)} more")
    reached = f"No higher than the baseline's end stay {listed(told)}"
    if not told:
        reached = "No other arm stays as low as the baseline's end"
    return f"{words}. {reached}; curves are no verdict."
