"""Verbs that measure: bench, calibrate."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated

import typer

from gsvae_tune.cli.application import app, console, errors
from gsvae_tune.study.errors import InputError

if TYPE_CHECKING:
    from gsvae_tune.report.verdict import Verdict
    from gsvae_tune.study.config import StudyConfig


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


@app.command()
def calibrate(
    study: Annotated[
        str, typer.Argument(help="The study whose baseline is compared with itself.")
    ] = "digits",
    studies: Annotated[int, typer.Option(min=0, help="Simulated studies of each kind.")] = 1000,
    real: Annotated[int, typer.Option(min=0, help="A/A studies that really train.")] = 0,
    effect: Annotated[
        float | None,
        typer.Option(help="Planted effect, nats; default: what is to be found 4 times in 5."),
    ] = None,
    trials: Annotated[int, typer.Option(min=4, help="Trials of each search.")] = 10,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Another key of the study.", metavar="KEY=VALUE"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare the baseline with itself, many times: how often is something found?"""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from gsvae_tune.bench import calibration
    from gsvae_tune.cli.studies import key_value
    from gsvae_tune.execution.cluster import interruptible
    from gsvae_tune.search.studies import load

    overrides = {key: (value, f"--set {key}=") for key, value in map(key_value, set_ or [])}
    config = load(study, overrides | {"search.trials": (trials, "--trials")})
    protocol = config.protocol
    calibration.check(protocol, effect)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    workers = config.resources.cpus or os.cpu_count() or 1
    kinds = {"one configuration": calibration.unsearched(config), "searched": config}
    found = []
    with interruptible(), Progress(*columns, console=errors, transient=True) as bar:
        for kind, own in kinds.items() if studies else ():

            def simulate(name: str, planted: float, own: StudyConfig = own) -> list[Verdict]:
                task = bar.add_task(name, total=studies)
                return calibration.simulate_many(
                    own, studies, planted, workers, lambda: bar.advance(task)
                )

            name = f"A/A, {kind}"
            pilots = simulate(name, 0.0)
            null = calibration.summarize(name, pilots, 0.0)
            planted = calibration.detectable(protocol, null) if effect is None else effect
            name = f"{planted:.3f} nats planted, {kind}"
            promised = calibration.promise(protocol, pilots, planted)
            verdicts = simulate(name, planted)
            found += [null, calibration.summarize(name, verdicts, planted, promised)]
        if real:
            task = bar.add_task("A/A, trained", total=real)
            trained = calibration.train_many(config, real, lambda: bar.advance(task))
            found.append(calibration.summarize("A/A, trained", trained, 0.0))
    if as_json:
        console.print_json(json.dumps(calibration.as_dict(found)))
        return
    for shown in calibration.tables(found, protocol.alpha):
        console.print(shown, highlight=False)
    console.print(
        "next: gsvae-tune plan DIR\n      what a study of yours needs to find such an effect",
        highlight=False,
    )
