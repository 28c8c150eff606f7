"""Steps with every estimator, eager and compiled: finite, learning, the same stacked or alone."""

import shutil
from typing import get_args

import numpy as np
import pytest
import torch

from gsvae_tune.study.config import Estimator
from gsvae_tune.tau import LearnedController, OpenLoopController
from gsvae_tune.tau.schedules import Constant
from gsvae_tune.vae.descent import member_losses
from tests.vae.test_training import numbers, of_replicate

ESTIMATORS = get_args(Estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS[1:])
def test_hard_estimators_train_on_one_hot_codes_and_say_so(make, estimator):
    record = next(make(estimator=estimator).epochs())
    assert record.train_loss_relaxed is None
    assert np.isfinite(record.train_loss_discrete).all()


def test_hard_estimators_agree_in_the_loss_of_their_first_step(make):
    """One forward randomness for all: they part with their gradients."""
    losses = []
    for estimator in ESTIMATORS[1:]:
        training = make(estimator=estimator)
        next(iter_steps(training))
        losses.append(training._under_way.loss)
    assert all(torch.equal(losses[0], loss) for loss in losses[1:])


def iter_steps(training):
    """Yield after each optimizer step of an epoch."""

    class PauseError(Exception):
        pass

    def pause():
        raise PauseError

    while True:
        try:
            next(training.epochs(pause))
        except PauseError:
            yield


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(("tau_a", "tau_b"), [(0.05, 0.2), (0.5, 1.4), (3.0, 5.0)])
def test_every_estimator_trains_at_every_temperature(make, estimator, tau_a, tau_b):
    controller = OpenLoopController(Constant(tau_a), Constant(tau_b), 2)
    records = list(make(controller=controller, estimator=estimator, epochs=8).epochs())
    assert controller.ended == (None, None)
    for record in records:
        trained = record.train_loss_relaxed or record.train_loss_discrete
        assert np.isfinite([trained, record.control_loss_relaxed, record.val_neg_elbo_nats]).all()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_learns(make, estimator):
    controller = OpenLoopController(Constant(0.7), Constant(1.4), 2)
    first, *_, last = make(controller=controller, estimator=estimator, epochs=60).epochs()
    lowered = np.subtract(first.val_neg_elbo_nats, last.val_neg_elbo_nats)
    assert (lowered > 1.0).all()


def test_estimators_are_given_their_settings(make):
    def trained(**how):
        return numbers(next(make(**how).epochs()))

    assert trained(estimator="gumbel-rao") == trained(estimator="gumbel-rao", rao_samples=10)
    assert trained(estimator="gumbel-rao") != trained(estimator="gumbel-rao", rao_samples=2)
    assert trained(estimator="decoupled") == trained(estimator="decoupled", tau_forward=1.0)
    assert trained(estimator="decoupled") != trained(estimator="decoupled", tau_forward=0.5)
    assert trained() == trained(rao_samples=3, tau_forward=0.5)


@pytest.mark.parametrize("seeds", [[11], [33, 11]])
def test_gumbel_rao_trains_a_replicate_the_same_alone_and_stacked(make, seeds):
    controller = OpenLoopController(Constant(0.5), Constant(1.0), len(seeds))
    both = OpenLoopController(Constant(0.5), Constant(1.0), 2)
    records = list(make(seeds=seeds, controller=controller, estimator="gumbel-rao").epochs())
    others = list(make(seeds=[11, 22], controller=both, estimator="gumbel-rao").epochs())
    at = seeds.index(11)
    assert [of_replicate(r, at) for r in records] == [of_replicate(r, 0) for r in others]


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("learns", [False, True])
def test_compiled_agrees_with_eager_over_three_epochs(make, estimator, learns):
    if shutil.which("c++") is None and shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    if learns and estimator == "reinmax":
        pytest.skip("it gives tau no gradient")

    def train(**how):
        controller = LearnedController(0.5, 1.0, 0.1, 2.0, 2) if learns else None
        return make(controller=controller, epochs=3, estimator=estimator, **how)

    eager, compiled = train(), train(compile=True)
    pairs = list(zip(eager.epochs(), compiled.epochs(), strict=True))
    assert compiled.compiled == "yes"
    for one, other in pairs:
        for name, rtol in (
            ("train_loss_relaxed", 1e-5),
            ("train_loss_discrete", 1e-5),
            ("val_neg_elbo_nats", 1e-4),
            ("tau", 1e-4),
        ):
            if getattr(one, name) is not None:
                np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=rtol)


@pytest.mark.slow
def test_trials_of_one_process_share_what_is_compiled(make):
    """A searched forward temperature must not be compiled anew in every trial."""
    if shutil.which("c++") is None and shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    next(make(estimator="decoupled", tau_forward=0.5, compile=True).epochs())
    with torch.compiler.set_stance("fail_on_recompile"):
        training = make(estimator="decoupled", tau_forward=0.8, compile=True)
        compiled = next(training.epochs())
    assert training.compiled == "yes"
    eager = next(make(estimator="decoupled", tau_forward=0.8).epochs())
    np.testing.assert_allclose(eager.train_loss_discrete, compiled.train_loss_discrete, rtol=1e-4)


def test_what_cannot_be_compiled_trains_eagerly_and_says_so(make, monkeypatch):
    def broken(*_):
        raise RuntimeError("no compiler\nmore")

    monkeypatch.setattr("gsvae_tune.vae.descent._compiled_losses", lambda _: broken)
    training, eager = make(compile=True), make()
    records = [numbers(record) for record in training.epochs()]
    assert training.compiled == "no: RuntimeError: no compiler"
    assert records == [numbers(record) for record in eager.epochs()]


def test_an_error_after_the_first_compiled_step_is_no_error_of_compiling(make, monkeypatch):
    calls = []

    def breaks_later(*given):
        calls.append(given)
        if len(calls) == 3:
            raise RuntimeError("mine")
        return member_losses(*given)

    monkeypatch.setattr("gsvae_tune.vae.descent._compiled_losses", lambda _: breaks_later)
    with pytest.raises(RuntimeError, match="mine"):
        list(make(compile=True).epochs())


def test_an_error_of_the_training_itself_is_not_taken_for_one_of_compiling(make, monkeypatch):
    def broken(*_):
        raise RuntimeError("mine")

    monkeypatch.setattr("gsvae_tune.vae.descent.member_losses", broken)
    with pytest.raises(RuntimeError, match="mine"):
        list(make().epochs())
