"""An exhibit: a question, a figure, how to read it, and what it shows here."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from gsvae_tune.report.figures import style

ENOUGH = 5  # trials of an arm below which no figure is made of them


class NothingToShow(Exception):  # noqa: N818 - no error: it is what the reader is told
    """There is not enough, or nothing sound, to draw; the message says what is missing."""


@dataclass(frozen=True)
class Exhibit:
    """One question that a report asks of a study. Nothing is worked out before it is drawn."""

    key: str  # of its files and of its place in the page
    title: str  # the question
    reading: str  # how to read the figure, a sentence
    build: Callable[[], tuple[Figure, str]]  # the figure and what it shows here

    def drawn(self) -> Drawn:
        """Work it out and draw it; where there is nothing to draw, say what is missing."""
        try:
            with style.applied():
                figure, finding = self.build()
                style.settle(figure)
        except NothingToShow as missing:
            return Drawn(self, None, str(missing))
        return Drawn(self, figure, finding)


@dataclass(frozen=True)
class Drawn:
    """An exhibit with its figure; in a notebook it shows itself."""

    exhibit: Exhibit
    figure: Figure | None  # None: there is nothing to draw
    finding: str  # what it shows here, or what is missing

    def encoded(self, kind: str) -> bytes:
        """Return the figure as svg, png or pdf."""
        assert self.figure is not None  # noqa: S101 - asked for where there is one
        with style.applied():
            return style.encoded(self.figure, kind)

    def _repr_html_(self) -> str:
        text = f"<b>{html.escape(self.exhibit.title)}</b><br>"
        if self.figure is not None:
            image = base64.b64encode(self.encoded("png")).decode()
            name = html.escape(self.exhibit.title, quote=True)
            width = round(96 * self.figure.get_figwidth() * 1.15)
            text += f'<img alt="{name}" width="{width}" src="data:image/png;base64,{image}"><br>'
            text += f"{html.escape(self.exhibit.reading)}<br>"
        return text + f"<i>{html.escape(self.finding)}</i>"


def require_trials(frames: dict[str, pd.DataFrame], least: int = ENOUGH) -> dict[str, pd.DataFrame]:
    """Return the arms with at least so many trials.

    Args:
        frames: finished trials by arm, with column `value`.
        least: how many.

    Raises:
        NothingToShow: no arm has so many, saying how many there are.
    """
    enough = {arm: frame for arm, frame in frames.items() if frame.value.notna().sum() >= least}
    if not enough:
        counts = ", ".join(f"{arm} {frame.value.notna().sum()}" for arm, frame in frames.items())
        raise NothingToShow(
            f"Too few trials ended with a value for this: at least {least} of an arm, and there "
            f"are {counts or 'none'}."
        )
    return enough


def listed(words: Iterable[Any]) -> str:
    """Return "a, b and c"."""
    names = [str(word) for word in words]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
