"""Images in a grid: originals with their reconstructions, and samples of the prior."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gsvae_tune.report.figures import style

Images = NDArray[np.float32]  # (n, height, width), 0 to 1
_GAP = 0.12  # between images, of an image's longer side


def reconstructions(
    originals: Images, made: Sequence[tuple[str, Images, NDArray[np.float32]]]
) -> Figure:
    """Draw originals in a row, and each model's reconstructions below them with what they cost.

    Args:
        originals: (n, height, width).
        made: of each model its name, its reconstructions and their losses in nats (n,).
    """
    rows = [("original", originals, None), *made]
    high, wide = _extent(originals, len(originals))
    inches = len(rows) * (0.97 * style.WIDE * high / wide + 0.28) + 0.2 * len(made) + 0.55
    figure = Figure(figsize=(style.WIDE, inches), layout="constrained")
    grid = np.atleast_1d(figure.subplots(len(rows), 1))
    for axes, (name, images, nats) in zip(grid, rows, strict=True):
        _grid(axes, images, len(images))
        axes.set_title(name)
        if nats is not None:
            axes.set_xticks(_middles(images), [f"{value:.1f}" for value in nats])
            axes.tick_params(axis="x", length=0, labelsize=8.0, pad=2)
    grid[-1].set_xlabel("\N{MINUS SIGN}log p(x|z) of each reconstruction (nats)")
    return figure


def samples(made: Sequence[tuple[str, Images]], columns: int) -> Figure:
    """Draw models' samples side by side, the same code at the same place.

    Args:
        made: of each model its name and its samples.
        columns: of each grid.
    """
    width = style.WIDE if len(made) > 1 else style.WIDTH * 0.75
    figure = Figure(figsize=(width, style.WIDE / 2 + 0.55), layout="constrained")
    for axes, (name, images) in zip(
        np.atleast_1d(figure.subplots(1, len(made))), made, strict=True
    ):
        _grid(axes, images, columns)
        axes.set_title(name)
    return figure


def _grid(axes: Axes, images: Images, columns: int) -> None:
    """Show images as one picture, in rows of `columns`: dark is 1."""
    height, width = images.shape[1:]
    gap = _gap(images)
    page = np.full(_extent(images, columns), np.nan)
    for place, image in enumerate(images):
        row, column = divmod(place, columns)
        top, left = gap + row * (height + gap), gap + column * (width + gap)
        page[top : top + height, left : left + width] = image
    colors = mpl.colormaps["Greys"].with_extremes(bad=style.PALE)  # paper white, ink black
    axes.imshow(page, cmap=colors, vmin=0.0, vmax=1.0, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)


def _extent(images: Images, columns: int) -> tuple[int, int]:
    """Return height and width of the picture they make, in pixels; gaps frame every image."""
    count, height, width = (int(side) for side in images.shape)
    gap, rows = _gap(images), -(-count // columns)
    return rows * (height + gap) + gap, columns * (width + gap) + gap


def _gap(images: Images) -> int:
    return max(1, round(_GAP * max(int(side) for side in images.shape[1:])))


def _middles(images: Images) -> NDArray[np.float64]:
    """Return where the middle of each image of a row is."""
    gap, width = _gap(images), int(images.shape[2])
    places = gap + np.arange(len(images), dtype=np.float64) * (width + gap)
    return np.asarray(places + (width - 1) / 2)
