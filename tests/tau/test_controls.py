"""Controllers that no loss moves: replayed, random, learned elsewhere."""

import json

import numpy as np
import pytest

from gsvae_tune.tau import LearnedController, RandomWalkController, ReplayController

LOSSES = [[1.0, 2.0], [3.0, 0.5]]


def walk(**more):
    given = {"tau_start": 1.0, "tau_min": 0.2, "tau_max": 3.0, "factor_a": 0.9, "factor_b": 0.5,
             "period": 1, "seeds": [3, 4]}  # fmt: skip
    return RandomWalkController(**(given | more))


PATHS = np.array([[[1.0, 2.0], [0.9, 2.2], [0.8, 2.4]], [[0.5, 0.6], [0.7, 0.8], [0.9, 1.0]]])


def test_a_replay_plays_its_path_whatever_the_losses_are():
    controller = ReplayController(PATHS)
    for epoch in range(5):  # the last temperature stays
        assert controller.tau.tolist() == PATHS[:, min(epoch, 2)].tolist()
        controller.update(np.array(LOSSES) * (epoch + 1))


def test_a_random_walk_steps_by_its_factors_and_stays_inside():
    controller = walk()
    path = np.array([controller.tau, *(controller.update(LOSSES) for _ in range(300))])
    assert path.min() >= 0.2
    assert path.max() <= 3.0
    inside = (path[1:] > 0.2) & (path[1:] < 3.0) & (path[:-1] > 0.2) & (path[:-1] < 3.0)
    steps = np.abs(np.log(path[1:] / path[:-1]))
    for branch, factor in enumerate((0.9, 0.5)):
        np.testing.assert_allclose(steps[..., branch][inside[..., branch]], -np.log(factor))
    ups = (path[1:] > path[:-1])[..., 0].mean()
    assert 0.4 < ups < 0.6


def test_a_random_walk_depends_on_seed_and_epoch_alone():
    one, other, alone = walk(), walk(), walk(seeds=[4])
    for epoch in range(20):
        one.update(LOSSES)
        other.update(np.array(LOSSES) + epoch)
        alone.update(LOSSES[:1])
    assert one.tau.tolist() == other.tau.tolist()
    assert one.tau[1].tolist() == alone.tau[0].tolist()
    assert one.tau[0].tolist() != one.tau[1].tolist()


def test_a_random_walk_waits_between_moves():
    controller = walk(period=3)
    taus = [controller.update(LOSSES).tolist() for _ in range(6)]
    assert taus[0] == taus[1] == [[1.0, 1.0]] * 2
    assert taus[2] == taus[3] == taus[4]
    assert taus[2] != taus[1]


def test_a_learned_temperature_is_what_training_says_it_is():
    controller = LearnedController(1.0, 0.5, 0.1, 5.0, replicates=2)
    assert controller.tau.tolist() == [[1.0, 0.5]] * 2
    controller.observe([[0.9, 0.6], [0.8, 0.7]])
    assert controller.tau.tolist() == [[1.0, 0.5]] * 2  # in force until the epoch has ended
    assert controller.update(LOSSES).tolist() == [[0.9, 0.6], [0.8, 0.7]]
    assert controller.range == (0.1, 5.0)


@pytest.mark.parametrize("build", [
    lambda: ReplayController(PATHS), walk,
    lambda: LearnedController(1.0, 0.5, 0.1, 5.0, replicates=2),
])  # fmt: skip
def test_they_end_replicates_and_restore_like_every_controller(build):
    whole, saved = build(), build()
    for controller in (whole, saved):
        controller.update(LOSSES)
    again = build()
    again.load_state_dict(json.loads(json.dumps(saved.state_dict())))
    for controller in (whole, again):
        controller.update([[1.0, float("nan")], [1.0, 2.0]])
        controller.update(LOSSES)
    assert again.tau.tolist() == whole.tau.tolist()
    assert [str(end) for end in again.ended] == [str(end) for end in whole.ended]
    assert whole.ended[0].branch == "b"


@pytest.mark.parametrize(("build", "said"), [
    (lambda: ReplayController([[1.0, 2.0]]), "replicates, epochs, 2"),
    (lambda: ReplayController(PATHS - 0.5), "finite numbers > 0"),
    (lambda: walk(factor_a=1.5), "factor_a"),
    (lambda: walk(tau_start=9.0), "tau_start"),
    (lambda: walk(period=0), "period"),
    (lambda: LearnedController(9.0, 0.5, 0.1, 5.0), "tau_a is 9.0"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(build, said):
    with pytest.raises(ValueError, match=said):
        build()
