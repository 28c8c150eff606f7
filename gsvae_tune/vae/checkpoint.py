"""Checkpoints: one file, replaced atomically, read with weights only (no pickled code)."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from gsvae_tune.study.records import atomic_file


def save(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors and plain values); a kill leaves the old file or the new one."""
    with atomic_file(path) as file:
        torch.save(state, file)


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """Return what `save` wrote, or None where there is no checkpoint.

    Raises:
        ValueError: the file is damaged or not a checkpoint.
    """
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is no readable checkpoint: {error}") from error
    if not isinstance(state, dict):
        raise ValueError(  # noqa: TRY004 - a damaged file, not a caller's mistake
            f"{path} is no readable checkpoint: it holds a {type(state).__name__}"
        )
    return state
