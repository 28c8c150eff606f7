"""Hashes of what replicates share: the same wherever it is the same, and only there."""

import hashlib
import itertools
from typing import get_args

import numpy as np
import pytest
import torch

from gsvae_tune.study.config import Estimator
from gsvae_tune.study.seeds import derive
from gsvae_tune.tau import LearnedController, OpenLoopController
from gsvae_tune.tau.schedules import Constant
from gsvae_tune.vae import checkpoint
from gsvae_tune.vae.streams import gumbel


def hashes(training):
    *_, last = training.epochs()
    return [(row.init_hash, row.order_hash, row.noise_hash) for row in training.results(last)]


def shorten(*parts):
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def test_they_are_of_the_weights_orders_and_noise_trained_with(make):
    training = make(seeds=[11], controller=OpenLoopController(Constant(1.0), Constant(1.0), 1))
    init = shorten(*(p.detach().numpy().tobytes() for p in training.model.parameters()))
    order = noise = b""
    for epoch in range(1, 5):
        generator = torch.Generator().manual_seed(derive(11, "batches", epoch))
        images = torch.randperm(90, generator=generator).numpy().tobytes()
        block = gumbel((4, 3, 4, 20), [11], "noise", epoch, 0, device="cpu")[0]
        order = shorten(order, images).encode()
        noise = shorten(noise, block[0].numpy().tobytes()).encode()
    assert hashes(training) == [(init, order.decode(), noise.decode())]


def test_they_depend_on_the_seed_alone(make):
    one, other = hashes(make())
    assert all(a != b for a, b in zip(one, other, strict=True))
    for estimator in get_args(Estimator):
        assert hashes(make(estimator=estimator, learning_rate=1e-4)) == [one, other]
    learned = LearnedController(0.5, 1.0, 0.1, 2.0, 2)
    assert hashes(make(controller=learned)) == [one, other]
    assert hashes(make(seeds=[22])) == [other]
    assert hashes(make(seeds=[33, 22, 11]))[1:] == [other, one]


def test_they_are_chained_over_epochs(make):
    short, long = hashes(make(epochs=3)), hashes(make(epochs=4))
    for before, after in zip(short, long, strict=True):
        assert before[0] == after[0]
        assert before[1:] != after[1:]


@pytest.mark.parametrize(("what", "place"), [("_order", 1), ("gumbel", 2)])
def test_they_see_what_was_used_and_not_what_was_meant(make, monkeypatch, what, place):
    """A training that draws something else than its seed says is found out."""
    sound, training = hashes(make()), make()
    if what == "_order":
        order = training._order
        monkeypatch.setattr(training, "_order", lambda epoch: order(epoch).flip(1))
    else:

        def other(*names, device):
            return gumbel(*names, device=device) + 1e-3

        monkeypatch.setattr("gsvae_tune.vae.training.gumbel", other)
    for one, other in zip(sound, hashes(training), strict=True):
        assert [i for i in range(3) if one[i] != other[i]] == [place]


@pytest.mark.parametrize("step", [1, 4, 5, 9])
def test_a_resumed_training_ends_with_the_same(make, tmp_path, step):
    first, calls = make(epochs=3), itertools.count(1)

    class KillError(Exception):
        pass

    def between_steps():
        if next(calls) == step:
            checkpoint.save(tmp_path / "checkpoint.pt", first.state_dict())
            raise KillError

    with pytest.raises(KillError):
        list(first.epochs(between_steps))
    second = make(epochs=3)
    with torch.no_grad():
        for parameter in second.model.parameters():
            parameter.zero_()  # the weights it starts from are those of the checkpoint
    second.load_state_dict(checkpoint.load(tmp_path / "checkpoint.pt"))
    assert hashes(second) == hashes(make(epochs=3))


def test_they_are_short_and_hexadecimal(make):
    for name in np.ravel(hashes(make(epochs=1))):
        assert len(name) == 16
        int(name, 16)
