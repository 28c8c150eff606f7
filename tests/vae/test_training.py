"""The training loop: equal to a plain loop, the same stacked or alone, the same resumed."""

import dataclasses
import itertools
import json
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from gsvae_tune.study.records import json_line
from gsvae_tune.study.seeds import derive
from gsvae_tune.tau import OpenLoopController, PairController
from gsvae_tune.tau.schedules import Constant, FixedFactor
from gsvae_tune.vae import checkpoint, streams
from gsvae_tune.vae.data import DataConfig, load_splits
from gsvae_tune.vae.epoch import EpochRecord
from gsvae_tune.vae.streams import gumbel
from gsvae_tune.vae.training import _NOISE_BLOCK
from tests.vae.test_network import as_plain


def numbers(record):
    """A record without its clock."""
    return dataclasses.replace(record, wall_s=0.0)


def of_replicate(record, replicate):
    one = slice(replicate, replicate + 1)
    lists = {k: v[one] for k, v in record.as_dict().items() if isinstance(v, list)}
    return dataclasses.replace(record, wall_s=0.0, **lists)


def test_stacked_equals_a_plain_loop_of_one_vae(make, splits):
    """An independent loop: nn.Linear, torch.optim.Adam, one member at a time."""
    taus = (0.4, 1.3)
    training = make(seeds=[11], controller=OpenLoopController(*map(Constant, taus)), epochs=3)
    start = training.model.state_dict()
    start = {key: value.clone() for key, value in start.items()}
    stacked = [record.train_loss_relaxed[0] for record in training.epochs()]
    training.model.load_state_dict(start)
    for branch, tau in enumerate(taus):
        encoder = as_plain(training.model.encoder, branch)
        decoder = as_plain(training.model.decoder, branch)
        parameters = [*encoder.parameters(), *decoder.parameters()]
        adam = torch.optim.Adam(parameters, lr=1e-2, fused=False, foreach=False)
        for epoch in range(1, 4):
            order = torch.randperm(90, generator=generator(11, "batches", epoch))
            noise = gumbel((4, 3, 4, 20), [11], "noise", epoch, 0, device="cpu")[0]
            losses = []
            for step, batch in enumerate(order[:80].split(20)):
                images = torch.tensor(splits.train[batch] / 255, dtype=torch.float32)
                logits = encoder(images).view(-1, 3, 4)
                codes = torch.softmax((logits + noise[step].movedim(-1, 0)) / tau, -1)
                pixels = decoder(codes.view(-1, 12))
                nll = binary_cross_entropy_with_logits(pixels, images, reduction="sum") / 20
                q = torch.softmax(logits, -1)
                kl = (q * (torch.log(q) - np.log(1 / 4))).sum() / 20
                adam.zero_grad()
                (nll + kl).backward()
                adam.step()
                losses.append((nll + kl).item())
            assert stacked[epoch - 1][branch] == pytest.approx(np.mean(losses), rel=2e-5)


def generator(*names):
    return torch.Generator().manual_seed(derive(*names))


@pytest.mark.parametrize("coupling", ["follow-winner", "tournament"])
@pytest.mark.parametrize("redraw", [False, True])
def test_a_replicate_trains_the_same_alone_and_stacked(make, splits, coupling, redraw):
    data = dataclasses.replace(splits, redraw=redraw)
    seeds = [11, 22, 33]

    def train(seeds):
        controller = PairController(replicates=len(seeds), coupling=coupling)
        return list(make(seeds=seeds, controller=controller, data=data).epochs())

    together = train(seeds)
    for replicate, seed in enumerate(seeds):
        alone = train([seed])
        assert [of_replicate(record, replicate) for record in together] == [
            numbers(record) for record in alone
        ]


def test_two_members_at_one_temperature_are_twins(make):
    """Same weights, batches and noise: whatever differs between members is the temperature."""
    training = make(controller=OpenLoopController(Constant(0.7), Constant(0.7), 2))
    for record in training.epochs():
        for name in ("train_loss_relaxed", "val_neg_elbo_nats", "kl_nats"):
            assert all(a == b for a, b in getattr(record, name))
    assert record.val_neg_elbo_nats[0] != record.val_neg_elbo_nats[1]  # replicates differ


def test_the_same_twice(make):
    assert [numbers(r) for r in make().epochs()] == [numbers(r) for r in make().epochs()]


@pytest.mark.parametrize("cut", [1, 2, 3])
@pytest.mark.parametrize("coupling", ["swap-rules", "tournament"])
def test_resumed_equals_uninterrupted_bitwise(make, tmp_path, cut, coupling):
    def start():
        controller = PairController(replicates=2, coupling=coupling, smoothing=0.5, period=2)
        return make(controller=controller)

    whole = start()
    records = [numbers(record) for record in whole.epochs()]
    first = start()
    list(itertools.islice(first.epochs(), cut))
    checkpoint.save(tmp_path / "checkpoint.pt", first.state_dict())
    second = start()
    second.load_state_dict(checkpoint.load(tmp_path / "checkpoint.pt"))
    assert [numbers(record) for record in second.epochs()] == records[cut:]
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[key])
    assert second.controller.trace == whole.controller.trace


@pytest.mark.parametrize("step", [1, 3, 4, 6, 8, 9, 17, 22])
@pytest.mark.parametrize("block", [_NOISE_BLOCK, 3 * 4 * 20 * 3])
def test_resumed_in_the_middle_of_an_epoch_equals_uninterrupted(
    make, splits, tmp_path, step, block, monkeypatch
):
    monkeypatch.setattr("gsvae_tune.vae.training._NOISE_BLOCK", block)  # also in mid-block
    data = dataclasses.replace(splits, redraw=True)
    records = [numbers(record) for record in make(data=data, epochs=3).epochs()]
    first, calls = make(data=data, epochs=3), []

    class KillError(Exception):
        pass

    def between_steps():
        calls.append(first.trained)
        if len(calls) == step:
            checkpoint.save(tmp_path / "checkpoint.pt", first.state_dict())
            raise KillError

    with pytest.raises(KillError):
        list(first.epochs(between_steps))
    epoch, within = divmod(step - 1, 8)  # four optimizer steps, then four evaluation batches
    assert calls[-1] == epoch + min(within + 1, 4) / 4
    second = make(data=data, epochs=3)
    second.load_state_dict(checkpoint.load(tmp_path / "checkpoint.pt"))
    assert second.wall_s > 0
    assert [numbers(record) for record in second.epochs()] == records[epoch:]


def test_records_read_back_as_they_were(make):
    training = make()
    with torch.no_grad():
        training.model.decoder[0].weight[1] = torch.nan
    record = next(training.epochs())
    raw = json.loads(json_line(record.as_dict()))
    assert raw["control_loss_discrete"][0][1] is None
    np.testing.assert_equal(EpochRecord.from_dict(raw).as_dict(), record.as_dict())


def test_checkpoints_that_are_none(make, tmp_path):
    path = tmp_path / "checkpoint.pt"
    assert checkpoint.load(path) is None
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="ends without a checksum"):
        checkpoint.load(path)
    torch.save({"a": 1}, path)  # one that somebody else wrote
    with pytest.raises(ValueError, match="ends without a checksum"):
        checkpoint.load(path)
    checkpoint.save(path, [1, 2])
    with pytest.raises(ValueError, match="it holds a list"):
        checkpoint.load(path)
    with pytest.raises(ValueError, match="checkpoint version None"):
        make().load_state_dict({})
    with pytest.raises(ValueError, match="another model"):
        make().load_state_dict(make(hidden=(9,)).state_dict())


def test_every_flipped_bit_of_a_checkpoint_is_noticed(tmp_path):
    """But in the two bytes that say how long the checksum is, which no reader needs."""
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"weights": torch.arange(5.0), "epoch": 3})
    whole = path.read_bytes()
    assert torch.load(path, weights_only=True)["epoch"] == 3  # anybody can read it
    quiet = []
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        if checkpoint.examine(path) is None:
            quiet.append(place)
    length = whole.rindex(b"gsvae-tune checkpoint") - 2
    assert quiet == [length, length + 1]
    for size in (0, 1, 22, 96, 97, 98, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert checkpoint.examine(path) is not None


def test_the_checkpoint_before_is_kept_until_the_next_is_whole(tmp_path):
    path, previous = tmp_path / "checkpoint.pt", tmp_path / "checkpoint.previous.pt"
    for epoch in (1, 2, 3):
        checkpoint.save(path, {"epoch": epoch}, previous=previous)
    assert checkpoint.load(path) == {"epoch": 3}
    assert checkpoint.load(previous) == {"epoch": 2}

    @contextmanager
    def refuse():
        raise OSError("refused")
        yield

    with pytest.raises(OSError, match="refused"):
        checkpoint.save(path, {"epoch": 4}, refuse(), previous=previous)
    assert checkpoint.load(path) == {"epoch": 3}
    assert {file.name for file in tmp_path.iterdir()} == {path.name, previous.name}


def test_temperatures_of_an_epoch_are_those_the_controller_gave(make):
    controller = OpenLoopController(FixedFactor(1.0, 0.5, 0.2), Constant(0.9), 2)
    taus = [record.tau for record in make(controller=controller, epochs=5).epochs()]
    # Known bug of public ports: tau is set anew at every epoch, so that it hardly moves.
    assert [tau[0][0] for tau in taus] == [1.0, 0.5, 0.25, 0.2, 0.2]
    assert all(
        tau[1] == [first, 0.9] for tau, first in zip(taus, [1, 0.5, 0.25, 0.2, 0.2], strict=True)
    )


@pytest.mark.parametrize("signal", ["control", "control-relaxed", "train"])
def test_the_controller_is_told_the_loss_its_signal_names(make, signal):
    controller = PairController(replicates=2)
    column = {
        "control": "control_loss_discrete",
        "control-relaxed": "control_loss_relaxed",
        "train": "train_loss_relaxed",
    }[signal]
    records = list(make(controller=controller, signal=signal).epochs())
    told = [(row.loss_a, row.loss_b) for row in controller.trace]
    assert told == [tuple(pair) for record in records for pair in getattr(record, column)]
    assert len({signal, *(str(getattr(records[-1], c)) for c in ("control_loss_discrete", "control_loss_relaxed", "train_loss_relaxed"))}) == 4  # fmt: skip


def test_evaluation_is_one_hot_and_knows_no_temperature(make):
    """Known bug of public ports: evaluation with relaxed samples."""
    training = make()
    hot, cold = (torch.full((4, 1, 1, 1), tau) for tau in (3.0, 0.2))
    at_hot = training._evaluate(training._control, "control", hot)
    at_cold = training._evaluate(training._control, "control", cold)
    assert torch.equal(at_hot.discrete, at_cold.discrete)
    assert not torch.equal(at_hot.relaxed, at_cold.relaxed)
    torch.testing.assert_close(
        training._evaluate(training._control, "control", torch.full((4, 1, 1, 1), 1e-4)).relaxed,
        _single_sample(training),
        rtol=1e-4,
        atol=0,
    )


def _single_sample(training):
    """The one-hot loss with one sample, the limit of the relaxed one as tau -> 0."""
    training._settings = training._settings.model_copy(update={"evaluation_samples": 1})
    return training._evaluate(training._control, "control", None).discrete


def test_kl_is_summed_like_the_reconstruction(make):
    """Known bug of public ports: KL averaged over latents while the reconstruction is summed."""
    training = make()
    with torch.no_grad():
        last = training.model.encoder[-1]
        last.weight.zero_()
        last.bias.copy_(torch.tensor([50.0, 0, 0, 0] * 3).expand_as(last.bias))
    told = training._evaluate(training._validation, "validation", None)
    torch.testing.assert_close(told.kl, torch.full((4,), 3 * float(np.log(4))))


def test_dynamic_binarization_is_redrawn_each_epoch(make, splits, monkeypatch):
    """Known bug of public ports: "dynamic" binarization drawn once."""
    grey = dataclasses.replace(splits, train=np.full_like(splits.train, 128), redraw=True)
    training = make(data=grey, epochs=3)
    seen = []
    encode = training.model.encode
    monkeypatch.setattr(training.model, "encode", lambda x: (seen.append(x.clone()), encode(x))[1])
    drawn = []
    for _ in training.epochs():
        drawn.append(torch.cat([x for x in seen if x.shape[1] == 20], dim=1))
        seen.clear()
    for epoch in drawn:
        assert len(epoch) == 2  # one batch a replicate: a pair sees the same pixels
        assert set(epoch.unique().tolist()) == {0.0, 1.0}
        assert epoch.mean() == pytest.approx(128 / 255, abs=0.03)
        assert not torch.equal(epoch[0], epoch[1])
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[1], drawn[2])


def test_each_loss_is_that_of_its_own_split_and_noise(make):
    training = make(epochs=1)
    (record,) = training.epochs()
    for column, split, images in (
        ("control_loss_discrete", "control", training._control),
        ("val_neg_elbo_nats", "validation", training._validation),
    ):
        once, again = (training._evaluate(images, split, None).discrete for _ in range(2))
        assert torch.equal(once, again)  # the same noise at every epoch
        assert getattr(record, column) == once.double().view(2, 2).tolist()
    assert record.control_loss_discrete != record.val_neg_elbo_nats


def test_learning_lowers_the_one_hot_loss(make):
    records = list(make(epochs=30).epochs())
    first, last = (np.mean(records[i].val_neg_elbo_nats) for i in (0, -1))
    assert last < first - 1.0


@pytest.mark.parametrize("tau", [0.01, 100.0])
def test_training_is_finite_at_extreme_temperatures(make, tau):
    controller = OpenLoopController(Constant(tau), Constant(tau), 2)
    *_, last = make(controller=controller, learning_rate=1e-3).epochs()
    assert controller.ended == (None, None)
    assert np.isfinite(last.val_neg_elbo_nats).all()


def test_a_diverged_member_ends_its_replicate_and_no_other(make):
    training, sound = make(), make()
    loop, whole = training.epochs(), list(sound.epochs())
    next(loop)
    with torch.no_grad():
        training.model.decoder[0].weight[1] = torch.nan  # branch b of replicate 0
    *_, last = loop
    assert str(training.controller.ended[0]).startswith("diverged: branch b")
    assert of_replicate(last, 1) == of_replicate(whole[-1], 1)
    results = training.results(last)
    assert results[0].diverged
    assert results[0].val_neg_elbo_nats is None
    assert not results[1].diverged


def test_training_stops_when_every_replicate_has_ended(make):
    training = make(epochs=10)
    with torch.no_grad():
        training.model.decoder[0].weight.fill_(torch.nan)
    assert len(list(training.epochs())) == 1


def test_results_choose_on_control_and_report_validation(make):
    training = make()
    *_, last = training.epochs()
    last = dataclasses.replace(
        last,
        control_loss_discrete=[[1.0, 2.0], [2.0, 1.0]],
        val_neg_elbo_nats=[[9.0, 3.0], [8.0, 4.0]],
    )
    rows = training.results(last)
    assert [(row.best_branch, row.val_neg_elbo_nats) for row in rows] == [("a", 9.0), ("b", 4.0)]
    assert [row.seed for row in rows] == [11, 22]
    assert rows[0].steps == 16


def test_the_precision_of_products_changes_losses_as_much_as_rounding_does(make):
    exact, same, rounded = (
        next(make(precision=precision).epochs()) for precision in ("float32", "tf32", "bfloat16")
    )
    assert numbers(exact) == numbers(same)  # tf32 is for NVIDIA GPUs
    assert exact.val_neg_elbo_nats != rounded.val_neg_elbo_nats
    np.testing.assert_allclose(exact.val_neg_elbo_nats, rounded.val_neg_elbo_nats, rtol=0.02)


def test_a_rehearsal_does_a_step_and_an_evaluation(make, monkeypatch):
    training = make()
    before = [parameter.detach().clone() for parameter in training.model.parameters()]
    evaluated = []
    evaluate = training._evaluate
    monkeypatch.setattr(
        training, "_evaluate", lambda *args: evaluated.append(evaluate(*args)) or evaluated[-1]
    )
    training.rehearse()
    assert torch.isfinite(evaluated[0].relaxed).all()
    assert all(
        not torch.equal(one, other)
        for one, other in zip(before, training.model.parameters(), strict=True)
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here")
def test_gpu_and_cpu_agree_over_three_epochs(make, monkeypatch):
    """With the CPU's random numbers on both: products are summed in another order."""
    draw = streams.fill_exponential

    def on_cpu(out, seed):
        drawn = torch.empty(out.shape)
        draw(drawn, seed)
        out.copy_(drawn)

    monkeypatch.setattr(streams, "fill_exponential", on_cpu)
    for one, other in zip(
        make(epochs=3).epochs(), make(epochs=3, device="cuda").epochs(), strict=True
    ):
        np.testing.assert_allclose(one.train_loss_relaxed, other.train_loss_relaxed, rtol=1e-4)
        np.testing.assert_allclose(one.val_neg_elbo_nats, other.val_neg_elbo_nats, rtol=1e-3)


def test_too_large_a_batch_is_refused(make, splits):
    small = dataclasses.replace(splits, train=splits.train[:19])
    with pytest.raises(ValueError, match="batch_size is 20; legal: at most the 19"):
        make(data=small)


def test_real_digits_train_below_the_independent_pixel_bound(make):
    """On real images a short run must beat the best code-free model: the entropy of the pixels."""
    data = load_splits(DataConfig(), seed=0)
    share = np.clip(data.train.mean(0) / 255, 1e-3, 1 - 1e-3)
    held = data.validation / 255
    code_free = -(held * np.log(share) + (1 - held) * np.log(1 - share)).sum(1).mean()
    training = make(data=data, seeds=[1], epochs=12, hidden=(64,),
                    controller=PairController(replicates=1), learning_rate=5e-3)  # fmt: skip
    *_, last = training.epochs()
    assert min(last.val_neg_elbo_nats[0]) < code_free - 1.0
    assert max(last.active_units[0]) > 0
