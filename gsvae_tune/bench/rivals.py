"""Studies as people write them: the plain loop under Optuna's own optimize, and under Ray Tune.

python -m gsvae_tune.bench.rivals optuna '{"trials": 4, ...}'     (one of its processes)
python -m gsvae_tune.bench.rivals raytune '{"trials": 4, ...}'
"""

from __future__ import annotations

import json
import sys
import tempfile
from typing import Any

import gsvae_tune.execution  # noqa: F401 - Ray's variables: quiet, closed to other machines
from gsvae_tune.search import studies
from gsvae_tune.study.config import StudyConfig
from gsvae_tune.vae.data import Splits, load_splits

LEARNING_RATE, TAU_START, FACTOR = (1e-3, 1e-2), (0.1, 4.0), (0.8, 1.0)


def train(
    study: StudyConfig, epochs: int, splits: Splits, rate: float, tau_start: float, factor: float
) -> float:
    """Train as many members as one of our trials does, one after the other; return the mean loss.

    Like ours, each is evaluated on both held-out splits at every epoch.
    """
    import torch

    from gsvae_tune.bench import plain

    torch.set_num_threads(1)
    model, settings = study.model, study.training
    shape = plain.Architecture(splits.pixels, list(model.hidden), model.latents, model.categories)
    held_out = [
        plain.loader(images, 1000, shuffle=False) for images in (splits.control, splits.validation)
    ]
    losses = []
    for member in range(2 * study.replicates):
        torch.manual_seed(member)
        vae = plain.PlainVAE(shape)
        optimizer = torch.optim.Adam(vae.parameters(), lr=rate)
        batches = plain.loader(splits.train, settings.batch_size, shuffle=True)
        tau = tau_start
        for _ in range(epochs):
            plain.train_epoch(vae, optimizer, batches, tau)
            found = [plain.evaluate(vae, split, settings.evaluation_samples) for split in held_out]
            tau = max(0.1, tau * factor)
        losses.append(found[-1])
    return sum(losses) / len(losses)


def _optuna(study: StudyConfig, trials: int, epochs: int, splits: Splits, journal: str) -> None:
    """Run one of the processes that share a study through a journal."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.JournalStorage(JournalFileBackend(journal))
    shared = optuna.create_study(study_name="plain", storage=storage, load_if_exists=True)

    def objective(trial: optuna.Trial) -> float:
        return train(
            study,
            epochs,
            splits,
            trial.suggest_float("learning_rate", *LEARNING_RATE, log=True),
            trial.suggest_float("tau_start", *TAU_START, log=True),
            trial.suggest_float("factor", *FACTOR),
        )

    shared.optimize(objective, n_trials=trials)


def _raytune(study: StudyConfig, trials: int, epochs: int, splits: Splits, slots: int) -> None:
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    def objective(config: dict[str, Any], *, splits: Splits) -> dict[str, float]:
        return {"loss": train(study, epochs, splits, **config)}

    ray.init(
        address="local",
        num_cpus=slots,
        include_dashboard=False,
        logging_level="ERROR",
        log_to_driver=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        tune.Tuner(
            tune.with_resources(tune.with_parameters(objective, splits=splits), {"cpu": 1}),
            param_space={
                "rate": tune.loguniform(*LEARNING_RATE),
                "tau_start": tune.loguniform(*TAU_START),
                "factor": tune.uniform(*FACTOR),
            },
            tune_config=tune.TuneConfig(
                metric="loss", mode="min", num_samples=trials, search_alg=OptunaSearch()
            ),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        ).fit()
    ray.shutdown()


def main() -> None:
    """Run the rival that the arguments name."""
    rival, what = sys.argv[1], json.loads(sys.argv[2])
    study = studies.load(what["study"])
    splits = load_splits(study.data, study.seed)
    if rival == "optuna":
        _optuna(study, what["trials"], what["epochs"], splits, what["journal"])
    else:
        _raytune(study, what["trials"], what["epochs"], splits, what["slots"])


if __name__ == "__main__":
    main()
