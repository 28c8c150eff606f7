import pytest

from gsvae_tune.execution.resources import one_of, plan
from gsvae_tune.study.config import ResourcesConfig
from gsvae_tune.study.errors import InputError


@pytest.mark.parametrize(
    ("wanted", "cpus", "gpus", "expected"),
    [
        ({}, 2, 0, (1.0, 0.0, 2)),  # one core each
        ({}, 16, 1, (1.0, 0.25, 4)),
        ({}, 2, 1, (0.5, 0.25, 4)),  # cores shared among the GPU's trials
        ({}, 64, 4, (1.0, 0.25, 16)),
        ({"gpus_per_trial": 0.34}, 16, 1, (1.0, 0.34, 2)),  # no 1/k: two fit
        ({"gpus_per_trial": 1.0}, 16, 2, (1.0, 1.0, 2)),
        ({"gpus_per_trial": 0.25, "cpus_per_trial": 0.25}, 2, 1, (0.25, 0.25, 4)),
        ({"gpus_per_trial": 0.1, "cpus_per_trial": 1.0}, 4, 1, (1.0, 0.1, 4)),
        ({"cpus_per_trial": 2.0}, 5, 0, (2.0, 0.0, 2)),
        ({"gpus_per_trial": 0.0}, 2, 1, (1.0, 0.0, 2)),
    ],
)
def test_shares(wanted, cpus, gpus, expected):
    got = plan(ResourcesConfig(**wanted), cpus, gpus)
    assert (got.cpus, got.gpus, got.slots) == expected


def test_more_than_there_is():
    with pytest.raises(InputError, match="Ray sees no GPU"):
        plan(ResourcesConfig(gpus_per_trial=0.5), 2, 0)
    with pytest.raises(InputError, match="3 CPUs, but there are 2"):
        plan(ResourcesConfig(cpus_per_trial=3.0), 2, 0)


@pytest.mark.parametrize("trials", range(1, 13))
def test_a_fraction_for_so_many_trials_lets_them_all_in(trials):
    each = plan(ResourcesConfig(gpus_per_trial=one_of(trials)), cpus=64, gpus=1)
    assert each.slots == trials
