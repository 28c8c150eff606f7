import shutil

import pytest
import torch

from gsvae_tune.doctor import checks
from tests.doctor.making import simulate_study, train_study


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """As a worker with one CPU: a small model on many threads mostly waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def room(monkeypatch):
    """Whether this machine's disk is nearly full is not what is tested."""
    monkeypatch.setattr(checks, "_ROOM_BYTES", 0)


@pytest.fixture(scope="session")
def trained_study(tmp_path_factory):
    return train_study(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def simulated_study(tmp_path_factory):
    return simulate_study(tmp_path_factory.mktemp("simulated"))


def _copy(study, folder):
    config, paths = study
    shutil.copytree(paths.root, folder / config.name, symlinks=True)
    config = config.model_copy(update={"out": str(folder)})
    return config, type(paths)(folder / config.name)


@pytest.fixture
def trained(trained_study, tmp_path):
    """A copy of a study that was trained, confirmed, tested and judged."""
    return _copy(trained_study, tmp_path)


@pytest.fixture
def simulated(simulated_study, tmp_path):
    """A copy of one that was simulated."""
    return _copy(simulated_study, tmp_path)
