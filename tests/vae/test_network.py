"""Stacked layers equal torch's own, member by member; weights shared by a pair at the start."""

import pytest
import torch

from gsvae_tune.study.config import ModelConfig
from gsvae_tune.vae.adam import FusedAdam
from gsvae_tune.vae.network import StackedVAE, copy_members

CONFIG = ModelConfig(hidden=(7, 5), latents=3, categories=4)


def as_plain(perceptron, member):
    """The same network in torch.nn.Linear."""
    layers = []
    for layer in perceptron:
        if isinstance(layer, torch.nn.ReLU):
            layers.append(torch.nn.ReLU())
            continue
        plain = torch.nn.Linear(layer.weight.shape[1], layer.weight.shape[2])
        plain.weight.data = layer.weight.data[member].T.contiguous()
        plain.bias.data = layer.bias.data[member, 0]
        layers.append(plain)
    return torch.nn.Sequential(*layers)


def test_every_member_equals_a_plain_network():
    model = StackedVAE(CONFIG, 16, [1, 2])
    images = torch.rand(4, 9, 16, generator=torch.Generator().manual_seed(0))
    logits = model.encode(images)
    codes = torch.rand(4, 3, 4, 9, generator=torch.Generator().manual_seed(1))
    pixels = model.decode(codes)
    for member in range(4):
        plain = as_plain(model.encoder, member)(images[member]).view(9, 3, 4)
        torch.testing.assert_close(logits[member], plain.movedim(0, -1))
        plain = as_plain(model.decoder, member)(codes[member].flatten(0, 1).T)
        torch.testing.assert_close(pixels[member], plain)


def test_logits_leave_without_a_relu():
    """Known bug of public ports: a ReLU on the encoder's logits (and on the decoder's)."""
    model = StackedVAE(CONFIG, 16, [1])
    images = torch.rand(2, 50, 16, generator=torch.Generator().manual_seed(0))
    assert (model.encode(images) < 0).any()
    assert (model.decode(torch.rand(2, 3, 4, 50)) < 0).any()


def test_images_of_a_group_are_shared_by_its_members():
    model = StackedVAE(CONFIG, 16, [1, 2])
    images = torch.rand(2, 9, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.encode(images), model.encode(images.repeat_interleave(2, dim=0)))
    assert torch.equal(model.encode(images[:1]), model.encode(images[:1].expand(4, -1, -1)))


def test_a_pair_starts_from_the_same_weights_and_replicates_do_not():
    model = StackedVAE(CONFIG, 16, [1, 2])
    alone = StackedVAE(CONFIG, 16, [2])
    for stacked, single in zip(model.parameters(), alone.parameters(), strict=True):
        assert torch.equal(stacked[0], stacked[1])
        assert torch.equal(stacked[2:], single)
        assert not torch.equal(stacked[0], stacked[2])


def test_initial_weights_have_the_spread_of_torchs_linear():
    model = StackedVAE(ModelConfig(hidden=(400,), latents=4, categories=4), 100, [5])
    layer = model.encoder[0]
    torch.testing.assert_close(layer.weight[0].std(), torch.tensor(0.1 / 3**0.5), rtol=0.02, atol=0)
    assert layer.weight.abs().max() <= 0.1
    assert layer.bias.abs().max() <= 0.1


def test_members_share_nothing_but_the_call():
    model = StackedVAE(CONFIG, 16, [1, 2])
    images = torch.rand(4, 9, 16)
    model.decode(torch.softmax(model.encode(images), -2))[1].sum().backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad[1].abs().sum() > 0
        assert parameter.grad[[0, 2, 3]].abs().sum() == 0


def test_copying_takes_weights_and_moments_of_one_replicate_only():
    model = StackedVAE(CONFIG, 16, [1, 2])
    optimizer = FusedAdam(model.parameters(), 0.1)
    scale = torch.arange(1.0, 5.0).view(4, 1, 1)
    (model.decode(torch.softmax(model.encode(torch.rand(4, 9, 16)), -2)) * scale).sum().backward()
    optimizer.step()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    copy_members([*model.parameters(), *optimizer.moments], [1, -1])
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter[0], old[1])
        assert torch.equal(parameter[1:], old[1:])
    for moment in optimizer.moments:
        assert torch.equal(*moment[:2])
        assert not torch.equal(*moment[2:])


def test_a_subset_gives_what_its_members_gave():
    model = StackedVAE(CONFIG, 16, [1, 2])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # no two members alike
    images = torch.rand(1, 9, 16, generator=torch.Generator().manual_seed(0))
    chosen = model.subset([3, 0])
    assert chosen.members == 2
    logits = chosen.encode(images)
    torch.testing.assert_close(logits, model.encode(images)[[3, 0]])
    codes = torch.rand(4, 3, 4, 9, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(chosen.decode(codes[[3, 0]]), model.decode(codes)[[3, 0]])


def test_a_subset_shares_no_memory_with_its_model():
    model = StackedVAE(CONFIG, 16, [1, 2])
    before = [parameter.detach().clone() for parameter in model.parameters()]
    chosen = model.subset([0, 1, 2, 3])
    chosen.decode(torch.softmax(chosen.encode(torch.rand(1, 9, 16)), -2)).sum().backward()
    with torch.no_grad():
        for parameter in chosen.parameters():
            parameter.zero_()
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, old)
        assert parameter.grad is None
    with pytest.raises(IndexError):
        model.subset([4])
