"""One study seed, named streams.

Every random number of a study comes from a generator seeded by `derive(seed, *names)`. Names are
the purpose ("noise", "init", ...) and where it applies (replicate, epoch), never the arm or the
trial: that is what makes replicate r of every trial of every arm share its initial weights,
batch order and Gumbel noise (paired seeds).
"""

from __future__ import annotations

import hashlib


def derive(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed for the stream that ``names`` spell, independent of all other names."""
    # Types are kept apart (1 against "1") and lengths are explicit, so no two paths collide.
    path = "/".join(f"{type(name).__name__}{len(str(name))}:{name}" for name in (seed, *names))
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "big") >> 1


def replicate_seed(study_seed: int, phase: str, replicate: int) -> int:
    """Return the seed of one replicate; phases ("search", "confirm") never share one."""
    return derive(study_seed, "replicate", phase, replicate)
