"""The contract of every open-loop schedule."""

import itertools
import math

import pytest

from gsvae_tune.tau import SCHEDULES, OpenLoopController
from gsvae_tune.tau.schedules import Constant, Exponential, FixedFactor, Linear

EXAMPLES = {
    "constant": {"tau_start": 0.7},
    "fixed-factor": {"tau_start": 1.0, "factor": 0.9, "floor": 0.5},
    "exponential": {"tau_start": 1.0, "rate": 1e-3, "floor": 0.5, "steps_per_epoch": 40},
    "linear": {"tau_start": 1.0, "tau_end": 0.25, "epochs": 10},
    "cosine": {"tau_start": 1.0, "tau_end": 0.0625, "epochs": 10},
}


@pytest.fixture(params=SCHEDULES)
def schedule(request):
    return SCHEDULES[request.param](**EXAMPLES[request.param])


def test_a_schedule_starts_where_it_says_and_never_rises(schedule):
    taus = [schedule.tau_at(epoch) for epoch in range(40)]
    assert taus[0] == schedule.tau_start
    assert all(b <= a + 1e-12 for a, b in itertools.pairwise(taus))
    assert all(tau > 0 for tau in taus)
    assert taus[-1] == taus[-2]  # settled


def test_numbers_worked_by_hand():
    assert FixedFactor(1.0, 0.5, 0.1).tau_at(2) == 0.25
    assert FixedFactor(1.0, 0.5, 0.3).tau_at(2) == 0.3
    assert Linear(1.0, 0.5, 4).tau_at(1) == 0.875
    assert Constant(0.4).tau_at(99) == 0.4


@pytest.mark.parametrize(
    ("cls", "settings", "said"),
    [
        (FixedFactor, (1.0, 2.0, 0.1), r"factor is 2.0; legal: a number in \(0, 1\]"),
        (FixedFactor, (1.0, 0.5, 0.0), "floor is 0.0"),
        (Linear, (1.0, 0.5, 0), "epochs is 0; legal: a whole number >= 1"),
        (Constant, (float("nan"),), "tau_start is nan"),
    ],
)
def test_illegal_schedules(cls, settings, said):
    with pytest.raises(ValueError, match=said):
        cls(*settings)


def test_jang_renews_every_n_steps_only():
    jang = Exponential(1.0, 1e-4, 0.5, steps_per_epoch=600, refresh_steps=1000)
    assert jang.tau_at(1) == 1.0  # 600 steps: not yet
    assert jang.tau_at(2) == pytest.approx(math.exp(-0.1))  # 1200 steps: renewed at 1000
    assert jang.tau_at(12) == pytest.approx(0.5)  # 7,200 > 6,931 steps


def test_the_open_loop_ignores_losses():
    one = OpenLoopController(Constant(0.5), FixedFactor(1.0, 0.9, 0.2), replicates=2)
    two = OpenLoopController(Constant(0.5), FixedFactor(1.0, 0.9, 0.2), replicates=2)
    for epoch in range(1, 5):
        a, b = one.update([[1, 2], [3, 4]]), two.update([[9, 1], [2, 2]])
        assert (a == b).all()
        assert a[0].tolist() == [0.5, 0.9**epoch]
    assert one.copy_from.tolist() == [-1, -1]
