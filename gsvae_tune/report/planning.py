"""How many replicates a comparison needs, from what a study has measured: `gsvae-tune plan`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
from rich.console import RenderableType
from rich.table import Table

from gsvae_tune.report.pairs import leads_of, luck_of, scores_of
from gsvae_tune.report.power import detectable_effect, power, replicates_needed
from gsvae_tune.report.verdict import Verdict, family
from gsvae_tune.search.confirm import original
from gsvae_tune.study.config import StudyConfig

MOST = 1000  # replicates; the legal maximum of protocol.replicates is little more


@dataclass(frozen=True)
class Plan:
    """What one comparison needs."""

    arm: str
    baseline: str
    pilot: str  # where the spread comes from: confirm or search
    pairs: int  # of the pilot
    sd_nats: float | None  # of the paired differences
    search_luck_nats: float | None
    lead_nats: float | None
    effect_nats: float
    alpha: float  # its own: Holm's first step over the family
    power_now: float | None  # with protocol.replicates
    detectable_nats: float | None  # by protocol.replicates, with the power wanted
    replicates: int | None  # for the power wanted; None: more than `MOST` would not do
    device_hours: float | None  # of the two arms' confirmations with so many


def plan(
    config: StudyConfig,
    tables: dict[str, pd.DataFrame],
    verdict: Verdict | None,
    effect_nats: float,
    power_wanted: float,
) -> list[Plan]:
    """Return the plan of every declared comparison.

    The spread is that of the confirmed pairs; without them, that of the best trials' replicates in
    the search, on the validation split.

    Args:
        config: the study.
        tables: its tables.
        verdict: its verdict, None before there is one.
        effect_nats: the difference to be found.
        power_wanted: the probability of finding it.
    """
    declared = family(config)
    alpha = config.protocol.alpha / max(1, len(declared))
    return [
        _plan(config, tables, verdict, names, effect_nats, power_wanted, alpha)
        for names in declared
    ]


def _plan(
    config: StudyConfig,
    tables: dict[str, pd.DataFrame],
    verdict: Verdict | None,
    names: tuple[str, str],
    effect: float,
    power_wanted: float,
    alpha: float,
) -> Plan:
    pilot, pairs, sd, luck, lead = _pilot(config, tables, verdict, names)
    now = found = needed = None
    if sd is not None and luck is not None and lead is not None:
        found = detectable_effect(
            config.protocol.replicates,
            sd,
            power_wanted,
            alpha=alpha,
            search_luck_nats=luck,
            lead_nats=lead,
        )
        now = power(
            config.protocol.replicates,
            effect,
            sd,
            alpha=alpha,
            search_luck_nats=luck,
            lead_nats=lead,
        )
        needed = replicates_needed(
            effect, sd, power_wanted, alpha=alpha, search_luck_nats=luck, lead_nats=lead, most=MOST
        )
    seconds = None if needed is None else needed * _seconds_a_replicate(config, tables, names)
    hours = None if seconds is None or math.isnan(seconds) else seconds / 3600
    return Plan(*names, pilot, pairs, sd, luck, lead, effect, alpha, now, found, needed, hours)


def _pilot(
    config: StudyConfig,
    tables: dict[str, pd.DataFrame],
    verdict: Verdict | None,
    names: tuple[str, str],
) -> tuple[str, int, float | None, float | None, float | None]:
    """Return where the spread is from, pairs, their standard deviation, luck and lead."""
    for one in verdict.comparisons if verdict else ():
        if (one.arm, one.baseline) == names and one.sd_nats is not None:
            return "confirm", one.n, one.sd_nats, one.search_luck_nats, one.lead_nats
    trials, replicates = tables["trials"], tables["replicates"]
    columns = []
    for name in names:
        own = trials[(trials.arm == original(config, name)) & (trials.phase == "search")]
        values = own.set_index("number").value.dropna()
        if values.empty:
            return "search", 0, None, None, None
        rows = replicates[(replicates.arm == own.arm.iloc[0]) & (replicates.phase == "search")]
        best = rows[rows.number == values.idxmin()].set_index("replicate")
        columns.append(best.val_neg_elbo_nats)
    differences = (columns[0] - columns[1]).dropna()
    if original(config, names[0]) == original(config, names[1]) or len(differences) < 2:
        return "search", len(differences), None, None, None  # a control has not been trained yet
    level = config.protocol.alpha / max(1, len(family(config)))
    ours, theirs = (scores_of(config, name, trials) for name in names)
    lead = sum(leads_of(ours, theirs, level / 2)) / 2
    sd, luck = float(differences.std()), luck_of(ours, theirs)
    if math.isnan(lead) or math.isnan(luck):
        return "search", len(differences), sd, None, None
    return "search", len(differences), sd, luck, lead


def _seconds_a_replicate(
    config: StudyConfig, tables: dict[str, pd.DataFrame], names: tuple[str, str]
) -> float:
    """Return what a replicate of both arms takes, stacked with others, all their top trials."""
    trials = tables["trials"]
    confirmed = trials[trials.arm.isin(names) & (trials.phase == "confirm")]
    if len(confirmed):
        return float(confirmed.wall_s.sum()) / config.protocol.replicates
    searched = trials[trials.arm.isin(names) & (trials.phase == "search")]
    each = float(searched.wall_s.mean()) / config.replicates
    return each * config.protocol.top * len(names)


def plan_tables(
    config: StudyConfig, plans: list[Plan], power_wanted: float
) -> Iterator[RenderableType]:
    """Yield what `gsvae-tune plan` prints."""
    if not plans:
        yield "One arm alone: there is nothing to compare it with."
        return
    effect = plans[0].effect_nats
    table = Table(
        title=f"to find a difference of {effect:g} nats with probability {power_wanted:.0%}",
        title_justify="left",
    )
    for column in ("comparison", "sd", "lead", "power", "finds", "replicates", "device-h"):
        table.add_column(column, justify="left" if column == "comparison" else "right")
    for one in plans:
        enough = f"over {MOST}" if one.replicates is None else str(one.replicates)
        table.add_row(
            f"{one.arm} - {one.baseline}",
            "-" if one.sd_nats is None else f"{one.sd_nats:.3f}",
            "-" if one.lead_nats is None else f"{one.lead_nats:.3f}",
            "-" if one.power_now is None else f"{one.power_now:.0%}",
            "-" if one.detectable_nats is None else f"{one.detectable_nats:.2f}",
            "-" if one.lead_nats is None else enough,
            "-" if one.device_hours is None else f"{one.device_hours:.2g}",
        )
    yield table
    pilots = {one.pilot: one.pairs for one in plans}
    sources = " and ".join(f"{pairs} pairs of the {pilot}" for pilot, pairs in pilots.items())
    yield (
        f"sd: of the paired differences over seeds, nats, from {sources}: a rough pilot. lead: "
        "what luck in searching may give; more replicates do not lessen it, more trials do. "
        f"power: with {config.protocol.replicates} replicates, which find the difference under "
        f"finds with probability {power_wanted:.0%}. A comparison's own level is "
        f"{config.protocol.alpha / max(1, len(plans)):.3g} (Holm over {len(plans)})."
    )
    if any(one.lead_nats is None for one in plans):
        yield "lead -: too few trials were searched to know it; search longer (--trials)."
    if any(one.replicates is None and one.lead_nats is not None for one in plans):
        yield (
            f"over {MOST}: the luck of the search hides such a difference from any number of "
            "seeds; search longer (--trials)."
        )
