"""Fencing: who may write into a trial's folder, when processes outlive those that started them.

A killed driver's trial processes live on for seconds, those of a node that lost its network for as
long as they like. Each process that takes a trial up claims its folder, under the number of its
driver's term; whoever claimed it before can replace no file of it any more. Records of epochs are
appended to a file that the claimant has replaced, so that late ones go to a file without a name.
"""

from __future__ import annotations

import math
import os
import platform
import secrets
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from types import TracebackType
from typing import Any

import filelock
from typing_extensions import Self

from gsvae_tune.study.lease import read_holder
from gsvae_tune.study.paths import StudyPaths, TrialPaths
from gsvae_tune.study.records import read_json, write_json

_PATIENCE_S = 60.0  # a write under the lock takes milliseconds


class FencedError(Exception):
    """Another process has taken this trial's folder over: nothing may be written to it here."""


class Claim:
    """The right to write into a trial's folder: taken once, asked for around every replacement.

    ``with claim:`` holds the folder's lock, so that no other process can take the folder over
    between the question whether it is still ours and the write.

    Args:
        folder: the trial's.
        term: of the driver that handed the trial out (`lease.Lease`).
    """

    def __init__(self, folder: TrialPaths, term: int) -> None:
        self._folder, self._term = folder, term
        self._token = secrets.token_hex(8)
        self._lock = filelock.FileLock(folder.lock, timeout=_PATIENCE_S)

    def take(self) -> Self:
        """Claim the folder from whoever has it.

        Raises:
            FencedError: a later driver's process has claimed it.
        """
        with self._locked():
            holder = self._holder()
            if self._term < holder.get("term", 0) <= self._latest():
                raise FencedError(self._said(holder))
            now = datetime.now(timezone.utc).isoformat(timespec="seconds")
            own = {"term": self._term, "token": self._token, "since": now}
            write_json(self._folder.claim, own | {"host": platform.node(), "process": os.getpid()})
        return self

    def __enter__(self) -> Self:
        self._locked()
        holder = self._holder()
        if holder.get("token") != self._token:
            self._lock.release()
            raise FencedError(self._said(holder))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()

    def _locked(self) -> AbstractContextManager[Any]:
        try:
            return self._lock.acquire()
        except filelock.Timeout as error:
            raise FencedError(
                f"{self._folder.lock} is held by a process that writes nothing: suspended, it seems"
            ) from error

    def _latest(self) -> float:
        """Return the highest term that any driver has had: a claim beyond it is damaged."""
        (study,) = self._folder.root.parents[2:3] or (self._folder.root,)
        holder = read_holder(StudyPaths(study))
        return math.inf if holder is None else holder.term

    def _holder(self) -> dict[str, Any]:
        try:
            found = read_json(self._folder.claim)
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) and isinstance(found.get("term"), int) else {}

    def _said(self, holder: dict[str, Any]) -> str:
        return (
            f"{self._folder.root} was taken over by process {holder.get('process', '?')} on "
            f"{holder.get('host', '?')}, {holder.get('since', '?')}"
        )
