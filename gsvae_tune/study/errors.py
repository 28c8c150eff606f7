"""The errors a user sees: one clear message, an exit code, no traceback."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the command line returns."""

    DONE = 0
    WRONG_INPUT = 2
    UNFINISHED = 3
    INTERRUPTED = 130


class UserError(Exception):
    """Base of all errors whose text is meant for the user as it is."""

    exit_code: ExitCode = ExitCode.UNFINISHED


class InputError(UserError):
    """The user's input is wrong: says where, which key, what was seen and what is legal."""

    exit_code = ExitCode.WRONG_INPUT

    def __init__(
        self, problem: str, *, where: str = "", legal: str = "", next_step: str = ""
    ) -> None:
        lines = [f"{where}: {problem}" if where else problem]
        if legal:
            lines.append(f"  legal: {legal}")
        if next_step:
            lines.append(f"  next:  {next_step}")
        super().__init__("\n".join(lines))


class StoppedError(UserError):
    """The user or a batch system told it to stop; what is kept, how to go on is in the text."""

    exit_code = ExitCode.INTERRUPTED


class UnfinishedError(UserError):
    """The study could not finish; what is kept and how to go on is in the text."""
