"""How the temperatures of a search moved, and how often the losses decided it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gsvae_tune.report import inference
from gsvae_tune.report.estimates import movement as estimates
from gsvae_tune.report.estimates import traces
from gsvae_tune.report.exhibits.exhibit import ENOUGH, NothingToShow, listed
from gsvae_tune.report.exhibits.runs import Recordings, Run, Search, left_out
from gsvae_tune.report.figures import movement as figures
from gsvae_tune.report.figures.style import ArmStyle

COLUMNS = 150  # of the figure of decisions; of more trials, neighbours share one
NO_FEEDBACK = "independent"  # the coupling under which losses that differ decide nothing


def behaviour(recorded: Recordings, styles: Mapping[str, ArmStyle]) -> tuple[Figure, str]:
    """Draw shares at the ends of the range, reversals and settling, a point a trial."""
    searches = recorded.searches(ENOUGH)
    whole = {search.arm: search.complete for search in searches}
    ends = {one.arm: estimates.end_shares(whole[one.arm], one.settings) for one in searches}
    turns = {arm: estimates.reversals(own)["reversals"] for arm, own in whole.items()}
    settled = {arm: estimates.settling(own)["epoch"] for arm, own in whole.items()}
    lower = {arm: 100 * own["lower"] for arm, own in ends.items()}
    upper = {arm: 100 * own["upper"] for arm, own in ends.items()}
    last = max(float(own["epoch"].max()) for own in whole.values())
    most = max(1.0, *(float(own.max()) for own in turns.values()))
    measures = [
        _measure("epochs at the lower end of the range (%)", lower, (0, 100)),
        _measure("epochs at the upper end of the range (%)", upper, (0, 100)),
        _measure("reversals (a path)", turns, (0, most)),
        _measure(f"settled within a factor of {estimates.SETTLED:g} (epoch)", settled, (1, last)),
    ]
    trials = ", ".join(f"{arm} {own['number'].nunique()}" for arm, own in whole.items())
    failed = sum(int(search.losses.isna().sum()) for search in searches)
    note = (
        f"Trials of the search that ended with a value: {trials}. Means over the members and "
        "replicates of a trial. A reversal is a move of log tau against the one before; settled: "
        "from then on within that factor of the last temperature."
    )
    if failed:
        note += f" {failed} trials that failed are not in it."
    note += " " + left_out(searches, recorded.study.searched_arms, ENOUGH)
    return figures.strips(measures, styles, note.strip()), _moved(lower, upper, turns, settled,
                                                                  whole)  # fmt: skip


def _measure(
    label: str, values: Mapping[str, pd.Series], ends: tuple[float, float]
) -> figures.Measure:
    quartiles = {arm: estimates.quartiles(own) for arm, own in values.items()}
    return figures.Measure(label, values, quartiles, "has no such end", ends)


def _moved(
    lower: Mapping[str, pd.Series],
    upper: Mapping[str, pd.Series],
    turns: Mapping[str, pd.Series],
    settled: Mapping[str, pd.Series],
    whole: Mapping[str, pd.DataFrame],
) -> str:
    """Say what the median trial did, and how many trials never moved a temperature."""
    counts = {arm: int(own["number"].nunique()) for arm, own in whole.items()}
    still = {arm: estimates.still(own) for arm, own in whole.items()}
    never = [f"{still[arm]} of {arm}'s {counts[arm]}" for arm in whole if still[arm]]
    parts = [
        f"epochs at the lower end {_medians(lower, '{:.0f} %')}",
        f"at the upper end {_medians(upper, '{:.0f} %')}",
        f"reversals a path {_medians(turns, '{:.1f}')}",
        f"settled by epoch {_medians(settled, '{:.3g}')}",
    ]
    return (
        f"In this search, the median trial: {'; '.join(parts)}. Trials that never moved a "
        f"temperature: {listed(never) or f'none of {sum(counts.values())}'}."
    )


def _medians(values: Mapping[str, pd.Series], form: str) -> str:
    """Return the medians of up to four arms, of more the lowest and the highest."""
    medians = {arm: float(own.median()) for arm, own in values.items() if own.notna().any()}
    if not medians:
        return "(no arm has one)"
    if len(medians) <= 4:
        return ", ".join(f"{arm} {form.format(one)}" for arm, one in medians.items())
    if len({form.format(one) for one in medians.values()}) == 1:
        return f"{form.format(next(iter(medians.values())))} in each arm"
    low, high = min(medians, key=medians.__getitem__), max(medians, key=medians.__getitem__)
    return f"from {form.format(medians[low])} ({low}) to {form.format(medians[high])} ({high})"


def decisions(recorded: Recordings, styles: Mapping[str, ArmStyle]) -> tuple[Figure, str]:
    """Draw what became of each epoch of the pairs' trials, best trial first."""
    pairs = [arm for arm in recorded.study.searched_arms if _is_pair(recorded, arm)]
    if not pairs:
        raise NothingToShow("No searched arm is a pair: no loss decides about a temperature.")
    searches = [one for one in recorded.searches(ENOUGH) if one.arm in pairs]
    if not searches:
        raise NothingToShow(
            f"Fewer than {ENOUGH} trials of {listed(pairs)} ended with a value and have their "
            "epochs on record."
        )
    shares = {search.arm: _ranked(search) for search in searches}
    searches = [search for search in searches if len(shares[search.arm])]
    if not searches:
        raise NothingToShow(
            f"No trial of {listed(shares)} has on record what its losses decided, with a coupling "
            f"other than {NO_FEEDBACK}, which ignores them."
        )
    panels = [_panel(search, shares[search.arm], styles[search.arm]) for search in searches]
    note = "Epochs of all replicates of a trial, by what the controller did after them. Trials of "
    note += "the search by validation loss."
    if any(len(frame) > COLUMNS for frame in shares.values()):
        note += f" Neighbours averaged into {COLUMNS} columns."
    apart = sum(_without_feedback(search).sum() for search in searches)
    if apart:
        note += (
            f" Left out: {apart} trials whose coupling is {NO_FEEDBACK}, and ignores the losses."
        )
    note += " " + left_out(searches, pairs, ENOUGH)
    findings = [_weighed(search, shares[search.arm]) for search in searches[:2]]
    if len(searches) > 2:
        findings.append(f"{len(searches) - 2} more pairs are drawn.")
    return figures.decisions(panels, note.strip()), " ".join(findings)


def _is_pair(recorded: Recordings, arm: str) -> bool:
    return recorded.study.config.method(arm) == "pair"


def _without_feedback(search: Search) -> pd.Series:
    return search.settings["coupling"] == NO_FEEDBACK


def _ranked(search: Search) -> pd.DataFrame:
    """Return the shares of each trial's events, from best to worst, failed ones last."""
    shares = estimates.event_shares(search.paths)
    shares = shares[[name for name in estimates.PAIR_EVENTS if name in shares]]
    shares = shares[shares.sum(axis=1) > 0]
    values = search.losses[~_without_feedback(search).reindex(search.losses.index)]
    order = values.fillna(np.inf).sort_index().sort_values(kind="stable").index
    return shares.reindex(order[order.isin(shares.index)])


def _panel(search: Search, shares: pd.DataFrame, style: ArmStyle) -> figures.EventPanel:
    sound = int(search.losses.reindex(shares.index).notna().sum())
    groups = np.array_split(np.arange(len(shares)), max(1, min(len(shares), COLUMNS)))
    edges = [0.5, *(0.5 + group[-1] + 1 for group in groups if group.size)]
    rows = [shares.iloc[group].mean() for group in groups if group.size]
    return figures.EventPanel(
        title=f"{search.arm}, {len(shares)} trials",
        style=style,
        edges=edges,
        shares=pd.DataFrame(rows, columns=shares.columns),
        failed=sound + 0.5 if sound < len(shares) else None,
    )


def _weighed(search: Search, shares: pd.DataFrame) -> str:
    """Say how often an arm's losses decided, and whether the better trials did so more."""
    found = estimates.decided(shares)
    values = search.losses.reindex(found.index)
    never = int((found["decided"] == 0).sum())
    text = (
        f"In this search, {search.arm}'s two losses decided "
        f"{_percent(found['decided'].median())} of the median trial's epochs (n = {len(found)}), "
        f"and none at all in {never}"
    )
    if values.notna().any():
        best = found.iloc[int(np.nanargmin(values))]
        text += f"; in the best of them (#{best.name}) {_percent(best['decided'])}"
    sound = values.notna()
    agreement = inference.rank_stability(found["decided"][sound], values[sound])
    if np.isfinite(agreement):
        text += (
            f". Kendall's tau-b of that share and the loss: {agreement:+.2f} (below 0: the more "
            "they decided, the lower the loss)"
        )
    return text + "."


def spoken_of(recorded: Recordings) -> Run:
    """Return the run that findings are about: a pair's, or the first there is."""
    runs = recorded.runs
    return next((run for run in runs if _is_pair(recorded, run.arm)), runs[0])


def told(recorded: Recordings) -> str:
    """Say what the temperatures of a pair's run did, and what its losses had to do with it."""
    run = spoken_of(recorded)
    parts = [f"{run.name} {_course(run)}{_held(run)}."]
    if _is_pair(recorded, run.arm):
        parts.append(_say(run))
    others = [one for one in recorded.runs if one is not run]
    if others:
        still = [one.arm for one in others if estimates.still(one.paths)]
        if still:
            parts.append(
                f"No temperature moved in {listed(still)} either."
                if estimates.still(run.paths)
                else f"No temperature moved in {listed(still)}."
            )
    return " ".join(parts)


def _course(run: Run) -> str:
    means = traces.mean_paths(run.paths).sort_values("epoch").groupby("branch")["tau"]
    first, last = means.first(), means.last()
    epochs = int(run.paths["epoch"].max())
    if estimates.still(run.paths):
        held = " and ".join(dict.fromkeys(f"{tau:.3g}" for tau in first))
        each = " (a and b)" if len(set(first)) > 1 else ""
        return f"held both temperatures at {held}{each} in all of its {epochs} epochs"
    moves = [f"from {first[name]:.3g} to {last[name]:.3g} ({name})" for name in first.index]
    return (
        f"moved tau {' and '.join(moves)} in {epochs} epochs, geometric means over "
        f"{run.replicates} replicates"
    )


def _held(run: Run) -> str:
    """Return which share of epochs lay at the ends of the range; "" where there is none."""
    ranges = pd.DataFrame(
        [run.setting[["tau_min", "tau_max"]]], index=[run.number], dtype="float64"
    )
    shares = estimates.end_shares(run.paths, ranges).iloc[0]
    known = [end for end in ("lower", "upper") if not np.isnan(shares[end])]
    if not known:
        return ""
    if not shares[known].any():
        return ", never at an end of its range"
    named = [f"{_percent(shares[end])} of the epochs at the {end} end" for end in known]
    return f", {' and '.join(named)} of its range"


def _say(run: Run) -> str:
    """Say whether the losses of a pair moved its temperatures."""
    shares = estimates.event_shares(run.paths).iloc[0]
    count = len(run.paths[["replicate", "epoch"]].drop_duplicates())
    epochs = f"{count:,} epochs (all {run.replicates} replicates)"
    if run.setting["coupling"] == NO_FEEDBACK:
        return "Its coupling is independent: its losses moved nothing."
    decided = float(shares.reindex(list(estimates.DECIDED)).sum())
    cooled = float(shares.get("COLLAPSED", 0.0))
    guard = f"; without a signal, both were cooled after {_percent(cooled)}" if cooled else ""
    if decided == 0:
        return (
            f"Its two losses decided none of {epochs}: no difference between them ever moved a "
            f"temperature{guard}."
        )
    moved, asked = estimates.moved_after(run.paths, estimates.DECIDED)
    after = (
        f"a temperature moved after {moved} of the {asked} that an epoch followed"
        if moved
        else "yet no temperature moved after any of those"
    )
    return (
        f"Its two losses decided {_percent(decided)} of {epochs}, and {after}{guard}{_apart(run)}."
    )


def _apart(run: Run) -> str:
    """Say how far replicates went apart: what other losses make of the same settings."""
    alive = run.paths[run.paths["epoch"] == run.paths["epoch"].max()]
    factors = [
        estimates.spread(own["tau"].to_numpy(dtype=np.float64))
        for _, own in alive.groupby("branch")
    ]
    if alive["replicate"].nunique() < 2:
        return ""
    if max(factors) < 1.005:
        return "; all replicates ended at the same temperatures"
    return f"; replicates ended apart by a factor of up to {max(factors):.2f}"


def _percent(share: float) -> str:
    """Return a share in per cent; what is not 0 is not called 0."""
    if 0 < share < 0.005:
        return "under 0.5 %"
    return f"{100 * share:.0f} %"
