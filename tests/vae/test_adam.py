"""The fused Adam is torch.optim's, step by step and across a restart."""

import pytest
import torch

from gsvae_tune.vae.adam import FusedAdam


def train(parameters, optimizer, first, last):
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


def fresh():
    generator = torch.Generator().manual_seed(99)
    return [torch.nn.Parameter(torch.randn(*s, generator=generator)) for s in ((2, 3, 4), (2, 1))]


def test_it_takes_the_steps_of_torchs_adam():
    ours, theirs = fresh(), fresh()
    train(ours, FusedAdam(ours, 1e-2), 0, 20)
    train(theirs, torch.optim.Adam(theirs, lr=1e-2, fused=False, foreach=False), 0, 20)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_it_goes_on_where_its_state_was_taken_bitwise():
    whole, first, second = fresh(), fresh(), fresh()
    train(whole, FusedAdam(whole, 1e-2), 0, 20)
    stopped = FusedAdam(first, 1e-2)
    train(first, stopped, 0, 7)
    resumed = FusedAdam(second, 1e-2)
    with torch.no_grad():
        for parameter, value in zip(second, first, strict=True):
            parameter.copy_(value)
    resumed.load_state_dict(stopped.state_dict())
    train(second, resumed, 7, 20)
    assert all(torch.equal(one, other) for one, other in zip(whole, second, strict=True))


def test_state_of_other_parameters_is_refused():
    with pytest.raises(ValueError, match="another model"):
        FusedAdam(fresh()[:1], 1e-2).load_state_dict(FusedAdam(fresh(), 1e-2).state_dict())


def test_gradients_are_dropped():
    parameters = fresh()
    optimizer = FusedAdam(parameters, 1e-2)
    train(parameters, optimizer, 0, 1)
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in parameters)
