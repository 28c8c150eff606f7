"""Reading files of images that may be damaged, or made to harm: no promise in them is believed.

A file's header is read first, and what it promises is compared with the size of the file before
anything is allocated. Every failure is one `InputError`.
"""

from __future__ import annotations

import io
import math
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from gsvae_tune.study.errors import InputError

Bytes = NDArray[np.uint8]

# Images seldom pack to less than a fiftieth. A packed file that promises more than both of these
# is refused; a bomb thus costs this much memory, or its own size times fifty.
_FREELY_UNPACKED = 200 * 2**20  # bytes
_PLAUSIBLE_RATIO = 50
_DEFLATE_RATIO = 1032  # no deflated file holds more

_PIECE = 2**20  # bytes unpacked at once
_PACKED_PIECE = 2**16  # bytes read at once
_PARTS = 10_000  # of one gzip file
_HEADER = 10_000  # bytes of an npy header; numpy takes no more


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


def read_idx_file(path: Path) -> tuple[memoryview, tuple[int, ...]]:
    """Return the content of an idx file of images, unpacked, and its three sizes.

    Raises:
        InputError: not readable, or not such a file.
    """
    packed = path.suffix == ".gz"
    try:
        _require_file(path)
        with path.open("rb") as file:
            stream = _Unpacked(file) if packed else file
            start = stream.read(16)
            magic, *shape = struct.unpack(">IIII", start) if len(start) == 16 else (0,)
            size, held = 16 + math.prod(shape), path.stat().st_size
            good = magic == 0x803 and all(shape) and (packed or size == held)
            if good and packed:
                _require_plausible(size, held, str(path))
            content = _fill(stream, start, size) if good else None
    except (OSError, EOFError, zlib.error, MemoryError) as error:
        raise InputError(
            f"cannot be read: {_said(error)}", where=str(path), legal="an idx file of images"
        ) from error
    if content is None:
        raise InputError(
            f"is no idx file of images (magic {magic:#x}, sizes {shape}, {held} bytes"
            f"{' packed' if packed else ''})",
            where=str(path),
            legal="magic 0x803, three sizes >= 1, and one byte a pixel",
        )
    return content, tuple(shape)


def read_npz(path: Path, wanted: Iterable[str]) -> dict[str, Bytes]:
    """Return those of the ``wanted`` arrays of images that an npz file holds, the first at least.

    Bytes are taken as they are; floats in [0, 1] and booleans are scaled to 0..255.

    Raises:
        InputError: not readable, or no images.
    """
    try:
        _require_file(path)
        if path.is_file() and not zipfile.is_zipfile(path):
            raise InputError(  # noqa: TRY301 - passed on below
                "is no npz file", where=str(path), legal="what numpy.savez writes"
            )
        with _InPieces(path) as file, zipfile.ZipFile(file) as archive:
            members = _members(archive, list(wanted), path)
            return {
                name: _read_array(archive, member, f"{path}: {name}")
                for name, member in members.items()
            }
    except InputError:
        raise
    # The readers of zip archives, of deflated bytes and of npy headers raise whatever the bytes
    # lead them to.
    except Exception as error:
        raise InputError(
            f"cannot be read: {_said(error)}",
            where=str(path),
            legal="a .npz file without pickles",
        ) from error


def _members(archive: zipfile.ZipFile, wanted: list[str], path: Path) -> dict[str, zipfile.ZipInfo]:
    names = [member.filename.removesuffix(".npy") for member in archive.infolist()]
    if wanted[0] not in names:
        shown = f"{names[:10]}" + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        raise InputError(
            f"holds the arrays {shown}", where=str(path), legal=f"an array named {wanted[0]}"
        )
    found = {}
    for name, member in zip(names, archive.infolist(), strict=True):
        if name not in wanted:
            continue
        if name in found:
            raise InputError(f"holds {name} twice", where=str(path), legal="each array once")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(
                f"packs {name} by method {member.compress_type}",
                where=str(path),
                legal="what numpy.savez and numpy.savez_compressed write",
            )
        found[name] = member
    promised = sum(member.file_size for member in found.values())
    packed = sum(member.compress_size for member in found.values())
    _require_plausible(promised, min(packed, path.stat().st_size), str(path))
    return found


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, where: str) -> Bytes:
    with archive.open(member) as stream:
        start = stream.read(8)
        version = npy.read_magic(io.BytesIO(start))
        if version not in ((1, 0), (2, 0)):
            raise InputError(
                f"is in npy format {version}", where=where, legal="what numpy.savez writes"
            )
        width = stream.read(2 if version == (1, 0) else 4)
        length = int.from_bytes(width, "little")
        if length > _HEADER:
            raise InputError(
                f"has a header of {length} bytes", where=where, legal=f"at most {_HEADER}"
            )
        header = io.BytesIO(width + stream.read(length))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that Python 2 wrote
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, transposed, dtype = read(header)
        _require_images(shape, dtype, where)
        size = math.prod(shape) * dtype.itemsize
        held = member.file_size - len(start) - len(width) - length
        if size != held:
            raise InputError(
                f"promises {size} bytes and holds {held}", where=where, legal="a whole array"
            )
        content = _fill(stream, b"", size)
        if content is None:
            raise EOFError("it is shorter or longer than it says")
    array = np.frombuffer(content, dtype=dtype)
    return _as_bytes(array.reshape(shape[::-1]).T if transposed else array.reshape(shape), where)


def _require_images(shape: tuple[int, ...], dtype: np.dtype[Any], where: str) -> None:
    legal = "(n, height, width) or (n, pixels), of bytes, booleans or floats in [0, 1]"
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise InputError(f"has shape {str(shape)[:80]}", where=where, legal=legal)
    if dtype not in (np.uint8, np.bool_) and not np.issubdtype(dtype, np.floating):
        raise InputError(f"has type {str(dtype)[:80]}", where=where, legal=legal)


def _as_bytes(array: NDArray[Any], where: str) -> Bytes:
    if array.ndim == 2:
        side = int(np.sqrt(array.shape[1]))
        rows = side if side * side == array.shape[1] else 1
        array = array.reshape(len(array), rows, -1)
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if not (np.isfinite(array).all() and array.min() >= 0.0 and array.max() <= 1.0):
        raise InputError("has values that are not in [0, 1]", where=where, legal="0 <= value <= 1")
    return np.round(array * 255.0).astype(np.uint8)


def _require_file(path: Path) -> None:
    """Refuse what may never end, such as a pipe.

    Raises:
        OSError: the path is there and no file.
    """
    if path.exists() and not path.is_file():
        raise OSError("it is no file")


def _require_plausible(size: int, packed: int, where: str) -> None:
    """Refuse a packed file that promises more bytes than images would.

    Raises:
        InputError: with what is legal.
    """
    most = min(_DEFLATE_RATIO * packed, max(_FREELY_UNPACKED, _PLAUSIBLE_RATIO * packed))
    if size > most:
        raise InputError(
            f"promises {size} bytes in {packed} packed ones",
            where=where,
            legal=f"at most {most}; images that pack better: not packed, or as bytes",
        )


def _fill(stream: _Stream, start: bytes, size: int) -> memoryview | None:
    """Read a stream to its end; return ``size`` bytes, ``start`` before them, or None.

    None where it holds fewer or more. Memory is taken as bytes come.
    """
    content = np.empty(size, np.uint8).data
    content[: len(start)] = start
    done = len(start)
    while piece := stream.read(min(_PIECE, size - done + 1)):
        if done + len(piece) > size:
            return None
        content[done : done + len(piece)] = piece
        done += len(piece)
    return content.toreadonly() if done == size else None


def _said(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "it does not fit into memory"
    return str(error)[:200] or type(error).__name__


class _Unpacked:
    """What a gzip file unpacks to.

    Python's own reader takes a name in the header byte by byte, and any number of empty parts.
    """

    def __init__(self, file: _Stream) -> None:
        self._file = file
        self._part = zlib.decompressobj(31)  # gzip, and its checksum is compared
        self._parts = 1

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, none at the end.

        Raises:
            EOFError: the file ends early.
            zlib.error: it is damaged.
        """
        found = b""
        while len(found) < size:
            waiting = self._part.unconsumed_tail or self._part.unused_data
            if self._part.eof:  # more parts may be joined, or zeros be added to fill a block
                waiting = (waiting or self._file.read(_PACKED_PIECE)).lstrip(b"\0")
                if not waiting:
                    break
                self._part = zlib.decompressobj(31)
                self._parts += 1
                if self._parts > _PARTS:
                    raise zlib.error(f"it has more than {_PARTS} parts")
            waiting = waiting or self._file.read(_PACKED_PIECE)
            piece = self._part.decompress(waiting, size - len(found))
            if not (piece or waiting or self._part.eof):
                raise EOFError("it ends in the middle")
            found += piece
        return found


class _InPieces(io.FileIO):
    """A file of which little is read at once: zipfile takes a table of contents of any length."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _PIECE:
            raise zipfile.BadZipFile("its table of contents is too long")
        return super().read(-1 if size is None else size)
