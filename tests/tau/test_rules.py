"""The contract of every rule, and what each of them says it does."""

import numpy as np
import pytest

from gsvae_tune.tau.rules import RULES, Cool, Cosine, Exponential, Return, StepDown, StepUp, Warm

EXAMPLES = {
    "hold": {},
    "cool": {"factor": 0.8},
    "warm": {"factor": 0.8},
    "step-down": {"step": 0.1},
    "step-up": {"step": 0.1},
    "exponential": {"rate": 1e-3, "steps_per_epoch": 20},
    "cosine": {"horizon": 10, "tau_min": 0.05},
    "return": {"factor": 0.8, "tau_start": 1.0},
}
DIRECTION = {
    "hold": 0, "cool": -1, "warm": 1, "step-down": -1, "step-up": 1, "exponential": -1, "cosine": -1,
}  # fmt: skip


@pytest.fixture(params=RULES)
def rule(request):
    return RULES[request.param](**EXAMPLES[request.param])


def test_a_rule_is_pure_elementwise_and_keeps_its_shape(rule):
    tau = np.array([[0.3, 0.7], [1.1, 2.5]])
    before = tau.copy()
    moved = rule.move(tau, epoch=4, elapsed=2)
    assert moved.shape == tau.shape
    assert np.array_equal(tau, before)
    assert np.array_equal(moved, rule.move(tau, epoch=4, elapsed=2))
    alone = [[rule.move(np.array([v]), epoch=4, elapsed=2)[0] for v in row] for row in tau]
    assert np.array_equal(moved, alone)


def test_a_rule_moves_the_way_its_name_says(rule):
    tau = np.array([0.3, 1.7])
    sign = np.sign(rule.move(tau, epoch=4, elapsed=1) - tau)
    if rule.name == "return":
        assert sign.tolist() == [1, -1]  # towards 1.0 from both sides
    else:
        assert sign.tolist() == [DIRECTION[rule.name]] * 2


def test_numbers_worked_by_hand():
    tau = np.array([2.0])
    assert Cool(0.5).move(tau, 1, 1) == 1.0
    assert Warm(0.5).move(tau, 1, 1) == 4.0
    assert StepDown(0.5).move(tau, 1, 1) == 1.5
    assert StepUp(0.5).move(tau, 1, 1) == 2.5
    assert Exponential(1e-3, 100).move(tau, 6, 5) == pytest.approx(2 * np.exp(-0.5))
    assert Return(0.5, 0.5).move(tau, 1, 1) == 1.0  # half of two octaves is left


def test_cosine_left_alone_is_the_half_cosine():
    rule, tau = Cosine(horizon=8, tau_min=0.2), np.array([1.0])
    for epoch in range(1, 11):
        tau = rule.move(tau, epoch, 1)
        height = 0.5 * (1 + np.cos(np.pi * min(epoch, 8) / 8))
        assert tau[0] == pytest.approx(0.2 + 0.8 * height, abs=1e-12)


def test_exponential_left_alone_is_jangs_schedule():
    # r = 1e-5: tau reaches 0.5 at step 69,315 (Jang et al. 2017)
    rule, tau = Exponential(1e-5, steps_per_epoch=69_315), np.array([1.0])
    assert rule.move(tau, 1, 1)[0] == pytest.approx(0.5, abs=1e-5)
