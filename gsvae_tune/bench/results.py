"""The parts of the benchmark by name, and their answers as tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from gsvae_tune.bench import suite
from gsvae_tune.bench.suite import Effort, Say
from gsvae_tune.study.studyfile import hardware, versions

# Rough seconds of a full run on two cores, for the time left.
PARTS = {
    "member-epoch": 230.0,
    "stacking": 330.0,
    "compile": 190.0,
    "precision": 20.0,
    "study": 600.0,
    "startup": 90.0,
    "suggest": 60.0,
    "gpu": 240.0,
}


def run(parts: Sequence[str], effort: Effort, threads: int, console: Console) -> dict[str, Any]:
    """Measure the parts; return what `--json` prints.

    Args:
        parts: of `PARTS`.
        effort: how much of each.
        threads: of each contender of member-epoch and stacking.
        console: shows what is measured now and the time left.
    """
    columns = (
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=sum(PARTS[part] for part in parts))
        jobs = _jobs(effort, threads, lambda text: bar.update(task, description=text))
        found: dict[str, Any] = {
            "date": datetime.now(timezone.utc).date().isoformat(),
            "machine": hardware() | {"gpu": gpu_name()}, "versions": versions(), "threads": threads,
        }  # fmt: skip
        try:
            for part in parts:
                found |= jobs[part]()
                bar.advance(task, PARTS[part])
        finally:
            suite.stop_all()
    return found


def _jobs(effort: Effort, threads: int, say: Say) -> dict[str, Callable[[], dict[str, Any]]]:
    return {
        "member-epoch": lambda: {"member_epoch": suite.member_epoch(effort, threads, say)},
        "stacking": lambda: {"stacking": suite.stacking(effort, threads, say)},
        "compile": lambda: {"compile": suite.compiling(effort, threads, say)},
        "precision": lambda: {"precision": suite.precision(effort, say)},
        "study": lambda: suite.study(effort, min(2, os.cpu_count() or 1), say),
        "startup": lambda: _startup(suite.startup(effort, say)),
        "suggest": lambda: {"suggest_ms": suite.suggestions(effort, say)},
        "gpu": lambda: {
            "gpu": suite.gpu(effort, say)
            | {"compile": suite.compiling(effort, 1, say, device="cuda")}
            | {"precision": suite.precision(effort, say, device="cuda")}
        },
    }


def _startup(found: dict[str, float]) -> dict[str, Any]:
    return {"startup_ratio": found["ratio"], "startup_s": found["seconds"]}


def gpu_name() -> str | None:
    """Return the NVIDIA GPU that PyTorch sees here, None where it sees none."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def tables(found: dict[str, Any]) -> list[RenderableType]:
    """Return what `bench` prints."""
    makers = {
        "precision": _precision,
        "member_epoch": _member_epoch, "stacking": _stacking, "compile": _compile, "gpu": _gpu,
    }  # fmt: skip
    shown: list[RenderableType] = [make(found[key]) for key, make in makers.items() if key in found]
    rows = _scalars(found)
    if rows:
        table = _table("study", "what", "figure")
        for row in rows:
            table.add_row(*row)
        shown.append(table)
    return shown


def _member_epoch(found: dict[str, Any]) -> Table:
    table = _table("training, 5 replicates (10 members)", "shape", "us a member and step",
                   "x plain loop", "share of its products", "of torch's own")  # fmt: skip
    for shape, row in found.items():
        table.add_row(
            shape,
            f"{row['us_per_member_step']:.0f}",
            f"{row['vs_plain']:.2f}",
            f"{row['floor_share']:.0%}",
            f"{row['torch_floor_share']:.0%}",
        )
    return table


def _stacking(found: dict[str, Any]) -> Table:
    counts = list(next(iter(found.values())))
    table = _table("stacking: us a member and step", "replicates", *counts)
    for shape, row in found.items():
        table.add_row(shape, *(f"{value:.0f}" for value in row.values()))
    return table


def _compile(found: dict[str, Any]) -> Table:
    table = _table("torch.compile", "shape", "x eager", "first epoch (s)")
    for shape, row in found.items():
        if "error" in row:
            table.add_row(shape, row["error"], "-")
        else:
            table.add_row(shape, f"{row['speedup']:.2f}", f"{row['compile_s']:.1f}")
    return table


def _precision(found: dict[str, Any]) -> Table:
    table = _table("rounded products, digits", "precision", "loss moves by (nats)", "x float32")
    for name, row in found.items():
        moved = f"{row['nats']:+.3f} +- {row['standard_error']:.3f}"
        table.add_row(name, moved, f"{row['speedup']:.2f}")
    return table


def _gpu(found: dict[str, Any]) -> Table:
    table = _table(
        f"trials at once on one GPU, MNIST shape: use --gpus-per-trial {found['best_fraction']:g}; "
        f"one trial alone is {found['vs_plain']:.1f} x the plain loop",
        "trials", "member-epochs/s", "peak GiB a trial",
    )  # fmt: skip
    for count, row in found["trials"].items():
        if "error" in row:
            table.add_row(count, row["error"], "-")
        else:
            table.add_row(count, f"{row['member_epochs_per_s']:.1f}", f"{row['peak_gib']:.2f}")
    return table


def _scalars(found: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    if "study" in found:
        study = found["study"]
        rows += [
            ("trials a minute", f"{study['trials_per_minute']:.1f}"),
            ("x Optuna's optimize", f"{study['vs_optuna']:.2f}"),
            ("x Ray Tune's OptunaSearch", f"{study['vs_raytune']:.2f}"),
            ("slots not training", f"{found['overhead_share']:.1%}"),
        ]
    if "startup_ratio" in found:
        rows += [
            ("command to first step", f"{found['startup_s']:.1f} s"),
            ("x ray.init + import torch", f"{found['startup_ratio']:.2f}"),
        ]
    rows += [
        (f"a suggestion after {count} trials", f"{ms:.1f} ms")
        for count, ms in found.get("suggest_ms", {}).items()
    ]
    return rows


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column == columns[0] else "right")
    return table
