"""The application all verbs belong to, and how it ends: one message, an exit code."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from gsvae_tune import __version__
from gsvae_tune.study.errors import ExitCode, InputError, UserError

if TYPE_CHECKING:
    from gsvae_tune.study.paths import StudyPaths

app = typer.Typer(
    name="gsvae-tune",
    help="Studies of the softmax temperature tau in Gumbel-Softmax VAEs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

# typer carries its own copy of click in some versions: this is whichever it raises.
_ClickError: Any = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)

# No emoji codes: a path may hold what looks like one.
console = Console(emoji=False)
errors = Console(stderr=True, emoji=False)

StorageFlag = Annotated[
    str | None, typer.Option(help="Optuna storage URL, if the study has one.", metavar="URL")
]
FolderArgument = Annotated[
    str, typer.Argument(help="A study's folder, or a folder of studies.", metavar="DIR")
]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        console.print(f"gsvae-tune {__version__}", highlight=False)
        raise typer.Exit


def find_studies_in(folder: str) -> list[StudyPaths]:
    from gsvae_tune.study.paths import expand, find_studies

    found = list(find_studies(expand(folder, "DIR")))
    if not found:
        raise InputError(
            "holds no study",
            where=folder,
            legal="a folder with a study.json, or one that holds such folders",
            next_step="gsvae-tune run",
        )
    return found


def guarded(call: Callable[..., Any]) -> int:
    """Call a typer application; return the exit code."""
    try:
        code = call(standalone_mode=False)
    except UserError as error:
        errors.print(f"error: {error}", highlight=False, markup=False, soft_wrap=True)
        return int(error.exit_code)
    except OSError as error:
        # A file system's refusal that no one nearer to it explained.
        errors.print(f"error: {error}", highlight=False, markup=False, soft_wrap=True)
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        return int(ExitCode.UNFINISHED if full else ExitCode.WRONG_INPUT)
    except _ClickError as error:
        error.show()
        return int(ExitCode.WRONG_INPUT)
    except (typer.Abort, KeyboardInterrupt):
        errors.print("interrupted", highlight=False)
        return int(ExitCode.INTERRUPTED)
    return code if isinstance(code, int) else int(ExitCode.DONE)
