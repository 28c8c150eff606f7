"""Training all pairs of a trial as one model: a generator of one record per epoch.

Random streams are seeded anew each epoch from (replicate's seed, purpose, epoch). So a replicate's
numbers do not depend on how many others are stacked with it, and the two members of a replicate see
the same batches and the same noise. A checkpoint may be taken between any two steps.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gsvae_tune.study.config import Estimator, ModelConfig, Signal, TrainingConfig
from gsvae_tune.study.records import ReplicateResult
from gsvae_tune.study.seeds import derive
from gsvae_tune.tau import Controller
from gsvae_tune.tau.pair import COLLAPSED_KL_NATS
from gsvae_tune.vae.adam import FusedAdam
from gsvae_tune.vae.bounds import (
    active_units,
    bernoulli_nll,
    categorical_kl,
)
from gsvae_tune.vae.data import Splits
from gsvae_tune.vae.epoch import EpochRecord
from gsvae_tune.vae.network import StackedVAE, copy_members, to_members
from gsvae_tune.vae.relaxation import CATEGORIES, one_hot, sampler, soft
from gsvae_tune.vae.streams import gumbel, uniform

STATE_VERSION = 2
_EVALUATION_BATCH = 1000  # images at a time; bounds the memory of an evaluation
_NOISE_BLOCK = 65_536  # random numbers a replicate draws at once; more would leave the cache


@dataclass
class _UnderWay:
    """An epoch that has begun: what a checkpoint between two of its steps must hold."""

    step: int
    loss: Tensor  # (members,), sum over the steps so far


@dataclass(frozen=True)
class Evaluation:
    """Losses of all members on one split, each (members,)."""

    discrete: Tensor
    relaxed: Tensor | None
    kl: Tensor
    active_units: Tensor


def member_losses(
    model: StackedVAE,
    sample: Callable[[Tensor, Tensor, Tensor], Tensor],
    images: Tensor,
    noise: Tensor,
    tau: Tensor,
) -> Tensor:
    """Return each member's training loss on a batch, the mean over its images: (members,)."""
    logits = model.encode(images)
    codes = sample(logits, to_members(noise), tau)
    nll = bernoulli_nll(model.decode(codes), to_members(images))
    return (nll + categorical_kl(logits)).mean(1)


@functools.cache
def _compiled_losses(device: str) -> Callable[..., Tensor]:
    """Return `member_losses` compiled; one for all trials of a process, so that they share it."""
    mode = "reduce-overhead" if device == "cuda" else None  # with CUDA graphs
    return torch.compile(member_losses, dynamic=False, mode=mode)


class PairTraining:
    """All replicates of one trial.

    Args:
        splits: the images.
        model: architecture of every member.
        training: epochs, batch size and evaluation.
        seeds: one a replicate.
        controller: gives the temperatures and is told the losses; one row a replicate.
        learning_rate: of Adam (betas 0.9, 0.999), the same for all members.
        estimator: gradient estimator of the codes.
        signal: the loss the controller is told: one-hot codes on the control split, relaxed codes
            on the control split, or the mean training loss of the epoch.
        device: where it trains.

    Raises:
        ValueError: fewer training images than a batch holds.
    """

    def __init__(
        self,
        splits: Splits,
        model: ModelConfig,
        training: TrainingConfig,
        seeds: Sequence[int],
        controller: Controller,
        *,
        learning_rate: float,
        estimator: Estimator = "soft",
        signal: Signal = "control",
        device: torch.device | str = "cpu",
    ) -> None:
        self.steps_per_epoch = training.steps_per_epoch(len(splits.train))
        if not self.steps_per_epoch:
            raise ValueError(
                f"batch_size is {training.batch_size}; legal: at most the {len(splits.train)} "
                "training images"
            )
        self.controller = controller
        self.epoch = 0
        self._under_way: _UnderWay | None = None
        self._spent_s = 0.0
        self._resumed_at: float | None = None
        self._settings = training
        self._seeds = list(seeds)
        self._device = torch.device(device)
        self._redraw = splits.redraw
        self._train, self._control, self._validation = (
            torch.tensor(images, device=self._device)
            for images in (splits.train, splits.control, splits.validation)
        )
        self._estimator, self._signal = estimator, signal
        self._sample = sampler(estimator)
        self.model = StackedVAE(model, splits.pixels, self._seeds, training.precision).to(
            self._device
        )
        # Whether training is compiled: "yes", or "no" and why not.
        self.compiled = "yes" if training.compile else "no: training.compile is off"
        self._losses = _compiled_losses(self._device.type) if training.compile else member_losses
        self._is_compiling = training.compile  # at the first step, and never later
        self._optimizer = FusedAdam(self.model.parameters(), learning_rate)
        self._code_shape = (model.latents, model.categories)
        # Steps whose noise is drawn in one go, whatever the number of replicates.
        codes = training.batch_size * model.latents * model.categories
        self._noise_steps = max(1, _NOISE_BLOCK // codes)

    @property
    def trained(self) -> float:
        """Epochs trained so far, the share of the one under way included."""
        share = 0.0 if self._under_way is None else self._under_way.step / self.steps_per_epoch
        return self.epoch + share

    def epochs(self, between_steps: Callable[[], None] = lambda: None) -> Iterator[EpochRecord]:
        """Train to the end, yielding after each epoch; stops early when every replicate ended.

        Args:
            between_steps: called after each optimizer step and each batch of an evaluation;
                `state_dict` may be taken there.
        """
        while self.epoch < self._settings.epochs and None in self.controller.ended:
            yield self._train_epoch(between_steps)

    def _train_epoch(self, between_steps: Callable[[], None]) -> EpochRecord:
        self._resumed_at = time.perf_counter()
        tau = self.controller.tau
        members_tau = self._tau_of_members(tau)
        train_loss = self._train_steps(members_tau, between_steps)
        control = self._evaluate(self._control, "control", members_tau, between_steps)
        validation = self._evaluate(self._validation, "validation", None, between_steps)
        self.epoch += 1
        self._under_way = None
        assert control.relaxed is not None  # noqa: S101 - it was given temperatures
        told = {
            "control": control.discrete,
            "control-relaxed": control.relaxed,
            "train": train_loss,
        }
        # Whatever the signal is, a member whose training or control loss is lost has diverged.
        sound = torch.isfinite(train_loss) & torch.isfinite(control.discrete)
        losses = torch.where(sound, told[self._signal], torch.nan)
        self.controller.update(self._pairs(losses), self._pairs(control.kl))
        copy_members(
            [*self.model.parameters(), *self._optimizer.moments],
            self.controller.copy_from.tolist(),
        )
        self._spent_s = self.wall_s
        self._resumed_at = None
        trained = self._pairs(train_loss).tolist()
        hard = self._estimator == "straight-through"
        rows = self.controller.trace[-self.controller.replicates :]
        return EpochRecord(
            epoch=self.epoch,
            wall_s=self.wall_s,
            steps=self.epoch * self.steps_per_epoch,
            tau=tau.tolist(),
            train_loss_relaxed=None if hard else trained,
            train_loss_discrete=trained if hard else None,
            control_loss_discrete=self._pairs(control.discrete).tolist(),
            control_loss_relaxed=self._pairs(control.relaxed).tolist(),
            control_kl_nats=self._pairs(control.kl).tolist(),
            val_neg_elbo_nats=self._pairs(validation.discrete).tolist(),
            kl_nats=self._pairs(validation.kl).tolist(),
            active_units=self._pairs(validation.active_units).astype(int).tolist(),
            event=[row.event.name for row in rows],
        )

    @property
    def wall_s(self) -> float:
        """Seconds of training so far, interruptions not counted."""
        if self._resumed_at is None:
            return self._spent_s
        return self._spent_s + time.perf_counter() - self._resumed_at

    def _train_steps(self, tau: Tensor, between_steps: Callable[[], None]) -> Tensor:
        """Train what is left of an epoch; return each member's mean training loss, (members,)."""
        size, epoch = self._settings.batch_size, self.epoch + 1
        if self._under_way is None:
            self._under_way = _UnderWay(
                step=0,
                loss=torch.zeros(self.model.members, device=self._device),
            )
        now = self._under_way
        order = self._order(epoch)
        while now.step < self.steps_per_epoch:
            first = now.step - now.step % self._noise_steps
            last = min(first + self._noise_steps, self.steps_per_epoch)
            shape = (last - first, *self._code_shape, size)
            noise = gumbel(shape, self._seeds, "noise", epoch, first, device=self._device)
            for step in range(now.step, last):
                images = self._batch(order[:, step * size : (step + 1) * size], epoch, step)
                now.loss += self._step(images, noise[:, step - first], tau)
                now.step += 1
                between_steps()
        return now.loss / self.steps_per_epoch

    def _step(self, images: Tensor, noise: Tensor, tau: Tensor) -> Tensor:
        """Train all members on one batch; return their losses, (members,).

        Args:
            images: (replicates, B, D).
            noise: (replicates, L, K, B).
            tau: (members, 1, 1, 1).
        """
        if self._device.type == "cuda" and self._losses is not member_losses:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        if self._is_compiling:
            loss = self._descend_compiling(images, noise, tau)
        else:
            loss = self._descend(images, noise, tau)
        self._optimizer.step()
        return loss

    def _descend_compiling(self, images: Tensor, noise: Tensor, tau: Tensor) -> Tensor:
        """Take the first compiled step; where compiling fails, the same step without."""
        self._is_compiling = False
        try:
            return self._descend(images, noise, tau)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - compilers fail in ways of their own
            why = (str(error).strip().splitlines() or [""])[0]
            self.compiled = f"no: {type(error).__name__}: {why}"
            self._losses = member_losses
            return self._descend(images, noise, tau)

    def _descend(self, images: Tensor, noise: Tensor, tau: Tensor) -> Tensor:
        """Leave the gradients of one batch in the parameters; return the losses, (members,)."""
        self._optimizer.zero_grad()
        loss = self._losses(self.model, self._sample, images, noise, tau)
        # A sum over members: no member's gradient reaches another.
        torch.autograd.backward(loss.sum())
        return loss.detach()

    def rehearse(self) -> None:
        """Do once all that takes memory: a training step, and a batch of an evaluation.

        The weights move; train with another instance.
        """
        tau = self._tau_of_members(self.controller.tau)
        size = self._settings.batch_size
        shape = (self._noise_steps, *self._code_shape, size)
        noise = gumbel(shape, self._seeds, "noise", 1, 0, device=self._device)
        self._step(self._batch(self._order(1)[:, :size], 1, 0), noise[:, 0], tau)
        self._evaluate(self._control[:_EVALUATION_BATCH], "control", tau)

    def _order(self, epoch: int) -> Tensor:
        """Return the order in which each replicate sees the images, (replicates, images)."""
        count = len(self._train)
        orders = [
            torch.randperm(
                count, generator=torch.Generator().manual_seed(derive(seed, "batches", epoch))
            )
            for seed in self._seeds
        ]
        return torch.stack(orders).to(self._device)

    def _batch(self, index: Tensor, epoch: int, step: int) -> Tensor:
        images = self._train.index_select(0, index.flatten()).view(*index.shape, -1)
        pixels = self._images(images)
        if self._redraw:
            drawn = uniform(
                pixels.shape[1:], self._seeds, "binarize", epoch, step, device=self._device
            )
            return (drawn < pixels).to(torch.float32)
        return pixels

    @torch.no_grad()
    def _evaluate(
        self,
        images: Tensor,
        split: str,
        tau: Tensor | None,
        between_steps: Callable[[], None] = lambda: None,
    ) -> Evaluation:
        """Evaluate every member on a split, with the same noise at every epoch.

        The noise depends on the replicate's seed and the split, so that differences between
        epochs, members and trials are not differences of luck. Relaxed losses only with ``tau``.
        """
        members, samples = self.model.members, self._settings.evaluation_samples
        discrete, relaxed, kl = (torch.zeros(members, device=self._device) for _ in range(3))
        first = torch.zeros(members, *self._code_shape, device=self._device)
        second = torch.zeros_like(first)
        for chunk_index, chunk in enumerate(torch.split(images, _EVALUATION_BATCH)):
            pixels = self._images(chunk)[None]
            logits = self.model.encode(pixels)
            posterior = torch.softmax(logits, dim=CATEGORIES)
            first += posterior.sum(-1)
            second += posterior.square().sum(-1)
            kl += categorical_kl(logits).sum(1)
            shape = (*self._code_shape, len(chunk))
            for sample in range(samples):
                where = ("evaluate", split, chunk_index, sample)
                noise = to_members(gumbel(shape, self._seeds, *where, device=self._device))
                codes = one_hot(logits, noise)
                discrete += bernoulli_nll(self.model.decode(codes), pixels).sum(1) / samples
                if tau is not None and sample == 0:
                    codes = soft(logits, noise, tau)
                    relaxed += bernoulli_nll(self.model.decode(codes), pixels).sum(1)
                between_steps()
        count = len(images)
        return Evaluation(
            discrete=(discrete + kl) / count,
            relaxed=None if tau is None else (relaxed + kl) / count,
            kl=kl / count,
            active_units=active_units(first / count, second / count),
        )

    def results(self, last: EpochRecord) -> list[ReplicateResult]:
        """Return one result a replicate from the last epoch's record.

        The better branch is chosen on the control split and judged on the validation split, so
        that having two members gives no arm a biased minimum.
        """
        rows = []
        for replicate, (seed, ended) in enumerate(
            zip(self._seeds, self.controller.ended, strict=True)
        ):
            branch = int(np.argmin(last.control_loss_discrete[replicate]))
            kl = last.kl_nats[replicate][branch]
            rows.append(
                ReplicateResult(
                    replicate=replicate,
                    seed=seed,
                    best_branch=None if ended else "ab"[branch],
                    val_neg_elbo_nats=None if ended else last.val_neg_elbo_nats[replicate][branch],
                    kl_nats=None if ended else kl,
                    active_units=None if ended else last.active_units[replicate][branch],
                    diverged=ended is not None,
                    collapsed=ended is None and kl < COLLAPSED_KL_NATS,
                    ended=None if ended is None else str(ended),
                    steps=last.steps,
                )
            )
        return rows

    def state_dict(self, *, with_optimizer: bool = True) -> dict[str, Any]:
        """Everything needed to go on from the last optimizer step: tensors and plain values."""
        now = self._under_way
        return {
            "version": STATE_VERSION,
            "epoch": self.epoch,
            "wall_s": self.wall_s,
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict() if with_optimizer else None,
            "controller": self.controller.state_dict(),
            "under_way": now and {"step": now.step, "loss": now.loss},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken, bitwise on CPU.

        Raises:
            ValueError: another version, or weights of another architecture.
        """
        if state.get("version") != STATE_VERSION:
            raise ValueError(f"checkpoint version {state.get('version')}; legal: {STATE_VERSION}")
        try:
            self.model.load_state_dict(state["model"])
        except RuntimeError as error:
            raise ValueError(f"checkpoint of another model: {error}") from error
        if state["optimizer"] is not None:
            self._optimizer.load_state_dict(state["optimizer"])
        self.controller.load_state_dict(state["controller"])
        self.epoch, self._spent_s = state["epoch"], state["wall_s"]
        self._resumed_at = None
        self._under_way = None
        if (saved := state["under_way"]) is not None:
            loss = saved["loss"].to(self._device)
            self._under_way = _UnderWay(step=saved["step"], loss=loss)

    def _images(self, images: Tensor) -> Tensor:
        return images.to(torch.float32).div_(255.0)

    def _tau_of_members(self, tau: np.ndarray) -> Tensor:
        return torch.tensor(tau.reshape(-1, 1, 1, 1), dtype=torch.float32, device=self._device)

    def _pairs(self, members: Tensor) -> np.ndarray:
        return members.detach().to(torch.float64).cpu().numpy().reshape(-1, 2)
