"""The plan for the next study: from which pilot, and what it says where there is none."""

import numpy as np
import pytest
from rich.console import Console

from gsvae_tune.report.planning import plan, plan_tables
from gsvae_tune.report.power import power, replicates_needed
from gsvae_tune.report.tables import REPLICATES, TRIALS, _frame
from tests.report.test_verdict import BASE, SEARCHED, Case, own, replicate_rows, trial_rows

LOSSES = {"pair": BASE - 0.1 + own(0.2), "fixed-factor": BASE}


def frames(case):
    return {
        "trials": _frame(case.trials, TRIALS),
        "replicates": _frame(case.replicates, REPLICATES),
    }


def test_a_confirmed_study_is_its_own_pilot():
    case = Case(LOSSES)
    verdict = case.verdict()
    (one,) = plan(case.config, frames(case), verdict, 0.2, 0.8)
    (seen,) = verdict.comparisons
    assert (one.arm, one.baseline, one.pilot, one.pairs) == ("pair", "fixed-factor", "confirm", 10)
    assert one.sd_nats == pytest.approx(own(0.2).std(ddof=1))
    assert one.search_luck_nats == seen.search_luck_nats
    luck = {"search_luck_nats": seen.search_luck_nats, "lead_nats": seen.lead_nats}
    assert one.power_now == power(10, 0.2, one.sd_nats, alpha=0.05, **luck)
    assert one.replicates == replicates_needed(0.2, one.sd_nats, 0.8, alpha=0.05, **luck)
    # one confirmation of ten replicates took 60 s in each arm
    assert one.device_hours == pytest.approx(one.replicates * 2 * 60 / 10 / 3600)


def test_the_family_shares_its_level():
    case = Case(LOSSES | {"constant": BASE + own(0.2, 4)})
    plans = plan(case.config, frames(case), case.verdict(), 0.2, 0.8)
    assert [one.alpha for one in plans] == [0.025] * 2
    alone = Case(LOSSES)
    (one,) = plan(alone.config, frames(alone), alone.verdict(), 0.2, 0.8)
    assert plans[0].power_now < one.power_now


def test_a_search_alone_is_a_pilot_too():
    case = Case(LOSSES)
    case.trials = [row for row in case.trials if row["phase"] == "search"]
    case.replicates = []
    for arm, values in (("pair", [20.1, 20.5, 20.9]), ("fixed-factor", [20.0, 20.6, 20.7])):
        rows = replicate_rows(arm, int(np.argmin(SEARCHED)), values)
        case.replicates += [row | {"phase": "search"} for row in rows]
    (one,) = plan(case.config, frames(case), None, 0.2, 0.8)
    assert (one.pilot, one.pairs) == ("search", 3)
    assert one.sd_nats == pytest.approx(np.std([0.1, -0.1, 0.2], ddof=1))
    assert one.device_hours > 0


def test_where_nothing_is_known_nothing_is_said():
    case = Case(LOSSES | {"yoked": BASE})
    case.trials = trial_rows("pair", "search", {0: 20.0}) + trial_rows(
        "fixed-factor", "search", {0: 20.0}
    )
    case.replicates = []
    plans = plan(case.config, frames(case), None, 0.2, 0.8)
    assert len(plans) == 3
    assert {(one.sd_nats, one.replicates, one.power_now) for one in plans} == {(None, None, None)}
    console = Console(width=80, record=True, quiet=False, file=open("/dev/null", "w"))
    for part in plan_tables(case.config, plans, 0.8):
        console.print(part)
    text = " ".join(console.export_text().split())
    assert "pair - yoked" in text
    assert "too few trials were searched" in text
    assert "over 1000" not in text


def test_luck_that_hides_an_effect_is_said_to():
    case = Case(LOSSES, searched=[20.0, 20.9, 21.5, 22.0])
    plans = plan(case.config, frames(case), case.verdict(), 0.05, 0.8)
    assert plans[0].replicates is None
    console = Console(width=80, record=True, file=open("/dev/null", "w"))
    for part in plan_tables(case.config, plans, 0.8):
        console.print(part)
    text = " ".join(console.export_text().split())
    assert "over 1000" in text
    assert "search longer (--trials)" in text
