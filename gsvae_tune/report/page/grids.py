"""A report's tables: what stands in each cell, and what it is sorted by."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from gsvae_tune.report.columns import PARAM, TABLES
from gsvae_tune.report.columns import settings as columns_of_settings
from gsvae_tune.report.loaded import LoadedStudy
from gsvae_tune.report.troubles import name_of
from gsvae_tune.report.verdict import Comparison, Finalist
from gsvae_tune.study.faults import Fault

MOST = 1_000  # rows of a table in a page; the whole of it is in tables/


@dataclass(frozen=True)
class Cell:
    """One cell."""

    text: str
    order: float | str  # what its column is sorted by
    number: bool = False
    mark: str = ""  # a class of the style sheet


@dataclass(frozen=True)
class Grid:
    """One table."""

    key: str
    title: str
    headers: Sequence[tuple[str, str]]  # name, what it means
    rows: list[list[Cell]] = field(default_factory=list)
    note: str = ""

    @property
    def numeric(self) -> list[bool]:
        """Whether each column holds numbers; what is missing stands with the others."""
        columns = list(zip(*self.rows, strict=True)) or [()] * len(self.headers)
        return [any(one.number and one.text != "-" for one in column) for column in columns]


def cell(value: Any, digits: int | None = None, mark: str = "") -> Cell:
    """Return a value as a cell; numbers with so many decimals, what is missing as a dash."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return Cell("-", math.inf, number=True, mark=mark)
    if isinstance(value, bool):
        return Cell("yes" if value else "no", str(value), mark=mark)
    if isinstance(value, int | float):
        text = f"{value:.4g}" if digits is None else f"{value:,.{digits}f}"
        return Cell(text if isinstance(value, float) or digits is not None else f"{value:,}",
                    value, number=True, mark=mark)  # fmt: skip
    return Cell(str(value), str(value), mark=mark)


def grids(study: LoadedStudy) -> list[Grid]:
    """Return all tables of a study that have a row."""
    makers = [settings, _verdicts, _finalists, _compute, _troubles, _trials, _replicates]
    return [grid for maker in makers if (grid := _made(maker, study)).rows]


def _made(maker: Callable[[LoadedStudy], Grid], study: LoadedStudy) -> Grid:
    """Make a table; a mistake of ours, or odd values, in one cost the reader no other."""
    try:
        return maker(study)
    except Exception as error:  # noqa: BLE001 - said in the table's place
        name = maker.__name__.strip("_")
        said = f"cannot be shown: {type(error).__name__}: {error}"
        return Grid(name, name.capitalize(), [("table", "")], [[cell(said, mark="warning")]])


def settings(study: LoadedStudy) -> Grid:
    """Return the settings of each searched arm's finalist; before there is one, of its best trial.

    Settings down, arms across.
    """
    best = {arm: n for arm in study.searched_arms if (n := study.best(arm)) is not None}
    own = {arm: study.searched(arm).set_index("number").loc[n] for arm, n in best.items()}
    what = "best so far" if study.verdict is None else "finalist"
    meanings = columns_of_settings()
    known = {one.name: meanings[f"{PARAM}{one.name}"].meaning
             for arm in best for one in study.settings[arm]}  # fmt: skip
    drawn = {arm: {one.name for one in study.settings[arm]} for arm in best}
    headers = [
        ("setting", ""),
        *((f"{arm} #{number}", what) for arm, number in best.items()),
        ("meaning", ""),
    ]
    rows = [
        [
            cell(name),
            *(cell(own[arm].get(name) if name in drawn[arm] else None) for arm in best),
            cell(meaning),
        ]
        for name, meaning in known.items()
    ]
    note = "A dash: the arm's search did not draw this setting."
    return Grid("settings", "Settings of each arm's best", headers, rows if best else [], note)


def _verdicts(study: LoadedStudy) -> Grid:
    comparisons = [] if study.verdict is None else study.verdict.comparisons
    headers = [
        ("comparison", "arm - baseline"),
        ("verdict", "supported, not supported or inconclusive"),
        ("difference", "mean over pairs, nats; below 0: the first is better"),
        ("95 % over seeds", "BCa bootstrap interval of the mean, nats"),
        ("over seeds and searches", "interval at the family's level, nats"),
        ("p (Holm)", "exact sign-flip test over seeds, adjusted over all comparisons declared"),
        ("pairs", "replicates with the same seed"),
        ("P(better)", "share of pairs in which the first is better, with its 95 % interval"),
        ("equal compute", "configurations, steps, samples, device-seconds"),
    ]
    rows = [
        [
            cell(f"{one.arm} - {one.baseline}"),
            cell(one.verdict, mark=one.verdict.replace(" ", "-")),
            cell(one.effect_nats, 3),
            _span(one.ci_low, one.ci_high),
            _span(one.wide_low, one.wide_high),
            cell(one.p_holm, 4),
            cell(one.n),
            _share(one),
            cell(one.equal_compute, mark="" if one.equal_compute else "warning"),
        ]
        for one in comparisons
    ]
    return Grid("verdicts", "Verdicts", headers, rows)


def _span(low: float | None, high: float | None) -> Cell:
    if low is None or high is None:
        return cell(None)
    return Cell(f"[{low:+.3f}, {high:+.3f}]", low, number=True)


def _share(one: Comparison) -> Cell:
    if one.p_better is None or one.p_better_low is None or one.p_better_high is None:
        return cell(None)
    span = f"{one.p_better:.0%} [{one.p_better_low:.0%}, {one.p_better_high:.0%}]"
    return Cell(span, one.p_better, number=True)


def _finalists(study: LoadedStudy) -> Grid:
    arms = {} if study.verdict is None else study.verdict.arms
    headers = [
        ("arm", ""), ("trial", ""),
        ("searched", "negative ELBO that the search chose it by, validation split, nats"),
        ("fresh seeds", "the same on seeds that had no part in choosing it"),
        ("winner's curse", "the second minus the first"),
        ("test", "on the test split, mean over sound replicates, nats"),
        ("±", "standard deviation over replicates"), ("IQM", "interquartile mean"),
        ("IWAE", "negative IWAE bound, one-hot codes, nats"), ("KL", "nats"),
        ("active", "latents that change with the image"),
        ("used", "categories of a latent in use"),
        ("sharp", "share of relaxed samples within 0.2 of one-hot"),
        ("gap", "relaxed minus one-hot negative ELBO, nats"), ("failed", "replicates"),
    ]  # fmt: skip
    rows = [
        _finalist(arm, known.finalist) for arm, known in arms.items() if known.finalist is not None
    ]
    return Grid("finalists", "Finalists", headers, rows)


def _finalist(arm: str, best: Finalist) -> list[Cell]:
    on = best.on_test
    measured = ("test_iwae_nats", "test_kl_nats", "test_active_units", "code_perplexity",
                "vertex_share", "relaxed_gap_nats")  # fmt: skip
    losses = (best.search_nats, best.confirmed_nats, best.winners_curse_nats, best.test_nats,
              best.test_sd_nats, best.test_iqm_nats)  # fmt: skip
    return [
        cell(arm),
        cell(best.number),
        *(cell(value, 3) for value in losses),
        *(cell(on[name], 2) for name in measured),
        cell(best.failed, mark="warning" if best.failed else ""),
    ]


def _compute(study: LoadedStudy) -> Grid:
    arms = {} if study.verdict is None else study.verdict.arms
    headers = [("arm", ""), ("configurations tried", ""), ("confirmed", ""),
               ("optimizer steps", "of all its trainings"), ("samples", "images drawn"),
               ("device-seconds", "")]  # fmt: skip
    rows = [
        [cell(arm), *(cell(n) for n in (of.configurations, of.confirmed, of.steps, of.samples)),
         cell(of.device_seconds, 0)]
        for arm, of in ((arm, known.compute) for arm, known in arms.items())
    ]  # fmt: skip
    return Grid("compute", "What each arm was given", headers, rows)


def _troubles(study: LoadedStudy) -> Grid:
    trials = study.trials
    found = trials[trials.fault.notna() | trials.error.notna() | trials.note.notna()]
    headers = [("trial", ""), ("fault", ""), ("what is known", "")]
    faults = {fault.key: fault.value for fault in Fault}
    rows = []
    for row in found.head(MOST).itertuples():
        texts: list[Any] = [row.fault, row.error, row.note]
        fault, error, note = (str(text) if pd.notna(text) else "" for text in texts)
        rows.append(
            [
                cell(name_of(row)),
                cell(faults.get(fault, fault) or "-"),
                cell("; ".join(filter(None, (error, note)))),
            ]
        )
    return Grid("troubles", "What went wrong", headers, rows)


def _trials(study: LoadedStudy) -> Grid:
    """All trials, the search's best first; settings are those of any arm."""
    trials = study.trials.sort_values(["phase", "value"], ascending=[False, True])
    shown = trials.dropna(axis="columns", how="all").head(MOST)
    names = [name for name in shown.columns if name.startswith(PARAM)]
    known = TABLES["trials"] | columns_of_settings()
    kept = {"arm": "arm", "phase": "phase", "number": "number", "stratum": "stratum",
            "state": "state", "value": "loss", "wall_s": "seconds"}  # fmt: skip
    kept |= {name: name.removeprefix(PARAM) for name in names}
    headers = [
        (name, known[column].meaning if column in known else "") for column, name in kept.items()
    ]
    rows = [
        [cell(row["arm"]), cell(row["phase"]), cell(int(row["number"])), cell(row["stratum"]),
         cell(row["state"], mark="warning" if row["state"] == "failed" else ""),
         cell(row.get("value"), 3), cell(row.get("wall_s"), 1),
         *(cell(row[name]) for name in names)]
        for row in shown.to_dict("records")
    ]  # fmt: skip
    note = (
        f"The first {MOST:,} of {len(trials):,} by loss; all are in tables/trials.parquet."
        if len(trials) > MOST
        else ""
    )
    return Grid("trials", "All trials", headers, rows, note)


def _replicates(study: LoadedStudy) -> Grid:
    """Replicates of the confirmations: what verdicts are made of."""
    found = study.replicates[study.replicates.phase == "confirm"].head(MOST)
    columns = {
        "val_neg_elbo_nats": "validation", "test_neg_elbo_nats": "test", "test_iwae_nats": "IWAE",
        "kl_nats": "KL", "tau": "tau at the end",
    }  # fmt: skip
    kept = {"arm": "arm", "number": "trial", "replicate": "replicate",
            "best_branch": "better branch"} | columns  # fmt: skip
    known = TABLES["replicates"]
    headers = [
        *((name, known[column].meaning) for column, name in kept.items()),
        ("failed", "diverged or collapsed: counts as a loss"),
    ]
    rows = [
        [cell(row["arm"]), cell(int(row["number"])), cell(int(row["replicate"])),
         cell(row["best_branch"]), *(cell(row[name], 3) for name in columns),
         cell(bool(row["diverged"] or row["collapsed"]))]
        for row in found.to_dict("records")
    ]  # fmt: skip
    return Grid("replicates", "Replicates of the confirmed configurations", headers, rows)
