"""Verbs on what there is: spaces, schema, columns, data."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from gsvae_tune.cli.application import app, console, errors
from gsvae_tune.study.errors import InputError
from gsvae_tune.study.harmless import harmless

data_app = typer.Typer(help="Data sets: where they are, and fetching them.", no_args_is_help=True)
app.add_typer(data_app, name="data")


@app.command()
def spaces(
    study: Annotated[str | None, typer.Argument(help="Show this one in full.")] = None,
) -> None:
    """List the shipped studies, or show one."""
    from gsvae_tune.search import studies
    from gsvae_tune.study.loading import read_yaml

    if study is not None:
        path = studies.find(study)
        studies.load(study)
        sys.stdout.write(harmless(path.read_text(encoding="utf-8")))
        return
    table = Table()
    for column in ("study", "arms", "what it is"):
        table.add_column(column)
    for name, path in studies.shipped().items():
        raw = read_yaml(path)
        table.add_row(name, ", ".join(raw["arms"]), raw.get("description", ""))
    console.print(table)
    console.print(
        "next: gsvae-tune run STUDY; gsvae-tune spaces STUDY > mine.yaml to start your own",
        highlight=False,
    )


@app.command()
def schema() -> None:
    """Print the JSON schema of a study file: every key, its meaning, its bounds."""
    from gsvae_tune.search import studies

    sys.stdout.write(json.dumps(studies.schema(), indent=2) + "\n")


@app.command()
def columns(
    table: Annotated[
        str | None, typer.Argument(help="trials, replicates or epochs; default: all.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Explain every column of a study's tables: its type, its unit, what it means."""
    from gsvae_tune.report.columns import TABLES, settings

    if table is not None and table not in TABLES:
        raise InputError(f"no table {table!r}", legal=", ".join(TABLES))
    wanted = {name: dict(TABLES[name]) for name in TABLES if table in (None, name)}
    if "trials" in wanted:
        wanted["trials"] |= settings()
    if as_json:
        found = {
            name: {column: asdict(one) for column, one in own.items()}
            for name, own in wanted.items()
        }
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return
    for name, own in wanted.items():
        shown = Table(title=f"tables/{name}.parquet", title_justify="left", show_lines=False)
        shown.add_column("column", no_wrap=True)
        shown.add_column("type", no_wrap=True)
        shown.add_column("unit", no_wrap=True)
        shown.add_column("what it is", overflow="fold", ratio=1)
        for column, one in own.items():
            shown.add_row(column, one.dtype, one.unit or "-", escape(one.meaning))
        console.print(shown, highlight=False)
    console.print(
        "Empty where a value is missing. A column param_NAME is there where an arm of the study "
        "searches that setting; it is empty for trials whose arm, or branch of the space, does not "
        "have it, and a column of numbers or truth values is then of floats or objects.",
        highlight=False,
    )


@data_app.command("fetch")
def data_fetch(
    source: Annotated[str, typer.Argument(help="mnist or fashion-mnist.")],
    data_dir: Annotated[
        str | None, typer.Option(help="Where to; default: the user's cache.")
    ] = None,
) -> None:
    """Fetch a data set from OpenML."""
    from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from gsvae_tune.study.paths import expand
    from gsvae_tune.vae import fetching

    if source not in fetching.OPENML_NAMES:
        raise InputError(f"unknown data set {source!r}", legal=", ".join(fetching.OPENML_NAMES))
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        DownloadColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task(f"fetching {source} from OpenML", total=None)
        place = None if data_dir is None else expand(data_dir, "--data-dir")
        target = fetching.fetch(source, place, lambda size: bar.update(task, completed=size))
    console.print(f"{source} is in {target}", highlight=False, markup=False, soft_wrap=True)
    where = [] if data_dir is None else ["--data-dir", data_dir]
    command = shlex.join(["gsvae-tune", "run", source, *where])
    console.print(f"next: {command}", highlight=False, markup=False, soft_wrap=True)


@data_app.command("list")
def data_list(
    data_dir: Annotated[str | None, typer.Option(help="Look here.")] = None,
) -> None:
    """Show which data sets are here, checked by checksum."""
    from gsvae_tune.study.config import DataConfig
    from gsvae_tune.vae.data import CHECKSUMS, load_splits

    table = Table()
    for column in ("data set", "images (train / control / validation)", "size", "state"):
        table.add_column(column)
    for source in ("digits", *CHECKSUMS):
        where = None if source == "digits" else data_dir
        try:
            splits = load_splits(DataConfig(source=source, dir=where), seed=0)
        except InputError as error:
            table.add_row(source, "-", "-", escape(str(error).splitlines()[0]))
        else:
            counts = " / ".join(map(str, splits.counts.values()))
            state = "embedded" if source == "digits" else "checksum good"
            table.add_row(source, counts, f"{splits.height}x{splits.width}", state)
    console.print(table)
    console.print("next: gsvae-tune data fetch mnist, or run with --data-dir DIR", highlight=False)
