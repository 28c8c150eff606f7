"""Images: where they come from, how they become binary, how they are split. No torch here.

All images are unsigned bytes of shape (n, pixels), 0 to 255. `load_splits` gives train, control
and validation; the test split is not in what it returns, so nothing that trains can see it.
`load_test_split` gives that one: for the test phase alone, which first writes the opening down.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

from gsvae_tune.study.config import DataConfig
from gsvae_tune.study.errors import InputError
from gsvae_tune.study.faults import Fault
from gsvae_tune.study.paths import expand
from gsvae_tune.study.seeds import derive
from gsvae_tune.vae.files import Bytes, read_idx_file, read_npz

TRAIN_IMAGES = "train-images-idx3-ubyte.gz"
TEST_IMAGES = "t10k-images-idx3-ubyte.gz"

# SHA-256 of the unpacked files, so that a packed, a plain and a fetched copy are judged alike.
# Taken from the published files, those whose packed MD5 sums are f68b3c2d..., 9fb629c4... (MNIST)
# and 8d4fb7e6..., bef4ecab... (Fashion-MNIST, https://github.com/zalandoresearch/fashion-mnist).
CHECKSUMS = {
    "mnist": {
        TRAIN_IMAGES: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        TEST_IMAGES: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    },
    "fashion-mnist": {
        TRAIN_IMAGES: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        TEST_IMAGES: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    },
}


@dataclass(frozen=True)
class Splits:
    """What training may see; shape (images, pixels), bytes.

    With binarization threshold and static every split holds 0 and 255 only; with dynamic only
    control and validation do, and `train` stays grey for the trainer to redraw each epoch.
    """

    train: Bytes
    control: Bytes
    validation: Bytes
    height: int
    width: int
    checksum: str  # SHA-256 of all images before splitting and binarization, hexadecimal
    redraw: bool  # binarize `train` anew each epoch

    @property
    def pixels(self) -> int:
        return self.height * self.width

    @property
    def counts(self) -> dict[str, int]:
        return {
            "train": len(self.train),
            "control": len(self.control),
            "validation": len(self.validation),
        }


@dataclass(frozen=True)
class _Images:
    """Raw images; `test` is None where the data set has no test set of its own."""

    train: Bytes  # (n, height, width)
    test: Bytes | None


def load_splits(config: DataConfig, seed: int) -> Splits:
    """Return the splits that training may see; a test set stays behind.

    The split depends on the study's seed and on the data alone.

    Raises:
        InputError: data missing, corrupt, or too few.
    """
    raw = _load(config)
    flat, chosen = _divide(raw, config, seed)
    splits = {
        name: _binarize(
            flat[chosen[name]], config.binarization, derive(seed, "binarize", name), name
        )
        for name in ("train", "control", "validation")
    }
    return Splits(
        **splits,
        height=raw.train.shape[1],
        width=raw.train.shape[2],
        checksum=_checksum(raw),
        redraw=config.binarization == "dynamic",
    )


def load_test_split(config: DataConfig, seed: int, checksum: str | None = None) -> Bytes:
    """Return the sealed split, (images, pixels): the data set's own test set where it has one.

    Raises:
        InputError: as `load_splits`; or the images are not those with this checksum.
    """
    raw = _load(config)
    if checksum is not None:
        require_checksum(_checksum(raw), checksum)
    flat, chosen = _divide(raw, config, seed)
    images = flat[chosen["test"]] if raw.test is None else raw.test.reshape(len(raw.test), -1)
    return _binarize(images, config.binarization, derive(seed, "binarize", "test"), "test")


def require_checksum(seen: str, recorded: str) -> None:
    """Check that images are those that a study began with.

    Raises:
        InputError: they are others.
    """
    if seen != recorded:
        raise InputError(
            f"{Fault.DATA_CHANGED.value} (SHA-256 {recorded[:12]}..., now {seen[:12]}...)",
            where="data.source",
            legal="the same data",
            next_step="bring them back and run the same command again; nothing was measured",
        )


def _divide(
    raw: _Images, config: DataConfig, seed: int
) -> tuple[Bytes, dict[str, NDArray[np.intp]]]:
    """Return all images that are to be split, (n, pixels), and each split's indices."""
    count, height, width = raw.train.shape
    flat = raw.train.reshape(count, height * width)
    order = np.random.default_rng(derive(seed, "split")).permutation(count)
    sizes = {
        "control": round(config.control * count),
        "validation": round(config.validation * count),
    }
    if raw.test is None:
        sizes["test"] = round(config.test * count)
    sizes["train"] = count - sum(sizes.values())
    if config.limit is not None:
        sizes["train"] = min(sizes["train"], config.limit)
    if min(sizes.values()) < 1:
        raise InputError(
            f"{count} images give the splits {sizes}",
            where=f"data.source {config.source}",
            legal="at least one image in each split",
        )
    chosen: dict[str, NDArray[np.intp]] = {}
    start = 0
    for name in ("test", "control", "validation", "train"):  # the sealed split first and fixed
        size = sizes.get(name, 0)
        chosen[name] = order[start : start + size]
        start += size
    return flat, chosen


def _binarize(images: Bytes, how: str, seed: int, split: str) -> Bytes:
    if how == "none" or (how == "dynamic" and split == "train"):
        return images
    if how == "threshold":
        on = images > 127
    else:  # one Bernoulli draw a pixel, the grey value its probability
        draw = np.random.default_rng(seed).random(images.shape, dtype=np.float32)
        on = draw * np.float32(255.0) < images
    return np.where(on, np.uint8(255), np.uint8(0))


def _checksum(raw: _Images) -> str:
    digest = hashlib.sha256()
    for images in (raw.train, raw.test):
        if images is not None:
            digest.update(repr(images.shape).encode())
            digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()


def _load(config: DataConfig) -> _Images:
    if config.source == "digits":
        return _digits()
    kind, _, rest = config.source.partition(":")
    if kind == "npz":
        return _npz(expand(rest, "data.source"))
    if kind == "idx":
        return _idx_folder(expand(rest, "data.source"), None)
    folder = find_folder(config.source, config.dir)
    return _idx_folder(folder, CHECKSUMS[config.source])


def _digits() -> _Images:
    from sklearn.datasets import load_digits

    grey = load_digits().images  # (1797, 8, 8), 0 to 16
    return _Images(np.round(grey * (255.0 / 16.0)).astype(np.uint8), None)


def cache_folder() -> Path:
    return Path(platformdirs.user_cache_dir("gsvae-tune")) / "data"


def find_folder(source: str, given: str | None) -> Path:
    """Return the folder that holds a named data set's idx files.

    Looks in the given folder, $GSVAE_DATA and the user's cache, in each also under the data
    set's name. A given folder is the only one looked at.

    Raises:
        InputError: found nowhere; says where it looked and how to get the data.
    """
    if given is not None:
        roots = [expand(given, "data.dir")]
    else:
        named = os.environ.get("GSVAE_DATA")
        roots = [expand(named, "$GSVAE_DATA")] if named else []
        roots.append(cache_folder())
    # The folder named after the data set first: all of them use the same file names.
    candidates = [place for root in roots for place in (root / source, root)]
    for place in candidates:
        if _packed_or_plain(place, TRAIN_IMAGES).is_file():
            return place
    raise InputError(
        f"{TRAIN_IMAGES} of {source} was not found in {', '.join(map(str, candidates))}",
        where="data.dir",
        legal="a folder with the four idx.gz files, or one that holds such a folder named "
        f"{source}: --data-dir DIR, or $GSVAE_DATA",
        next_step=f"gsvae-tune data fetch {source}",
    )


def _idx_folder(folder: Path, checksums: dict[str, str] | None) -> _Images:
    train = read_idx(folder, TRAIN_IMAGES, checksums)
    if checksums is None and not _packed_or_plain(folder, TEST_IMAGES).is_file():
        return _Images(train, None)
    test = read_idx(folder, TEST_IMAGES, checksums)
    return _same_size(train, test, folder)


def _packed_or_plain(folder: Path, name: str) -> Path:
    plain = folder / name.removesuffix(".gz")
    return plain if plain.is_file() and not (folder / name).is_file() else folder / name


def read_idx(folder: Path, name: str, checksums: dict[str, str] | None) -> Bytes:
    """Read images in the idx format: magic 0x00000803, three big-endian sizes, bytes.

    Returns:
        (n, height, width), bytes.

    Raises:
        InputError: not readable, not such a file, or not the published one where ``checksums``
            holds its SHA-256.
    """
    path = _packed_or_plain(folder, name)
    content, shape = read_idx_file(path)
    if checksums is not None and (seen := hashlib.sha256(content).hexdigest()) != checksums[name]:
        raise InputError(
            f"has the SHA-256 sum {seen} once unpacked: damaged, or another data set's file",
            where=str(path),
            legal=f"{checksums[name]} (the published file)",
            next_step="fetch the file again; source idx:DIR reads images of your own",
        )
    return np.frombuffer(content, dtype=np.uint8, offset=16).reshape(shape)


def _npz(path: Path) -> _Images:
    """Read the array ``images`` (and ``test_images``, if there) from an npz file."""
    read = read_npz(path, ("images", "test_images"))
    return _same_size(read["images"], read.get("test_images"), path)


def _same_size(train: Bytes, test: Bytes | None, where: Path) -> _Images:
    if test is not None and train.shape[1:] != test.shape[1:]:
        raise InputError(
            f"training images are {train.shape[1:]}, test images {test.shape[1:]}",
            where=str(where),
            legal="one size",
        )
    return _Images(train, test)
