"""The verb report: a study, or several, as one page to hand to someone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsvae_tune.cli.application import StorageFlag, app, console, find_studies_in
from gsvae_tune.study.errors import InputError, StoppedError

if TYPE_CHECKING:
    import pandas as pd

    from gsvae_tune.report.loaded import LoadedStudy
    from gsvae_tune.report.verdict import Verdict
    from gsvae_tune.study.config import StudyConfig
    from gsvae_tune.study.paths import StudyPaths

KINDS = ("svg", "png", "pdf")
_LEAST_S = 10.0  # between two pages of --watch
_SHARE = 5  # of the time, watching takes at most one part in so many of a core


@app.command()
def report(
    folders: Annotated[
        list[str],
        typer.Argument(help="Folders of studies, or of folders of studies.", metavar="DIR..."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            help="The page; default: report/report.html in the study's folder, or "
            "gsvae-tune-report.html here for several studies."
        ),
    ] = None,
    figures: Annotated[
        list[str] | None,
        typer.Option(help="Format of the figures' files, repeatable: svg (the default), png, pdf.",
                     metavar="KIND"),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Renew the page while the study runs.")
    ] = False,
    storage: StorageFlag = None,
) -> None:  # fmt: skip
    """Write the figures, and one HTML page that needs no network and no other file."""
    # Beside a page that is to lie elsewhere, files are written only if they are asked for.
    kinds = list(dict.fromkeys(figures or ([] if output else KINDS[:1])))
    for kind in kinds:
        if kind not in KINDS:
            raise InputError(f"unknown format {kind!r}", where="--figures", legal=", ".join(KINDS))
    found = [paths.root for folder in folders for paths in find_studies_in(folder)]
    roots = list(dict.fromkeys(root.resolve() for root in found))
    place = output or _default(roots)
    if watch:
        _watch(roots, place, kinds, storage)
        return
    studies = _load(roots, storage)
    _say(write(studies, place, kinds), place)


def _default(roots: list[Path]) -> Path:
    from gsvae_tune.study.paths import StudyPaths

    return StudyPaths(roots[0]).page if len(roots) == 1 else Path("gsvae-tune-report.html")


def _load(roots: list[Path], storage: str | None) -> list[LoadedStudy]:
    from gsvae_tune.report.loaded import load_study

    with console.status("reading the tables"):
        return [load_study(root, storage) for root in roots]


def write(
    studies: list[LoadedStudy], place: Path, kinds: list[str], refresh_s: int | None = None
) -> Path | None:
    """Draw and write a report, showing how far it is; return the folder of the figures' files.

    Args:
        studies: what it is about.
        place: the page.
        kinds: formats of the figures' files; none while it is renewed.
        refresh_s: the page reloads itself after so many seconds.

    Raises:
        InputError: it cannot be written there.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from gsvae_tune.report.page.making import Report

    made = Report.of(studies, place, kinds)
    columns = (BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"),
               TimeRemainingColumn(), TextColumn("{task.description}", markup=False))  # fmt: skip
    # Without a thread of its own: processes that draw can then be copies of this one.
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as progress:
        task = progress.add_task("drawing", total=made.figures)

        def drawn(title: str) -> None:
            progress.update(task, advance=1, description=title, refresh=True)

        try:
            made.write(drawn, refresh_s)
        except PermissionError as error:
            raise InputError(
                f"cannot be written: {error.strerror}", where=str(place), next_step="--output FILE"
            ) from error
    return made.plan.folder


def report_on(
    paths: StudyPaths,
    config: StudyConfig,
    tables: dict[str, pd.DataFrame],
    verdict: Verdict | None,
) -> None:
    """Write the report of a study that this process has just run. It can fail, and nothing else.

    Args:
        paths: the study's folder.
        config: the study.
        tables: its tables.
        verdict: None before there is one.
    """
    from gsvae_tune.report.loaded import LoadedStudy
    from gsvae_tune.study.studyfile import read_study

    study = LoadedStudy(
        paths, config, read_study(paths), **tables, verdict=verdict, running=False, archive=False
    )
    try:
        write([study], paths.page, list(KINDS[:1]))
    except (InputError, OSError) as error:
        console.print(f"note: no report was written: {error}", highlight=False, markup=False)
        return
    console.print(f"report: {paths.page}", highlight=False, markup=False, soft_wrap=True)


def _say(figures: Path | None, place: Path) -> None:
    beside = f"; figures in {figures}" if figures is not None else ""
    console.print(
        f"report: {place.absolute()} ({place.stat().st_size / 1e6:.1f} MB){beside}\n"
        "next: open it in a browser, or hand it on: it needs nothing beside itself",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


def _watch(roots: list[Path], place: Path, kinds: list[str], storage: str | None) -> None:
    """Write the page again and again until no driver is at work; then once more, with its files."""
    every_s = _LEAST_S
    try:
        studies = _load(roots, storage)
        while any(study.running for study in studies):
            began = time.monotonic()
            write(studies, place, [], refresh_s=round(every_s))
            every_s = max(_LEAST_S, _SHARE * (time.monotonic() - began))
            console.print(
                f"{time.strftime('%H:%M:%S')} {place.absolute()}; again in {every_s:.0f} s",
                highlight=False, markup=False, soft_wrap=True,
            )  # fmt: skip
            time.sleep(every_s)
            studies = _load(roots, storage)
    except KeyboardInterrupt:
        raise StoppedError(
            f"\ninterrupted; the page so far is {place.absolute()}\n"
            "next: the same command goes on watching; without --watch it writes the page once"
        ) from None
    folder = write(studies, place, kinds)
    console.print("no run is going on: this is the page as it stays", highlight=False)
    _say(folder, place)
