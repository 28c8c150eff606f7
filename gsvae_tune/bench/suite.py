"""The measurements. Every number compared is a ratio of two taken in turn in the same run.

Each contender runs in a process of its own with the same number of threads; what is compared is
repeated in turn, and the median of the repeats' ratios is reported.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsvae_tune.study.errors import UnfinishedError

Say = Callable[[str], None]


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    repeats: int  # of each comparison
    epochs: int  # measured in each process
    steps: Mapping[str, int]  # optimizer steps an epoch, by shape
    replicates: Sequence[int]  # for stacking
    study_trials: int  # in all
    study_epochs: int
    startups: int
    finished: Sequence[int]  # trials that the sampler has seen


FULL = Effort(
    repeats=5,
    epochs=5,
    steps={"digits": 100, "mnist": 20},
    replicates=(1, 2, 4, 8, 16),
    study_trials=60,
    study_epochs=60,
    startups=5,
    finished=(100, 1000, 10_000),
)
QUICK = Effort(
    repeats=2,
    epochs=3,
    steps={"digits": 40, "mnist": 6},
    replicates=(1, 2, 4),
    study_trials=8,
    study_epochs=10,
    startups=1,
    finished=(100, 1000),
)

SHAPES = ("digits", "mnist")
MEMBER_EPOCH_REPLICATES = 5


def member_epoch(effort: Effort, threads: int, say: Say) -> dict[str, Any]:
    """Compare our trainer with the plain loop and with bare products, per member and epoch."""
    found: dict[str, Any] = {}
    members = 2 * MEMBER_EPOCH_REPLICATES
    for shape in SHAPES:
        rounds = []
        for repeat in range(effort.repeats):
            say(f"member-epoch, {shape}: {repeat + 1} of {effort.repeats}")
            seconds = {
                contender: _contender(effort, contender, shape, threads=threads)["epoch_s"]
                for contender in ("stacked", "plain", "torch-products", "products")
            }
            rounds.append(seconds)
        found[shape] = {
            "vs_plain": _median(rounds, lambda s: members * s["plain"] / s["stacked"]),
            "floor_share": _median(rounds, lambda s: s["torch-products"] / s["stacked"]),
            "fastest_floor_share": _median(rounds, lambda s: s["products"] / s["stacked"]),
            "us_per_member_step": _us_per_member_step(
                effort, shape, members, [seconds["stacked"] for seconds in rounds]
            ),
        }
    return found


def stacking(effort: Effort, threads: int, say: Say) -> dict[str, Any]:
    """Return microseconds per member and step, by shape and number of replicates."""
    found: dict[str, Any] = {}
    for shape in SHAPES:
        found[shape] = {}
        for replicates in effort.replicates:
            say(f"stacking, {shape}: {replicates} replicates")
            rounds = [
                _contender(effort, "stacked", shape, replicates, threads=threads)["epoch_s"]
                for _ in range(min(effort.repeats, 3))
            ]
            cost = _us_per_member_step(effort, shape, 2 * replicates, rounds)
            found[shape][str(replicates)] = cost
    return found


def _us_per_member_step(
    effort: Effort, shape: str, members: int, epoch_s: Sequence[float]
) -> float:
    return 1e6 * statistics.median(epoch_s) / members / effort.steps[shape]


def compiling(effort: Effort, threads: int, say: Say, device: str = "cpu") -> dict[str, Any]:
    """Compare the compiled step with the eager one; say what compiling costs."""
    found: dict[str, Any] = {}
    for shape in SHAPES:
        say(f"torch.compile, {shape}")
        both = {
            name: _contender(effort, name, shape, threads=threads, device=device, may_fail=True)
            for name in ("stacked", "compiled")
        }
        if "error" in both["compiled"]:
            found[shape] = {"error": both["compiled"]["error"]}
            continue
        found[shape] = {
            "speedup": both["stacked"]["epoch_s"] / both["compiled"]["epoch_s"],
            "compile_s": both["compiled"]["warm_up_s"],
        }
    return found


def study(effort: Effort, slots: int, say: Say) -> dict[str, Any]:
    """Compare whole studies, command to end: ours, Optuna's optimize, and Ray Tune's search."""
    trials, epochs = effort.study_trials, effort.study_epochs
    shared = {"study": "digits", "epochs": epochs}
    with tempfile.TemporaryDirectory() as scratch:
        say(f"study of {trials} trials: ours")
        ours = _run_study(Path(scratch), trials // 2, epochs, slots)
        say(f"study of {trials} trials: Optuna's optimize, {slots} processes")
        journal = f"{scratch}/plain.journal"
        what = shared | {"trials": trials // slots, "journal": journal}
        begun = time.perf_counter()
        _all([_module("gsvae_tune.bench.rivals", "optuna", json.dumps(what)) for _ in range(slots)])
        optuna_s = time.perf_counter() - begun
        say(f"study of {trials} trials: Ray Tune's OptunaSearch")
        begun = time.perf_counter()
        what = shared | {"trials": trials, "slots": slots}
        _all([_module("gsvae_tune.bench.rivals", "raytune", json.dumps(what))])
        raytune_s = time.perf_counter() - begun
    done = 2 * (trials // 2)
    per_minute = 60 * done / ours["wall_s"]
    return {
        "study": {
            "vs_optuna": per_minute / (60 * (trials // slots) * slots / optuna_s),
            "vs_raytune": per_minute / (60 * trials / raytune_s),
            "trials_per_minute": per_minute,
        },
        "overhead_share": ours["overhead_share"],
    }


def _run_study(out: Path, trials: int, epochs: int, slots: int) -> dict[str, float]:
    """Run the digits study; return its seconds and the share of its slots that did not train.

    That share is of the time from the first training step to the end of the last trial.
    """
    from pyarrow import parquet

    begun = time.perf_counter()
    process = _module(
        "gsvae_tune.cli", "run", "digits", "--trials", trials, "--epochs", epochs, "--cpus", slots,
        "--out", out,
    )  # fmt: skip
    _first(out, "epochs.jsonl", process)
    trained_from = time.time()
    _all([process])
    wall_s = time.perf_counter() - begun
    table = parquet.read_table(out / "digits/tables/trials.parquet", columns=["wall_s"])
    training_s = sum(table["wall_s"].to_pylist())
    ended = max(path.stat().st_mtime for path in out.glob("digits/trials/*/*/result.json"))
    return {
        "wall_s": wall_s,
        "overhead_share": 1.0 - training_s / (slots * (ended - trained_from)),
    }


def startup(effort: Effort, say: Say) -> dict[str, float]:
    """Compare the time from the command to the first training step with bare ray.init + torch."""
    bare = (
        "import gsvae_tune.execution.environment, ray, torch; "
        "ray.init(include_dashboard=False, logging_level='ERROR', log_to_driver=False); "
        "print('up', flush=True); ray.shutdown()"
    )
    rounds = []
    for repeat in range(effort.startups):
        say(f"startup: {repeat + 1} of {effort.startups}")
        begun = time.perf_counter()
        process = _start("-c", bare)
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        process.stdout.readline()
        bare_s = time.perf_counter() - begun
        _all([process])
        with tempfile.TemporaryDirectory() as out:
            begun = time.perf_counter()
            process = _module("gsvae_tune.cli", "run", "digits", "--trials", 1, "--out", out)
            _first(Path(out), "epochs.jsonl", process)
            ours_s = time.perf_counter() - begun
            _all([process])
        rounds.append({"bare": bare_s, "ours": ours_s})
    return {
        "ratio": _median(rounds, lambda s: s["ours"] / s["bare"]),
        "seconds": _median(rounds, lambda s: s["ours"]),
    }


def suggestions(effort: Effort, say: Say) -> dict[str, float]:
    """Return milliseconds a suggestion takes after so many finished trials of an arm."""
    from gsvae_tune.execution.objectives import load_objective
    from gsvae_tune.search import studies
    from gsvae_tune.search.ledger import Ledger, open_storage
    from gsvae_tune.study.paths import StudyPaths

    found = {}
    asked = 30
    for finished in effort.finished:
        say(f"suggestion after {finished} trials")
        overrides = {
            "simulate.table": "valley",
            "search.trials": finished + asked,
            "search.random_fraction": finished / (finished + asked),  # those are quickly asked for
        }
        config = studies.load("digits", {key: (v, key) for key, v in overrides.items()})
        config = config.model_copy(update={"arms": {"pair": config.arms["pair"]}})
        objective = load_objective(config)
        with tempfile.TemporaryDirectory() as folder:
            paths = StudyPaths(Path(folder))
            ledger = Ledger(config, paths, open_storage(None, paths), "bench")
            seconds = []
            for _ in range(finished + asked):
                begun = time.perf_counter()
                assignment = ledger.next()
                seconds.append(time.perf_counter() - begun)
                assert assignment is not None  # noqa: S101 - one at a time: none waits
                result = objective(assignment)
                result.write(paths.trial(assignment.arm, assignment.number).result)
                ledger.finish(assignment.arm, assignment.number, result)
        found[str(finished)] = 1e3 * statistics.median(seconds[finished:])
    return found


def gpu(effort: Effort, say: Say, device: str = "cuda") -> dict[str, Any]:
    """Find how many trials at once give a GPU the most member-epochs a second, at MNIST's shape."""
    members = 2 * MEMBER_EPOCH_REPLICATES
    shape = "mnist"
    plain_s = _contender(effort, "plain", shape, device=device)["epoch_s"]
    trials = {}
    for count in (1, 2, 3, 4, 6, 8):
        say(f"{count} trials on one GPU")
        together = _contenders(effort, "stacked", shape, device, count)
        if any("error" in one for one in together):
            trials[str(count)] = {"error": next(o["error"] for o in together if "error" in o)}
            continue
        trials[str(count)] = {
            "member_epochs_per_s": sum(members / one["epoch_s"] for one in together),
            "peak_gib": max(one.get("peak_gib", 0.0) for one in together),
        }
    sound = {k: v["member_epochs_per_s"] for k, v in trials.items() if "error" not in v}
    best = max(sound, key=lambda count: sound[count]) if sound else "1"
    return {
        "vs_plain": sound.get("1", 0.0) * plain_s,
        "trials": trials,
        "best_fraction": round(1.0 / int(best), 4),
    }


# Processes ---------------------------------------------------------------------------------------


def _environment() -> dict[str, str]:
    # One thread a process, as Ray gives a trial; contenders set their own number.
    return os.environ | {"OMP_NUM_THREADS": "1"}


def _module(name: str, *args: object) -> subprocess.Popen[str]:
    return _start("-m", name, *args)


def _start(*args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 - this Python, on modules of ours
        [sys.executable, *map(str, args)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=_environment(),
    )  # fmt: skip


def _all(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    """Wait for all; return what each printed."""
    with _killed_if_interrupted(processes):
        printed = [process.communicate() for process in processes]
    for process, (_, errors) in zip(processes, printed, strict=True):
        if process.returncode:
            last = (errors.strip().splitlines() or ["it printed nothing"])[-1]
            raise UnfinishedError(f"a measured process ended with {process.returncode}: {last}")
    return [out for out, _ in printed]


@contextmanager
def _killed_if_interrupted(processes: Sequence[subprocess.Popen[str]]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
        raise


def _first(folder: Path, name: str, process: subprocess.Popen[str]) -> None:
    """Wait until a trial has a file of this name."""
    with _killed_if_interrupted([process]):
        while not any(folder.glob(f"*/trials/*/*/{name}")):
            if process.poll() is not None:
                _all([process])
                raise UnfinishedError("the measured study ended before it trained")
            time.sleep(0.005)


def _contender(
    effort: Effort,
    name: str,
    shape: str,
    replicates: int = MEMBER_EPOCH_REPLICATES,
    *,
    threads: int = 1,
    device: str = "cpu",
    may_fail: bool = False,
) -> dict[str, Any]:
    what = {
        "contender": name, "shape": shape, "replicates": replicates, "threads": threads,
        "steps": effort.steps[shape], "repeats": effort.epochs, "device": device,
    }  # fmt: skip
    try:
        (printed,) = _all([_module("gsvae_tune.bench.contenders", json.dumps(what))])
    except UnfinishedError as error:
        if not may_fail:
            raise
        return {"error": str(error)}
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def _contenders(
    effort: Effort, name: str, shape: str, device: str, count: int
) -> list[dict[str, Any]]:
    """Measure several at once, each with its share of the GPU, from when all are ready."""
    what = {
        "contender": name, "shape": shape, "replicates": MEMBER_EPOCH_REPLICATES,
        "steps": effort.steps[shape], "repeats": 3 * effort.epochs, "device": device,
        "gpu_fraction": 1 / count, "together": True,
    }  # fmt: skip
    processes = [_module("gsvae_tune.bench.contenders", json.dumps(what)) for _ in range(count)]
    with _killed_if_interrupted(processes):
        for process in processes:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            process.stdout.readline()
        found = []
        for process in processes:
            assert process.stdin is not None  # noqa: S101
            if process.poll() is None:
                process.stdin.write("\n")
                process.stdin.flush()
        for process in processes:
            out, errors = process.communicate()
            lines = out.strip().splitlines()
            if process.returncode or not lines:
                found.append({"error": (errors.strip().splitlines() or ["no output"])[-1]})
            else:
                found.append(json.loads(lines[-1]))
    return found


def _median(rounds: Sequence[Mapping[str, float]], of: Callable[[Any], float]) -> float:
    return statistics.median(of(one) for one in rounds)
