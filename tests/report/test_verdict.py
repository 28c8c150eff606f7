"""Verdicts on made-up replicates: what may be said, and what stands against saying it."""

import math

import numpy as np
import pandas as pd
import pytest

from gsvae_tune.report.audit import Compute, unequal
from gsvae_tune.report.inference import smallest_p
from gsvae_tune.report.tables import REPLICATES, TRIALS, _frame
from gsvae_tune.report.verdict import decide, family
from gsvae_tune.study.loading import parse

RATES = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
# A flat bottom: little is left to luck, even for eleven of twelve trials.
SEARCHED = [25.0, 20.31, 20.30, 20.32, 20.33, 20.305, 20.315, 20.325, 20.335, 20.32, 20.31, 24.0]


def config(arms=("pair", "fixed-factor"), **protocol):
    spaces = {arm: {} if arm == "yoked" else {"space": RATES} for arm in arms}
    return parse({"name": "s", "arms": spaces, "protocol": protocol}, "test")


def trial_rows(arm, phase, values, wall_s=60.0, steps=100):
    return [
        {"arm": arm, "phase": phase, "number": number, "state": "complete", "value": value,
         "steps": steps, "wall_s": wall_s}
        for number, value in values.items()
    ]  # fmt: skip


def replicate_rows(arm, number, test, validation=None, **more):
    validation = test if validation is None else validation
    rows = []
    for replicate, (loss, val) in enumerate(zip(test, validation, strict=True)):
        row = {
            "arm": arm, "phase": "confirm", "number": number, "replicate": replicate,
            "seed": 100 + replicate, "best_branch": "a", "val_neg_elbo_nats": val,
            "test_neg_elbo_nats": loss, "test_iwae_nats": loss - 1.0, "diverged": False,
            "collapsed": False, "steps": 100, "init_hash": f"i{replicate}",
            "order_hash": f"o{replicate}", "noise_hash": f"n{replicate}",
        }  # fmt: skip
        rows.append(row | {key: value[replicate] for key, value in more.items()})
    return rows


class Case:
    """A study whose arms ended with the given test losses; `edit` changes rows before judging."""

    def __init__(self, losses, searched=SEARCHED, protocol=None, confirmed=(2,), **walls):
        self.config = config(tuple(losses), **(protocol or {}))
        self.trials, self.replicates = [], []
        for arm, values in losses.items():
            own = [] if arm == "yoked" else searched
            self.trials += trial_rows(arm, "search", dict(enumerate(own)), walls.get(arm, 60.0))
            self.trials += trial_rows(arm, "confirm", dict.fromkeys(confirmed, 20.0))
            for number in confirmed:
                self.replicates += replicate_rows(arm, number, values)
        self.reopened = None
        self.chosen = {arm: list(confirmed) for arm in losses}

    def verdict(self):
        trials, replicates = _frame(self.trials, TRIALS), _frame(self.replicates, REPLICATES)
        return decide(self.config, trials, replicates, self.chosen, self.reopened)

    def only(self):
        (comparison,) = self.verdict().comparisons
        return comparison


SEEDS = np.random.default_rng(5).standard_normal(10)
BASE = 20.5 + 0.5 * SEEDS  # what seeds do to every arm alike


def own(spread, seed=1):
    return spread * np.random.default_rng(seed).standard_normal(10)


def test_a_clear_gain_is_supported():
    one = Case({"pair": BASE - 0.5 + own(0.05), "fixed-factor": BASE}).only()
    assert (one.arm, one.baseline, one.n) == ("pair", "fixed-factor", 10)
    assert one.metric == "test_neg_elbo_nats"
    assert one.verdict == "supported"
    assert one.effect_nats == pytest.approx(-0.5 + own(0.05).mean())
    assert one.ci_low < one.effect_nats < one.ci_high < 0
    assert one.p == pytest.approx(2 / 2**10)
    assert one.p_holm == one.p
    assert one.paired
    assert one.equal_compute
    assert (one.p_better, one.p_better_high) == (1.0, 1.0)
    assert "better than fixed-factor by 0.489 nats over 10" in one.reason


def test_a_clear_loss_is_not_supported():
    case = Case({"pair": BASE + 0.5 + own(0.05), "fixed-factor": BASE})
    assert case.only().verdict == "not supported"
    assert "worse than fixed-factor" in case.only().reason
    assert case.verdict().claims() == [("fixed-factor", "pair")]


def test_no_gain_that_matters_is_not_supported():
    one = Case({"pair": BASE + own(0.03), "fixed-factor": BASE}).only()
    assert one.verdict == "not supported"
    assert "less than the 0.1 nats" in one.reason


def test_too_wide_a_spread_is_inconclusive():
    one = Case({"pair": BASE - 0.1 + own(1.0), "fixed-factor": BASE}).only()
    assert one.verdict == "inconclusive"
    assert one.wide_low < -0.1
    assert one.wide_high > 0


def test_what_another_search_may_change_supports_nothing():
    """Significant over seeds, and yet the searches' best trials differ by more than that."""
    case = {"pair": BASE - 0.2 + own(0.02), "fixed-factor": BASE}
    lucky = [25.0, 21.9, 20.3, 21.5, 22.0, 24.0]
    assert Case(case).only().verdict == "supported"
    one = Case(case, searched=lucky).only()
    assert one.p <= 0.002
    assert one.verdict == "inconclusive"
    assert "another search" in one.reason
    assert one.search_luck_nats > 0.5


def test_five_pairs_support_nothing():
    losses = {"pair": BASE[:5] - 5.0, "fixed-factor": BASE[:5]}
    one = Case(losses, protocol={"replicates": 5}).only()
    assert smallest_p(5) == 0.0625
    assert one.verdict == "inconclusive"
    assert "5 pairs cannot be significant" in one.reason


def test_unequal_compute_supports_nothing_and_says_what():
    losses = {"pair": BASE - 0.5, "fixed-factor": BASE}
    longer = Case(losses, pair=90.0)
    assert not longer.only().equal_compute
    assert longer.only().verdict == "inconclusive"
    assert "device-seconds" in longer.only().reason
    more = Case(losses)
    more.trials += trial_rows("pair", "search", {12: 20.4})
    assert "configurations 13 against 12" in more.only().reason
    assert more.only().verdict == "inconclusive"


def test_hashes_that_differ_are_not_called_paired():
    for key in ("init_hash", "order_hash", "noise_hash", "seed"):
        case = Case({"pair": BASE - 0.5, "fixed-factor": BASE})
        case.replicates[3][key] = 7 if key == "seed" else "another"
        one = case.only()
        assert not one.paired
        assert one.p is None
        assert one.verdict == "inconclusive"
        assert "not paired" in one.reason
    case = Case({"pair": BASE - 0.5, "fixed-factor": BASE})
    case.replicates[3]["noise_hash"] = None  # nor is what was never hashed
    assert not case.only().paired


def test_failed_replicates_are_losses_and_never_dropped():
    sound = Case({"pair": BASE - 0.5 + own(0.05), "fixed-factor": BASE})
    assert sound.only().verdict == "supported"
    for how in ("diverged", "collapsed"):
        case = Case({"pair": BASE - 0.5 + own(0.05), "fixed-factor": BASE})
        for row in case.replicates[:3]:
            row[how] = True
            if how == "diverged":
                row |= {"test_neg_elbo_nats": None, "val_neg_elbo_nats": None}
        one = case.only()
        assert one.n == 10
        assert one.p_better == 0.7
        assert one.verdict != "supported"
        assert case.verdict().arms["pair"].finalist.failed == 3
    # all of them failed: the worst there is, and still there
    case = Case({"pair": BASE - 0.5, "fixed-factor": BASE})
    for row in case.replicates[:10]:
        row["collapsed"] = True
    assert case.verdict().arms["pair"].finalist.failed == 10
    assert case.only().verdict == "not supported"
    for row in case.replicates[10:]:
        row["collapsed"] = True
    assert case.only().verdict == "inconclusive"
    assert "Every replicate of both arms failed" in case.only().reason
    # a trial that failed as a whole has no replicates at all
    lost = Case({"pair": BASE, "fixed-factor": BASE})
    lost.replicates = [row for row in lost.replicates if row["arm"] != "pair"]
    assert lost.only().n == 0
    assert lost.only().verdict == "inconclusive"


def test_a_diverged_baseline_loses_too():
    case = Case({"pair": BASE + 0.02, "fixed-factor": BASE})
    for row in case.replicates[10:]:
        row |= {"diverged": True, "test_neg_elbo_nats": None, "order_hash": "ended early"}
    case.replicates[10] |= {"diverged": False, "test_neg_elbo_nats": BASE[0], "order_hash": "o0"}
    one = case.only()
    assert one.paired  # the weights were the same; what came after ended early
    assert one.p_better == 0.9


def test_a_test_split_opened_again_supports_nothing():
    case = Case({"pair": BASE - 0.5, "fixed-factor": BASE})
    case.reopened = "a second look"
    assert case.verdict().reopened == "a second look"
    assert case.only().verdict == "inconclusive"
    assert "a second look" in case.only().reason


def test_the_finalist_is_the_best_of_the_confirmed_on_fresh_seeds_not_on_the_test_split():
    case = Case({"pair": BASE, "fixed-factor": BASE}, confirmed=(2, 1))
    case.replicates = [
        *replicate_rows("pair", 2, BASE - 9.0, validation=BASE + 1.0),  # the test says otherwise
        *replicate_rows("pair", 1, BASE, validation=BASE - 1.0),
        *replicate_rows("fixed-factor", 2, BASE, validation=BASE),
        *replicate_rows("fixed-factor", 1, BASE, validation=BASE + 1.0),
    ]
    arms = case.verdict().arms
    assert (arms["pair"].finalist.number, arms["fixed-factor"].finalist.number) == (1, 2)
    assert arms["pair"].rank_stability == -1.0
    assert arms["fixed-factor"].rank_stability == 1.0
    best = arms["pair"].finalist
    assert best.winners_curse_nats == pytest.approx((BASE - 1.0).mean() - SEARCHED[1])
    assert best.test_nats == pytest.approx(BASE.mean())


def test_holm_covers_the_declared_family_alone():
    losses = {
        "pair": BASE - 0.5 + own(0.05, 1), "fixed-factor": BASE,
        "constant": BASE - 0.4 + own(0.05, 2), "linear": BASE - 0.3 + own(0.05, 3),
    }  # fmt: skip
    found = Case(losses).verdict().comparisons
    assert [one.baseline for one in found] == ["fixed-factor"] * 3
    assert [one.p_holm for one in found] == pytest.approx([3 * 2 / 2**10] * 3)
    declared = Case(losses, protocol={"comparisons": [["pair", "constant"]]}).verdict().comparisons
    assert [(one.arm, one.baseline) for one in declared] == [("pair", "constant")]
    assert declared[0].p_holm == declared[0].p


def test_a_yoked_control_stands_beside_its_originals_finalist():
    losses = {"pair": BASE, "fixed-factor": BASE, "yoked": BASE}
    case = Case(losses, confirmed=(2, 1))
    case.replicates = [
        *replicate_rows("pair", 2, BASE - 0.3 + own(0.02), validation=BASE),
        *replicate_rows("pair", 1, BASE, validation=BASE + 1.0),
        *replicate_rows("fixed-factor", 2, BASE),
        *replicate_rows("fixed-factor", 1, BASE),
        *replicate_rows("yoked", 2, BASE, validation=BASE + 3.0),
        *replicate_rows("yoked", 1, BASE - 5.0, validation=BASE),  # better, and not its pair's
    ]
    verdict = case.verdict()
    assert family(case.config) == [
        ("pair", "fixed-factor"), ("yoked", "fixed-factor"), ("pair", "yoked"),
    ]  # fmt: skip
    assert verdict.arms["yoked"].finalist.number == verdict.arms["pair"].finalist.number == 2
    feedback = verdict.comparisons[2]
    assert feedback.search_luck_nats == 0.0  # one configuration: no search between them
    assert (feedback.arm_trial, feedback.baseline_trial) == (2, 2)  # what the search liked best
    assert feedback.verdict == "supported"
    assert verdict.arms["yoked"].compute == verdict.arms["pair"].compute


def test_a_pair_that_its_losses_never_moved_is_its_own_control():
    losses = {"pair": BASE, "fixed-factor": BASE + 1.0, "yoked": BASE}
    *_, feedback = Case(losses).verdict().comparisons
    assert (feedback.arm, feedback.baseline) == ("pair", "yoked")
    assert feedback.verdict == "not supported"
    assert feedback.reason == "pair and yoked are the same to the last digit on every seed."


def test_the_metric_may_be_the_iwae_bound_and_never_a_relaxed_loss():
    from gsvae_tune.study.errors import InputError

    one = Case({"pair": BASE - 0.5, "fixed-factor": BASE}, protocol={"metric": "iwae"}).only()
    assert one.metric == "test_iwae_nats"
    for metric in ("relaxed", "train_loss_relaxed", "control_loss_relaxed", "elbo_relaxed"):
        with pytest.raises(InputError, match=r"protocol.metric"):
            config(metric=metric)


def test_an_arm_with_nothing_searched_has_no_search_luck_and_one_with_one_trial_unknown():
    fixed = Case({"pair": BASE - 0.5, "fixed-factor": BASE}, searched=[20.3], confirmed=(0,))
    assert fixed.only().verdict == "inconclusive"
    assert "Too few configurations" in fixed.only().reason
    fixed.config = parse(
        {"name": "s", "arms": {"pair": {}, "fixed-factor": {}}, "protocol": {}}, "test"
    )
    assert fixed.only().search_luck_nats == 0.0
    assert fixed.only().verdict == "supported"


def test_compute_counts_what_was_given():
    case = Case({"pair": BASE, "fixed-factor": BASE})
    case.trials[0] |= {"state": "failed", "steps": 7, "value": None}  # charged in full
    given = case.verdict().arms["pair"].compute
    # 12 trials x 3 replicates and one confirmation x 10, two members each, 100 steps, batch 50
    assert given == Compute(12, 1, 9200, 460_000, 13 * 60.0)
    case.trials[1] |= {"state": "pruned", "steps": 40, "value": None}  # what it trained
    assert case.verdict().arms["pair"].compute.steps == 9200 - 3 * 2 * 60


def test_device_seconds_may_differ_by_the_tolerance():
    one = Compute(1, 1, 1, 1, 1000.0)
    assert unequal(one, Compute(1, 1, 1, 1, 1250.0), 0.25) == ""
    assert "1,250.1 against 1,000.0" in unequal(one, Compute(1, 1, 1, 1, 1250.1), 0.25)
    assert "samples 1 against 2" in unequal(one, Compute(1, 1, 1, 2, 1000.0), 0.25)
    short = Compute(1, 1, 1, 1, 1.0)  # seconds of starting up are no advantage
    assert unequal(short, Compute(1, 1, 1, 1, 61.0), 0.25) == ""
    assert unequal(short, Compute(1, 1, 1, 1, 61.1), 0.25)


def test_a_verdict_is_json():
    import json

    from gsvae_tune.study.records import finite

    case = Case({"pair": BASE, "fixed-factor": BASE})
    text = json.dumps(finite(case.verdict().as_dict()), allow_nan=False)
    one = json.loads(text)["comparisons"][0]
    assert {
        "arm", "baseline", "metric", "n", "effect_nats", "ci_low", "ci_high", "p", "p_holm",
        "equal_compute", "paired", "verdict", "reason",
    } <= set(one)  # fmt: skip
    # no difference at all, and little luck in the searches
    assert (one["effect_nats"], one["p"], one["verdict"]) == (0.0, 1.0, "not supported")
    assert not any(isinstance(v, float) and math.isnan(v) for v in one.values())
    assert isinstance(pd.DataFrame([one]).verdict[0], str)
