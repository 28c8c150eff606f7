"""Fetching the standard data sets with scikit-learn's OpenML client, into idx files."""

from __future__ import annotations

import contextlib
import gzip
import struct
import threading
import warnings
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from gsvae_tune.study.errors import UnfinishedError
from gsvae_tune.study.records import write_atomic
from gsvae_tune.vae.data import CHECKSUMS, TEST_IMAGES, TRAIN_IMAGES, cache_folder, read_idx

# OpenML's names; both hold the 60,000 training rows first, then the 10,000 test rows.
OPENML_NAMES = {"mnist": "mnist_784", "fashion-mnist": "Fashion-MNIST"}
_TRAINING_ROWS = 60_000


def fetch(source: str, folder: Path | None, on_bytes: Callable[[int], None]) -> Path:
    """Fetch ``source`` and write its two idx files; return the folder that holds them.

    Files are written only when their pixels have the published checksum.

    Args:
        source: a key of `OPENML_NAMES`.
        folder: where to; default: the user's cache.
        on_bytes: called several times a second with the bytes received so far.

    Raises:
        UnfinishedError: no network, or the server's answer cannot be read.
        InputError: what came is not the published data.
        OSError: the folder cannot be written.
    """
    target = (cache_folder() if folder is None else folder) / source
    with TemporaryDirectory() as scratch:
        rows = _download(source, Path(scratch), on_bytes)
        for name, part in (
            (TRAIN_IMAGES, rows[:_TRAINING_ROWS]),
            (TEST_IMAGES, rows[_TRAINING_ROWS:]),
        ):
            header = struct.pack(">IIII", 0x803, len(part), 28, 28)
            packed = gzip.compress(header + part.astype(np.uint8).tobytes(), mtime=0)
            write_atomic(Path(scratch) / name, packed)
            read_idx(Path(scratch), name, CHECKSUMS[source])
            target.mkdir(parents=True, exist_ok=True)
            write_atomic(target / name, packed)
    return target


def _download(source: str, scratch: Path, on_bytes: Callable[[int], None]) -> np.ndarray:
    from sklearn.datasets import fetch_openml

    done = threading.Event()

    def watch() -> None:
        # The client reports nothing: what it has stored so far is what can be shown.
        while not done.wait(0.2):
            with contextlib.suppress(OSError):  # the client moves files while we look
                on_bytes(sum(f.stat().st_size for f in scratch.rglob("*") if f.is_file()))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its retries; what matters is raised at the end
            found = fetch_openml(
                OPENML_NAMES[source], version=1, as_frame=False, parser="liac-arff",
                data_home=str(scratch), n_retries=1,
            )  # fmt: skip
    except (OSError, ValueError, HTTPException) as error:
        raise UnfinishedError(
            f"{source} could not be fetched from OpenML: {error}\n"
            "  kept:  nothing was written\n"
            "  next:  try again with a network, or put the four published idx.gz files into a "
            "folder and use --data-dir DIR"
        ) from error
    finally:
        done.set()
        watcher.join()
    return np.asarray(found.data)
