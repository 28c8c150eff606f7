"""The process's own arguments: a password among them is taken out before anything else happens.

Every user of a machine can read the arguments of every process, and Ray notes its driver's in its
logs. What a process was started with can only be changed by starting it anew, in its own place.
"""

from __future__ import annotations

import os
import sys

from gsvae_tune.study import passwords


def hide_passwords() -> None:
    """Take passwords out of the arguments and of the environment; may start the process anew."""
    passwords.take_from_environment()
    given = sys.argv[1:]
    clean = passwords.take_from_arguments(given)
    if clean == given:
        return
    sys.argv[1:] = clean
    before = sys.orig_argv[: len(sys.orig_argv) - len(given)]
    # Called by a program that made up its own arguments: the process was not started with them.
    if os.name == "posix" and sys.orig_argv[len(before) :] == given:
        passwords.hand_on()
        os.execv(sys.executable, [sys.executable, *before[1:], *clean])  # noqa: S606 - no shell
