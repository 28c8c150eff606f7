"""Learned temperatures: gradients by finite differences, their range, resuming, and the records."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from gsvae_tune.study.config import ModelConfig
from gsvae_tune.tau import Event, LearnedController, OpenLoopController
from gsvae_tune.tau.schedules import Constant
from gsvae_tune.vae import checkpoint
from gsvae_tune.vae.descent import member_losses
from gsvae_tune.vae.network import StackedVAE
from gsvae_tune.vae.relaxation import sampler, soft
from gsvae_tune.vae.streams import exponential, gumbel
from tests.vae.test_training import numbers, of_replicate

SEEDS = [11, 22]


def controller(replicates=2, tau_a=0.5, tau_b=1.2, tau_min=0.1, tau_max=3.0):
    return LearnedController(tau_a, tau_b, tau_min, tau_max, replicates)


def test_the_gradient_by_log_tau_against_finite_differences():
    model = StackedVAE(ModelConfig(hidden=(6,), latents=2, categories=3), 5, SEEDS).double()
    images = (torch.rand(2, 7, 5, generator=torch.Generator().manual_seed(0)) > 0.5).double()
    noise = gumbel((2, 3, 7), SEEDS, "noise", device="cpu").double()

    def losses(log_tau):
        tau = log_tau.exp().view(-1, 1, 1, 1)
        return member_losses(model, sampler("soft"), images, noise, tau)

    log_tau = torch.tensor([-1.0, 0.0, 0.3, 1.0], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(losses(log_tau).sum(), log_tau)
    step = 1e-5
    for member in range(4):
        shift = torch.zeros(4, dtype=torch.float64)
        shift[member] = step
        with torch.no_grad():
            change = (losses(log_tau + shift) - losses(log_tau - shift)) / (2 * step)
        assert gradient[member].item() == pytest.approx(change[member].item(), rel=1e-6)
        assert change.abs().sum() == change[member].abs()  # no other member's loss feels it


@pytest.mark.parametrize("estimator", ["straight-through", "gumbel-rao", "decoupled"])
def test_hard_estimators_pass_a_gradient_to_tau_through_their_surrogate(estimator):
    """Against finite differences of <g, surrogate>, which the hard value hides."""
    logits = torch.randn(1, 2, 3, 7, generator=torch.Generator().manual_seed(1)).double()
    noise = gumbel((1, 2, 3, 7), [3], "noise", device="cpu")[0].double()
    drawn = exponential((4, 1, 2, 3, 7), [3], "rao", device="cpu")[0].double()
    weight = torch.randn(1, 2, 3, 7, generator=torch.Generator().manual_seed(2)).double()
    more = (drawn,) if estimator == "gumbel-rao" else ()
    tau = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    codes = sampler(estimator)(logits, noise, tau, *more)
    (gradient,) = torch.autograd.grad((codes * weight).sum(), tau)

    def surrogate(at):
        if estimator == "gumbel-rao":
            hard = codes.detach()
            q = torch.softmax(logits, -2)
            winners = (hard * drawn).sum(-2, keepdim=True)
            return torch.softmax((logits - torch.log((1 - hard) * drawn + q * winners)) / at, -2).mean(0)  # fmt: skip
        noisy = logits + noise if estimator == "straight-through" else logits
        return torch.softmax(noisy / at, -2)

    change = ((surrogate(0.7 + 1e-6) - surrogate(0.7 - 1e-6)) * weight).sum() / 2e-6
    assert gradient.item() == pytest.approx(change.item(), rel=1e-5)


def test_the_first_step_moves_log_tau_by_the_learning_rate_down_its_gradient(make):
    """Adam's first step has this length whatever the gradient."""
    training = make(controller=controller(), epochs=1)
    start = training._learned.log.detach().clone()
    given = []
    take = training._descent._losses
    training._descent._losses = lambda *args: given.append(args) or take(*args)

    class EnoughError(Exception):
        pass

    def stop():
        raise EnoughError

    fresh = make(controller=controller(), epochs=1)
    with pytest.raises(EnoughError):
        list(training.epochs(stop))
    _, _, images, noise, _, more = given[0]
    log_tau = start.clone().requires_grad_(True)
    loss = member_losses(fresh.model, soft, images, noise, log_tau.exp(), more)
    (gradient,) = torch.autograd.grad(loss.sum(), log_tau)
    torch.testing.assert_close(training._learned.log.detach(), start - 1e-2 * gradient.sign())


def test_records_hold_the_temperature_at_the_start_of_their_epoch(make):
    training = make(controller=controller())
    records = []
    for record in training.epochs():
        records.append(record)
        ends = training.controller.tau
        learned = training._learned.value.double().numpy().reshape(2, 2)
        np.testing.assert_allclose(ends, learned, rtol=1e-6)
    assert records[0].tau == [[0.5, 1.2], [0.5, 1.2]]
    rows = training.controller.trace
    for before, after in itertools.pairwise(records):
        row = rows[2 * (before.epoch - 1)]
        assert after.tau[0] == [row.tau_a, row.tau_b]
        assert after.tau != before.tau
    assert {row.event for row in rows} == {Event.LEARNED}


def test_the_relaxed_control_loss_is_at_the_temperature_of_the_epochs_end(make):
    training = make(controller=controller(), epochs=1)
    (record,) = training.epochs()
    tau = torch.tensor(training.controller.tau, dtype=torch.float32).view(-1, 1, 1, 1)
    again = training._evaluate(training._control, "control", tau).relaxed
    np.testing.assert_allclose(np.ravel(record.control_loss_relaxed), again.numpy(), rtol=1e-5)


def test_temperatures_stay_in_their_range(make):
    narrow = controller(tau_a=0.7, tau_b=0.9, tau_min=0.7, tau_max=0.9)
    training = make(controller=narrow, learning_rate=0.05, epochs=6)
    seen = [np.array(record.tau) for record in training.epochs()]
    assert min(tau.min() for tau in seen) >= 0.7
    assert max(tau.max() for tau in seen) <= 0.9
    assert any((tau == 0.7).any() or (tau == 0.9).any() for tau in seen[1:])
    assert (training._learned.log.grad != 0).all()  # also at an end of its range


def test_a_range_of_one_temperature_trains_as_a_constant_does(make):
    one = controller(tau_a=1.0, tau_b=1.0, tau_min=1.0, tau_max=1.0)
    learned = [numbers(record) for record in make(controller=one).epochs()]
    constant = OpenLoopController(Constant(1.0), Constant(1.0), 2)
    plain = [numbers(record) for record in make(controller=constant).epochs()]
    assert [dataclasses.replace(record, event=[]) for record in learned] == [
        dataclasses.replace(record, event=[]) for record in plain
    ]


def test_a_replicate_learns_the_same_alone_and_stacked(make):
    together = list(make(controller=controller()).epochs())
    for replicate, seed in enumerate(SEEDS):
        alone = make(seeds=[seed], controller=controller(1)).epochs()
        assert [of_replicate(record, replicate) for record in together] == [
            numbers(record) for record in alone
        ]


@pytest.mark.parametrize("estimator", ["soft", "gumbel-rao"])
@pytest.mark.parametrize("step", [1, 3, 4, 6, 9, 17])
def test_resumed_equals_uninterrupted_bitwise(make, tmp_path, step, estimator):
    how = {"epochs": 3, "estimator": estimator}
    whole = make(controller=controller(), **how)
    records = [numbers(record) for record in whole.epochs()]
    first, calls = make(controller=controller(), **how), []

    class KillError(Exception):
        pass

    def between_steps():
        calls.append(0)
        if len(calls) == step:
            checkpoint.save(tmp_path / "checkpoint.pt", first.state_dict())
            raise KillError

    with pytest.raises(KillError):
        list(first.epochs(between_steps))
    second = make(controller=controller(), **how)
    second.load_state_dict(checkpoint.load(tmp_path / "checkpoint.pt"))
    assert [numbers(record) for record in second.epochs()] == records[(step - 1) // 8 :]
    assert torch.equal(second._learned.log, whole._learned.log)
    assert second.controller.trace == whole.controller.trace


def test_a_copied_member_takes_its_temperature_along(make):
    class Copying(LearnedController):
        def _next(self, losses, kl, active):
            self._copy_from = np.array([1, -1])
            return super()._next(losses, kl, active)

    training = make(controller=Copying(0.5, 1.2, 0.1, 3.0, 2), epochs=2)
    next(training.epochs())  # after the last epoch nothing is copied any more
    log = training._learned.log.detach().flatten()
    assert log[0] == log[1]
    assert log[2] != log[3]
    for tensor in training._descent.of_members:
        assert torch.equal(tensor[0], tensor[1])


def test_a_lost_temperature_ends_its_replicate_and_no_other(make):
    training, sound = make(controller=controller()), make(controller=controller())
    loop, whole = training.epochs(), list(sound.epochs())
    next(loop)
    with torch.no_grad():
        training._learned.log[1] = torch.nan
    *_, last = loop
    assert str(training.controller.ended[0]).startswith("diverged: branch b")
    assert np.isfinite(training.controller.tau).all()
    assert of_replicate(last, 1) == of_replicate(whole[-1], 1)


def test_a_checkpoint_without_learned_temperatures_is_refused(make):
    constant = OpenLoopController(Constant(1.0), Constant(1.0), 2)
    state = make(controller=constant).state_dict(with_optimizer=False)
    with pytest.raises(ValueError, match="temperatures are not these"):
        make(controller=controller()).load_state_dict(state)


def test_reinmax_gives_tau_no_gradient_and_is_refused(make):
    with pytest.raises(ValueError, match="reinmax"):
        make(controller=controller(), estimator="reinmax")
