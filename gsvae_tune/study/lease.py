"""Who drives a study: one process at a time, each under a term number higher than the last.

On one machine a file lock tells, which dies with its holder. Locks do not reach across every
shared file system, so the holder also gives a sign of life; a holder on another machine is taken
for dead when it has given none for `LEASE_S`, watched and not computed from two clocks.
"""

from __future__ import annotations

import os
import platform
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import filelock

from gsvae_tune.study.errors import InputError, UnfinishedError
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import read_json, write_json

BEAT_S = 5.0  # between two signs of life
LEASE_S = 4 * BEAT_S  # without one, a holder on another machine is taken for dead
_PATIENCE_S = 1.0  # `status` holds the lock for an instant, to see whether it is free


@dataclass(frozen=True)
class Holder:
    """What driver.json says."""

    term: int
    pid: int
    host: str
    since: str  # ISO 8601, UTC
    beats: int = 0  # signs of life given
    released: bool = False  # it ended by itself
    machine: str = ""  # names may be given twice; what a kernel drew when it started is not

    def is_same(self, other: Holder) -> bool:
        return (self.term, self.pid, self.host) == (other.term, other.pid, other.host)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


@dataclass
class Lease:
    """The right to drive a study, for as long as nobody took it over."""

    paths: StudyPaths
    holder: Holder

    @property
    def term(self) -> int:
        return self.holder.term

    def check(self) -> None:
        """Make sure that the study is still this process's.

        Raises:
            UnfinishedError: another driver took it over, after this one gave no sign of life.
        """
        now = read_holder(self.paths)
        if now is not None and not self.holder.is_same(now):
            look = shlex.join(["gsvae-tune", "status", str(self.paths.root)])
            raise UnfinishedError(
                f"another run took this study over: {now}\n"
                f"  kept:  every finished trial, in {self.paths.root}; this run writes no more\n"
                f"  next:  {look} shows how far the other is"
            )


def read_holder(paths: StudyPaths) -> Holder | None:
    """Return the last driver, running or not; None where there was none or none can be read."""
    try:
        found = Holder(**read_json(paths.holder))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    numbers = (found.term, found.pid, found.beats)
    texts = (found.host, found.since, found.machine)
    sound = all(type(n) is int for n in numbers) and all(type(t) is str for t in texts)
    return found if sound else None


@contextmanager
def driver_lease(paths: StudyPaths, say: Callable[[str], None]) -> Iterator[Lease]:
    """Hold the study's folder for this process.

    Args:
        paths: the study's folder, made where it is not there.
        say: is told when a dead driver's study is taken over, or is waited for.

    Raises:
        InputError: the folder cannot be written, leads elsewhere, or another driver holds it.
    """
    lock = filelock.FileLock(paths.lock, timeout=_PATIENCE_S)
    try:
        paths.root.mkdir(parents=True, exist_ok=True)
        paths.refuse_links()
        lock.acquire()
    except filelock.Timeout as error:
        raise _held(paths) from error
    except OSError as error:
        raise InputError(
            f"cannot be written: {error.strerror}",
            where=str(paths.root),
            legal="a folder this user may write to (--out DIR)",
        ) from error
    stop = threading.Event()
    try:
        before = read_holder(paths)
        if before is not None and not before.released:
            _outlived(paths, before, say)
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        # A lost driver.json must not bring an old number back: the clock is ahead of any count.
        term = before.term + 1 if before else int(time.time())
        own = Holder(term, os.getpid(), platform.node(), now, machine=_machine())
        write_json(paths.holder, asdict(own))
        beating = threading.Thread(target=_beat, args=(paths, own, stop), daemon=True)
        beating.start()
        try:
            yield Lease(paths, own)
        finally:
            stop.set()
            beating.join()
            last = read_holder(paths)
            if last is not None and own.is_same(last):
                with suppress(OSError):  # a full disk: how the run ended is what is to be said
                    write_json(paths.holder, asdict(replace(last, released=True)))
    finally:
        lock.release()


def _outlived(paths: StudyPaths, before: Holder, say: Callable[[str], None]) -> None:
    """Make sure that a driver which did not say it ended is dead.

    Raises:
        InputError: it is alive.
    """
    if (before.host, before.machine) != (platform.node(), _machine()):  # its lock may not reach
        say(f"{before} held this study; watching for {LEASE_S:g} s whether it is alive")
        end = time.monotonic() + LEASE_S
        while time.monotonic() < end:
            time.sleep(BEAT_S / 10)
            now = read_holder(paths)
            if now is not None and now.released:
                return
            if now != before:
                raise _held(paths)
    say(f"{before} ended without a word; going on from what it left")


def _machine() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _held(paths: StudyPaths) -> InputError:
    holder = read_holder(paths)
    silent_s = _silent_s(paths)
    last, next_step = "", "wait for it, or stop it; gsvae-tune status shows how far it is"
    if holder is not None and silent_s > LEASE_S:
        last = f", last sign of life {silent_s:.0f} s ago: it is suspended or hangs"
        next_step = f"on {holder.host}: kill -9 {holder.pid} frees the study; nothing is lost"
    return InputError(
        f"another run of this study holds the folder: {holder or 'a process'}{last}",
        where=str(paths.root),
        next_step=next_step,
    )


def _silent_s(paths: StudyPaths) -> float:
    try:
        return time.time() - paths.holder.stat().st_mtime
    except OSError:
        return 0.0


def _beat(paths: StudyPaths, own: Holder, stop: threading.Event) -> None:
    beats = 0
    while not stop.wait(BEAT_S):
        now = read_holder(paths)
        if now is not None and not own.is_same(now):
            return  # taken over: `Lease.check` says so
        beats += 1
        try:
            write_json(paths.holder, asdict(replace(own, beats=beats)))
        except OSError:
            continue  # a full disk or a lost share: whoever writes next says so


def is_running(paths: StudyPaths) -> bool:
    """Whether a driver holds the study now."""
    if not paths.lock.exists():
        return False
    try:
        with filelock.FileLock(paths.lock, timeout=0):
            return False
    except filelock.Timeout:
        return True
    except OSError:  # not ours to lock: are there signs of life?
        holder = read_holder(paths)
        return holder is not None and not holder.released and _silent_s(paths) < LEASE_S
