"""Verbs on a study: run, status, export, plan."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gsvae_tune.cli.application import (
    FolderArgument,
    StorageFlag,
    app,
    console,
    find_studies_in,
)
from gsvae_tune.cli.reporting import report_on
from gsvae_tune.study.errors import InputError, StoppedError

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from gsvae_tune.execution.runner import Run
    from gsvae_tune.report.verdict import Verdict
    from gsvae_tune.study.config import StudyConfig

# Flags of `run` that set a key of the study, by the flag's parameter name.
FLAGS = {
    "name": "name",
    "trials": "search.trials",
    "replicates": "replicates",
    "epochs": "training.epochs",
    "seed": "seed",
    "sampler": "search.sampler",
    "until": "protocol.until",
    "reopen_test": "protocol.reopen_test",
    "out": "out",
    "data_dir": "data.dir",
    "storage": "storage",
    "track": "tracking",
    "gpus": "resources.gpus",
    "cpus": "resources.cpus",
    "gpus_per_trial": "resources.gpus_per_trial",
    "cpus_per_trial": "resources.cpus_per_trial",
    "report": "report",
    "simulate": "simulate.table",
    "simulated_slots": "simulate.slots",
}


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
    until: Annotated[
        str | None, typer.Option(help="Stop after this phase: search, confirm or verdict.")
    ] = None,
    reopen_test: Annotated[
        str | None,
        typer.Option(help="Open the test split again: why. Marks the result.", metavar="WHY"),
    ] = None,
    out: Annotated[str | None, typer.Option(help="Folder for the study's folder.")] = None,
    data_dir: Annotated[str | None, typer.Option(help="Folder of the idx files.")] = None,
    storage: StorageFlag = None,
    track: Annotated[
        list[str] | None,
        typer.Option(
            help="Show the trials also in tensorboard, mlflow or wandb; several: with commas.",
            metavar="TOOL",
        ),
    ] = None,
    gpus: Annotated[int | None, typer.Option(help="Logical GPUs to use.")] = None,
    cpus: Annotated[int | None, typer.Option(help="Logical CPUs to use.")] = None,
    gpus_per_trial: Annotated[float | None, typer.Option(help="Fraction of a GPU a trial.")] = None,
    cpus_per_trial: Annotated[float | None, typer.Option(help="CPUs a trial.")] = None,
    report: Annotated[
        bool | None, typer.Option("--report/--no-report", help="Write the report at the end.")
    ] = None,
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
    """Search, confirm on fresh seeds, test, judge. The same command again resumes."""
    from gsvae_tune.search import studies

    track = [tool for given in track or [] for tool in given.split(",")] or None
    overrides = _overrides(locals(), set_ or [])
    config = studies.load(study, overrides)

    from gsvae_tune.execution.runner import run_study
    from gsvae_tune.study.paths import StudyPaths

    paths = StudyPaths.of(config.out, config.name)
    try:
        # Where the trials are recorded is nobody's business who reads the report.
        done = run_study(config, console, _command(study, overrides, storage="URL"))
        tables, verdict = _show_result(config, done)
        if config.report:
            report_on(done.paths, config, tables, verdict)
    except KeyboardInterrupt:
        kept = f"everything finished is kept in {paths.root}"
        raise StoppedError(
            f"\ninterrupted; {kept if paths.exists() else 'nothing had begun'}\n"
            f"next: {_command(study, overrides)}\n      goes on from here"
        ) from None
    console.print(
        f"study folder: {paths.root}\n" + _next_steps(study, config, overrides, paths.root),
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


def _next_steps(
    study: str, config: StudyConfig, overrides: dict[str, tuple[Any, str]], folder: Path
) -> str:
    """Return what one would do after a run."""
    trials = {"search.trials": (2 * config.search.trials, "--trials")}
    if config.protocol.until != "verdict":
        onward = {key: value for key, value in overrides.items() if key != "protocol.until"}
        return (
            f"next: {_command(study, onward)}\n      goes on to the verdict\n"
            f"      {_command(study, overrides | trials)}\n      searches further first, keeping "
            "what is there"
        )
    seed = config.seed + 1
    name = {"seed": (seed, "--seed"), "name": (f"{config.name}-{seed}", "--name")}
    return (
        f"next: {shlex.join(['gsvae-tune', 'plan', str(folder)])}\n"
        "      how many replicates a smaller difference would take\n"
        f"      {_command(study, overrides | trials | name)}\n"
        "      a longer search from another seed, as a study of its own: this one's test split is "
        "open"
    )


def _overrides(given: Mapping[str, Any], pairs: list[str]) -> dict[str, tuple[Any, str]]:
    """Return what the flags of `run` set: dotted key -> (value, the flag).

    Raises:
        InputError: a flag that does nothing by itself.
    """
    overrides = {
        key: (given[flag], f"--{'no-' if given[flag] is False else ''}{flag.replace('_', '-')}")
        for flag, key in FLAGS.items()
        if given[flag] is not None
    }
    for pair in pairs:
        key, value = key_value(pair)
        overrides[key] = (value, f"--set {key}=")
    if "simulate.slots" in overrides and "simulate.table" not in overrides:
        raise InputError(
            "simulates nothing by itself",
            where=overrides["simulate.slots"][1].rstrip("="),
            legal="with --simulate TABLE, or --simulate valley",
        )
    return overrides


def _show_result(config: StudyConfig, done: Run) -> tuple[dict[str, pd.DataFrame], Verdict | None]:
    """Write a study's tables and verdict, show what a run found, and return both."""
    from gsvae_tune.execution.progress import duration
    from gsvae_tune.report import conclusion, summary
    from gsvae_tune.report.troubles import trouble_tables
    from gsvae_tune.search.storage import open_storage

    storage = open_storage(
        config.storage, done.paths, must_exist=True,
        patience_s=config.faults.storage_patience_s,
        notify=lambda text: console.print(text, highlight=False, markup=False, soft_wrap=True),
    )  # fmt: skip
    tables = summary.export(config, done.paths, storage)
    if not done.trained and not done.tested:
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
    verdict = None
    if config.protocol.until == "verdict":
        verdict = summary.judge(config, done.paths, storage, tables)
    seen = summary.status(config, done.paths, storage)
    for part in summary.search_result(seen, tables["replicates"], alone=verdict is None):
        console.print(part, highlight=False)
    if verdict is not None:
        for part in conclusion.verdict_tables(verdict, seen, tables["trials"]):
            console.print(part, highlight=False)
    for part in trouble_tables(tables["trials"]):
        console.print(part, highlight=False)
    return tables, verdict


def _command(
    study: str, overrides: Mapping[str, tuple[Any, str]], storage: str | None = None
) -> str:
    """Return the `run` command with these flags, as a shell takes it.

    Args:
        study: as it was given.
        overrides: what the flags set.
        storage: what stands for the address of a storage; default: the address, without a password.
    """
    from gsvae_tune.study.passwords import without_password

    words = ["gsvae-tune", "run", study]
    for key, (value, flag) in overrides.items():
        secret = key == "storage" and isinstance(value, str)
        shown = (storage or without_password(value)) if secret else value
        name, sets, _ = flag.partition(" ")
        words.append(name)
        if sets:
            words.append(f"{key}={json.dumps(shown)}")
        elif not isinstance(shown, bool):
            words.append(",".join(shown) if key == "tracking" else str(shown))
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
    for paths in find_studies_in(folder):
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
def export(
    folder: FolderArgument,
    storage: StorageFlag = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format", help="parquet, csv or json; several: with commas.", metavar="FORMAT"
        ),
    ] = None,
) -> None:
    """Rebuild a study's tables from its folder and its storage."""
    from gsvae_tune.report import summary, tables
    from gsvae_tune.study.studyfile import read_config

    kinds = dict.fromkeys(kind for given in formats or ["parquet"] for kind in given.split(","))
    for kind in kinds:
        if kind not in tables.FORMATS:
            raise InputError(f"{kind!r} is none", where="--format", legal=", ".join(tables.FORMATS))
    for paths in find_studies_in(folder):
        built = summary.build_tables(read_config(paths), paths, storage)
        for name, path in tables.write(built, paths, kinds):
            console.print(
                f"{path}: {len(built[name])} rows",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )


def key_value(pair: str) -> tuple[str, Any]:
    from gsvae_tune.study.loading import read_value

    key, equals, text = pair.partition("=")
    if not equals or not key:
        raise InputError(f"{pair!r} sets nothing", where="--set", legal="KEY=VALUE")
    return key, read_value(text, f"--set {key}")


@app.command()
def plan(
    folder: FolderArgument,
    effect: Annotated[
        float | None,
        typer.Option(help="Difference to be found, nats; default: protocol.smallest_effect_nats."),
    ] = None,
    power: Annotated[float, typer.Option(help="Probability of finding it.")] = 0.8,
    storage: StorageFlag = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say how many replicates, and hours, it takes to find a difference."""
    from gsvae_tune.report import planning, summary
    from gsvae_tune.study.studyfile import read_config

    if effect is not None and not 0 < effect < float("inf"):
        raise InputError(f"is {effect}", where="--effect", legal="a finite number of nats > 0")
    if not 0 < power < 1:
        raise InputError(f"is {power}", where="--power", legal="a number between 0 and 1")
    answers = {}
    for paths in find_studies_in(folder):
        config = read_config(paths)
        tables = summary.build_tables(config, paths, storage)
        verdict = summary.decided(config, paths, storage, tables)
        wanted = config.protocol.smallest_effect_nats if effect is None else effect
        plans = planning.plan(config, tables, verdict, wanted, power)
        answers[config.name] = [asdict(one) for one in plans]
        if as_json:
            continue
        for part in planning.plan_tables(config, plans, power):
            console.print(part, highlight=False)
        most = max((one.replicates or 0 for one in plans), default=0)
        if most:
            console.print(
                f"next: the command that began this study, with --set protocol.replicates={most} "
                f"--seed {config.seed + 1} --name {config.name}-{config.seed + 1}",
                highlight=False, markup=False, soft_wrap=True,
            )  # fmt: skip
    if as_json:
        sys.stdout.write(json.dumps(answers, indent=2) + "\n")
