"""Keeping freed memory, which training asks for again at its next step."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h
_LARGEST_MMAP_THRESHOLD = 32 * 2**20  # glibc accepts no more
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell the C library to keep what this process frees; return whether it is one that listens.

    glibc gives large blocks back at once and gets them anew, page by page, at the next step: up to
    a sixth of a step at MNIST's size. The process then stays as large as its largest step.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    kept = mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    return bool(kept and mallopt(_M_TRIM_THRESHOLD, _NEVER))
