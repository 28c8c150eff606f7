"""A trial's share of memory, on the GPU and on the host: enforced; what would fit, rehearsed."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

from gsvae_tune.execution.resources import one_of
from gsvae_tune.study.faults import Fault
from gsvae_tune.vae.training import PairTraining

_HEADROOM = 1.05  # memory over what a rehearsal took
_SPARE = 0.8  # share of the host's free memory that a rehearsal may take
_GB = 1e9
_LESS = "fewer replicates or a smaller batch may fit"


def device_for(gpu_fraction: float) -> torch.device:
    """Return where to compute; a share of a GPU comes with that share of its memory."""
    if gpu_fraction > 0 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(min(1.0, gpu_fraction))
        return torch.device("cuda")
    return torch.device("cpu")


@contextmanager
def host_limit(gb: float | None) -> Iterator[None]:
    """Let this process take so much more memory of the host, 1e9 bytes, and fail beyond it.

    Does nothing where the system cannot limit a process's data (it is Linux that can).
    """
    if gb is None:
        yield
        return
    try:
        import resource
    except ImportError:
        yield
        return
    before, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_own_kilobytes() * 1024 + int(gb * _GB), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, hard))


def is_out_of_memory(error: BaseException) -> Fault | None:
    """Return which memory an exception says is used up, None for another exception."""
    if isinstance(error, torch.OutOfMemoryError):
        return Fault.DEVICE_MEMORY
    # PyTorch's allocator on the CPU has no exception of its own.
    refused = isinstance(error, OSError) and error.errno == errno.ENOMEM
    if refused or isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return Fault.HOST_MEMORY
    return None


def what_fits(
    fault: Fault, build: Callable[[], PairTraining], device: torch.device, limit_gb: float | None
) -> str:
    """Say what a trial needs, by rehearsing it with all the memory that is free."""
    try:
        if fault is Fault.DEVICE_MEMORY and device.type == "cuda":
            return _fraction_that_fits(build, device)
        if fault is Fault.HOST_MEMORY and limit_gb is not None:
            return _gigabytes_that_fit(build)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError):
        pass
    more = "" if fault is Fault.DEVICE_MEMORY else "; or fewer trials at once: --cpus-per-trial"
    return _LESS + more


def _fraction_that_fits(build: Callable[[], PairTraining], device: torch.device) -> str:
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.reset_peak_memory_stats()
    build().rehearse()
    needed = torch.cuda.max_memory_reserved() * _HEADROOM
    fraction = needed / torch.cuda.get_device_properties(device).total_memory
    if fraction > 1.0:
        return _LESS
    return f"--gpus-per-trial {one_of(math.floor(1.0 / fraction)):g} would fit"


def _gigabytes_that_fit(build: Callable[[], PairTraining]) -> str:
    before = _own_kilobytes()
    with host_limit(_available_gb() * _SPARE):
        training = build()
        training.rehearse()
        needed = (_kilobytes("VmData") - before) * 1024 / _GB * _HEADROOM
    return f"--set faults.trial_memory_gb={math.ceil(needed * 10) / 10:g} would fit"


@cache
def _own_kilobytes() -> int:
    """Return what this process held before its first trial: freed memory stays with it."""
    return _kilobytes("VmData")


def _kilobytes(key: str) -> int:
    """Return a line of /proc/self/status, or of /proc/meminfo."""
    file = Path("/proc/meminfo" if key == "MemAvailable" else "/proc/self/status")
    for line in file.read_text(encoding="utf-8").splitlines():
        name, _, rest = line.partition(":")
        if name == key:
            return int(rest.split()[0])
    raise MemoryError(f"{file} has no {key}")


def _available_gb() -> float:
    return _kilobytes("MemAvailable") * 1024 / _GB
