"""How every figure looks: colours that the colour-blind tell apart, and shapes that survive grey.

Figures are made without pyplot: no global state, nothing left open, and any thread may draw.

Source of the colours: Okabe and Ito 2008, "Color Universal Design".
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

WIDTH = 5.6  # inches: text stays legible where a telephone shows the whole width
WIDE = 7.6  # for grids of panels and images

BLACK, GREY, PALE = "#222222", "#767676", "#d9d9d9"
SEQUENTIAL = "cividis"  # of maps; monotone in grey, and made for the colour-blind
_HUES = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7A5C00", "#444444"]
_LINES: list[Any] = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1))]
_MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "h"]

SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#ececec",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "lines.linewidth": 1.6,
    "figure.constrained_layout.use": True,
    "savefig.facecolor": "white",
    "svg.hashsalt": "gsvae-tune",  # the same figure gives the same file
    "svg.fonttype": "path",  # looks the same where the font is missing
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class ArmStyle:
    """How one arm is drawn, in every figure of a report."""

    color: str
    line: Any
    marker: str

    @property
    def curve(self) -> dict[str, Any]:
        """Keyword arguments of a curve."""
        return {"color": self.color, "linestyle": self.line}

    @property
    def points(self) -> dict[str, Any]:
        """Keyword arguments of single points, as `Axes.plot` takes them."""
        return {"color": self.color, "linestyle": "none", "marker": self.marker}


def arm_styles(arms: Sequence[str]) -> dict[str, ArmStyle]:
    """Return a style for each arm; give all arms of a study in one order, so that none changes."""
    return {
        arm: ArmStyle(
            _HUES[place % len(_HUES)],
            _LINES[(place + place // len(_HUES)) % len(_LINES)],
            _MARKERS[place % len(_MARKERS)],
        )
        for place, arm in enumerate(arms)
    }


@contextmanager
def applied() -> Iterator[None]:
    """Draw and save within this: the settings above, whatever the user's own are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(SETTINGS)
        yield


def panels(
    rows: int = 1, columns: int = 1, *, height: float = 2.6, width: float | None = None, **more: Any
) -> tuple[Figure, NDArray[Any]]:
    """Return a figure and its axes, (rows, columns).

    Args:
        rows: of panels.
        columns: of panels.
        height: of a row, inches.
        width: of the figure, inches; default: `WIDTH` for one column, `WIDE` for more.
        more: of `Figure.subplots` (sharex, sharey, width_ratios, ...).
    """
    width = width or (WIDTH if columns == 1 else WIDE)
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    return figure, np.asarray(figure.subplots(rows, columns, squeeze=False, **more))


def caption(figure: Figure, text: str) -> None:
    """Set a line under the figure: n, what a band or bar is, what is left out. Wraps by itself."""
    width = int(figure.get_figwidth() * 17.5)  # characters of 7.5 point text
    figure.supxlabel("\n".join(textwrap.wrap(text, width)), x=0.01, ha="left", fontsize=7.5,
                     color=GREY)  # fmt: skip


def log_ticks(axes: Axes, axis: str = "x") -> None:
    """Label a logarithmic axis with plain numbers (0.1, 0.5, 2), few enough not to collide."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    chosen = axes.xaxis if axis == "x" else axes.yaxis
    low, high = sorted(chosen.get_view_interval())
    decades = np.log10(high / low) if low > 0 else 1.0
    subs = (1.0, 2.0, 5.0) if decades < 2.2 else (1.0, 3.0) if decades < 3.5 else (1.0,)
    chosen.set_major_locator(LogLocator(subs=subs))
    chosen.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    chosen.set_minor_locator(NullLocator())
    chosen.set_minor_formatter(NullFormatter())


def settle(figure: Figure) -> None:
    """Lay the figure out for good: every format shows the same, and none lays it out again."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def encoded(figure: Figure, kind: str) -> bytes:
    """Return the figure as svg, png or pdf, the same bytes for the same figure."""
    buffer = io.BytesIO()
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[kind]
    figure.savefig(buffer, format=kind, metadata=dates, dpi=200)
    return buffer.getvalue()


def save(figure: Figure, folder: Path, name: str, kinds: Sequence[str]) -> None:
    """Write a figure in each format, as ``folder/name.kind``."""
    from gsvae_tune.study.records import write_atomic

    for kind in kinds:
        write_atomic(folder / f"{name}.{kind}", encoded(figure, kind))
