"""One optimizer step of all members: losses, gradients, Adam; compiled where that is asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from gsvae_tune.vae.adam import FusedAdam
from gsvae_tune.vae.bounds import bernoulli_nll, categorical_kl
from gsvae_tune.vae.network import StackedVAE, to_members
from gsvae_tune.vae.temperature import LearnedTau


def member_losses(
    model: StackedVAE,
    sample: Callable[..., Tensor],
    images: Tensor,
    noise: Tensor,
    tau: Tensor,
    exponentials: Tensor | None = None,
) -> Tensor:
    """Return each member's training loss on a batch, the mean over its images: (members,).

    Args:
        model: all members.
        sample: one of `gsvae_tune.vae.relaxation.sampler`.
        images: (replicates, B, D).
        noise: (replicates, L, K, B).
        tau: (members, 1, 1, 1).
        exponentials: (replicates, S, L, K, B), for an estimator that takes them.
    """
    logits = model.encode(images)
    more = () if exponentials is None else (to_members(exponentials).transpose(0, 1),)
    codes = sample(logits, to_members(noise), tau, *more)
    nll = bernoulli_nll(model.decode(codes), to_members(images))
    return (nll + categorical_kl(logits)).mean(1)


@functools.cache
def _compiled_losses(device: str) -> Callable[..., Tensor]:
    """Return `member_losses` compiled; one for all trials of a process, so that they share it."""
    from torch._dynamo import config  # slow; torch.compile imports it too

    # One compilation an estimator and shape. Past the limit, 8 by default, torch stops compiling
    # without a word.
    config.recompile_limit = 64
    mode = "reduce-overhead" if device == "cuda" else None  # with CUDA graphs
    return torch.compile(member_losses, dynamic=False, mode=mode)


def _of_log_tau(sample: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a sample that is given log tau: the compiler wants the parameter itself."""

    def sample_of_log(logits: Tensor, noise: Tensor, log_tau: Tensor, *more: Tensor) -> Tensor:
        return sample(logits, noise, log_tau.exp(), *more)

    return sample_of_log


class Descent:
    """Takes the steps of one training.

    Args:
        model: all members, where they train.
        sample: gives the codes, as `member_losses` wants it.
        learning_rate: of Adam, for weights and learned temperatures.
        learned: temperatures that are trained too; None where they are given.
        compiled: use torch.compile.
    """

    def __init__(
        self,
        model: StackedVAE,
        sample: Callable[..., Tensor],
        learning_rate: float,
        learned: LearnedTau | None,
        *,
        compiled: bool,
    ) -> None:
        self._model, self._learned = model, learned
        self._sample = sample if learned is None else _of_log_tau(sample)
        trained = [*model.parameters(), *([] if learned is None else [learned.log])]
        self.optimizer = FusedAdam(trained, learning_rate)
        # Whether training is compiled: "yes", or "no" and why not.
        self.compiled = "yes" if compiled else "no: training.compile is off"
        device = trained[0].device.type
        self._losses = _compiled_losses(device) if compiled else member_losses
        self._has_graphs = compiled and device == "cuda"
        self._is_compiling = compiled  # at the first step, and never later

    @property
    def of_members(self) -> list[Tensor]:
        """All that belongs to a member, each (members, ...): what it trains, and Adam's moments."""
        return [*self.optimizer.parameters, *self.optimizer.moments]

    def step(
        self, images: Tensor, noise: Tensor, tau: Tensor, exponentials: Tensor | None
    ) -> Tensor:
        """Train all members on one batch; return their losses, (members,).

        Args:
            images: as `member_losses` takes them; so noise, tau and exponentials.
            noise: (replicates, L, K, B).
            tau: not used where temperatures are learned.
            exponentials: None for an estimator without.
        """
        if self._has_graphs:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        descend = self._descend_compiling if self._is_compiling else self._descend
        loss = descend(images, noise, tau, exponentials)
        self.optimizer.step()
        if self._learned is not None:
            self._learned.clamp()
        return loss

    def _descend_compiling(
        self, images: Tensor, noise: Tensor, tau: Tensor, exponentials: Tensor | None
    ) -> Tensor:
        """Take the first compiled step; where compiling fails, the same step without."""
        self._is_compiling = False
        try:
            return self._descend(images, noise, tau, exponentials)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - compilers fail in ways of their own
            why = (str(error).strip().splitlines() or [""])[0]
            self.compiled = f"no: {type(error).__name__}: {why}"
            self._losses, self._has_graphs = member_losses, False
            return self._descend(images, noise, tau, exponentials)

    def _descend(
        self, images: Tensor, noise: Tensor, tau: Tensor, exponentials: Tensor | None
    ) -> Tensor:
        """Leave the gradients of one batch in the parameters; return the losses, (members,)."""
        self.optimizer.zero_grad()
        if self._learned is not None:
            tau = self._learned.log
        loss = self._losses(self._model, self._sample, images, noise, tau, exponentials)
        # A sum over members: no member's gradient reaches another.
        torch.autograd.backward(loss.sum())
        return loss.detach()
