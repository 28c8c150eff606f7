"""The verb doctor: what is wrong with a study's files, and mending it."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from gsvae_tune.cli.application import (
    FolderArgument,
    StorageFlag,
    app,
    console,
    errors,
    find_studies_in,
)
from gsvae_tune.study.errors import ExitCode

if TYPE_CHECKING:
    from gsvae_tune.doctor.examination import Progress
    from gsvae_tune.doctor.findings import Finding, Report
    from gsvae_tune.study.paths import StudyPaths

_PATIENCE_S = 2.0  # without a word
_ALIKE = 8  # findings of one kind that are shown one by one


@app.command()
def doctor(
    folder: FolderArgument,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what is safe to mend.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    storage: StorageFlag = None,
) -> None:
    """Check a study's files against each other; with --fix, mend what is safe to mend."""
    from gsvae_tune.doctor.examination import examine, treat

    reports = []
    for paths in _studies_in(folder):
        with _bar(paths, silent=as_json) as progress:
            if fix:
                reports.append(treat(paths, storage, progress, _say))
            else:
                reports.append(examine(paths, storage, progress))
    if as_json:
        sys.stdout.write(json.dumps([one.as_dict() for one in reports], indent=2) + "\n")
    else:
        for one in reports:
            for part in _shown(one):
                console.print(part, highlight=False)
        text = f"next: {_next(folder, reports, storage)}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    if any(one.left for one in reports):
        raise typer.Exit(ExitCode.UNFINISHED)


def _studies_in(folder: str) -> list[StudyPaths]:
    """Return the studies to look at, those that lost their study.json too."""
    from gsvae_tune.doctor.checks import looks_like_study
    from gsvae_tune.study.paths import StudyPaths, expand

    root = expand(folder, "DIR")
    if looks_like_study(root):
        return [StudyPaths(root)]
    inside = sorted(root.iterdir()) if root.is_dir() else []
    return [StudyPaths(one) for one in inside if looks_like_study(one)] or find_studies_in(folder)


def _say(text: str) -> None:
    errors.print(text, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def _bar(paths: StudyPaths, *, silent: bool) -> Iterator[Progress]:
    """Show how far it is, where it takes long."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    began = time.monotonic()
    quiet = silent or not errors.is_terminal
    with Progress(*columns, console=errors, transient=True, disable=quiet) as bar:
        task = bar.add_task("", visible=False)

        def progress(what: str, done: int, total: int) -> None:
            shown = time.monotonic() - began > _PATIENCE_S
            text = escape(f"{paths.root.name}: {what}")
            bar.update(task, description=text, completed=done, total=total, visible=shown)

        yield progress


def _shown(report: Report) -> Iterator[RenderableType]:
    title = escape(report.folder)
    if not report.findings:
        yield f"{title}: healthy"
        return
    table = Table(title=title, title_justify="left", show_lines=True)
    table.add_column("", no_wrap=True)
    table.add_column("where", overflow="fold")
    table.add_column("what is wrong, and what is done about it", overflow="fold", ratio=1)
    styles = {"note": "dim", "mendable": "yellow", "damage": "red", "mended": "green"}
    for one, others in _grouped(report.findings):
        word = "mended" if one.done else one.severity.value
        more = f" (and {others} more like it)" if others else ""
        table.add_row(
            f"[{styles[word]}]{word}[/]",
            escape(one.subject),
            f"{escape(one.problem)}{more}\n[dim]{_label(one)}{escape(one.fix)}[/]",
        )
    yield table


def _label(finding: Finding) -> str:
    """Return who does what is written beside a finding."""
    if finding.done:
        return "done: "
    if finding.severity.value == "note":
        return ""
    return "--fix: " if finding.mend is not None else "by hand: "


def _grouped(findings: list[Finding]) -> Iterator[tuple[Finding, int]]:
    """Yield the findings, of many alike the first ones and how many more there are."""
    seen: dict[tuple[str, str, bool], list[Finding]] = {}
    for one in findings:
        seen.setdefault((one.code, one.severity.value, one.done), []).append(one)
    for alike in seen.values():
        few = alike if len(alike) <= _ALIKE else alike[:1]
        for one in few:
            yield one, len(alike) - len(few)


def _next(folder: str, reports: list[Report], storage: str | None) -> str:
    """Return what to do now, in one line."""
    command = f"gsvae-tune doctor {shlex.quote(folder)}"
    if storage is not None:
        command += " --storage URL"
    if any(one.mendable for one in reports if one.left):
        return f"{command} --fix"
    if any(one.left for one in reports):
        return f"what stands beside each finding, then {command} again"
    if any(one.driver for one in reports):
        return f"gsvae-tune status {shlex.quote(folder)}"
    if any(one.code in {"unfinished", "test-missing"} for r in reports for one in r.findings):
        return "the command that began the study goes on with it"
    return f"gsvae-tune status {shlex.quote(folder)} shows what it found"
