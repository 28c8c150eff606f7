"""What trains in a process of its own, so that no contender sees another's settings.

    python -m gsvae_tune.bench.contenders '{"contender": "plain", ...}'

prints one line of JSON.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from gsvae_tune.bench import plain
from gsvae_tune.search import studies
from gsvae_tune.study.config import Precision, StudyConfig
from gsvae_tune.tau import OpenLoopController, PairController
from gsvae_tune.tau.schedules import Constant
from gsvae_tune.vae.data import Splits, load_splits
from gsvae_tune.vae.memory import keep_freed_memory
from gsvae_tune.vae.training import PairTraining

Epoch = Callable[[], Any]
PIXELS = {"digits": 64, "mnist": 784}


def images(study: StudyConfig, steps: int) -> np.ndarray:
    """Return random black and white images, (steps x batch, pixels), bytes."""
    size = (steps * study.training.batch_size, PIXELS[study.name])
    return np.random.default_rng(0).integers(0, 2, size, dtype=np.uint8) * np.uint8(255)


def stacked(
    study: StudyConfig, steps: int, replicates: int, device: str, *, compiled: bool = False
) -> Epoch:
    """Our trainer. It evaluates on one image, so that an epoch is its training steps."""
    keep_freed_memory()
    data = images(study, steps)
    one = data[:1]
    splits = Splits(data, one, one, 1, data.shape[1], "random", redraw=False)
    training = PairTraining(
        splits,
        study.model,
        study.training.model_copy(
            update={"epochs": 1_000_000, "evaluation_samples": 1, "compile": compiled}
        ),
        list(range(replicates)),
        PairController(replicates=replicates),
        learning_rate=1e-3,
        device=device,
    )
    epochs = training.epochs()

    def epoch() -> None:
        next(epochs)
        if compiled and training.compiled != "yes":
            raise RuntimeError(f"compiled: {training.compiled}")

    return epoch


def one_by_one(study: StudyConfig, steps: int, device: str) -> Epoch:
    """The plain loop, for one VAE."""
    model = plain.PlainVAE(_architecture(study)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    batches = plain.loader(images(study, steps), study.training.batch_size, shuffle=True)
    return lambda: plain.train_epoch(model, optimizer, batches, 1.0, device)


def products(study: StudyConfig, steps: int, replicates: int, device: str, *, best: bool) -> Epoch:
    """The bare matrix products of a training step of all members, into memory held ready.

    Args:
        study: gives widths and batch.
        steps: products of so many steps an epoch.
        replicates: two members each.
        device: where.
        best: with the library that our trainer found fastest, else with PyTorch's own choice.
    """
    from gsvae_tune.vae.precision import product

    if best:
        product("float32")
    shape = _architecture(study)
    inner = [*shape.hidden, shape.latents * shape.categories]
    widths = [shape.pixels, *inner, *inner[-2::-1], shape.pixels]
    batch, members = study.training.batch_size, 2 * replicates
    layers = list(range(len(widths) - 1))
    values = [torch.randn(members, batch, width, device=device) for width in widths]
    weights = [torch.randn(members, widths[i], widths[i + 1], device=device) for i in layers]
    gradients = [torch.empty_like(weight) for weight in weights]
    scratch = [torch.empty_like(value) for value in values]

    def epoch() -> None:
        for _ in range(steps):
            for i in layers:
                torch.bmm(values[i], weights[i], out=scratch[i + 1])
            for i in reversed(layers):
                torch.bmm(values[i].mT, values[i + 1], out=gradients[i])
                if i:  # images need no gradient
                    torch.bmm(values[i + 1], weights[i].mT, out=scratch[i])

    return epoch


def _architecture(study: StudyConfig) -> plain.Architecture:
    model = study.model
    return plain.Architecture(
        PIXELS[study.name], list(model.hidden), model.latents, model.categories
    )


def build(contender: str, shape: str, steps: int, replicates: int, device: str) -> Epoch:
    """Return a contender's epoch."""
    study = studies.load(shape)
    if contender == "plain":
        return one_by_one(study, steps, device)
    if contender in ("products", "torch-products"):
        return products(study, steps, replicates, device, best=contender == "products")
    return stacked(study, steps, replicates, device, compiled=contender == "compiled")


def measure(epoch: Epoch, repeats: int, device: str) -> float:
    """Return the median seconds of an epoch."""
    seconds = []
    for _ in range(repeats):
        _wait(device)
        begun = time.perf_counter()
        epoch()
        _wait(device)
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def mean_over(epoch: Epoch, window_s: float, device: str) -> float:
    """Return the mean seconds of the epochs that begin within so many seconds."""
    begun = time.perf_counter()
    count = 0
    while time.perf_counter() - begun < window_s:
        epoch()
        _wait(device)
        count += 1
    return (time.perf_counter() - begun) / count


def rounded(precision: Precision, epochs: int, device: str) -> dict[str, Any]:
    """Train the digits' VAE; return each member's loss at the end, in nats, and the seconds."""
    study = studies.load("digits")
    splits = load_splits(study.data, study.seed)
    keep_freed_memory()
    training = PairTraining(
        splits,
        study.model,
        study.training.model_copy(update={"epochs": epochs, "precision": precision}),
        list(range(5)),
        OpenLoopController(Constant(0.5), Constant(1.0), 5),
        learning_rate=3e-3,
        device=device,
    )
    *_, last = training.epochs()
    return {"nats": np.ravel(last.val_neg_elbo_nats).tolist(), "wall_s": last.wall_s}


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _answer(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Measure what the argument says."""
    what = json.loads(sys.argv[1])
    device = what.get("device", "cpu")
    torch.set_num_threads(what.get("threads", 1))
    if "precision" in what:
        _answer(json.dumps(rounded(what["precision"], what["epochs"], device)))
        return
    fraction = what.get("gpu_fraction")
    if device == "cuda" and fraction:
        torch.cuda.set_per_process_memory_fraction(fraction)
    epoch = build(what["contender"], what["shape"], what["steps"], what["replicates"], device)
    begun = time.perf_counter()
    epoch()  # warm-up, and where it compiles, compiling
    warm_up_s = time.perf_counter() - begun
    epoch()
    if "window_s" in what:
        _answer("ready")
        sys.stdin.readline()  # comes when the others of this GPU are ready too
        epoch_s = mean_over(epoch, what["window_s"], device)
    else:
        epoch_s = measure(epoch, what["repeats"], device)
    found = {"epoch_s": epoch_s, "warm_up_s": warm_up_s}
    if device == "cuda":
        found["peak_gib"] = torch.cuda.max_memory_reserved() / 2**30
    _answer(json.dumps(found))


if __name__ == "__main__":
    main()
