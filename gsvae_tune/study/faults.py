"""Why a trial, or a whole study, did not go as planned."""

from __future__ import annotations

import errno
from enum import Enum

_FULL = {errno.ENOSPC, errno.EDQUOT}


class Fault(str, Enum):
    """A kind of fault; the value is the sentence the user reads, the name is what files hold."""

    # A trial ends so and the study goes on.
    DIVERGED = "diverged: a loss was not finite"
    COLLAPSED = "collapsed: the codes of every replicate carry no information"
    DEVICE_MEMORY = "out of memory on the GPU"
    HOST_MEMORY = "out of memory on the host"
    NODE_LOST = "its process or its node died too often"
    TIME_LIMIT = "ran past the time limit of a trial"
    ERROR = "failed by an error of its own"
    # The study stops so, with all kept, and goes on when run again.
    DISK_FULL = "the disk is full"
    STORAGE_LOST = "the storage cannot be reached"
    DATA_CHANGED = "the images are not those the study began with"
    ALL_ALIKE = "the first trials all failed for the same reason"

    def says(self, detail: str = "") -> str:
        """Return the sentence with what is known beyond it."""
        return f"{self.value}; {detail}" if detail else str(self.value)

    @property
    def key(self) -> str:
        """The name in files and tables."""
        return self.name.lower()


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or what it came from, is a file system's saying that nothing more fits."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return True
        cause = cause.__cause__ or cause.__context__
    return False
