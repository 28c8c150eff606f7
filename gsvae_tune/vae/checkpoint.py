"""Checkpoints: one file, replaced atomically, with a checksum, read with weights only.

The file is what `torch.save` writes, a zip archive; its SHA-256 stands in the archive's comment,
where no reader of such files minds it. (PyTorch's own reader checks no checksums.)
"""

from __future__ import annotations

import hashlib
import io
import struct
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from gsvae_tune.study.records import Guard, atomic_file

_MARK = b"gsvae-tune checkpoint 1, SHA-256 "
_COMMENT = len(_MARK) + 64  # bytes


def save(
    path: Path,
    state: dict[str, Any],
    guard: Guard | None = None,
    *,
    previous: Path | None = None,
) -> None:
    """Write ``state`` (tensors and plain values); a kill leaves the old file or the new one.

    Args:
        path: where to.
        state: what `load` gives back.
        guard: entered around the replacement.
        previous: the name that the old file gets.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    # The last two bytes of an archive without a comment are the comment's length.
    content = buffer.getbuffer()[:-2]
    with atomic_file(path, guard, previous=previous) as file:
        file.write(content)
        file.write(struct.pack("<H", _COMMENT) + _MARK)
        file.write(hashlib.sha256(content).hexdigest().encode())


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """Return what `save` wrote, or None where there is no checkpoint.

    Raises:
        ValueError: the file is damaged or not a checkpoint.
    """
    content = _read(path)
    if content is None:
        return None
    try:
        state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is no readable checkpoint: {error}") from error
    if not isinstance(state, dict):
        raise ValueError(  # noqa: TRY004 - a damaged file, not a caller's mistake
            f"{path} is no readable checkpoint: it holds a {type(state).__name__}"
        )
    return state


def examine(path: Path) -> str | None:
    """Return what is wrong with a checkpoint by its checksum; None for a good one or none."""
    try:
        _read(path)
    except ValueError as error:
        return str(error)
    return None


def _read(path: Path) -> bytes | None:
    if not path.is_file():
        return None
    content = path.read_bytes()
    mark, digest = content[-_COMMENT:-64], content[-64:]
    if mark != _MARK:
        raise ValueError(f"{path} is no whole checkpoint: it ends without a checksum")
    if hashlib.sha256(memoryview(content)[: -_COMMENT - 2]).hexdigest().encode() != digest:
        raise ValueError(f"{path} is damaged: its checksum is another")
    return content
