"""A study in a few lines: how far it is, what is best so far; as data and as terminal tables."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from gsvae_tune.report import tables
from gsvae_tune.report.verdict import Verdict, decide
from gsvae_tune.search.confirm import choose, count_searched, searched_arms
from gsvae_tune.search.storage import Location, Storage, TrialRow, open_storage, read_trials
from gsvae_tune.study.config import StudyConfig
from gsvae_tune.study.errors import InputError
from gsvae_tune.study.lease import is_running
from gsvae_tune.study.openings import reopened
from gsvae_tune.study.parameters import Scalar
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import TrialResult, TrialState, read_json, write_json
from gsvae_tune.study.studyfile import read_study, require_storage

LOSS = "neg. ELBO (nats)"


@dataclass(frozen=True)
class BestTrial:
    """An arm's best finished trial; value: validation negative ELBO, one-hot codes, nats."""

    number: int
    value: float
    params: dict[str, Scalar]


@dataclass(frozen=True)
class ArmStatus:
    """Trials of one arm by state; `budget` is how many it is to have."""

    budget: int
    complete: int
    pruned: int
    failed: int
    unfinished: int
    confirmed: int
    best: BestTrial | None

    @property
    def to_go(self) -> int:
        return max(0, self.budget - self.complete - self.pruned - self.failed)


@dataclass(frozen=True)
class StudyStatus:
    """One study's state; `driver`: a process is working on it now."""

    study: str
    folder: str
    driver: bool
    arms: dict[str, ArmStatus]
    verdicts: dict[str, str]  # "arm - baseline" -> verdict, once there are
    simulated: str | None = None  # what its numbers come from, where nothing was trained


def status(config: StudyConfig, paths: StudyPaths, storage: Location) -> StudyStatus:
    """Read a study's state, changing nothing."""
    rows = trial_rows(config, paths, storage)
    arms = {}
    for arm in config.arms:
        own = [row for row in rows if row.arm == arm and row.phase == "search"]
        again = [row for row in rows if row.arm == arm and row.phase == "confirm"]
        count = {state: sum(row.state is state for row in own) for state in TrialState}
        arms[arm] = ArmStatus(
            budget=max(config.search.trials, len(own)) if arm in searched_arms(config) else 0,
            complete=count[TrialState.COMPLETE],
            pruned=count[TrialState.PRUNED],
            failed=count[TrialState.FAILED],
            unfinished=count[TrialState.RUNNING],
            confirmed=sum(row.state is not TrialState.RUNNING for row in again),
            best=_best(own),
        )
    simulated = config.simulate.table if config.simulate else None
    folder, driver = str(paths.root), is_running(paths)
    verdicts = _verdicts(paths, count_searched(rows))
    return StudyStatus(config.name, folder, driver, arms, verdicts, simulated)


def _verdicts(paths: StudyPaths, searched: int) -> dict[str, str]:
    """Read verdict.json; a verdict on fewer trials than there are now says so.

    Raises:
        InputError: the file is damaged.
    """
    if not paths.verdict.is_file():
        return {}
    try:
        found = read_json(paths.verdict)
        mark = "" if found["searched"] == searched else ", before the search went on"
        return {
            f"{one['arm']} - {one['baseline']}": one["verdict"] + mark
            for one in found["comparisons"]
        }
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"is damaged: {type(error).__name__}",
            where=str(paths.verdict),
            next_step="the command of this study writes it anew",
        ) from error


def trial_rows(config: StudyConfig, paths: StudyPaths, storage: Location) -> list[TrialRow]:
    """Return every trial as the ledger knows it, changing nothing."""
    if not isinstance(storage, Storage):
        require_storage(paths, storage)
        if storage is None and not paths.trials.exists() and not paths.journal.exists():
            return []  # begun a moment ago
        storage = open_storage(storage, paths, must_exist=True)
    return list(read_trials(config, paths, storage, read_study(paths)["id"]))


def _best(rows: list[TrialRow]) -> BestTrial | None:
    found = [
        BestTrial(row.number, row.value, row.params)
        for row in rows
        if row.state is TrialState.COMPLETE and row.value is not None
    ]
    return min(found, key=lambda best: best.value, default=None)


def build_tables(
    config: StudyConfig, paths: StudyPaths, storage: Location
) -> dict[str, pd.DataFrame]:
    """Rebuild a study's tables and return them, changing nothing.

    Raises:
        InputError: the result of a confirmation that ended is lost: without it, the tables, and a
            verdict on them, would say what is not so.
    """
    return tables_of(paths, trial_rows(config, paths, storage))


def tables_of(paths: StudyPaths, rows: Sequence[TrialRow]) -> dict[str, pd.DataFrame]:
    """Return the tables of these trials, as `build_tables`."""
    for row in rows:
        result = paths.trial(row.arm, row.number, row.phase).result
        ended = row.phase == "confirm" and row.state is TrialState.COMPLETE
        if ended and TrialResult.read(result) is None:
            raise InputError(
                "is missing or damaged, though this confirmation ended",
                where=str(result),
                next_step=shlex.join(["gsvae-tune", "doctor", str(paths.root), "--fix"]),
            )
    return tables.build(rows, paths)


def export(config: StudyConfig, paths: StudyPaths, storage: Location) -> dict[str, pd.DataFrame]:
    """Rebuild a study's tables, write them, and return them."""
    built = build_tables(config, paths, storage)
    tables.write(built, paths)
    return built


def judge(
    config: StudyConfig, paths: StudyPaths, storage: Location, built: dict[str, pd.DataFrame]
) -> Verdict | None:
    """Write verdict.json and return the verdict; None while the test phase has not ended."""
    verdict = decided(config, paths, storage, built)
    if verdict is not None:
        write_json(paths.verdict, verdict.as_dict())
    return verdict


def decided(
    config: StudyConfig, paths: StudyPaths, storage: Location, built: dict[str, pd.DataFrame]
) -> Verdict | None:
    """Return the verdict, changing nothing; None while the test phase has not ended."""
    return verdict_of(config, paths, trial_rows(config, paths, storage), built)


def verdict_of(
    config: StudyConfig,
    paths: StudyPaths,
    rows: Sequence[TrialRow],
    built: Mapping[str, pd.DataFrame],
) -> Verdict | None:
    """Return the verdict on these trials and tables, as `decided`."""
    chosen = choose(config, rows)
    wanted = {(arm, number) for arm, numbers in chosen.items() for number in numbers}
    trials, replicates = (
        frame[np.array([key in wanted for key in zip(frame.arm, frame.number, strict=True)], bool)]
        for frame in (built["trials"], built["replicates"])
    )
    confirmed = trials[(trials.phase == "confirm") & (trials.state != TrialState.RUNNING.value)]
    sound = replicates[(replicates.phase == "confirm") & replicates.best_branch.notna()]
    searched = count_searched(rows)
    searching = searched < config.search.trials * len(searched_arms(config))
    if searching or len(confirmed) < len(wanted) or sound.test_neg_elbo_nats.isna().any():
        return None
    mark = reopened(paths, searched)
    return decide(config, built["trials"], built["replicates"], chosen, mark)


def status_tables(seen: StudyStatus) -> Iterator[RenderableType]:
    """Yield what `gsvae-tune status` prints of one study."""
    state = "running" if seen.driver else "no driver"
    if seen.simulated:
        state += ", simulated"
    table = Table(title=f"{escape(seen.folder)} ({state})", title_justify="left")
    for column in ("arm", "complete", "pruned", "failed", "open", "confirmed", "best", "nats"):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for name, arm in seen.arms.items():
        best = ("-", "-") if arm.best is None else (f"#{arm.best.number}", f"{arm.best.value:.3f}")
        counts = (
            f"{arm.complete}/{arm.budget}", arm.pruned, arm.failed, arm.unfinished, arm.confirmed,
        )  # fmt: skip
        table.add_row(name, *map(str, counts), *best)
    yield table
    yield from _best_settings(seen)
    for comparison, verdict in seen.verdicts.items():
        yield escape(f"{comparison}: {verdict}")
    if not seen.driver and (not seen.verdicts or any(arm.to_go for arm in seen.arms.values())):
        yield "next: the command that began this study goes on with it"


def search_result(
    seen: StudyStatus, replicates: pd.DataFrame, *, alone: bool
) -> Iterator[RenderableType]:
    """Yield what `gsvae-tune run` prints of the search; ``alone``: no verdict follows."""
    table = Table(title=f"search result of study {escape(seen.study)}", title_justify="left")
    for column in ("arm", "trials", "failed", "best", LOSS, "± over replicates"):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for name, arm in seen.arms.items():
        if not arm.budget:
            continue  # a control, which is not searched
        counts = (arm.complete + arm.pruned + arm.failed, arm.failed)
        found = ("-", "-", "-")
        if arm.best is not None:
            of_best = (replicates.arm == name) & (replicates.number == arm.best.number)
            searched = replicates[of_best & (replicates.phase == "search")]
            values = searched.val_neg_elbo_nats
            spread = f"{values.std():.3f}" if len(values) > 1 else "one only"
            found = (f"#{arm.best.number}", f"{arm.best.value:.3f}", spread)
        table.add_row(name, *map(str, counts), *found)
    yield table
    if not alone:
        return
    yield from _best_settings(seen)
    if seen.simulated:
        yield f"[bold]Nothing was trained[/bold]: the numbers come from {escape(seen.simulated)}."
        return
    yield (
        "Negative ELBO with one-hot codes on the validation split, mean over replicates ± standard "
        "deviation; lower is better.\n[bold]This is a search result and not yet evidence[/bold]: "
        "each number is the best of many tries, on the data and the seeds it was chosen by."
    )


def _best_settings(seen: StudyStatus) -> Iterator[Table]:
    found = {
        f"{name} #{arm.best.number}": arm.best.params
        for name, arm in seen.arms.items()
        if arm.best is not None
    }
    if found:
        yield settings_table("best configurations", found)


def settings_table(title: str, settings: Mapping[str, Mapping[str, Scalar]]) -> Table:
    """Return settings down, configurations across, by their headings: readable at any width."""
    table = Table(title=title, title_justify="left")
    table.add_column("setting")
    for heading in settings:
        table.add_column(escape(heading), justify="right")
    for key in dict.fromkeys(key for params in settings.values() for key in params):
        table.add_row(escape(key), *(shown(params.get(key)) for params in settings.values()))
    return table


def shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))
