"""Training all pairs of a trial as one model: a generator of one record per epoch.

Random streams are seeded anew each epoch from (replicate's seed, purpose, epoch). So a replicate's
numbers do not depend on how many others are stacked with it, and the two members of a replicate see
the same batches and the same noise. A checkpoint may be taken between any two steps.
"""

from __future__ import annotations

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
from gsvae_tune.tau import Controller, LearnedController
from gsvae_tune.tau.pair import COLLAPSED_KL_NATS
from gsvae_tune.vae.data import Splits
from gsvae_tune.vae.descent import Descent
from gsvae_tune.vae.epoch import EpochRecord
from gsvae_tune.vae.evaluation import EVALUATION_BATCH, Evaluation, evaluate
from gsvae_tune.vae.network import StackedVAE, copy_members, to_pixels
from gsvae_tune.vae.pairing import Pairing
from gsvae_tune.vae.relaxation import sampler
from gsvae_tune.vae.streams import exponential, gumbel, uniform
from gsvae_tune.vae.temperature import LearnedTau

STATE_VERSION = 3
_NOISE_BLOCK = 65_536  # random numbers a replicate draws at once; more would leave the cache


@dataclass
class _UnderWay:
    """An epoch that has begun: what a checkpoint between two of its steps must hold."""

    step: int
    loss: Tensor  # (members,), sum over the steps so far


class PairTraining:
    """All replicates of one trial.

    Args:
        splits: the images.
        model: architecture of every member.
        training: epochs, batch size and evaluation.
        seeds: one a replicate.
        controller: gives the temperatures and is told the losses; one row a replicate. With a
            `LearnedController`, temperatures are trained with the weights.
        learning_rate: of Adam (betas 0.9, 0.999), the same for all members.
        estimator: gradient estimator of the codes.
        rao_samples: noises a code in the gradient of estimator gumbel-rao, >= 1.
        tau_forward: temperature of the one-hot sample of estimator decoupled, > 0.
        signal: the loss the controller is told: one-hot codes on the control split, relaxed codes
            on the control split, or the mean training loss of the epoch.
        device: where it trains.

    Raises:
        ValueError: fewer training images than a batch holds; temperatures to be learned with an
            estimator that gives them no gradient.
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
        rao_samples: int = 10,
        tau_forward: float = 1.0,
        signal: Signal = "control",
        device: torch.device | str = "cpu",
    ) -> None:
        self.steps_per_epoch = training.steps_per_epoch(len(splits.train))
        if not self.steps_per_epoch:
            raise ValueError(
                f"batch_size is {training.batch_size}; legal: at most the {len(splits.train)} "
                "training images"
            )
        if estimator == "reinmax" and isinstance(controller, LearnedController):
            raise ValueError(
                "estimator is 'reinmax', which gives a learned temperature no gradient; legal: any "
                "other"
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
        self._rao_samples = rao_samples
        self.model = StackedVAE(model, splits.pixels, self._seeds, training.precision).to(
            self._device
        )
        self._pairing = Pairing.of(self.model)
        self._learned = (
            LearnedTau(controller, self._device)
            if isinstance(controller, LearnedController)
            else None
        )
        self._descent = Descent(
            self.model,
            sampler(estimator, torch.tensor(float(tau_forward), device=self._device)),
            learning_rate,
            self._learned,
            compiled=training.compile,
        )
        self._code_shape = (model.latents, model.categories)
        # Steps whose noise is drawn in one go, whatever the number of replicates.
        codes = training.batch_size * model.latents * model.categories
        self._noise_steps = max(1, _NOISE_BLOCK // codes)

    @property
    def compiled(self) -> str:
        """Whether training is compiled: "yes", or "no" and why not."""
        return self._descent.compiled

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
        train_loss = self._train_steps(between_steps)
        members_tau = self._tau_of_members()
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
        watched = torch.stack([train_loss, control.discrete, members_tau.flatten()])
        sound = torch.isfinite(watched).all(0)
        losses = torch.where(sound, told[self._signal], torch.nan)
        if self._learned is not None:
            self._learned.report()
        self.controller.update(self._pairs(losses), self._pairs(control.kl))
        if self.epoch < self._settings.epochs:  # what is kept at the end is what was evaluated
            copy_members(self._descent.of_members, self.controller.copy_from.tolist())
        self._spent_s = self.wall_s
        self._resumed_at = None
        trained = self._pairs(train_loss).tolist()
        hard = self._estimator != "soft"
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

    def _train_steps(self, between_steps: Callable[[], None]) -> Tensor:
        """Train what is left of an epoch; return each member's mean training loss, (members,)."""
        size, epoch, tau = self._settings.batch_size, self.epoch + 1, self._tau_of_members()
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
            if now.step == 0:
                self._pairing.add_epoch(order, noise[:, 0])
            for step in range(now.step, last):
                images = self._batch(order[:, step * size : (step + 1) * size], epoch, step)
                more = self._exponentials(epoch, step)
                now.loss += self._descent.step(images, noise[:, step - first], tau, more)
                now.step += 1
                between_steps()
        return now.loss / self.steps_per_epoch

    def _exponentials(self, epoch: int, step: int) -> Tensor | None:
        """Return the further random numbers of a step, (replicates, S, L, K, B), if it has any."""
        if self._estimator != "gumbel-rao":
            return None
        shape = (self._rao_samples, *self._code_shape, self._settings.batch_size)
        return exponential(shape, self._seeds, "rao", epoch, step, device=self._device)

    def rehearse(self) -> None:
        """Do once all that takes memory: a training step, and a batch of an evaluation.

        The weights move; train with another instance.
        """
        tau = self._tau_of_members()
        size = self._settings.batch_size
        shape = (self._noise_steps, *self._code_shape, size)
        noise = gumbel(shape, self._seeds, "noise", 1, 0, device=self._device)
        images = self._batch(self._order(1)[:, :size], 1, 0)
        self._descent.step(images, noise[:, 0], tau, self._exponentials(1, 0))
        self._evaluate(self._control[:EVALUATION_BATCH], "control", tau)

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
        pixels = to_pixels(images)
        if self._redraw:
            drawn = uniform(
                pixels.shape[1:], self._seeds, "binarize", epoch, step, device=self._device
            )
            return (drawn < pixels).to(torch.float32)
        return pixels

    def _evaluate(
        self,
        images: Tensor,
        split: str,
        tau: Tensor | None,
        between_steps: Callable[[], None] = lambda: None,
    ) -> Evaluation:
        return evaluate(
            self.model,
            images,
            split,
            self._seeds,
            tau,
            samples=self._settings.evaluation_samples,
            between_chunks=between_steps,
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
                    init_hash=self._pairing.init[replicate],
                    order_hash=self._pairing.order[replicate],
                    noise_hash=self._pairing.noise[replicate],
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
            "optimizer": self._descent.optimizer.state_dict() if with_optimizer else None,
            "controller": self.controller.state_dict(),
            "log_tau": None if self._learned is None else self._learned.log.detach(),
            "pairing": self._pairing.state_dict(),
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
            self._descent.optimizer.load_state_dict(state["optimizer"])
        if self._learned is not None:
            self._learned.load(state["log_tau"])
        self._pairing.load_state_dict(state["pairing"])
        self.controller.load_state_dict(state["controller"])
        self.epoch, self._spent_s = state["epoch"], state["wall_s"]
        self._resumed_at = None
        self._under_way = None
        if (saved := state["under_way"]) is not None:
            loss = saved["loss"].to(self._device)
            self._under_way = _UnderWay(step=saved["step"], loss=loss)

    def _tau_of_members(self) -> Tensor:
        """Return the temperatures in force, (members, 1, 1, 1), without a gradient."""
        if self._learned is not None:
            return self._learned.value
        tau = self.controller.tau.reshape(-1, 1, 1, 1)
        return torch.tensor(tau, dtype=torch.float32, device=self._device)

    def _pairs(self, members: Tensor) -> np.ndarray:
        return members.detach().to(torch.float64).cpu().numpy().reshape(-1, 2)
