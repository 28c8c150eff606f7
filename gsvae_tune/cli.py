"""The command line: parse, call, print. Each verb imports what it needs, so --help is quick."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gsvae_tune import __version__
from gsvae_tune.study.errors import ExitCode, InputError, UserError

if TYPE_CHECKING:
    import pandas as pd

    from gsvae_tune.search.ledger import TrialRow
    from gsvae_tune.study.config import StudyConfig
    from gsvae_tune.study.paths import StudyPaths

app = typer.Typer(
    name="gsvae-tune",
    help="Studies of the softmax temperature tau in Gumbel-Softmax VAEs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
data_app = typer.Typer(help="Data sets: where they are, and fetching them.", no_args_is_help=True)
app.add_typer(data_app, name="data")

# typer carries its own copy of click in some versions: this is whichever it raises.
_ClickError = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

console = Console()
errors = Console(stderr=True)

# Flags of `run` that set a key of the study, by the flag's parameter name.
FLAGS = {
    "name": "name",
    "trials": "search.trials",
    "replicates": "replicates",
    "epochs": "training.epochs",
    "seed": "seed",
    "sampler": "search.sampler",
    "out": "out",
    "data_dir": "data.dir",
    "storage": "storage",
    "gpus": "resources.gpus",
    "cpus": "resources.cpus",
    "gpus_per_trial": "resources.gpus_per_trial",
    "cpus_per_trial": "resources.cpus_per_trial",
}

StorageFlag = Annotated[
    str | None, typer.Option(help="Optuna storage URL, if the study has one.", metavar="URL")
]
FolderArgument = Annotated[
    Path, typer.Argument(help="A study's folder, or a folder of studies.", metavar="DIR")
]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        console.print(f"gsvae-tune {__version__}", highlight=False)
        raise typer.Exit


@app.command()
def run(
    study: Annotated[str, typer.Argument(help="A .yaml file or a shipped study's name.")] = "digits",
    name: Annotated[str | None, typer.Option(help="Name of the study and its folder.")] = None,
    trials: Annotated[int | None, typer.Option(help="Trials of each arm.")] = None,
    replicates: Annotated[int | None, typer.Option(help="Seeds inside each trial.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of each trial.")] = None,
    seed: Annotated[int | None, typer.Option(help="The study's seed.")] = None,
    sampler: Annotated[str | None, typer.Option(help="tpe, random, qmc, grid, gp or cmaes.")] = None,
    out: Annotated[str | None, typer.Option(help="Folder for the study's folder.")] = None,
    data_dir: Annotated[str | None, typer.Option(help="Folder of the idx files.")] = None,
    storage: StorageFlag = None,
    gpus: Annotated[int | None, typer.Option(help="Logical GPUs to use.")] = None,
    cpus: Annotated[int | None, typer.Option(help="Logical CPUs to use.")] = None,
    gpus_per_trial: Annotated[float | None, typer.Option(help="Fraction of a GPU a trial.")] = None,
    cpus_per_trial: Annotated[float | None, typer.Option(help="CPUs a trial.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other key: training.batch_size=100.", metavar="KEY=VALUE"),
    ] = None,
) -> None:
    """Run a study, or go on with it: the same command again resumes."""
    from gsvae_tune.search import studies

    given = locals()
    overrides = {
        key: (given[flag], f"--{flag.replace('_', '-')}")
        for flag, key in FLAGS.items()
        if given[flag] is not None
    }
    for pair in set_ or []:
        key, value = _key_value(pair)
        overrides[key] = (value, "--set")
    config = studies.load(study, overrides)

    from gsvae_tune.execution.runner import run_study
    from gsvae_tune.study.paths import StudyPaths

    paths = StudyPaths.of(config.out, config.name)
    again = "the same command again goes on from here"
    try:
        done = run_study(config, console)
    except KeyboardInterrupt:
        errors.print(
            f"\ninterrupted; everything finished is kept in {paths.root}\nnext: {again}",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    rows, tables = _export(config, paths, storage)
    if not done.trained:
        console.print(
            f"study {config.name} is finished already: nothing to do", highlight=False, markup=False
        )
    _print_search_result(config, rows, tables)
    more = config.search.trials * 2
    console.print(f"study folder: {paths.root}", highlight=False, markup=False, soft_wrap=True)
    console.print(
        f"next: gsvae-tune run {study} --trials {more} searches further; "
        f"gsvae-tune status {paths.root} shows the best settings",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


@app.command()
def status(
    folder: FolderArgument = Path("studies"),
    storage: StorageFlag = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show how far studies are and what is best so far; changes nothing."""
    from gsvae_tune.search.ledger import open_storage, read_trials
    from gsvae_tune.study.studyfile import is_running, read_config

    found: list[dict[str, Any]] = []
    for paths in _studies(folder):
        config = read_config(paths)
        rows = list(read_trials(config, paths, open_storage(storage, paths)))
        running = is_running(paths)
        found.append(_status(config, paths, rows, running))
        if not as_json:
            _print_status(config, paths, rows, running)
    if as_json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")


@app.command()
def export(folder: FolderArgument, storage: StorageFlag = None) -> None:
    """Rebuild a study's tables from its folder and its storage."""
    from gsvae_tune.study.studyfile import read_config

    for paths in _studies(folder):
        config = read_config(paths)
        _, tables = _export(config, paths, storage)
        for name, frame in tables.items():
            console.print(
                f"{paths.table(name)}: {len(frame)} rows", highlight=False, markup=False, soft_wrap=True
            )


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
        sys.stdout.write(path.read_text(encoding="utf-8"))
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


@data_app.command("fetch")
def data_fetch(
    source: Annotated[str, typer.Argument(help="mnist or fashion-mnist.")],
    data_dir: Annotated[
        Path | None, typer.Option(help="Where to; default: the user's cache.")
    ] = None,
) -> None:
    """Fetch a data set from OpenML."""
    from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from gsvae_tune.vae import fetching

    if source not in fetching.OPENML_NAMES:
        raise InputError(
            f"unknown data set {source!r}", legal=", ".join(fetching.OPENML_NAMES)
        )
    columns = (SpinnerColumn(), TextColumn("{task.description}"), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task(f"fetching {source} from OpenML", total=None)
        target = fetching.fetch(source, data_dir, lambda size: bar.update(task, completed=size))
    console.print(f"{source} is in {target}", highlight=False, markup=False, soft_wrap=True)
    where = "" if data_dir is None else f" --data-dir {data_dir}"
    console.print(f"next: gsvae-tune run {source}{where}", highlight=False, markup=False)


@data_app.command("list")
def data_list(
    data_dir: Annotated[Path | None, typer.Option(help="Look here.")] = None,
) -> None:
    """Show which data sets are here, checked by checksum."""
    from gsvae_tune.study.config import DataConfig
    from gsvae_tune.vae.data import CHECKSUMS, load_splits

    table = Table()
    for column in ("data set", "images (train / control / validation)", "size", "state"):
        table.add_column(column)
    for source in ("digits", *CHECKSUMS):
        where = None if data_dir is None or source == "digits" else str(data_dir)
        try:
            splits = load_splits(DataConfig(source=source, dir=where), seed=0)
        except InputError as error:
            table.add_row(source, "-", "-", escape(str(error).splitlines()[0]))
        else:
            counts = " / ".join(map(str, splits.counts.values()))
            table.add_row(source, counts, f"{splits.height}x{splits.width}", "checksum good")
    console.print(table)
    console.print("next: gsvae-tune data fetch mnist, or run with --data-dir DIR", highlight=False)


def _key_value(pair: str) -> tuple[str, Any]:
    import yaml

    key, equals, text = pair.partition("=")
    if not equals or not key:
        raise InputError(f"{pair!r} sets nothing", where="--set", legal="KEY=VALUE")
    try:
        return key, yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{text!r} is no YAML value", where=f"--set {key}") from error


def _studies(folder: Path) -> list[StudyPaths]:
    from gsvae_tune.study.paths import find_studies

    found = list(find_studies(folder))
    if not found:
        raise InputError(
            "holds no study",
            where=str(folder),
            legal="a folder with a study.json, or one that holds such folders",
            next_step="gsvae-tune run",
        )
    return found


def _export(
    config: StudyConfig, paths: StudyPaths, storage: str | None
) -> tuple[list[TrialRow], dict[str, pd.DataFrame]]:
    from gsvae_tune.report import tables
    from gsvae_tune.search.ledger import open_storage, read_trials

    rows = list(read_trials(config, paths, open_storage(storage or config.storage, paths)))
    built = tables.build(rows, paths)
    tables.write(built, paths)
    return rows, built


def _best(rows: list[TrialRow], arm: str) -> TrialRow | None:
    from gsvae_tune.study.records import TrialState

    complete = [row for row in rows if row.arm == arm and row.state is TrialState.COMPLETE]
    return min(complete, key=lambda row: row.value or 0.0, default=None)


def _print_search_result(
    config: StudyConfig, rows: list[TrialRow], tables: dict[str, pd.DataFrame]
) -> None:
    table = Table(title=f"search result of study {escape(config.name)}", title_justify="left")
    for column in ("arm", "trials", "failed", "best trial", "neg. ELBO (nats)", "± over replicates"):
        table.add_column(column, justify="left" if column == "arm" else "right")
    replicates = tables["replicates"]
    for arm in config.arms:
        own = [row for row in rows if row.arm == arm]
        failed = sum(row.state.value == "failed" for row in own)
        best = _best(rows, arm)
        if best is None:
            table.add_row(arm, str(len(own)), str(failed), "-", "-", "-")
            continue
        seeds = replicates[(replicates.arm == arm) & (replicates.number == best.number)]
        values = seeds.val_neg_elbo_nats
        spread = f"{values.std():.3f}" if len(values) > 1 else "one only"
        table.add_row(
            arm, str(len(own)), str(failed), f"#{best.number}", f"{best.value:.3f}", spread
        )
    console.print(table)
    _print_best_settings(config, rows)
    console.print(
        "Negative ELBO with one-hot codes on the validation split, mean over replicates ± standard "
        "deviation; lower is better.\n[bold]This is a search result and not yet evidence[/bold]: "
        "each number is the best of many tries, on the data and the seeds it was chosen by.",
        highlight=False,
    )


def _print_best_settings(config: StudyConfig, rows: list[TrialRow]) -> None:
    """Settings down, arms across: readable at any width."""
    best = {arm: row for arm in config.arms if (row := _best(rows, arm)) is not None}
    table = Table(title="best configurations", title_justify="left")
    table.add_column("setting")
    for arm, row in best.items():
        table.add_column(f"{arm} #{row.number}", justify="right")
    for key in dict.fromkeys(key for row in best.values() for key in row.params):
        table.add_row(key, *(_shown(row.params.get(key)) for row in best.values()))
    if best:
        console.print(table)


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))


def _status(
    config: StudyConfig, paths: StudyPaths, rows: list[TrialRow], running: bool
) -> dict[str, Any]:
    arms = {}
    for arm in config.arms:
        own = [row for row in rows if row.arm == arm]
        best = _best(rows, arm)
        arms[arm] = {
            "budget": config.search.trials,
            **{
                state: sum(row.state.value == state for row in own)
                for state in ("complete", "pruned", "failed", "running")
            },
            "best": None if best is None else {"number": best.number, "value": best.value, "params": best.params},
        }  # fmt: skip
    return {"study": config.name, "folder": str(paths.root), "driver": running, "arms": arms}


def _print_status(
    config: StudyConfig, paths: StudyPaths, rows: list[TrialRow], running: bool
) -> None:
    state = "running" if running else "no driver"
    table = Table(title=f"{escape(str(paths.root))} ({state})", title_justify="left")
    for column in ("arm", "complete", "pruned", "failed", "unfinished", "best", "nats"):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for arm, seen in _status(config, paths, rows, running)["arms"].items():
        best = seen["best"]
        table.add_row(
            arm,
            f"{seen['complete']}/{seen['budget']}",
            *(str(seen[key]) for key in ("pruned", "failed", "running")),
            *(("-", "-") if best is None else (f"#{best['number']}", f"{best['value']:.3f}")),
        )
    console.print(table)
    _print_best_settings(config, rows)
    waiting = any(row.state.value == "running" for row in rows)
    short = any(sum(row.arm == arm for row in rows) < config.search.trials for arm in config.arms)
    if not running and (waiting or short):
        console.print("next: the command that began this study goes on with it", highlight=False)


def main() -> None:
    """Entry point: turns user errors into one message and an exit code."""
    sys.exit(guarded(app))


def guarded(call: Callable[..., Any]) -> int:
    """Call a typer application; return the exit code."""
    try:
        code = call(standalone_mode=False)
    except UserError as error:
        errors.print(f"error: {error}", highlight=False, markup=False, soft_wrap=True)
        return int(error.exit_code)
    except _ClickError as error:
        error.show()  # type: ignore[attr-defined]
        return int(ExitCode.WRONG_INPUT)
    except (typer.Abort, KeyboardInterrupt):
        errors.print("interrupted", highlight=False)
        return int(ExitCode.INTERRUPTED)
    return code if isinstance(code, int) else int(ExitCode.DONE)


if __name__ == "__main__":
    main()
