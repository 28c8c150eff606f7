"""The page around the figures, and writing it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gsvae_tune import __version__
from gsvae_tune.report.exhibits.gallery import Section
from gsvae_tune.report.page.content import Answer, Content
from gsvae_tune.report.page.drawing import Shown
from gsvae_tune.report.page.grids import Grid
from gsvae_tune.study.errors import InputError
from gsvae_tune.study.harmless import harmless
from gsvae_tune.study.records import write_atomic

_MARK = '<meta name="generator" content="gsvae-tune'


@dataclass(frozen=True)
class ShownPart:
    """A section with its exhibits drawn."""

    section: Section
    exhibits: list[Shown]


@dataclass(frozen=True)
class StudyPage:
    """One study's place in a page."""

    prefix: str  # of its anchors
    content: Content
    parts: list[ShownPart]
    answers: list[Answer]


def render(
    title: str,
    pages: Sequence[StudyPage],
    across: Sequence[Shown] = (),
    across_grid: Grid | None = None,
    refresh_s: int | None = None,
) -> str:
    """Return the page.

    Args:
        title: its heading.
        pages: the studies.
        across: exhibits over all of them.
        across_grid: the studies side by side; needed for more than one.
        refresh_s: reload after so many seconds, while a study runs.
    """
    own = files("gsvae_tune.report.page")
    style, script = ((own / f"report.{kind}").read_text("utf-8") for kind in ("css", "js"))
    environment = Environment(
        loader=PackageLoader("gsvae_tune.report", "page"),
        autoescape=True,  # names and texts come from outside
        undefined=StrictUndefined,
        finalize=lambda value: harmless(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        title=title,
        version=__version__,
        written=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        studies=pages,
        across=across,
        across_grid=across_grid,
        refresh_s=refresh_s,
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        style_hash=_digest(style),
        script_hash=_digest(script),
    )


def _digest(text: str) -> str:
    """Return what the page's policy allows an inline style or script by."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def refuse_other(path: Path) -> None:
    """Check that a page would replace an earlier report and nothing else.

    Raises:
        InputError: another file stands there.
    """
    if path.exists() and not is_report(path):
        raise InputError(
            "is there already, and is no report of ours",
            where=str(path),
            legal="a new name, or that of an earlier report",
            next_step="--output FILE",
        )


def write_page(path: Path, page: str) -> None:
    """Write the page; raises as `refuse_other`."""
    refuse_other(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, page.encode())


def is_report(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _MARK.encode() in file.read(4096)
    except OSError:
        return False
