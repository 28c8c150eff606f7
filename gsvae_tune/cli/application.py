"""The application all verbs belong to, and how it ends: one message, an exit code."""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from gsvae_tune import __version__
from gsvae_tune.study.errors import ExitCode, InputError, StoppedError, UserError
from gsvae_tune.study.faults import Fault, is_disk_full
from gsvae_tune.study.harmless import UNSAFE, harmless

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


class SafeConsole(Console):
    """A console on which text commands nothing: names, paths and errors come from outside."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render; rich's own commands, such as those that move the cursor, pass."""
        for segment in super().render(renderable, options):
            if segment.control or not UNSAFE.search(segment.text):
                yield segment
            else:
                yield Segment(harmless(segment.text), segment.style)


# No emoji codes: a path may hold what looks like one.
console = SafeConsole(emoji=False)
errors = SafeConsole(stderr=True, emoji=False)

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
        kind = "" if isinstance(error, StoppedError) else "error: "
        errors.print(f"{kind}{error}", highlight=False, markup=False, soft_wrap=True)
        return int(error.exit_code)
    except OSError as error:
        # A file system's refusal that no one nearer to it explained.
        full = is_disk_full(error)
        said = Fault.DISK_FULL.says(str(error)) if full else str(error)
        if full:
            said += "\n  next:  make room, then run the same command again; nothing is lost"
        errors.print(f"error: {said}", highlight=False, markup=False, soft_wrap=True)
        return int(ExitCode.UNFINISHED if full else ExitCode.WRONG_INPUT)
    except _ClickError as error:
        error.message = harmless(error.message)  # it quotes the command line
        error.show()
        return int(ExitCode.WRONG_INPUT)
    except (typer.Abort, KeyboardInterrupt):
        code = ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - a mistake of ours; its traceback helps us alone
        with tempfile.NamedTemporaryFile(
            "w", prefix="gsvae-tune-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            file.write(traceback.format_exc())
        errors.print(
            f"error: this should not have happened: {type(error).__name__}: {error}\n"
            "  kept:  everything finished\n"
            f"  next:  {file.name} says where it happened; please report it",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
        return int(ExitCode.UNFINISHED)
    if code == ExitCode.INTERRUPTED:  # typer's answer to an interrupt, too
        errors.print("interrupted", highlight=False)
    return code if isinstance(code, int) else int(ExitCode.DONE)
