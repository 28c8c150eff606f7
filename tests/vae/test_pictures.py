"""Pictures of a trained member: exact codes, safe loading, the right member."""

import json

import numpy as np
import pytest
import torch

from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.vae import checkpoint
from gsvae_tune.vae.network import to_pixels
from gsvae_tune.vae.pictures import Member, load_member, reconstructed, sampled


@pytest.fixture
def trained(make, tmp_path):
    """A trial's folder with a checkpoint, as a confirmed trial leaves it."""
    training = make(seeds=(11, 22), epochs=1)
    list(training.epochs(lambda: None))
    paths = StudyPaths(tmp_path)
    which = Member("pair", "confirm", 3, 1, "b")
    path = paths.trial("pair", 3, "confirm").checkpoint
    path.parent.mkdir(parents=True)
    whose = json.dumps({"arm": "pair", "phase": "confirm", "number": 3, "settings": {}})
    checkpoint.save(path, training.state_dict(with_optimizer=False) | {"trial": whose})
    return training, paths, which, path


def model_config(training):
    from gsvae_tune.study.config import ModelConfig

    return ModelConfig(hidden=(12,), latents=3, categories=4)


def test_it_is_that_member_and_decodes_its_most_probable_code(trained, splits):
    training, paths, which, _ = trained
    model = load_member(paths, which, model_config(training), splits.pixels)
    means, nats = reconstructed(model, splits.validation)
    whole = training.model  # member 3 is branch b of replicate 1
    with torch.no_grad():
        pixels = to_pixels(torch.tensor(splits.validation))[None]
        logits = whole.encode(pixels)[3]  # (L, K, B)
        code = torch.nn.functional.one_hot(logits.argmax(1), 4).permute(0, 2, 1)
        every = torch.zeros(4, 3, 4, len(splits.validation))
        every[3] = code
        expected = torch.sigmoid(whole.decode(every)[3]).numpy()
    np.testing.assert_allclose(means, expected, atol=1e-6)
    x = splits.validation / 255.0
    by_hand = -(x * np.log(expected) + (1 - x) * np.log(1 - expected)).sum(1)
    np.testing.assert_allclose(nats, by_hand, rtol=1e-4)


def test_blocks_change_nothing(trained, splits, monkeypatch):
    training, paths, which, _ = trained
    model = load_member(paths, which, model_config(training), splits.pixels)
    once = reconstructed(model, splits.validation)
    monkeypatch.setattr("gsvae_tune.vae.pictures.EVALUATION_BATCH", 7)
    for one, other in zip(once, reconstructed(model, splits.validation), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_samples_follow_the_seed_alone_and_begin_alike(trained, splits):
    training, paths, which, _ = trained
    model = load_member(paths, which, model_config(training), splits.pixels)
    few, many = sampled(model, 5, seed=0), sampled(model, 50, seed=0)
    assert few.shape == (5, splits.pixels)
    assert (many > 0).all()
    assert (many < 1).all()
    np.testing.assert_allclose(few, many[:5], rtol=1e-5)
    assert not np.allclose(few, sampled(model, 5, seed=1))


def test_a_sample_decodes_a_one_hot_code(trained, splits, monkeypatch):
    training, paths, which, _ = trained
    model = load_member(paths, which, model_config(training), splits.pixels)
    seen = []
    decode = model.decode
    monkeypatch.setattr(model, "decode", lambda codes: seen.append(codes) or decode(codes))
    sampled(model, 4000, seed=0)
    (codes,) = seen
    assert codes.shape == (1, 3, 4, 4000)
    assert ((codes == 0) | (codes == 1)).all()
    assert (codes.sum(2) == 1).all()
    np.testing.assert_allclose(codes.mean(-1), 0.25, atol=0.03)  # uniform


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"trial": json.dumps({"arm": "pair", "phase": "confirm", "number": 4})}, "another trial"),
        ({"trial": "no json"}, "another trial"),
        ({"trial": None}, "another trial"),
        ({"model": {}}, "no such model"),
        ({"model": 5}, "no such model"),
        ({"model": {"encoder.0.weight": 3.0}}, "no such model"),
    ],
)
def test_a_foreign_checkpoint_is_no_model(trained, splits, change, says):
    training, paths, which, path = trained
    checkpoint.save(path, checkpoint.load(path) | change)
    with pytest.raises(ValueError, match=says):
        load_member(paths, which, model_config(training), splits.pixels)


def test_a_damaged_missing_or_other_one_is_said(trained, splits):
    training, paths, which, path = trained
    config = model_config(training)
    with pytest.raises(ValueError, match="no such model"):
        load_member(paths, which, config, splits.pixels + 1)
    beyond = Member("pair", "confirm", 3, 7, "a")  # no such replicate
    with pytest.raises(ValueError, match="no such model"):
        load_member(paths, beyond, config, splits.pixels)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        load_member(paths, which, config, splits.pixels)
    path.unlink()
    with pytest.raises(ValueError, match="not there"):
        load_member(paths, which, config, splits.pixels)
