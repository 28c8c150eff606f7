"""From confirmed replicates to a verdict: what may be said of each arm, and what may not.

Each arm is represented by its finalist: of the configurations it confirmed, the one with the best
validation loss over the fresh seeds. Finalists are compared on the test split, replicate by
replicate. A comparison is

supported       the arm is better: significant over seeds (sign-flip test, Holm over the declared
                family), and by more than luck in searching gives, at the family's level as well
not supported   the arm is worse, or whatever it may gain is less than the smallest effect that
                matters
inconclusive    neither can be said: too few or too different replicates, unequal compute, no
                proof of pairing, or a test split that was opened before

Only the first is a claim. Failed replicates (diverged, collapsed) count as losses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pandas as pd

from gsvae_tune.report import inference
from gsvae_tune.report.audit import Compute, compute_of, unequal
from gsvae_tune.report.pairs import METRICS, Pairs, confirmed_rows, sound
from gsvae_tune.search.confirm import original, searched_arms
from gsvae_tune.study.config import StudyConfig
from gsvae_tune.study.records import TrialState

Word = Literal["supported", "not supported", "inconclusive"]

MEASURED = (
    "test_neg_elbo_nats", "test_iwae_nats", "iwae_samples", "test_kl_nats", "test_active_units",
    "code_perplexity", "vertex_share", "relaxed_gap_nats",
)  # fmt: skip


@dataclass(frozen=True)
class Finalist:
    """The configuration that stands for an arm; losses are means over its sound replicates."""

    number: int
    replicates: int
    failed: int  # diverged or collapsed
    search_nats: float | None  # what it was chosen by, on the search's seeds
    confirmed_nats: float | None  # the same split, fresh seeds
    winners_curse_nats: float | None  # the second minus the first
    test_nats: float | None  # the metric on the test split
    test_sd_nats: float | None
    test_iqm_nats: float | None  # interquartile mean
    on_test: dict[str, float | None]  # means of what else was measured there, see `MEASURED`


@dataclass(frozen=True)
class ArmVerdict:
    """What is known of one arm."""

    finalist: Finalist | None
    confirmed: list[int]
    rank_stability: float | None  # Kendall's tau between search and confirmation, of the confirmed
    compute: Compute


@dataclass(frozen=True)
class Comparison:
    """One comparison of the declared family; effects are arm minus baseline, negative: better."""

    arm: str
    baseline: str
    metric: str
    n: int  # pairs of replicates
    effect_nats: float | None
    ci_low: float | None  # BCa, 95 %, over seeds
    ci_high: float | None
    p: float | None
    p_holm: float | None
    equal_compute: bool
    paired: bool
    verdict: Word
    reason: str
    arm_trial: int | None = None  # the configurations compared
    baseline_trial: int | None = None
    sd_nats: float | None = None  # of the paired differences
    p_better: float | None = None  # share of pairs in which the arm is better, ties a half
    p_better_low: float | None = None
    p_better_high: float | None = None
    search_luck_nats: float | None = None  # what repeated searches may move, as a sd
    lead_nats: float | None = None  # what luck in searching may give, mean of both directions
    wide_low: float | None = None  # over seeds and searches, at the family's level
    wide_high: float | None = None


@dataclass(frozen=True)
class Verdict:
    """What `verdict.json` holds."""

    study: str
    metric: str
    alpha: float
    smallest_effect_nats: float
    simulated: bool
    reopened: str | None  # why what the test split says is no evidence any more
    searched: int  # trials of the search that had ended, all arms together
    arms: dict[str, ArmVerdict]
    comparisons: list[Comparison] = field(default_factory=list)

    def claims(self) -> list[tuple[str, str]]:
        """Return who was found better than whom, beyond seeds and searches, in either direction.

        A comparison that counts as not supported may be one: its baseline is the better one.
        """
        better = [(one.arm, one.baseline) for one in self.comparisons if one.verdict == "supported"]
        return better + [
            (one.baseline, one.arm)
            for one in self.comparisons
            if one.verdict == "not supported"
            and one.p_holm is not None
            and one.wide_low is not None
            and one.p_holm <= self.alpha
            and one.wide_low > 0
        ]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def family(config: StudyConfig) -> list[tuple[str, str]]:
    """Return the declared comparisons, (arm, baseline)."""
    protocol = config.protocol
    if protocol.comparisons is not None:
        return list(protocol.comparisons)
    base = protocol.baseline
    found = [(arm, base) for arm in config.arms if arm != base and base in config.arms]
    yoked = [arm for arm in config.arms if arm not in searched_arms(config)]
    return found + [(original(config, arm), arm) for arm in yoked if original(config, arm) != base]


def decide(
    config: StudyConfig,
    trials: pd.DataFrame,
    replicates: pd.DataFrame,
    chosen: Mapping[str, Sequence[int]],
    reopened: str | None,
) -> Verdict:
    """Return what may be said after the test phase.

    Args:
        config: the study.
        trials: its table of trials.
        replicates: its table of replicates.
        chosen: the trials each arm confirmed, best first (`search.confirm.choose`).
        reopened: why what the test split says is no evidence any more (`study.openings`).
    """
    arms: dict[str, ArmVerdict] = {}
    for arm in sorted(config.arms, key=lambda arm: arm not in searched_arms(config)):
        source = arms.get(original(config, arm))  # a control stands beside its original's finalist
        own = [source.finalist.number] if source and source.finalist else None
        arms[arm] = _arm(config, arm, trials, replicates, chosen[arm], own)
    numbers = {
        arm: None if known.finalist is None else known.finalist.number
        for arm, known in arms.items()
    }
    declared = family(config)
    compared = {names: _compared(config, names, numbers, chosen) for names in declared}
    pairs = {
        names: Pairs.of(
            config,
            names,
            compared[names],
            trials,
            replicates,
            level=config.protocol.alpha / len(declared) / 2,
        )
        for names in declared
    }
    # The family is what was declared, also where a comparison came to nothing.
    adjusted = inference.holm([math.nan if pair.p is None else pair.p for pair in pairs.values()])
    comparisons = [
        _judge(config, names, compared[names], pair, _known(p_holm), arms, reopened, len(pairs))
        for (names, pair), p_holm in zip(pairs.items(), adjusted.tolist(), strict=True)
    ]
    return Verdict(
        study=config.name,
        metric=METRICS[config.protocol.metric],
        alpha=config.protocol.alpha,
        smallest_effect_nats=config.protocol.smallest_effect_nats,
        simulated=config.simulate is not None,
        reopened=reopened,
        searched=int(
            ((trials.phase == "search") & (trials.state != TrialState.RUNNING.value)).sum()
        ),
        arms=arms,
        comparisons=comparisons,
    )


def _compared(
    config: StudyConfig,
    names: tuple[str, str],
    numbers: Mapping[str, int | None],
    chosen: Mapping[str, Sequence[int]],
) -> list[int | None]:
    """Return the trials that stand for two arms: their finalists.

    For a control and its original it is what the search liked best: the original's finalist was
    picked by the very trainings that are compared, and its control's was not.
    """
    if original(config, names[0]) == original(config, names[1]):
        return [next(iter(chosen[name]), None) for name in names]
    return [numbers[name] for name in names]


def _arm(
    config: StudyConfig,
    arm: str,
    trials: pd.DataFrame,
    replicates: pd.DataFrame,
    chosen: Sequence[int],
    eligible: Sequence[int] | None,
) -> ArmVerdict:
    source = original(config, arm)
    searched = trials[(trials.arm == source) & (trials.phase == "search")]
    scores = searched.set_index("number").value
    finalists = [
        _finalist(config, number, scores.get(number), confirmed_rows(replicates, arm, number))
        for number in chosen
    ]
    scored = [f for f in finalists if f.confirmed_nats is not None]
    best = min(
        (f for f in finalists if f.replicates and (eligible is None or f.number in eligible)),
        key=lambda f: (f.failed, f.confirmed_nats or math.inf, f.number),
        default=None,
    )
    again = [(f.search_nats, f.confirmed_nats) for f in scored if f.search_nats is not None]
    stability = inference.rank_stability(*zip(*again, strict=True)) if again else math.nan
    return ArmVerdict(
        finalist=best,
        confirmed=list(chosen),
        rank_stability=_known(stability),
        compute=compute_of(config, arm, trials, chosen),
    )


def _finalist(
    config: StudyConfig, number: int, score: float | None, rows: pd.DataFrame
) -> Finalist:
    kept = rows[sound(rows)]
    on_test = kept[METRICS[config.protocol.metric]].dropna()
    confirmed = _known(kept.val_neg_elbo_nats.mean())
    curse = None
    if score is not None and confirmed is not None:
        curse = inference.winners_curse([score], [confirmed])
    return Finalist(
        number=number,
        replicates=len(rows),
        failed=config.protocol.replicates - len(kept),
        search_nats=_known(score),
        confirmed_nats=confirmed,
        winners_curse_nats=curse,
        test_nats=_known(on_test.mean()),
        test_sd_nats=_known(on_test.std()),
        test_iqm_nats=_known(inference.interquartile_mean(on_test.to_numpy())),
        on_test={name: _known(kept[name].astype("float64").mean()) for name in MEASURED},
    )


def _judge(
    config: StudyConfig,
    names: tuple[str, str],
    trials_compared: Sequence[int | None],
    pairs: Pairs,
    p_holm: float | None,
    arms: Mapping[str, ArmVerdict],
    reopened: str | None,
    family_size: int,
) -> Comparison:
    arm, baseline = names
    n = len(pairs.differences)
    effect = float(pairs.differences.mean()) if n else math.nan
    error = float(pairs.differences.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    level = config.protocol.alpha / family_size
    down, up = (
        float(inference.half_width(error, n, lead, 1 - level)) for lead in reversed(pairs.leads)
    )
    better = inference.probability_better(pairs.differences) if n else (math.nan,) * 3
    uneven = unequal(arms[arm].compute, arms[baseline].compute, config.protocol.compute_tolerance)
    seen = _Seen(config, arm, baseline, n, effect, effect - down, effect + up, p_holm, family_size)
    missing = [name for name in names if arms[name].finalist is None]
    doubt = _doubts(seen, pairs, uneven, reopened, missing)
    word, reason = seen.word()
    if doubt:
        word, reason = "inconclusive", doubt
    return Comparison(
        arm=arm,
        baseline=baseline,
        metric=METRICS[config.protocol.metric],
        n=n,
        effect_nats=_known(effect),
        ci_low=_known(pairs.interval[0]),
        ci_high=_known(pairs.interval[1]),
        p=pairs.p,
        p_holm=p_holm,
        equal_compute=not uneven,
        paired=pairs.paired,
        verdict=word,
        reason=reason,
        arm_trial=trials_compared[0],
        baseline_trial=trials_compared[1],
        sd_nats=_known(error * math.sqrt(n)),
        p_better=_known(better[0]),
        p_better_low=_known(better[1]),
        p_better_high=_known(better[2]),
        search_luck_nats=_known(pairs.luck),
        lead_nats=_known(sum(pairs.leads) / 2),
        wide_low=_known(effect - down),
        wide_high=_known(effect + up),
    )


def _doubts(
    seen: _Seen, pairs: Pairs, uneven: str, reopened: str | None, missing: Sequence[str]
) -> str:
    """Return why nothing may be said, whatever the numbers are; "" where nothing stands against."""
    least = inference.smallest_p(seen.n)
    doubts = {
        f"{' and '.join(missing)}: no trial was sound enough to be confirmed.": not seen.n,
        "Every replicate of both arms failed: there is nothing to compare.": (pairs.lost),
        "The replicates are not paired: initial weights, batch order or noise differ.": (
            not pairs.paired
        ),
        f"Compute is not equal: {uneven}.": uneven,
        f"The test split had been opened before ({reopened}).": reopened,
        "Too few configurations were tried to know what another search would have found.": (
            math.isnan(sum(pairs.leads))
        ),
        f"{seen.n} pairs cannot be significant: p is at least {least:.2g} for each of "
        f"{seen.family_size} comparisons.": least * seen.family_size > seen.config.protocol.alpha,
    }
    return next((why for why, holds in doubts.items() if holds), "")


@dataclass(frozen=True)
class _Seen:
    """The numbers of one comparison, and the words for them."""

    config: StudyConfig
    arm: str
    baseline: str
    n: int
    effect: float
    low: float  # of the difference, over seeds and searches
    high: float
    p_holm: float | None
    family_size: int

    def word(self) -> tuple[Word, str]:
        matters = self.config.protocol.smallest_effect_nats
        significant = self.p_holm is not None and self.p_holm <= self.config.protocol.alpha
        size = f"{abs(self.effect):.3f} nats over {self.n} paired fresh seeds"
        low, high = self.low, self.high
        if significant and high < 0:
            small = f", though less than the {matters:g} that would matter"
            return "supported", (
                f"{self.arm} is better than {self.baseline} by {size}, more than seeds and the "
                f"luck of the search explain{small if -self.effect < matters else ''}."
            )
        if significant and low > 0:
            return "not supported", f"{self.arm} is worse than {self.baseline} by {size}."
        if low == high == 0.0:
            return "not supported", (
                f"{self.arm} and {self.baseline} are the same to the last digit on every seed."
            )
        if low > -matters:
            return "not supported", (
                f"Whatever {self.arm} gains over {self.baseline} is less than the {matters:g} nats "
                "that would matter."
            )
        if significant and self.effect < 0:
            return "inconclusive", (
                f"{self.arm} is ahead by {size}, but another search of this size may move that by "
                f"{high - self.effect:.3f} nats: a longer search (--trials) could tell."
            )
        return "inconclusive", (
            f"The difference lies between {low:+.3f} and {high:+.3f} nats, seeds and search "
            f"considered: that holds both none and one of {matters:g} nats."
        )


def _known(value: float | None) -> float | None:
    """Return a number, or None for what could not be computed."""
    return None if value is None or not math.isfinite(value) else float(value)
