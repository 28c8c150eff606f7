"""Does the protocol keep its word? The baseline against itself, and against a planted effect.

A/A: two arms of one method and one space, each with a search of its own. Whatever is found between
them is false. Planted: the second arm's losses are lowered by a known amount; how often that is
found is held against what the calculator (`report.power`) promises.

Simulated studies run through the whole pipeline, trained ones too; only the losses of the former
are made up (`execution.objectives`).
"""

from __future__ import annotations

import math
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table

from gsvae_tune.report.inference import binomial_interval, smallest_p
from gsvae_tune.report.power import detectable_effect, power
from gsvae_tune.report.verdict import Comparison, Verdict
from gsvae_tune.search.studies import VALLEY
from gsvae_tune.study.config import ProtocolConfig, SimulateConfig, StudyConfig
from gsvae_tune.study.errors import InputError

ARM, BASELINE = "again", "baseline"

_PILOTS = 200  # whose promises are averaged: standard error about a point

Advance = Callable[[], None]


@dataclass(frozen=True)
class Rate:
    """How often something came out, with its exact 95 % interval."""

    count: int
    studies: int
    rate: float
    low: float
    high: float

    @classmethod
    def of(cls, found: Sequence[bool]) -> Rate:
        count, studies = sum(found), len(found)
        low, high = binomial_interval(count, studies) if studies else (math.nan, math.nan)
        return cls(count, studies, count / studies if studies else math.nan, low, high)


@dataclass(frozen=True)
class Calibration:
    """What came of one kind of study."""

    kind: str  # "A/A, simulated", ...
    effect_nats: float  # planted; 0 in an A/A
    supported: Rate  # the arm was found better
    claimed: Rate  # one was found better than the other: in an A/A the false positives
    significant: Rate  # by the sign-flip test alone, whatever search luck says
    verdicts: dict[str, int]
    sd_nats: float  # of paired differences, root mean square over studies
    search_luck_nats: float  # of both searches, the same
    lead_nats: float  # what luck in searching may give, the same
    promised: float | None = None  # power by the calculator, mean over the A/A studies as pilots


def against_itself(config: StudyConfig, seed: int, out: str) -> StudyConfig:
    """Return an A/A study of the baseline of a study.

    Raises:
        InputError: the study has no such baseline.
    """
    name = config.protocol.baseline
    if name not in config.arms:
        raise InputError(
            f"protocol.baseline: {name!r} is no arm of the study",
            where=config.name,
            legal=", ".join(config.arms),
        )
    arm = config.arms[name].model_copy(update={"method": config.method(name)})
    protocol = config.protocol.model_copy(
        update={"baseline": BASELINE, "comparisons": None, "until": "verdict"}
    )
    changed: dict[str, Any] = {
        "name": f"aa-{seed}", "seed": seed, "out": out, "storage": None, "protocol": protocol,
        "arms": {BASELINE: arm, ARM: arm},
    }  # fmt: skip
    return config.model_copy(update=changed)


def unsearched(config: StudyConfig) -> StudyConfig:
    """Return the study with one configuration an arm, its method's defaults: nothing to search."""
    bare = {name: arm.model_copy(update={"space": {}}) for name, arm in config.arms.items()}
    search = config.search.model_copy(update={"trials": 1})
    protocol = config.protocol.model_copy(update={"top": 1})
    return config.model_copy(update={"arms": bare, "search": search, "protocol": protocol})


def simulated(config: StudyConfig, effect_nats: float) -> StudyConfig:
    """Return the study with made-up losses, the second arm's lower by an effect."""
    effects = {ARM: -effect_nats} if effect_nats else {}
    return config.model_copy(
        update={"simulate": SimulateConfig(table=VALLEY, slots=2, effects=effects)}
    )


def judged(config: StudyConfig) -> Verdict:
    """Run a study to its verdict."""
    from gsvae_tune.execution.runner import run_study
    from gsvae_tune.report import summary

    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123 - no path of ours
        done = run_study(config, Console(file=nowhere))
    tables = summary.build_tables(config, done.paths, None)
    verdict = summary.judge(config, done.paths, None, tables)
    assert verdict is not None  # noqa: S101 - the run went to its end
    return verdict


def _simulate_one(config: StudyConfig, effect_nats: float, seed: int) -> Verdict:
    with tempfile.TemporaryDirectory() as out:
        return judged(simulated(against_itself(config, seed, out), effect_nats))


def simulate_many(
    config: StudyConfig, studies: int, effect_nats: float, workers: int, advance: Advance
) -> list[Verdict]:
    """Run so many simulated studies, seeds 0, 1, ..., in processes of their own."""
    # Not forked: a child would inherit this process's threads in any state.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        waiting = [pool.submit(_simulate_one, config, effect_nats, seed) for seed in range(studies)]
        try:
            for done in as_completed(waiting):
                done.result()
                advance()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [done.result() for done in waiting]


def train_many(config: StudyConfig, studies: int, advance: Advance) -> list[Verdict]:
    """Train so many A/A studies, seeds 0, 1, ...; each starts a Ray of its own."""
    found = []
    with tempfile.TemporaryDirectory() as out:
        for seed in range(studies):
            found.append(judged(against_itself(config, seed, out)))
            advance()
    return found


def summarize(
    kind: str, verdicts: Sequence[Verdict], effect_nats: float, promised: float | None = None
) -> Calibration:
    """Return how often what was found."""
    comparisons = [_only(verdict) for verdict in verdicts]
    words = [one.verdict for one in comparisons]
    return Calibration(
        kind=kind,
        effect_nats=effect_nats,
        supported=Rate.of([word == "supported" for word in words]),
        claimed=Rate.of([bool(verdict.claims()) for verdict in verdicts]),
        significant=Rate.of(
            [
                one.p is not None and one.p <= verdict.alpha
                for one, verdict in zip(comparisons, verdicts, strict=True)
            ]
        ),
        verdicts={word: words.count(word) for word in sorted(set(words))},
        sd_nats=_root_mean_square([one.sd_nats for one in comparisons]),
        search_luck_nats=_root_mean_square([one.search_luck_nats for one in comparisons]),
        lead_nats=_root_mean_square([one.lead_nats for one in comparisons]),
        promised=promised,
    )


def check(protocol: ProtocolConfig, effect_nats: float | None) -> None:
    """Check what would otherwise show only after many studies.

    Raises:
        InputError: too few replicates to find anything, or an effect that is no number.
    """
    if smallest_p(protocol.replicates) > protocol.alpha:
        raise InputError(
            f"{protocol.replicates} replicates find no effect at level {protocol.alpha:g}",
            where="protocol.replicates",
            legal="6 and more at level 0.05",
        )
    if effect_nats is not None and not (0 < effect_nats < math.inf):
        raise InputError(f"is {effect_nats}", where="--effect", legal="a number of nats > 0")


def detectable(protocol: ProtocolConfig, null: Calibration) -> float:
    """Return the effect that the calculator promises to be found four times in five."""
    found = detectable_effect(
        protocol.replicates,
        null.sd_nats,
        alpha=protocol.alpha,
        search_luck_nats=null.search_luck_nats,
        lead_nats=null.lead_nats,
    )
    assert found is not None  # noqa: S101 - `check` has passed
    return found


def promise(protocol: ProtocolConfig, pilots: Sequence[Verdict], effect_nats: float) -> float:
    """Return the power that the calculator promises on average, each A/A study being a pilot."""
    comparisons = [_only(pilot) for pilot in pilots[:_PILOTS]]
    promised = [
        power(
            protocol.replicates,
            effect_nats,
            one.sd_nats,
            alpha=protocol.alpha,
            search_luck_nats=one.search_luck_nats,
            lead_nats=one.lead_nats,
        )
        for one in comparisons
        if one.sd_nats is not None
        and one.search_luck_nats is not None
        and one.lead_nats is not None
    ]
    return sum(promised) / len(promised)


def _only(verdict: Verdict) -> Comparison:
    (comparison,) = verdict.comparisons
    return comparison


def _root_mean_square(values: Sequence[float | None]) -> float:
    known = [value * value for value in values if value is not None]
    return math.sqrt(sum(known) / len(known)) if known else math.nan


def as_dict(found: Sequence[Calibration]) -> list[dict[str, Any]]:
    return [asdict(one) for one in found]


def tables(found: Sequence[Calibration], alpha: float) -> Iterator[RenderableType]:
    """Yield what `gsvae-tune calibrate` prints."""
    table = Table(title="the protocol against itself", title_justify="left")
    for column in ("studies", "n", "found better", "either way", "p alone", "promised"):
        table.add_column(column, justify="left" if column == "studies" else "right")
    for one in found:
        promised = f"at most {alpha:.1%}" if not one.effect_nats else "-"
        if one.promised is not None:
            promised = f"{one.promised:.1%} better"
        table.add_row(
            one.kind, str(one.supported.studies), _shown(one.supported), _shown(one.claimed),
            _shown(one.significant), promised,
        )  # fmt: skip
    yield table
    yield (
        "found better: the second arm is called supported; either way: one is called better than "
        "the other, which in an A/A is the false-positive rate; p alone: the sign-flip test over "
        "seeds says so, which takes the luck of two searches for an effect. Brackets: exact 95 % "
        "intervals."
    )


def _shown(rate: Rate) -> str:
    return rf"{rate.rate:.1%} \[{rate.low:.1%}, {rate.high:.1%}]"
