"""One picture of a case: the slice that shows most of the mask, every channel, the mask's outlines on top."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bts_auto.data.crop import bounding_box
from bts_auto.data.labels import Labels
from bts_auto.data.orientation import Reorientation
from bts_auto.data.volume import Volume
from bts_auto.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colours that stay apart for colour-blind readers (Okabe and Ito, 2008), without black.
_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#D55E00", "#CC79A7", "#0072B2")
_INCHES, _DPI = 3.2, 110
# Share of the brightest voxels that are cut off, so that one hot voxel does not darken the picture.
_BRIGHTEST = 99.7


def write_overlay(path: Path, volume: Volume, masks: dict[str, np.ndarray], labels: Labels) -> None:
    """Draw a case's channels with the outlines of one or more label maps.

    Parameters
    ----------
    path : Path
        A ``.png`` file.
    volume : Volume
        The scan.
    masks : dict of str to ndarray, shape (z, y, x)
        Label maps by title ("prediction", "reference"), one row of pictures each. The first one decides the slice.
    labels : Labels
        Which integer has which name and colour.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    turn = Reorientation.between(volume.geometry.direction, "LPS")
    image = turn.apply(volume.array)
    turned = {title: turn.apply(mask) for title, mask in masks.items()}
    spacing = turn.geometry(volume.geometry).spacing
    z = _fullest_slice(next(iter(turned.values())), image)
    _, y, x = bounding_box((image != 0).any(axis=0))
    values = [v for v in labels.known_values if v != 0]
    colour = {value: _COLOURS[i % len(_COLOURS)] for i, value in enumerate(values)}
    columns, rows = len(volume.channels), len(turned)
    figure = Figure(
        figsize=(_INCHES * columns, _INCHES * rows + 0.6), dpi=_DPI, facecolor="black", layout="constrained"
    )
    axes = np.atleast_2d(figure.subplots(rows, columns, squeeze=False))
    for row, (title, mask) in enumerate(turned.items()):
        for column, channel in enumerate(volume.channels):
            picture = axes[row, column]
            plane = image[column, z, y, x]
            picture.imshow(plane, cmap="gray", vmin=0, vmax=_white(plane), aspect=spacing[1] / spacing[2])
            for value in values:
                _outline(picture, mask[z, y, x] == value, colour[value])
            picture.set_title(f"{channel}, {title}", color="white", fontsize=9)
            picture.axis("off")
    names = _names(labels)
    figure.legend(
        handles=[Line2D([], [], color=colour[v], label=names.get(v, str(v))) for v in values],
        loc="outside lower center", ncols=min(6, len(values)), labelcolor="white", facecolor="black", frameon=False,
    )  # fmt: skip
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def _outline(picture: Axes, where: np.ndarray, colour: str) -> None:
    """Draw around `where`, also along the border of the picture and where that is one voxel wide."""
    if where.any():
        rows, columns = (np.arange(-1, n + 1) for n in where.shape)
        limits = picture.get_xlim(), picture.get_ylim()
        picture.contour(columns, rows, np.pad(where, 1), levels=[0.5], colors=colour, linewidths=1.0)
        picture.set(xlim=limits[0], ylim=limits[1])


def _fullest_slice(mask: np.ndarray, image: np.ndarray) -> int:
    """The slice with most foreground; of an empty mask, the one with most of the head."""
    amount = np.count_nonzero(mask, axis=(1, 2))
    if not amount.any():
        amount = np.count_nonzero(image[0], axis=(1, 2))
    return int(np.argmax(amount))


def _white(plane: np.ndarray) -> float:
    inside = plane[plane != 0]
    return float(np.percentile(inside, _BRIGHTEST)) if inside.size else 1.0


def _names(labels: Labels) -> dict[int, str]:
    if labels.has_regions:
        return dict(zip(labels.regions_class_order, labels.foreground, strict=True))
    return {value[0]: name for name, value in labels.values.items()}
