"""Which settings of the search mattered, which way leads to the best trial, what defaults cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gsvae_tune.report.estimates import ablation, importance, tunability
from gsvae_tune.report.estimates.configurations import configurations_of, rows_of
from gsvae_tune.report.estimates.surrogate import (
    CONFIDENCE,
    FEWEST,
    HALVES,
    MOST,
    READABLE,
    TREES,
    Surrogate,
    surrogate_of,
)
from gsvae_tune.report.exhibits.exhibit import Exhibit, NothingToShow, listed
from gsvae_tune.report.figures import importance as figures
from gsvae_tune.report.figures import style
from gsvae_tune.report.loaded import LoadedStudy
from gsvae_tune.search.arms import arm_of
from gsvae_tune.search.importance import best_count
from gsvae_tune.search.ledger import RANDOM_STRATUM
from gsvae_tune.study.parameters import Range, Scalar
from gsvae_tune.study.records import TrialState

_LEVEL = f"{100 * CONFIDENCE:.0f} %"
_NAMED = 3  # arms that a finding speaks of one by one; the figure has all


@dataclass(frozen=True)
class _Search:
    """What an arm's trials say, those that ended with a loss and those that failed."""

    surrogate: Surrogate
    best: NDArray[np.float64]  # the best trial's configuration
    best_nats: float
    random: int  # trials of the random stratum

    @cached_property
    def halves(self) -> list[Surrogate]:
        """Surrogates of halves of the trials: two exhibits take their intervals from them."""
        return self.surrogate.halved()

    @property
    def known(self) -> str:
        """The R2 and n, as a finding gives them."""
        used, trials = len(self.surrogate.rows), self.surrogate.trials
        count = f"{used} of {trials:,}" if used < trials else f"{trials}"
        failed = f", {self.surrogate.failed:,} of them failed" if self.surrogate.failed else ""
        return f"R2 {figures.r2_text(self.surrogate.r2)}, {count} trials{failed}"


@dataclass(frozen=True)
class _Searches:
    """Every arm that a surrogate can be grown for, and what is missing of the others."""

    arms: dict[str, _Search]
    missing: str  # a sentence, or empty
    notes: str  # sentences that each caption ends with
    styles: dict[str, style.ArmStyle]

    @property
    def r2(self) -> dict[str, float]:
        return {arm: search.surrogate.r2 for arm, search in self.arms.items()}

    def finding(self, said: Mapping[str, str], otherwise: str) -> str:
        """Return what is said of the arms that can be read, and which cannot and why.

        Args:
            said: of each arm, a clause.
            otherwise: a sentence for where no arm can be read.
        """
        readable = [arm for arm, search in self.arms.items() if search.surrogate.readable]
        unread = [arm for arm in self.arms if arm not in readable]
        sentences = []
        if readable:
            rest = len(readable) - _NAMED
            more = [f"{rest} more in the figure"] if rest > 0 else []
            clauses = "; ".join([*(said[arm] for arm in readable[:_NAMED]), *more])
            sentences.append(f"In this search, {clauses}.")
        else:
            sentences.append(otherwise)
        if unread:
            names = listed(f"{arm} ({self.arms[arm].known})" for arm in unread)
            sentences.append(
                f"Not to be read, as the surrogate's out-of-sample R2 is not {READABLE:g} or more: "
                f"{names}."
            )
        return " ".join([*sentences, self.missing]).strip()


def exhibits(study: LoadedStudy) -> Iterator[Exhibit]:
    """Yield what the settings of the search did."""

    @cache
    def searches() -> _Searches:
        return _searches(study)

    yield Exhibit(
        "importance",
        "Which settings mattered in this search?",
        "The further right a point, the more the setting mattered, with an interval over trials; "
        "PED-ANOVA asks where the best trials differ from all trials, fANOVA how much of the "
        "variance of a forest's predictions the setting explains alone.",
        lambda: _importance(searches()),
    )
    yield Exhibit(
        "ablation",
        "Which changes lead from the default settings to the best trial?",
        "From top to bottom one setting after the other is changed from its default to the best "
        "trial's value, next always the one with the lowest predicted loss; points are a forest's "
        "predictions, and nothing was trained for them.",
        lambda: _ablation(searches()),
    )
    yield Exhibit(
        "tunability",
        "What is lost by leaving a setting at its default?",
        "The further right a point, the more loss a forest predicts for leaving the setting at the "
        "default beside its name while all others are at their best; at 0, tuning it gains "
        "nothing.",
        lambda: _tunability(searches()),
    )


def _importance(searches: _Searches) -> tuple[Figure, str]:
    frames = {
        arm: importance.importances(search.surrogate).sort_values(
            ["ped", "fanova"], ascending=False, na_position="last", kind="stable"
        )
        for arm, search in searches.arms.items()
    }
    sizes = {len(search.surrogate.rows) for search in searches.arms.values()}
    best = listed(f"{best_count(n)} of {n}" for n in sorted(sizes))
    note = (
        f"{_lines()} PED-ANOVA: the best trials ({best}) against all, without a "
        "surrogate. fANOVA: of a forest, over every combination of values, also those that no "
        "trial may have. R²: how well such a forest predicts trials it was not grown on, 0 is no "
        f"better than their mean; below {READABLE:g} nothing of the arm is to be read. "
        f"{_conditional(frames)}{searches.notes}"
    )
    figure = figures.importance_figure(frames, searches.r2, searches.styles, note)
    said = {arm: _important(arm, frame, searches.arms[arm]) for arm, frame in frames.items()}
    return figure, searches.finding(
        said, "Which setting mattered cannot be told from these trials."
    )


def _important(arm: str, frame: pd.DataFrame, search: _Search) -> str:
    """Say which settings lead by either measure."""
    firsts = {kind: _first(frame, kind) for kind in ("ped", "fanova")}
    spoken = [
        f"{name} puts {firsts[kind]} first"
        for kind, name in (("ped", "PED-ANOVA"), ("fanova", "fANOVA"))
        if firsts[kind]
    ]
    return f"in {arm} ({search.known}) {listed(spoken) or 'no setting leads'}"


def _first(frame: pd.DataFrame, kind: str) -> str:
    """Return the setting with the largest share, with its interval; all of them where they tie."""
    top = frame[kind].max()
    if not top > 0:
        return ""
    leading = frame[frame[kind] >= top - 1e-9]
    row = leading.iloc[0]
    ends = f"[{row[f'{kind}_low']:.2f}, {row[f'{kind}_high']:.2f}]"
    interval = f"{top:.2f}, {_LEVEL} interval {ends}"
    return f"{listed(leading.name)} ({interval if len(leading) == 1 else f'{top:.2f} each'})"


def _ablation(searches: _Searches) -> tuple[Figure, str]:
    paths, said, moved = {}, {}, {}
    for arm, search in searches.arms.items():
        space = search.surrogate.configurations
        start, moved[arm] = space.default()
        path = ablation.ablation_path(search.surrogate, search.halves, space, start, search.best)
        steps = [_step(*step) for step in zip(path.changed, path["values"], strict=True)]
        paths[arm] = path.assign(label=["default", *steps[1:]])
        said[arm] = _ablated(arm, paths[arm], search)
    note = (
        f"Points: predictions of a forest of {TREES} trees; nothing was trained for them. "
        f"{_lines()} Open diamond: the best trial's own loss, "
        "the lowest of many and so flattered. A choice changes together with the settings that "
        f"hang on it. {_moved(moved)}R²: of such a forest on trials it was not grown on; below "
        f"{READABLE:g} nothing of the arm is to be read. {searches.notes}"
    )
    observed = {arm: search.best_nats for arm, search in searches.arms.items()}
    figure = figures.ablation_figure(paths, observed, searches.r2, searches.styles, note)
    return figure, searches.finding(
        said, "What leads from the default to the best trial cannot be told from these trials."
    )


def _ablated(arm: str, path: pd.DataFrame, search: _Search) -> str:
    losses = path.loss_nats.to_numpy()
    known = f"in {arm} ({search.known})"
    if len(path) == 1:
        return f"{known} the best trial is the default"
    ends = f"{known} the predicted loss goes from {losses[0]:.2f} nats to {losses[-1]:.2f} nats"
    largest = path.iloc[int(np.nanargmax(path.fall_nats))]
    if not largest.fall_nats > 0:
        return f"{ends}, and no step lowers it"
    return (
        f"{ends}, its largest fall {_amount(largest.fall_nats)} nats "
        f"({_interval(largest.fall_low_nats, largest.fall_high_nats)}) "
        f"with {largest.label.replace(chr(10), ' ')}"
    )


def _tunability(searches: _Searches) -> tuple[Figure, str]:
    frames, moved = {}, {}
    for arm, search in searches.arms.items():
        moved[arm] = search.surrogate.configurations.default()[1]
        frame = tunability.tunability(search.surrogate, search.halves)
        labels = [
            f"{name} = {_value(default)}"
            for name, default in zip(frame.name, frame.default, strict=True)
        ]
        frames[arm] = frame.assign(label=labels).sort_values(
            "lost_nats", ascending=False, na_position="last", kind="stable"
        )
    note = (
        "Points: the lowest loss that a forest predicts with the setting at its default, minus the "
        f"lowest without that, over the trials' configurations and {tunability.DRAWN} random ones. "
        f"{_lines()} Each arm has a scale of its own. "
        f"{_conditional(frames)}{_moved(moved)}R²: of such a forest on trials it was not grown on; "
        f"below {READABLE:g} nothing of the arm is to be read. {searches.notes}"
    )
    figure = figures.tunability_figure(frames, searches.r2, searches.styles, note)
    said = {arm: _costing(arm, frame, searches.arms[arm]) for arm, frame in frames.items()}
    return figure, searches.finding(said, "What a default costs cannot be told from these trials.")


def _costing(arm: str, frame: pd.DataFrame, search: _Search) -> str:
    known = f"in {arm} ({search.known})"
    row = frame.iloc[0]  # the largest, as they are sorted
    if not row.lost_nats > 0:
        return f"{known} no default is predicted to cost anything"
    return (
        f"{known} the default predicted to cost most is {row.label}: {_amount(row.lost_nats)} nats "
        f"({_interval(row.low_nats, row.high_nats)})"
    )


def _searches(study: LoadedStudy) -> _Searches:
    """Grow a surrogate for each arm that has the trials for it.

    Raises:
        NothingToShow: none has.
    """
    found, missing = {}, {}
    for arm in study.searched_arms:
        trials = _trials(study, arm)
        losses = trials.value.dropna()
        failed = len(trials) - len(losses)
        more = f" ({failed:,} more failed)" if failed else ""
        if len(losses) < FEWEST:
            missing[arm] = f"{len(losses)} trial{'' if len(losses) == 1 else 's'}{more}"
        elif not study.settings[arm]:
            missing[arm] = "nothing searched"
        elif np.ptp(losses) == 0:
            missing[arm] = f"{len(losses):,} equal losses{more}"
        else:
            found[arm] = _search(study, arm, trials)
    names = ", ".join(f"{arm} has {why}" for arm, why in missing.items())
    needed = f"at least {FEWEST} trials that ended with a loss, not all of them equal"
    if not found:
        raise NothingToShow(
            f"A surrogate of the search needs {needed}: {names or 'no arm is searched'}."
        )
    why = f"Missing, as a surrogate needs {needed}: {names}." if missing else ""
    notes = " ".join([*_notes(study, found), why])
    return _Searches(found, why, notes, style.arm_styles(study.arms))


def _search(study: LoadedStudy, arm: str, trials: pd.DataFrame) -> _Search:
    settings = study.settings[arm]
    rows = rows_of(settings, trials)
    surrogate = surrogate_of(
        configurations_of(settings, trials, _order(study, arm)), rows, trials.value
    )
    best = int(np.nanargmin(trials.value))
    at_random = int((trials.stratum == RANDOM_STRATUM).sum())
    return _Search(surrogate, rows[best], float(trials.value.iloc[best]), at_random)


def _trials(study: LoadedStudy, arm: str) -> pd.DataFrame:
    """Return an arm's trials of the search that ended or failed: value, stratum, its settings.

    The value is NaN where a trial failed, or ended with a loss that is not finite.
    """
    own = study.trials[(study.trials.arm == arm) & (study.trials.phase == "search")]
    own = own[own.state.isin([TrialState.COMPLETE.value, TrialState.FAILED.value])]
    ended = (own.state == TrialState.COMPLETE.value) & np.isfinite(own.value)
    names = {f"param_{setting.name}": setting.name for setting in study.settings[arm]}
    found = own.assign(value=own.value.where(ended)).sort_values("number")
    return found.reindex(columns=["value", "stratum", *names]).rename(columns=names)


def _order(study: LoadedStudy, arm: str) -> list[tuple[str, str]]:
    """Return (lower, upper) of what the method orders, and of ranges that end at a setting."""
    config = study.config.arms[arm]
    own = arm_of(arm, config.method or arm, str(study.paths.study)).ordered
    pairs = [(lower, upper) for lower, upper, _ in own]
    for name, parameter in config.space.items():
        if isinstance(parameter, Range):
            pairs += [(parameter.low, name)] if isinstance(parameter.low, str) else []
            pairs += [(name, parameter.high)] if isinstance(parameter.high, str) else []
    return pairs


def _notes(study: LoadedStudy, found: Mapping[str, _Search]) -> list[str]:
    """Return what a caption says of the trials: how many, which not, and how they were drawn."""
    own = study.trials[(study.trials.phase == "search") & study.trials.arm.isin(list(found))]
    notes = [
        _counted(found),
        _each(
            "Failed trials are among these, and count as the worst loss of their arm",
            {arm: one.surrogate.failed for arm, one in found.items()},
        ),
        _left_out(own),
        _each(
            "Losses far above the others are learned on a compressed scale",
            {arm: _beyond(one.surrogate) for arm, one in found.items()},
        ),
        "The study is still running." if study.running else "",
    ]
    return [note for note in notes if note]


def _counted(found: Mapping[str, _Search]) -> str:
    each = {arm: f"{one.surrogate.trials:,} ({one.random:,})" for arm, one in found.items()}
    counts = ", ".join(f"{arm} {count}" for arm, count in each.items())
    if len(set(each.values())) == 1 < len(each):
        counts = f"{next(iter(each.values()))} of each arm"
    drawn = [arm for arm, one in found.items() if len(one.surrogate.rows) < one.surrogate.trials]
    fewer = f" Of those of {listed(drawn)}, {MOST} drawn at random are used." if drawn else ""
    return f"Trials (of these in the random stratum): {counts}.{fewer}"


def _left_out(own: pd.DataFrame) -> str:
    pruned = int((own.state == TrialState.PRUNED.value).sum())
    return f"Stopped early, and so without a final loss and left out: {pruned:,}." if pruned else ""


def _each(what: str, counts: Mapping[str, int]) -> str:
    named = ", ".join(f"{arm} {count:,}" for arm, count in counts.items() if count)
    return f"{what}: {named}." if named else ""


def _beyond(surrogate: Surrogate) -> int:
    return int((surrogate.losses_nats > surrogate.scale.fence_nats).sum())


def _conditional(frames: Mapping[str, pd.DataFrame]) -> str:
    any_of_them = any(frame.conditional.any() for frame in frames.values())
    return "†: in use only where another setting asks for it. " if any_of_them else ""


def _moved(moved: Mapping[str, list[str]]) -> str:
    """Say which defaults are not among what is searched."""
    names = ", ".join(f"{listed(names)} of {arm}" for arm, names in moved.items() if names)
    near = "A default outside what is searched is moved to its nearest value (a choice: the first)"
    return f"{near}: {names}. " if names else ""


def _step(changed: tuple[str, ...], values: tuple[Scalar | None, ...]) -> str:
    """Return a step's label; what it switches off goes without saying."""
    parts = [
        f"{name} = {_value(value)}"
        for name, value in zip(changed, values, strict=True)
        if value is not None
    ]
    return ",\n".join(parts) or f"without {listed(changed)}"


def _value(value: Scalar) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _amount(nats: float) -> str:
    """Return a difference in nats; what two decimals would call nothing keeps its first digits."""
    return f"{nats:.2f}" if nats == 0 or abs(nats) >= 0.095 else f"{nats:.2g}"


def _interval(low_nats: float, high_nats: float) -> str:
    """Return an interval in as many decimals as tell its larger end from 0."""
    size = max(abs(low_nats), abs(high_nats))
    decimals = 2 if size >= 0.095 else 3 if size >= 0.0095 else 4
    low, high = (round(end, decimals) + 0.0 for end in (low_nats, high_nats))  # no -0.00
    return f"{_LEVEL} interval [{low:.{decimals}f}, {high:.{decimals}f}]"


def _lines() -> str:
    """Say in a caption what the intervals are."""
    return (
        f"Lines: {_LEVEL} intervals over trials, from what {HALVES} random halves of the trials "
        "give, as it is and moved to lie around the point."
    )
