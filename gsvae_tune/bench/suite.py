"""The measurements. Every number compared is a ratio of two taken in turn in the same run.

Each contender runs in a process of its own with the same number of threads; what is compared is
repeated in turn, and the median of the repeats' ratios is reported. Whole studies and rounded
products are run once each.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsvae_tune.execution.resources import one_of
from gsvae_tune.search import studies
from gsvae_tune.search.confirm import searched_arms
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
    window_s: float  # in which trials share a GPU


FULL = Effort(
    repeats=5,
    epochs=5,
    steps={"digits": 100, "mnist": 20},
    replicates=(1, 2, 4, 8, 16),
    study_trials=60,
    study_epochs=60,
    startups=5,
    finished=(100, 1000, 10_000),
    window_s=10.0,
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
    window_s=3.0,
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
            "floor_share": _median(rounds, lambda s: s["products"] / s["stacked"]),
            # Above 1 where the trainer's products are faster than PyTorch's own choice.
            "torch_floor_share": _median(rounds, lambda s: s["torch-products"] / s["stacked"]),
            "us_per_member_step": _us_per_member_step(
                effort, shape, members, [seconds["stacked"] for seconds in rounds]
            ),
        }
    return found


def stacking(effort: Effort, threads: int, say: Say) -> dict[str, Any]:
    """Return microseconds per member and step, by shape and number of replicates."""
    found: dict[str, Any] = {}
    for shape in SHAPES:
        seconds: dict[int, list[float]] = {replicates: [] for replicates in effort.replicates}
        for repeat in range(effort.repeats):
            for replicates, measured in seconds.items():
                say(f"stacking, {shape}, {replicates} replicates: {repeat + 1} of {effort.repeats}")
                one = _contender(effort, "stacked", shape, replicates, threads=threads)
                measured.append(one["epoch_s"])
        found[shape] = {
            str(replicates): _us_per_member_step(effort, shape, 2 * replicates, measured)
            for replicates, measured in seconds.items()
        }
    return found


def _us_per_member_step(
    effort: Effort, shape: str, members: int, epoch_s: Sequence[float]
) -> float:
    return 1e6 * statistics.median(epoch_s) / members / effort.steps[shape]


def compiling(effort: Effort, threads: int, say: Say, device: str = "cpu") -> dict[str, Any]:
    """Compare the compiled step with the eager one; say what compiling costs."""
    found: dict[str, Any] = {}
    for shape in SHAPES:
        rounds = []
        for repeat in range(effort.repeats):
            say(f"torch.compile, {shape}: {repeat + 1} of {effort.repeats}")
            both = {
                name: _contender(effort, name, shape, threads=threads, device=device, may_fail=True)
                for name in ("stacked", "compiled")
            }
            rounds.append(both)
        failed = [both["compiled"]["error"] for both in rounds if "error" in both["compiled"]]
        if failed:
            found[shape] = {"error": failed[0]}
            continue
        found[shape] = {
            "speedup": statistics.median(
                both["stacked"]["epoch_s"] / both["compiled"]["epoch_s"] for both in rounds
            ),
            # The first one may find an empty cache.
            "compile_s": max(both["compiled"]["warm_up_s"] for both in rounds),
        }
    return found


def precision(effort: Effort, say: Say, device: str = "cpu") -> dict[str, Any]:
    """Return how far rounded products move the loss of the digits' VAE, in nats, and their speed.

    Ten members of five replicates train with the same weights, batches and noise in each precision.
    """
    runs = {}
    for name in ("float32", "tf32", "bfloat16"):
        say(f"precision {name}")
        what = {"precision": name, "epochs": effort.study_epochs, "device": device}
        (printed,) = _all([_module("gsvae_tune.bench.contenders", json.dumps(what))])
        runs[name] = json.loads(printed.splitlines()[-1])
    found = {}
    for name in ("tf32", "bfloat16"):
        moved = [a - b for a, b in zip(runs[name]["nats"], runs["float32"]["nats"], strict=True)]
        found[name] = {
            "nats": statistics.mean(moved),
            "standard_error": statistics.stdev(moved) / len(moved) ** 0.5,
            "speedup": runs["float32"]["wall_s"] / runs[name]["wall_s"],
        }
    return found


def study(effort: Effort, slots: int, say: Say) -> dict[str, Any]:
    """Compare whole studies, command to end: ours, Optuna's optimize, and Ray Tune's search.

    Each is run once: a full one takes minutes.
    """
    trials, epochs = effort.study_trials, effort.study_epochs
    shared = {"study": "digits", "epochs": epochs}
    with tempfile.TemporaryDirectory() as scratch:
        say(f"study of {trials} trials: ours")
        ours = _run_study(Path(scratch), trials, epochs, slots)
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
    per_minute = 60 * ours["trials"] / ours["wall_s"]
    return {
        "study": {
            "vs_optuna": per_minute / (60 * (trials // slots) * slots / optuna_s),
            "vs_raytune": per_minute / (60 * trials / raytune_s),
            "trials_per_minute": per_minute,
        },
        "overhead_share": ours["overhead_share"],
    }


def _run_study(out: Path, trials: int, epochs: int, slots: int) -> dict[str, float]:
    """Search the digits study; return its trials, seconds and the share of slots that stood idle.

    That share is of the time from the first training step to the end of the last trial.
    """
    from pyarrow import parquet

    trials //= len(searched_arms(studies.load("digits")))
    begun = time.perf_counter()
    process = _module(
        "gsvae_tune.cli", "run", "digits", "--trials", trials, "--epochs", epochs, "--cpus", slots,
        "--out", out, "--until", "search",
    )  # fmt: skip
    _first(out, "epochs.jsonl", process)
    trained_from = time.time()
    _all([process])
    wall_s = time.perf_counter() - begun
    table = parquet.read_table(out / "digits/tables/trials.parquet", columns=["wall_s"])
    training_s = sum(table["wall_s"].to_pylist())
    ended = max(path.stat().st_mtime for path in out.glob("digits/trials/*/*/result.json"))
    return {
        "trials": table.num_rows,
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
        _line(process)
        bare_s = time.perf_counter() - begun
        _all([process])
        with tempfile.TemporaryDirectory() as out:
            words = ["run", "digits", "--trials", 1, "--until", "search", "--out", out]
            begun = time.perf_counter()
            process = _module("gsvae_tune.cli", *words)
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
    from gsvae_tune.search.ledger import Ledger
    from gsvae_tune.search.storage import open_storage
    from gsvae_tune.study.paths import StudyPaths

    found = {}
    for finished in effort.finished:
        say(f"suggestion after {finished} trials")
        # As many before as after: the cost grows within a block of trials, and falls at its end.
        asked = min(250, finished)
        before = finished - asked // 2
        overrides = {
            "simulate.table": "valley",
            "search.trials": before + asked,
            "protocol.until": "search",
            "search.random_fraction": before / (before + asked),  # those are quickly asked for
        }
        config = studies.load("digits", {key: (v, key) for key, v in overrides.items()})
        config = config.model_copy(update={"arms": {"pair": config.arms["pair"]}})
        objective = load_objective(config)
        with tempfile.TemporaryDirectory() as folder:
            paths = StudyPaths(Path(folder))
            ledger = Ledger(config, paths, open_storage(None, paths), "bench")
            seconds = []
            for _ in range(before + asked):
                begun = time.perf_counter()
                assignment = ledger.next()
                seconds.append(time.perf_counter() - begun)
                assert assignment is not None  # noqa: S101 - one at a time: none waits
                result = objective(assignment)
                result.write(paths.trial(assignment.arm, assignment.number).result)
                ledger.finish(assignment, result)
        found[str(finished)] = 1e3 * statistics.median(seconds[before:])
    return found


def gpu(
    effort: Effort, say: Say, device: str = "cuda", counts: Sequence[int] = (1, 2, 3, 4, 6, 8)
) -> dict[str, Any]:
    """Find how many trials at once give a GPU the most member-epochs a second, at MNIST's shape.

    Raises:
        UnfinishedError: not even one trial runs.
    """
    members = 2 * MEMBER_EPOCH_REPLICATES
    trials: dict[str, dict[str, Any]] = {}
    ratios = []
    for repeat in range(effort.repeats):
        say(f"one trial on the GPU beside the plain loop: {repeat + 1} of {effort.repeats}")
        plain_s = _contender(effort, "plain", "mnist", device=device)["epoch_s"]
        alone_s = _contender(effort, "stacked", "mnist", device=device)["epoch_s"]
        ratios.append(members * plain_s / alone_s)
    for count in counts:
        say(f"{count} trials on one GPU")
        together = _together(effort, "mnist", device, count)
        failed = [one["error"] for one in together if "error" in one]
        trials[str(count)] = {"error": failed[0]} if failed else {
            "member_epochs_per_s": sum(members / one["epoch_s"] for one in together),
            "peak_gib": max(one.get("peak_gib", 0.0) for one in together),
        }  # fmt: skip
    sound = {count: trials[str(count)] for count in counts if "error" not in trials[str(count)]}
    if not sound:
        raise UnfinishedError(f"no trial runs on this GPU: {trials[str(counts[0])]['error']}")
    best = max(sound, key=lambda count: sound[count]["member_epochs_per_s"])
    return {
        "vs_plain": statistics.median(ratios), "trials": trials, "best_fraction": one_of(best),
    }  # fmt: skip


# Processes ---------------------------------------------------------------------------------------


def _environment() -> dict[str, str]:
    # One thread a process, as Ray gives a trial; contenders set their own number.
    return os.environ | {"OMP_NUM_THREADS": "1"}


def _module(name: str, *args: object) -> subprocess.Popen[str]:
    return _start("-m", name, *args)


_running: set[subprocess.Popen[str]] = set()


def _start(*args: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(  # noqa: S603 - this Python, on modules of ours
        [sys.executable, *map(str, args)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=_environment(), preexec_fn=_end_with_parent,  # noqa: PLW1509 - one system call
    )  # fmt: skip
    _running.add(process)
    return process


# Looked up beforehand: between fork and exec as little as possible may happen.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def _end_with_parent() -> None:
    """Have Linux end this process when the benchmark is killed."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def stop_all() -> None:
    """End every process that still measures."""
    for process in _running:
        process.terminate()
    for process in _running:
        process.communicate()
    _running.clear()


def _all(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    """Wait for all; return what each printed."""
    printed = [process.communicate() for process in processes]
    _running.difference_update(processes)
    for process, (_, errors) in zip(processes, printed, strict=True):
        if process.returncode:
            last = (errors.strip().splitlines() or ["it printed nothing"])[-1]
            raise UnfinishedError(f"a measured process ended with {process.returncode}: {last}")
    return [out for out, _ in printed]


def _line(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    process.stdout.readline()


def _first(folder: Path, name: str, process: subprocess.Popen[str]) -> None:
    """Wait until a trial has a file of this name."""
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


def _together(effort: Effort, shape: str, device: str, count: int) -> list[dict[str, Any]]:
    """Measure several trials at once, each with its share of the GPU, in the same seconds."""
    what = {
        "contender": "stacked", "shape": shape, "replicates": MEMBER_EPOCH_REPLICATES,
        "steps": effort.steps[shape], "device": device, "gpu_fraction": one_of(count),
        "window_s": effort.window_s,
    }  # fmt: skip
    processes = [_module("gsvae_tune.bench.contenders", json.dumps(what)) for _ in range(count)]
    for process in processes:
        _line(process)  # it is ready, or has ended
    for process in processes:
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write("\n")
            process.stdin.flush()
    found = []
    for process in processes:
        try:
            found.append(json.loads(_all([process])[0].splitlines()[-1]))
        except UnfinishedError as error:
            found.append({"error": str(error)})
    return found


def _median(rounds: Sequence[Mapping[str, float]], of: Callable[[Any], float]) -> float:
    return statistics.median(of(one) for one in rounds)
