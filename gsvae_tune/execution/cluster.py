"""Ray's life: started here for this study, or joined; interrupts that do not hurt it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import ray

from gsvae_tune.execution import environment
from gsvae_tune.study.config import ResourcesConfig


@contextmanager
def running_ray(wanted: ResourcesConfig) -> Iterator[tuple[float, float]]:
    """Start Ray here or join the cluster that RAY_ADDRESS names; give its CPUs and GPUs."""
    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    environment.close_token_file()
    owned = not ray.is_initialized()
    if owned:
        with _uninterrupted(), _told_to_stop():
            if environment.on_cluster():
                ray.init(**quiet)
            else:
                ray.init(
                    address="local",  # and not to some cluster that happens to run here
                    num_cpus=wanted.cpus,
                    num_gpus=wanted.gpus,
                    include_dashboard=False,
                    **quiet,
                )
    try:
        found = ray.cluster_resources()
        yield found.get("CPU", 0.0), found.get("GPU", 0.0)
    finally:
        if owned:
            with _uninterrupted():
                ray.shutdown()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait: Ray's native code has crashed when interrupted as it starts or ends."""
    came: list[int] = []
    try:
        previous = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if came:
            raise KeyboardInterrupt


@contextmanager
def _told_to_stop() -> Iterator[None]:
    """Take Ray's own end at SIGTERM, while it starts, for the interruption that it is."""
    try:
        yield
    except SystemExit as told:
        raise KeyboardInterrupt from told


@contextmanager
def interruptible() -> Iterator[None]:
    """Treat SIGTERM (a batch system's warning) like Ctrl-C. ray.init takes it: enter anew after."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        previous = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread: signals are somebody else's
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
