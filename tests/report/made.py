"""A made-up study with everything a report reads, without training anything."""

import dataclasses
from pathlib import Path

import numpy as np
import optuna

from gsvae_tune.report.loaded import LoadedStudy
from gsvae_tune.report.tables import EPOCHS, REPLICATES, TRIALS, _frame
from gsvae_tune.report.verdict import decide
from gsvae_tune.search import studies
from gsvae_tune.search.confirm import choose
from gsvae_tune.search.space import ArmSpace
from gsvae_tune.search.storage import TrialRow
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import TrialState

BEST_NATS = 20.0


def loss(params):
    """A valley in log tau: what a configuration's loss would be without any noise."""
    tau = params.get("tau_start", params.get("tau_a", 1.0))
    rate = params["learning_rate"]
    return BEST_NATS + np.log(tau / 0.4) ** 2 + 0.2 * np.log(rate / 3e-3) ** 2


def made_study(
    study="digits",
    *,
    trials=12,
    seed=0,
    epochs=8,
    confirmed=1,
    failed=0,
    running=False,
    **overrides,
) -> LoadedStudy:
    """Return a study whose searched arms drew `trials` trials each at random.

    Args:
        study: a shipped study, whose spaces are drawn from.
        trials: of each searched arm.
        seed: of everything.
        epochs: of every trial.
        confirmed: best trials of each arm that were confirmed and tested.
        failed: of the trials, the last ones: they failed.
        running: a driver works on it.
        overrides: dotted keys of the configuration, dots written as two underscores.
    """
    given = {key.replace("__", "."): (value, "test") for key, value in overrides.items()}
    given |= {"training.epochs": (epochs, "test")}
    config = studies.load(study, given)
    rng = np.random.default_rng(seed)
    rows = {"trials": [], "replicates": [], "epochs": []}
    clock = 1_700_000_000.0
    searched = [arm for arm in config.arms if config.method(arm) != "yoked"]
    for arm in searched:
        space = ArmSpace(arm, config.arms[arm], "test")
        sampler = optuna.samplers.RandomSampler(seed=seed)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        drawing = optuna.create_study(sampler=sampler)
        drawn = []
        for number in range(trials):
            params = space.suggest(drawing.ask())
            lost = number >= trials - failed
            clock += 1.0
            _trial(rows, config, rng, arm, "search", number, params, lost, clock)
            if not lost:
                drawn.append((rows["trials"][-1]["value"], number, params))
        for _, number, params in sorted(drawn, key=lambda one: one[0])[:confirmed]:
            clock += 3.0
            _trial(rows, config, rng, arm, "confirm", number, params, False, clock)
    types = {"trials": TRIALS, "replicates": REPLICATES, "epochs": EPOCHS}
    tables = {name: _frame(rows[name], types[name]) for name in rows}
    recorded = {
        "created": "2026-01-01T00:00:00+00:00", "versions": {"python": "3.11"}, "seed": config.seed,
        "hardware": {"cpus": 2}, "git_commit": None, "digest": config.digest(),
        "data": {"checksum": "0" * 64, "images": {"train": 100}},
        "config": config.model_dump(mode="json"),
    }  # fmt: skip
    return LoadedStudy(
        StudyPaths(Path("/nonexistent") / config.name), config, recorded, **tables,
        verdict=None, running=running, archive=False,
    )  # fmt: skip


def _trial(rows, config, rng, arm, phase, number, params, lost, ended_s):
    searching = phase == "search"
    key = {"arm": arm, "phase": phase, "number": number}
    count = config.replicates if searching else config.protocol.replicates
    value = loss(params) + 0.05 * rng.normal()
    epochs, steps = config.training.epochs, 10 * config.training.epochs
    tau = params.get("tau_start", params.get("tau_a", 1.0))
    rows["trials"].append(
        key | {
            "stratum": "random" if searching and number < 0.3 * 12 else "tpe",
            "state": "failed" if lost else "complete", "value": None if lost else value,
            "epochs": epochs, "steps": steps, "wall_s": 2.0 + rng.random(), "ended_s": ended_s,
            "device": "cpu", "compiled": "", "fault": "diverged" if lost else None,
            "error": "diverged" if lost else None, "note": None,
        } | {f"param_{name}": one for name, one in params.items()}
    )  # fmt: skip
    if lost:
        return
    for replicate in range(count):
        own = value + 0.1 * np.sin(replicate) + 0.02 * rng.normal()
        tested = {} if searching else {
            "test_neg_elbo_nats": own + 0.1, "test_iwae_nats": own - 1.5, "iwae_samples": 10,
            "test_kl_nats": 8.0, "test_active_units": 8, "code_perplexity": 6.0,
            "vertex_share": 0.5, "relaxed_gap_nats": -0.7, "tau": tau,
        }  # fmt: skip
        rows["replicates"].append(
            key | tested | {
                "replicate": replicate, "seed": replicate + (0 if searching else 100),
                "best_branch": "a", "val_neg_elbo_nats": own, "kl_nats": 8.0, "active_units": 8,
                "diverged": False, "collapsed": False, "ended": None, "steps": steps,
                "init_hash": f"i{replicate}", "order_hash": f"o{replicate}",
                "noise_hash": f"n{replicate}",
            }
        )  # fmt: skip
        for epoch in range(1, epochs + 1):
            left = 10.0 * np.exp(-epoch / 3)
            for branch in "ab":
                move = 0.9 if branch == "a" else 1.05
                rows["epochs"].append(
                    key | {
                        "replicate": replicate, "branch": branch, "epoch": epoch,
                        "tau": float(np.clip(tau * move ** (epoch - 1), 0.05, 5.0)),
                        "train_loss_relaxed": own + left - 0.7, "train_loss_discrete": None,
                        "control_loss_discrete": own + left + (0.1 if branch == "b" else 0.0),
                        "control_loss_relaxed": own + left - 0.6, "control_kl_nats": 8.0,
                        "val_neg_elbo_nats": own + left + (0.1 if branch == "b" else 0.0),
                        "kl_nats": 8.0, "active_units": 8,
                        "event": "A_WON" if arm == "pair" else "", "steps": 10 * epoch,
                        "wall_s": 0.3 * epoch,
                    }
                )  # fmt: skip


def judged_study(study="smoke", **more) -> LoadedStudy:
    """Return a made-up study of two arms with its confirmations measured and judged."""
    made = made_study(study, **({"confirmed": 1, "trials": 12} | more))
    rows = [
        TrialRow(one.arm, one.phase, one.number, TrialState(one.state), one.value, {}, "", None)
        for one in made.trials.fillna({"value": np.nan}).itertuples()
    ]
    chosen = choose(made.config, rows)
    verdict = decide(made.config, made.trials, made.replicates, chosen, None)
    return dataclasses.replace(made, verdict=verdict)
