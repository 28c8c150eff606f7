"""Images: sources, checks, binarizations and splits."""

import gzip
import os
import re
import struct
import zipfile
from urllib.error import URLError

import numpy as np
import pytest

from gsvae_tune.study.config import DataConfig
from gsvae_tune.study.errors import InputError, UnfinishedError
from gsvae_tune.vae import data, fetching
from gsvae_tune.vae.data import TEST_IMAGES, TRAIN_IMAGES, load_splits, load_test_split
from gsvae_tune.vae.files import read_npz
from tests.faults import hostile
from tests.faults.cost import Cost

GREY = np.random.default_rng(0).integers(0, 256, (200, 6, 5), dtype=np.uint8)


def idx(images):
    return struct.pack(">IIII", 0x803, *images.shape) + images.tobytes()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / TRAIN_IMAGES).write_bytes(gzip.compress(idx(GREY[:150])))
    (tmp_path / TEST_IMAGES).write_bytes(gzip.compress(idx(GREY[150:])))
    return tmp_path


def rows(images):
    return {image.tobytes() for image in images}


def test_splits_are_disjoint_and_leave_the_test_split_behind():
    every = np.arange(200 * 30, dtype=np.uint16).view(np.uint8).reshape(400, 30)  # all different
    path_images = data._Images(every.reshape(400, 6, 5), None)
    config = DataConfig(binarization="none")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "_load", lambda _: path_images)
        splits = load_splits(config, seed=0)
        other = load_splits(config, seed=1)
    assert splits.counts == {"train": 220, "control": 40, "validation": 60}  # 80 are sealed
    parts = [rows(part) for part in (splits.train, splits.control, splits.validation)]
    assert len(set.union(*parts)) == 320
    assert not {array.shape for array in vars(splits).values() if isinstance(array, np.ndarray)} & {(80, 30)}  # fmt: skip
    assert rows(other.train) != parts[0]
    assert other.checksum == splits.checksum


def test_digits_need_no_file_and_no_network():
    splits = load_splits(DataConfig(), seed=0)
    assert splits.counts == {"train": 988, "control": 180, "validation": 270}
    assert (splits.height, splits.width, splits.pixels) == (8, 8, 64)
    assert set(np.unique(splits.train)) == {0, 255}


def test_the_own_test_set_stays_sealed_and_all_else_is_split(folder):
    splits = load_splits(DataConfig(source=f"idx:{folder}", binarization="none"), seed=0)
    assert sum(splits.counts.values()) == 150
    sealed = rows(GREY[150:].reshape(50, 30))
    for part in (splits.train, splits.control, splits.validation):
        assert not rows(part) & sealed


@pytest.mark.parametrize("packed", [True, False])
def test_idx_files_packed_or_plain(tmp_path, packed):
    content = idx(GREY)
    name = TRAIN_IMAGES if packed else TRAIN_IMAGES.removesuffix(".gz")
    (tmp_path / name).write_bytes(gzip.compress(content) if packed else content)
    splits = load_splits(DataConfig(source=f"idx:{tmp_path}", binarization="none"), seed=3)
    assert splits.counts == {"train": 110, "control": 20, "validation": 30}  # 40 are test
    assert rows(splits.train) <= rows(GREY.reshape(200, 30))


@pytest.mark.parametrize(
    "array", [GREY, GREY.reshape(200, 30), GREY > 127, (GREY / 255).astype(np.float32)]
)
def test_npz_of_ones_own_images(tmp_path, array):
    np.savez(tmp_path / "mine.npz", images=array)
    splits = load_splits(DataConfig(source=f"npz:{tmp_path / 'mine.npz'}"), seed=0)
    assert splits.pixels == 30
    assert rows(splits.train) <= rows(
        np.where(GREY.reshape(200, 30) > 127, 255, 0).astype(np.uint8)
    )


def test_binarizations(folder):
    def load(how, seed=0):
        return load_splits(DataConfig(source=f"idx:{folder}", binarization=how), seed)

    none, threshold = load("none"), load("threshold")
    assert np.array_equal(threshold.train, np.where(none.train > 127, 255, 0))
    static, again = load("static"), load("static")
    assert np.array_equal(static.train, again.train)
    assert set(np.unique(static.train)) == {0, 255}
    assert not np.array_equal(static.train, threshold.train)
    # a draw with the grey value as its probability
    share = [(static.train[none.train // 64 == q] > 0).mean() for q in range(4)]
    assert share == pytest.approx([0.125, 0.375, 0.625, 0.875], abs=0.05)
    assert not static.redraw
    dynamic = load("dynamic")
    assert dynamic.redraw
    assert np.array_equal(dynamic.train, none.train)  # grey: the trainer draws, anew each epoch
    assert np.array_equal(dynamic.validation, static.validation)  # drawn once: one fixed yardstick


def test_limit_takes_fewer_training_images_and_leaves_the_rest_alone():
    whole, few = load_splits(DataConfig(), 0), load_splits(DataConfig(limit=100), 0)
    assert np.array_equal(few.train, whole.train[:100])
    assert np.array_equal(few.validation, whole.validation)


def test_published_files_are_checked(real_data, tmp_path):
    for source in ("mnist", "fashion-mnist"):
        splits = load_splits(DataConfig(source=source, dir=str(real_data)), 0)
        assert (splits.height, splits.width) == (28, 28)
        assert sum(splits.counts.values()) == 60_000
    with pytest.raises(InputError, match=r"SHA-256 sum .* damaged, or another data set's file"):
        load_splits(DataConfig(source="mnist", dir=str(real_data / "fashion-mnist")), 0)


def test_a_fetched_file_is_the_published_one(real_data, tmp_path, monkeypatch):
    """The client is replaced at the network's edge; what it would give is the real pixels."""

    def client(name, **_):
        assert name == "mnist_784"
        parts = [
            data.read_idx(real_data / "mnist", part, None) for part in (TRAIN_IMAGES, TEST_IMAGES)
        ]
        pixels = np.concatenate(parts).reshape(70_000, 784).astype(np.int64)
        return type("Bunch", (), {"data": pixels})

    monkeypatch.setattr("sklearn.datasets.fetch_openml", client)
    folder = fetching.fetch("mnist", tmp_path, lambda size: None)
    assert {path.name for path in folder.iterdir()} == {TRAIN_IMAGES, TEST_IMAGES}
    assert load_splits(DataConfig(source="mnist", dir=str(tmp_path)), 0).pixels == 784


def test_fetching_without_a_network_says_so_and_writes_nothing(tmp_path, monkeypatch):
    def client(*_, **__):
        raise URLError("no route")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", client)
    with pytest.raises(UnfinishedError, match=r"could not be fetched .*no route(.|\n)*--data-dir"):
        fetching.fetch("mnist", tmp_path, lambda size: None)
    assert not (tmp_path / "mnist").exists()


def test_folders_are_looked_for_in_order(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv("GSVAE_DATA", raising=False)
    with pytest.raises(InputError, match="data fetch mnist"):
        data.find_folder("mnist", None)
    cached = tmp_path / "cache" / "mnist"
    cached.mkdir(parents=True)
    (cached / TRAIN_IMAGES).touch()
    assert data.find_folder("mnist", None) == cached
    monkeypatch.setenv("GSVAE_DATA", str(folder))
    assert data.find_folder("mnist", None) == folder
    with pytest.raises(InputError, match="elsewhere"):
        data.find_folder("mnist", str(tmp_path / "elsewhere"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot be read|no idx file"),
        (b"no gzip at all", "cannot be read"),
        (gzip.compress(idx(GREY))[:-200], "cannot be read"),
        (gzip.compress(idx(GREY)[:-1]), "no idx file of images"),
        (gzip.compress(idx(GREY) + b"x"), "no idx file of images"),
        (gzip.compress(struct.pack(">IIII", 0x801, 5, 1, 1) + b"12345"), "magic 0x801"),
        (gzip.compress(struct.pack(">IIII", 0x803, 0, 28, 28)), "no idx file of images"),
        (
            gzip.compress(struct.pack(">IIII", 0x803, 2**32 - 1, 2**32 - 1, 2**32 - 1)),
            "promises 79228162458924105385300197391 bytes in",
        ),
    ],
)
def test_damaged_idx_files(tmp_path, content, said):
    (tmp_path / TRAIN_IMAGES).write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        load_splits(DataConfig(source=f"idx:{tmp_path}"), 0)
    assert str(tmp_path / TRAIN_IMAGES) in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"pictures": GREY}, r"holds the arrays \['pictures'\]"),
        ({"images": GREY[0, 0]}, "has shape"),
        ({"images": GREY[:0]}, "has shape"),
        ({"images": GREY.astype(np.int64)}, "has type int64"),
        ({"images": GREY.astype(np.float32)}, r"not in \[0, 1\]"),
        ({"images": np.full((20, 4), np.nan)}, r"not in \[0, 1\]"),
        ({"images": np.array([[{}]])}, "has type object"),
        ({"images": GREY[:3]}, "at least one image in each split"),
        ({"images": GREY, "test_images": GREY[:, :4]}, "one size"),
    ],
)
def test_unusable_npz_files(tmp_path, arrays, said):
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(InputError, match=said):
        load_splits(DataConfig(source=f"npz:{tmp_path / 'mine.npz'}"), 0)
    (tmp_path / "mine.npz").write_bytes(b"PK\x03\x04 torn")
    np.save(tmp_path / "mine.npy", GREY)
    for name in ("mine.npz", "mine.npy", "none.npz"):
        with pytest.raises(InputError, match=r"is no npz file|cannot be read: .*No such file"):
            load_splits(DataConfig(source=f"npz:{tmp_path / name}"), 0)


def refused(source):
    with pytest.raises(InputError) as caught:
        load_splits(DataConfig(source=source), 0)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        # said of more than it can hold, of more than images do, of more than is there
        (hostile.packed_zeros(idx(GREY), 2**20)[:4000], "cannot be read: it ends in the middle"),
        (gzip.compress(struct.pack(">IIII", 0x803, 300, 1000, 1000)), "promises 300000016 bytes in 3"),
        (gzip.compress(idx(GREY)) + b"x", "cannot be read: it ends in the middle"),
        (gzip.compress(idx(GREY)) + b"more than a bit", "cannot be read: .*header"),
        (gzip.compress(idx(GREY)) + gzip.compress(b"x"), "no idx file of images"),
        (gzip.compress(b"") * 10_001, "it has more than 10000 parts"),
        (gzip.compress(idx(GREY))[:-5] + bytes(5), "cannot be read: .*check"),
    ],
)  # fmt: skip
def test_packed_files_are_believed_nothing(tmp_path, content, said):
    (tmp_path / TRAIN_IMAGES).write_bytes(content)
    assert re.search(said, refused(f"idx:{tmp_path}"))


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    """Even one that keeps its promise: 313 MB from 1.4 MB are no images."""
    start = struct.pack(">IIII", 0x803, 400_000, 28, 28)
    (tmp_path / TRAIN_IMAGES).write_bytes(hostile.packed_zeros(start, 400_000 * 784))
    with Cost() as cost:
        said = refused(f"idx:{tmp_path}")
    assert "legal: at most 209715200; images that pack better: not packed" in said
    assert cost.bytes < 10e6


def test_packed_files_may_have_parts_and_padding(tmp_path):
    whole, content = idx(GREY), tmp_path / TRAIN_IMAGES
    content.write_bytes(gzip.compress(whole))
    one = load_splits(DataConfig(source=f"idx:{tmp_path}"), 0)
    content.write_bytes(gzip.compress(whole[:7]) + gzip.compress(whole[7:]) + bytes(512))
    assert load_splits(DataConfig(source=f"idx:{tmp_path}"), 0).checksum == one.checksum


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (hostile.npz([("images.npy", hostile.GREY), ("images", hostile.GREY)]), "holds images twice"),
        (hostile.npz([("images.npy", hostile.GREY)], zipfile.ZIP_LZMA), "packs images by method 14"),
        (hostile.npz([("images.npy", hostile.GREY + b"x")]), "images: promises 2000 bytes and holds 2001"),
        (hostile.npz([("images.npy", hostile.BIG_HEADER)]), "images: promises 313600000 bytes and holds 0"),
        (hostile.npz([("images.npy", hostile.npy_header("(" * 9000))]), "cannot be read"),
        (hostile.npz([("images.npy", hostile.npy_header("x" * 20_000))]), "a header of 20000 bytes"),
        (hostile.npz([("images.npy", hostile.npy_header("{}", 3))]), r"npy format \(3, 0\)"),
        (hostile.npz([("images", b"no array")]), "cannot be read: .*magic"),
        (hostile.lying(size=2**32 - 1), r"promises 4294967295 bytes in"),
        (hostile.lying(packed=50), "cannot be read|shorter or longer"),
        (hostile.encrypted(), "cannot be read: .*encrypted"),
        (hostile.many_members(), "its table of contents is too long"),
    ],
)  # fmt: skip
def test_archives_are_believed_nothing(tmp_path, content, said):
    (tmp_path / "mine.npz").write_bytes(content)
    with Cost() as cost:
        message = refused(f"npz:{tmp_path / 'mine.npz'}")
    assert re.search(said, message)
    assert str(tmp_path / "mine.npz") in message
    assert cost.bytes < 20e6


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["|u1", "<f4", ">f8", "<f2"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_what_numpy_reads(tmp_path, order, kind, save):
    array = np.asarray(GREY if kind == "|u1" else GREY / 255, dtype=kind, order=order)
    save(tmp_path / "mine.npz", images=array, other=[1])
    read = read_npz(tmp_path / "mine.npz", ("images", "test_images"))
    whole = np.load(tmp_path / "mine.npz")["images"]
    assert list(read) == ["images"]
    assert np.array_equal(read["images"], whole if kind == "|u1" else np.round(whole * 255))


def test_what_never_ends_is_not_read(tmp_path):
    os.mkfifo(tmp_path / TRAIN_IMAGES)
    os.mkfifo(tmp_path / "mine.npz")
    assert "it is no file" in refused(f"idx:{tmp_path}")
    assert "it is no file" in refused(f"npz:{tmp_path / 'mine.npz'}")


def test_the_test_split_is_what_the_others_leave():
    config = DataConfig(source="digits")
    splits, test = load_splits(config, 3), load_test_split(config, 3)
    everything = np.concatenate([splits.train, splits.control, splits.validation, test])
    again = load_splits(DataConfig(source="digits", control=0.3), 5)
    whole = np.concatenate(
        [again.train, again.control, again.validation,
         load_test_split(DataConfig(source="digits", control=0.3), 5)]
    )  # fmt: skip
    assert len(everything) == 1797
    # the same images whatever the split: none twice, none left out
    assert sorted(map(bytes, everything)) == sorted(map(bytes, whole))
    assert (test == load_test_split(config, 3)).all()
    assert set(np.unique(test)) == {0, 255}
    assert not np.array_equal(test, load_test_split(config, 4))


def test_a_data_set_with_a_test_set_of_its_own_gives_that(real_data):
    from gsvae_tune.vae.data import TEST_IMAGES, read_idx

    config = DataConfig(source="mnist", dir=str(real_data))
    published = read_idx(real_data / "mnist", TEST_IMAGES, None)
    assert (load_test_split(config, 0) == (published.reshape(10_000, -1) > 127) * 255).all()
    static = load_test_split(
        DataConfig(source="mnist", dir=str(real_data), binarization="static"), 0
    )
    share = (static == 255).mean()
    assert share == pytest.approx(published.mean() / 255, abs=1e-3)
