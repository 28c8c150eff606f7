import os

import pytest

from gsvae_tune.execution import environment  # sets what Ray reads at import
from gsvae_tune.search import studies
from gsvae_tune.study.paths import StudyPaths


@pytest.fixture(scope="session")
def shared_ray():
    """One Ray for all tests that need one: two CPUs and one logical GPU."""
    import ray

    environment.prepare()
    ray.init(
        address="local", num_cpus=2, num_gpus=1, include_dashboard=False, logging_level="ERROR",
        log_to_driver=False,
    )  # fmt: skip
    yield
    ray.shutdown()


@pytest.fixture
def smoke(tmp_path):
    """The search of the smoke study in a folder of this test.

    Keyword arguments are dotted keys with __; protocol__until="verdict" goes on to the end.
    """

    def build(**overrides):
        given = {
            "out": str(tmp_path), "resources.gpus_per_trial": 0.0, "protocol.until": "search",
            "training.epochs": 4,
        }  # fmt: skip
        given |= {key.replace("__", "."): value for key, value in overrides.items()}
        return studies.load("smoke", {key: (value, "--test") for key, value in given.items()})

    return build


@pytest.fixture
def run(shared_ray):
    """Run a study in this process on the shared Ray; return its paths and tables."""
    from rich.console import Console

    from gsvae_tune.execution.runner import run_study
    from gsvae_tune.report import tables
    from gsvae_tune.search.storage import open_storage, read_trials
    from gsvae_tune.study.studyfile import read_study

    def call(config):
        with open(os.devnull, "w") as nowhere:
            done = run_study(config, Console(file=nowhere))
        paths = StudyPaths.of(config.out, config.name)
        assert done.paths == paths
        rows = list(
            read_trials(config, paths, open_storage(config.storage, paths), read_study(paths)["id"])
        )
        return done, tables.build(rows, paths)

    return call
