"""The command line: parse, call, print. Each verb imports what it needs, so --help is quick."""

from __future__ import annotations

import errno
import json
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gsvae_tune import __version__
from gsvae_tune.study.errors import ExitCode, InputError, UserError

if TYPE_CHECKING:
    from gsvae_tune.execution.runner import Run
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
_ClickError: Any = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)

# No emoji codes: a path may hold what looks like one.
console = Console(emoji=False)
errors = Console(stderr=True, emoji=False)

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
    "simulate": "simulate.table",
    "simulated_slots": "simulate.slots",
}

StorageFlag = Annotated[
    str | None, typer.Option(help="Optuna storage URL, if the study has one.", metavar="URL")
]
FolderArgument = Annotated[
    str, typer.Argument(help="A study's folder, or a folder of studies.", metavar="DIR")
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
    study: Annotated[
        str, typer.Argument(help="A .yaml file or a shipped study's name.")
    ] = "digits",
    name: Annotated[str | None, typer.Option(help="Name of the study and its folder.")] = None,
    trials: Annotated[int | None, typer.Option(help="Trials of each arm.")] = None,
    replicates: Annotated[int | None, typer.Option(help="Seeds inside each trial.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of each trial.")] = None,
    seed: Annotated[int | None, typer.Option(help="The study's seed.")] = None,
    sampler: Annotated[
        str | None, typer.Option(help="tpe, random, qmc, grid, gp or cmaes.")
    ] = None,
    out: Annotated[str | None, typer.Option(help="Folder for the study's folder.")] = None,
    data_dir: Annotated[str | None, typer.Option(help="Folder of the idx files.")] = None,
    storage: StorageFlag = None,
    gpus: Annotated[int | None, typer.Option(help="Logical GPUs to use.")] = None,
    cpus: Annotated[int | None, typer.Option(help="Logical CPUs to use.")] = None,
    gpus_per_trial: Annotated[float | None, typer.Option(help="Fraction of a GPU a trial.")] = None,
    cpus_per_trial: Annotated[float | None, typer.Option(help="CPUs a trial.")] = None,
    simulate: Annotated[
        str | None,
        typer.Option(
            help="Train nothing: replay a table of trials, or 'valley', in simulated time.",
            metavar="TABLE",
        ),
    ] = None,
    simulated_slots: Annotated[
        int | None, typer.Option(help="Simulated trials at once; default 16.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other key: training.batch_size=100.", metavar="KEY=VALUE"),
    ] = None,
) -> None:
    """Run a study, or go on with it: the same command again resumes."""
    from gsvae_tune.search import studies

    overrides = _overrides(locals(), set_ or [])
    config = studies.load(study, overrides)

    from gsvae_tune.execution.runner import run_study
    from gsvae_tune.study.paths import StudyPaths

    paths = StudyPaths.of(config.out, config.name)
    try:
        done = run_study(config, console)
    except KeyboardInterrupt:
        kept = f"everything finished is kept in {paths.root}"
        errors.print(
            f"\ninterrupted; {kept if paths.exists() else 'nothing had begun'}\n"
            f"next: {_command(study, overrides)}\n      goes on from here",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    budget = _show_result(config, done)
    further = overrides | {"search.trials": (2 * budget, "--trials")}
    console.print(
        f"study folder: {paths.root}\n"
        f"next: {_command(study, further)}\n"
        "      searches further, keeping what is there",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


def _overrides(given: Mapping[str, Any], pairs: list[str]) -> dict[str, tuple[Any, str]]:
    """Return what the flags of `run` set: dotted key -> (value, the flag).

    Raises:
        InputError: a flag that does nothing by itself.
    """
    overrides = {
        key: (given[flag], f"--{flag.replace('_', '-')}")
        for flag, key in FLAGS.items()
        if given[flag] is not None
    }
    for pair in pairs:
        key, value = _key_value(pair)
        overrides[key] = (value, f"--set {key}=")
    if "simulate.slots" in overrides and "simulate.table" not in overrides:
        raise InputError(
            "simulates nothing by itself",
            where=overrides["simulate.slots"][1].rstrip("="),
            legal="with --simulate TABLE, or --simulate valley",
        )
    return overrides


def _show_result(config: StudyConfig, done: Run) -> int:
    """Write a study's tables and show what a run found; return the largest budget of an arm."""
    from gsvae_tune.execution.progress import duration
    from gsvae_tune.report import summary

    tables = summary.export(config, done.paths, config.storage)
    if not done.trained:
        console.print(
            f"study {config.name} is finished already: nothing to do", highlight=False, markup=False
        )
    eager = tables["trials"]["compiled"].dropna()
    eager = eager[eager.str.startswith("no")]
    if config.training.compile and len(eager):
        console.print(
            f"note: {len(eager)} trials trained without torch.compile; {eager.iloc[0]}",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
    if done.simulated is not None:
        console.print(
            f"this run simulated {done.simulated.trials} trials on {done.simulated.slots} slots: "
            f"{duration(done.simulated.wall_s)} of simulated time, slots idle "
            f"{done.simulated.idle_share:.1%} of it",
            highlight=False,
        )
    seen = summary.status(config, done.paths, config.storage)
    for part in summary.search_result(seen, tables["replicates"]):
        console.print(part, highlight=False)
    return max(arm.budget for arm in seen.arms.values())


def _command(study: str, overrides: Mapping[str, tuple[Any, str]]) -> str:
    """Return the `run` command with these flags, as a shell takes it."""
    from gsvae_tune.search.ledger import without_password

    words = ["gsvae-tune", "run", study]
    for key, (value, flag) in overrides.items():
        shown = without_password(str(value)) if key == "storage" else value
        name, sets, _ = flag.partition(" ")
        words += [name, f"{key}={json.dumps(shown)}" if sets else str(shown)]
    return shlex.join(words)


@app.command()
def status(
    folder: FolderArgument = "studies",
    storage: StorageFlag = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show how far studies are and what is best so far; changes nothing."""
    from gsvae_tune.report import summary
    from gsvae_tune.study.studyfile import read_config

    seen, broken = [], []
    for paths in _studies(folder):
        try:
            seen.append(summary.status(read_config(paths), paths, storage))
        except InputError as error:  # one study that cannot be read hides no other
            broken.append(str(error))
    if as_json:
        sys.stdout.write(json.dumps([asdict(one) for one in seen], indent=2) + "\n")
    else:
        for one in seen:
            for part in summary.status_tables(one):
                console.print(part, highlight=False)
    if broken:
        raise InputError("\n".join(broken))


@app.command()
def export(folder: FolderArgument, storage: StorageFlag = None) -> None:
    """Rebuild a study's tables from its folder and its storage."""
    from gsvae_tune.report import summary
    from gsvae_tune.study.studyfile import read_config

    for paths in _studies(folder):
        tables = summary.export(read_config(paths), paths, storage)
        for name, frame in tables.items():
            console.print(
                f"{paths.table(name)}: {len(frame)} rows",
                highlight=False,
                markup=False,
                soft_wrap=True,
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
    where = "" if data_dir is None else f" --data-dir {data_dir}"
    console.print(f"next: gsvae-tune run {source}{where}", highlight=False, markup=False)


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


def _key_value(pair: str) -> tuple[str, Any]:
    from gsvae_tune.study.loading import read_value

    key, equals, text = pair.partition("=")
    if not equals or not key:
        raise InputError(f"{pair!r} sets nothing", where="--set", legal="KEY=VALUE")
    return key, read_value(text, f"--set {key}")


def _studies(folder: str) -> list[StudyPaths]:
    from gsvae_tune.study.paths import expand, find_studies

    found = list(find_studies(expand(folder, "DIR")))
    if not found:
        raise InputError(
            "holds no study",
            where=folder,
            legal="a folder with a study.json, or one that holds such folders",
            next_step="gsvae-tune run",
        )
    return found


@app.command()
def bench(
    part: Annotated[
        list[str] | None,
        typer.Argument(help="What to measure; default: all.", metavar="[PART]..."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Rough figures in two or three minutes.")
    ] = False,
    threads: Annotated[
        int, typer.Option(min=1, help="Threads of each training process measured.")
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure training and searching on this machine, beside what others do."""
    from gsvae_tune.bench import results, suite
    from gsvae_tune.execution.cluster import interruptible
    from gsvae_tune.execution.progress import duration

    unknown = [name for name in part or [] if name not in results.PARTS]
    if unknown:
        raise InputError(f"no part {unknown[0]!r}", where="bench", legal=", ".join(results.PARTS))
    gpu = results.gpu_name()
    wanted = part or [name for name in results.PARTS if name != "gpu" or gpu]
    if "gpu" in wanted and not gpu:
        raise InputError("PyTorch sees no NVIDIA GPU here", where="gpu", legal="any other part")
    total = sum(results.PARTS[name] for name in wanted) / (8 if quick else 1)
    errors.print(
        f"about {duration(total)} on two cores; leave the machine alone meanwhile", highlight=False
    )
    with interruptible():
        found = results.run(wanted, suite.QUICK if quick else suite.FULL, threads, errors)
    if as_json:
        console.print_json(json.dumps(found))
        return
    for shown in results.tables(found):
        console.print(shown, highlight=False)
    console.print(
        "x: times as fast, medians of measurements taken in turn; whole studies ran once each"
        + (", and with --quick they measure starting up" if quick and "study" in wanted else "")
        + ".\nnext: gsvae-tune bench --json > bench.json\n      keeps them for comparison",
        highlight=False,
    )


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
    except OSError as error:
        # A file system's refusal that no one nearer to it explained.
        errors.print(f"error: {error}", highlight=False, markup=False, soft_wrap=True)
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        return int(ExitCode.UNFINISHED if full else ExitCode.WRONG_INPUT)
    except _ClickError as error:
        error.show()
        return int(ExitCode.WRONG_INPUT)
    except (typer.Abort, KeyboardInterrupt):
        errors.print("interrupted", highlight=False)
        return int(ExitCode.INTERRUPTED)
    return code if isinstance(code, int) else int(ExitCode.DONE)


if __name__ == "__main__":
    main()
