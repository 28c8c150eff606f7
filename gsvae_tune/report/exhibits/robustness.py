"""How many configurations come near the best, and how much of a loss is the luck of a seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gsvae_tune.report.estimates.marginal import fence
from gsvae_tune.report.estimates.robustness import near_best, share_within
from gsvae_tune.report.estimates.spread import FARTHEST, Components, components, trial_spreads
from gsvae_tune.report.exhibits.ended import counted, ended, left_out
from gsvae_tune.report.exhibits.exhibit import ENOUGH, Exhibit, NothingToShow, listed
from gsvae_tune.report.figures import robustness, style
from gsvae_tune.report.loaded import LoadedStudy
from gsvae_tune.search.ledger import RANDOM_STRATUM
from gsvae_tune.study.records import TrialState

MARK_NATS = 0.5  # near the best; more where the study says that only more would matter


def exhibits(study: LoadedStudy) -> Iterator[Exhibit]:
    """Yield robustness and spread."""
    yield Exhibit(
        "sensitivity-robustness",
        "How many configurations come near the best of all?",
        "A curve that rises early belongs to an arm that is hard to get wrong; read it off the "
        "trials drawn at random (solid), since the sampler sought good ones.",
        partial(_robustness, study),
    )
    yield Exhibit(
        "sensitivity-spread",
        "How much of a loss is the configuration, and how much the luck of a seed?",
        "Where the spread over replicates is small beside that between configurations, a search "
        "tells configurations apart; where it is not, it ranks luck.",
        partial(_spread, study),
    )


def _robustness(study: LoadedStudy) -> tuple[Figure, str]:
    frames = {arm: _with_pruned(study, arm, frame) for arm, frame in ended(study).items()}
    best_arm = min(frames, key=lambda arm: frames[arm].value.min())
    best = frames[best_arm].iloc[int(frames[best_arm].value.argmin())]
    if all((frame.value.dropna() == best.value).all() for frame in frames.values()):
        raise NothingToShow(
            f"All trials that ended with a value have the same loss, {best.value:.4g} nats: there "
            "is no distance from the best."
        )
    mark = max(MARK_NATS, study.config.protocol.smallest_effect_nats)
    shares, said = [], []
    for arm, frame in frames.items():
        excess, random = frame.value - best.value, frame.random
        if random.sum() >= ENOUGH:
            steps = near_best(excess[random], int(random.sum()))
            shares.append(steps.assign(arm=arm, stratum=RANDOM_STRATUM))
        if not random.all() or random.sum() < ENOUGH:
            steps = near_best(excess, len(frame)).assign(low=np.nan, high=np.nan)
            shares.append(steps.assign(arm=arm, stratum="all"))
        said.append(_share_said(arm, excess, random, mark))
    said, more = _extremes(said, frames, best.value + mark)
    lost = sum(int(frame.value.isna().sum()) for frame in frames.values())
    caption = (
        f"{counted(study, ended(study))}{left_out(study, frames)} "
        f"Best: the lowest loss of any arm's search, {best.value:.2f} nats ({best_arm}, trial "
        f"{best.number}). Band: 95 % interval of each share (Clopper-Pearson), for "
        "trials drawn at random, which are independent; from "
        f"{ENOUGH} of them on. x is logarithmic."
        + (f" {lost:,} configurations without a full loss count as never near." if lost else "")
    )
    finding = (
        f"Of the configurations tried, within {mark:g} nats of the best ({best.value:.2f} nats, "
        f"{best_arm}) came: {'; '.join(said)}{more}."
    )
    table = pd.concat(shares)
    return robustness.nearness(table, mark, style.arm_styles(study.arms), caption), finding


def _with_pruned(study: LoadedStudy, arm: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Return number, value and random with the trials that were stopped early, without a value."""
    table = study.trials
    own = table[(table.arm == arm) & (table.phase == "search")]
    own = own[own.state == TrialState.PRUNED.value]
    kept = frame[["number", "value", "random"]]
    if own.empty:
        return kept
    pruned = pd.DataFrame(
        {
            "number": own.number,
            "value": np.nan,
            "random": (own.stratum == RANDOM_STRATUM).astype(bool),
        }
    )
    return pd.concat([kept, pruned], ignore_index=True)


def _extremes(
    said: list[str], frames: dict[str, pd.DataFrame], level: float
) -> tuple[list[str], str]:
    """Return what is said of up to four arms, of more of those with least and most near trials."""
    if len(said) <= 4:
        return said, ""
    shares = [float((frame.value <= level).mean()) for frame in frames.values()]
    ends = [said[int(np.argmax(shares))], said[int(np.argmin(shares))]]
    return ends, f" (the largest and the smallest share of all trials over {len(said)} arms)"


def _share_said(arm: str, excess: pd.Series, random: pd.Series, mark: float) -> str:
    """Say an arm's share: of its random trials with an interval, and of all."""
    near = int((excess <= mark).sum())
    every = f"{near:,} of all {len(excess):,}"
    drawn = int(random.sum())
    if not drawn:
        return f"{arm} {every}"
    share, low, high = share_within(excess[random], drawn, mark)
    return f"{arm} {share:.0%} [{low:.0%}, {high:.0%}] of {drawn:,} drawn at random" + (
        "" if drawn == len(excess) else f" ({every})"
    )


def _spread(study: LoadedStudy) -> tuple[Figure, str]:
    losses = _losses(study)
    found: dict[str, Components] = {}
    for arm, own in losses.groupby("arm", sort=False):
        known = components(own)
        if known is not None and known.trials >= ENOUGH:
            found[str(arm)] = known
    if not found:
        trials = losses.groupby("arm", sort=False).number.nunique()
        counts = ", ".join(f"{arm} {count}" for arm, count in trials.items())
        raise NothingToShow(
            f"Spread over seeds takes {ENOUGH} trials of an arm with two replicates or more: there "
            f"are {len(losses)} replicates with a loss, of trials: {counts or 'none'}."
        )
    table = pd.DataFrame([{"arm": arm} | asdict(known) for arm, known in found.items()])
    dots, beyond = _dots({arm: losses[losses.arm == arm] for arm in found})
    failed = {arm: _failed(study, arm) for arm in found}
    figure = robustness.spreads(
        dots, table, style.arm_styles(study.arms), _spread_caption(found, failed, beyond)
    )
    return figure, _spread_finding(found) + _failed_said(failed)


def _losses(study: LoadedStudy) -> pd.DataFrame:
    """Return arm, number and loss_nats of every replicate of the search's finished trials."""
    trials = study.trials[(study.trials.phase == "search") & study.trials.arm.isin(study.arms)]
    done = trials[(trials.state == TrialState.COMPLETE.value) & np.isfinite(trials.value)]
    own = study.replicates[study.replicates.phase == "search"]
    own = own.merge(done[["arm", "number"]], on=["arm", "number"])
    own = own.rename(columns={"val_neg_elbo_nats": "loss_nats"})[["arm", "number", "loss_nats"]]
    found: pd.DataFrame = own[np.isfinite(own.loss_nats)].sort_values(
        "arm", key=lambda arms: arms.map({arm: row for row, arm in enumerate(study.arms)}),
        kind="stable",
    )  # fmt: skip
    return found


def _dots(losses: dict[str, pd.DataFrame]) -> tuple[pd.DataFrame, int]:
    """Return the trials as they are drawn, cut at the axes' ends, and how many were cut."""
    frames = [trial_spreads(own).dropna().assign(arm=arm) for arm, own in losses.items()]
    dots = pd.concat(frames).rename(columns={"mean": "mean_nats", "sd": "sd_nats"})
    for name in ("mean", "sd"):
        top = fence(dots[f"{name}_nats"])
        dots[f"{name}_beyond"] = dots[f"{name}_nats"] > top
        dots[f"{name}_nats"] = dots[f"{name}_nats"].clip(upper=top)
    return dots, int((dots.mean_beyond | dots.sd_beyond).sum())


def _failed(study: LoadedStudy, arm: str) -> int:
    own = study.trials[(study.trials.arm == arm) & (study.trials.phase == "search")]
    lost = (own.state == TrialState.COMPLETE.value) & ~np.isfinite(own.value)
    return int(((own.state == TrialState.FAILED.value) | lost).sum())


def _failed_said(failed: dict[str, int]) -> str:
    some = [f"{arm} {count}" for arm, count in failed.items() if count]
    if len(some) > 4:
        some = [f"{sum(failed.values()):,} of {len(some)} arms"]
    return f" Trials that failed have no spread and are not in it: {listed(some)}." if some else ""


def _spread_caption(found: dict[str, Components], failed: dict[str, int], beyond: int) -> str:
    counts = [f"{arm} {one.trials:,} with {one.losses:,}" for arm, one in found.items()]
    lost = sum(failed.values())
    return (
        f"Trials with replicates: {', '.join(counts)}"
        + (f"; {lost:,} failed trials are not in it" if lost else "")
        + ". Bars: "
        "components of variance (one-way random effects, ANOVA); black lines: the same from "
        "medians, which single bad trials do not move. Brackets in the text: 95 % jackknife "
        "intervals over trials. All trials share their seeds; the "
        "sampler's choice of trials narrows the spread between them."
        + (f" At the edge: {beyond:,} trials beyond the axes." if beyond else "")
    )


def _spread_finding(found: dict[str, Components]) -> str:
    """Say each arm's intraclass share, or those of the extremes where arms are many."""
    known = {arm: one for arm, one in found.items() if np.isfinite(one.share)}
    if not known:
        return "In this search all replicates of an arm have the same loss: there is no spread."
    ordered = sorted(known, key=lambda arm: known[arm].share)
    named = list(known) if len(known) <= 4 else [ordered[0], ordered[-1]]
    extremes = "" if len(known) <= 4 else f" (the lowest and the highest of {len(known)} arms)"
    said = listed(f"{_percent(known[arm])} for {arm}" for arm in named)
    return (
        "In this search, of the variance of single replicates' losses the differences between "
        f"configurations make up {said}{extremes}; the rest is the luck of seeds."
        f"{_few_said({arm: known[arm] for arm in named})}"
    )


def _percent(one: Components) -> str:
    if np.isnan(one.share_low):
        return f"{one.share:.0%} (too few trials for an interval)"
    high = ">99%" if 0.995 <= one.share_high < 1 else f"{one.share_high:.0%}"
    return f"{one.share:.0%} [{one.share_low:.0%}, {high}]"


def _few_said(known: dict[str, Components]) -> str:
    """Say of the arms whose medians tell another share that few trials make up the difference."""
    apart = {
        arm: one
        for arm, one in known.items()
        if not np.isnan(one.share_low + one.robust_share)
        and not one.share_low <= one.robust_share <= one.share_high
    }
    if not apart:
        return ""
    parts = listed(f"{one.farthest_share:.0%} for {arm}" for arm, one in apart.items())
    shares = listed(f"{one.robust_share:.0%}" for one in apart.values())
    return (
        f" A few trials make up the difference: the {FARTHEST:.0%} farthest from the mean hold "
        f"{parts} of the spread between configurations; by medians, which these do not move, the "
        f"share is {shares}."
    )
