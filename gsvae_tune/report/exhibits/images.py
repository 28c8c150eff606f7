"""Images of the pair's and the baseline's models, of the validation split and of random codes.

The validation split alone: what the test split holds is for the verdict.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gsvae_tune.report.exhibits.exhibit import Exhibit, NothingToShow, listed
from gsvae_tune.report.exhibits.finalists import Chosen, chosen, described
from gsvae_tune.report.figures import images as figures
from gsvae_tune.report.figures import style
from gsvae_tune.report.loaded import LoadedStudy
from gsvae_tune.study.errors import InputError
from gsvae_tune.vae.data import Splits, load_splits, require_checksum

SHOWN = 10  # images reconstructed
GRID = 6  # samples in a row, and rows
SAMPLES = 1_000  # of which the finding on samples speaks
UNDECIDED = (0.1, 0.9)  # a pixel's probability of ink, between these
CODES_SEED = 0  # the same codes in every report


def exhibits(study: LoadedStudy) -> Iterator[Exhibit]:
    """Yield what the models make of images; both exhibits load them once."""
    models = functools.cache(lambda: _models(study))
    yield Exhibit(
        "comparison-reconstructions",
        "What do the pair's and the baseline's models keep of an image?",
        "Each image is encoded, reduced to its most probable one-hot code, and decoded again.",
        lambda: _reconstructions(models()),
    )
    yield Exhibit(
        "comparison-samples",
        "What do the pair's and the baseline's models dream up?",
        "Each image decodes a code drawn at random; the same place in both grids is the same code, "
        "which need not mean the same thing to both models.",
        lambda: _samples(models()),
    )


@dataclass(frozen=True)
class _Model:
    """One model with what it makes of the validation images and of the same random codes."""

    name: str
    images: NDArray[np.float32]  # (shown, D), reconstructed
    nats: NDArray[np.float32]  # (all validation images,)
    samples: NDArray[np.float32]  # (SAMPLES, D)


@dataclass(frozen=True)
class _Models:
    originals: NDArray[np.float32]  # (validation images, D), 0 to 1
    shape: tuple[int, int]
    made: list[_Model]
    replicate: int
    what: str

    def shaped(self, flat: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return images (n, height, width) from pixels (n, D)."""
        return flat.reshape(len(flat), *self.shape)


def _models(study: LoadedStudy) -> _Models:
    """Load both models and let them draw.

    Raises:
        NothingToShow: they, or the images, are not here, and why.
    """
    if study.config.simulate is not None:
        raise NothingToShow("The study is simulated: nothing was trained, so there is no model.")
    if study.archive:
        raise NothingToShow(
            "The study is an archive, its configuration and tables alone: the models are not in it."
        )
    sides = _sides(study)
    replicate, branches = _sound_replicate(study, sides)
    for one in sides:
        path = study.paths.trial(one.arm, one.number, one.phase).checkpoint
        if not path.is_file():
            raise NothingToShow(f"The model of {one} is not on this machine: {path} is not there.")
    splits = _splits(study)
    made = [
        _made(study, one, replicate, branch, splits)
        for one, branch in zip(sides, branches, strict=True)
    ]
    originals = (splits.validation / np.float32(255.0)).astype(np.float32)
    return _Models(originals, (splits.height, splits.width), made, replicate, described(study))


def _splits(study: LoadedStudy) -> Splits:
    """Return the images that the study began with; what it tests on is not among them."""
    try:
        splits = load_splits(study.config.data, study.config.seed)
        require_checksum(splits.checksum, study.recorded["data"]["checksum"])
    except InputError as error:
        raise NothingToShow(f"The images cannot be shown: {str(error).splitlines()[0]}.") from error
    return splits


def _made(study: LoadedStudy, one: Chosen, replicate: int, branch: str, splits: Splits) -> _Model:
    """Let one model draw."""
    from gsvae_tune.vae import pictures  # PyTorch takes a second to import

    which = pictures.Member(one.arm, one.phase, one.number, replicate, branch)
    try:
        model = pictures.load_member(study.paths, which, study.config.model, splits.pixels)
    except (ValueError, OSError) as error:
        raise NothingToShow(f"The model of {one} cannot be read: {error}.") from error
    means, nats = pictures.reconstructed(model, splits.validation)
    drawn = pictures.sampled(model, SAMPLES, CODES_SEED)
    if not (np.isfinite(nats).all() and np.isfinite(drawn).all()):
        raise NothingToShow(f"The model of {one} gives pixels that are no numbers.")
    return _Model(str(one), means[:SHOWN], nats, drawn)


def _sides(study: LoadedStudy) -> list[Chosen]:
    """Return who is shown: the first pair there is, else the best other arm, and the baseline."""
    found = {one.arm: one for one in chosen(study)}
    base = study.config.protocol.baseline
    others = [arm for arm in found if arm != base]
    pairs = [arm for arm in others if study.config.method(arm) == "pair"]
    others = pairs or sorted(others, key=lambda arm: _chosen_by(study, found[arm]))
    sides = [found[arm] for arm in [*others[:1], base] if arm in found]
    if not sides:
        raise NothingToShow("No trial has ended with a value yet: there is no model to look at.")
    return sides


def _chosen_by(study: LoadedStudy, one: Chosen) -> float:
    """Return a trial's validation loss, nats; infinite where it has none."""
    rows = study.trials[(study.trials.arm == one.arm) & (study.trials.phase == one.phase)]
    value = rows.value[rows.number == one.number]
    return float(value.fillna(np.inf).min()) if len(value) else np.inf


def _sound_replicate(study: LoadedStudy, sides: list[Chosen]) -> tuple[int, list[str]]:
    """Return the first replicate that is sound in all of them, and the better branch of each."""
    better: list[dict[int, str]] = []
    for one in sides:
        rows = study.replicates
        own = rows[(rows.number == one.number) & (rows.arm == one.arm) & (rows.phase == one.phase)]
        own = own[own.best_branch.notna()]
        better.append(dict(zip(own.replicate.tolist(), own.best_branch.tolist(), strict=True)))
    shared = sorted(set.intersection(*(set(own) for own in better)))
    if not shared:
        raise NothingToShow(f"No seed of {listed(sides)} ended soundly: there is no model to show.")
    return shared[0], [own[shared[0]] for own in better]


def _reconstructions(models: _Models) -> tuple[Figure, str]:
    shown = models.originals[:SHOWN]
    figure = figures.reconstructions(
        models.shaped(shown),
        [(one.name, models.shaped(one.images), one.nats[: len(shown)]) for one in models.made],
    )
    style.caption(
        figure,
        f"{models.what}: seed {models.replicate} of each, its better member. The first "
        f"{len(shown)} images of the validation split, whatever they show. Grey: the probability "
        "of ink. Below each image: \N{MINUS SIGN}log p(x|z) at its most probable code, nats; the "
        "KL of the code is not in it.",
    )
    return figure, _reconstructions_in_words(models, len(shown))


def _reconstructions_in_words(models: _Models, shown: int) -> str:
    whole = f"{len(models.originals):,}"
    costs = [
        f"{one.name} {one.nats[:shown].mean():.2f} nats on the {shown} shown and "
        f"{one.nats.mean():.2f} on all {whole} validation images"
        for one in models.made
    ]
    words = f"Mean cost of a reconstruction: {'; '.join(costs)}."
    if len(models.made) == 2:
        one, other = models.made
        lower = int((one.nats < other.nats).sum())
        words += f" {one.name}'s is the lower one on {lower:,} of the {whole}."
    return f"{words} One seed of each: what differs here may be that seed's alone."


def _samples(models: _Models) -> tuple[Figure, str]:
    shown = [(one.name, models.shaped(one.samples[: GRID * GRID])) for one in models.made]
    figure = figures.samples(shown, GRID)
    style.caption(
        figure,
        f"{models.what}: seed {models.replicate} of each, its better member. {GRID * GRID} codes, "
        "each latent's category drawn uniformly, which is the prior. Grey: the probability of ink.",
    )
    told = [
        f"{one.name} gives {_percent(one.samples.mean())} ink and leaves "
        f"{_percent(_undecided(one.samples))} of the pixels undecided"
        for one in models.made
    ]
    return figure, (
        f"In {SAMPLES:,} samples of each, {listed(told)} (probability between {UNDECIDED[0]} and "
        f"{UNDECIDED[1]}); the {len(models.originals):,} validation images have "
        f"{_percent(models.originals.mean())} ink."
    )


def _undecided(pixels: NDArray[np.float32]) -> float:
    return float(((pixels > UNDECIDED[0]) & (pixels < UNDECIDED[1])).mean())


def _percent(share: float) -> str:
    return f"{100 * float(share):.1f} %"
