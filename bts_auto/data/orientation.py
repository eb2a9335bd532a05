"""Which way the axes of an image run in the patient, and how an array is turned to another orientation and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bts_auto.data.volume import Geometry

CANONICAL = "LPS"
# For each patient axis x, y, z of ITK: the letter towards which positive and negative coordinates lie.
_LETTERS = (("L", "R"), ("P", "A"), ("S", "I"))
_OF_LETTER = {letter: (axis, 1 - 2 * side) for axis, pair in enumerate(_LETTERS) for side, letter in enumerate(pair)}


def _closest_axes(direction: Sequence[float]) -> list[tuple[int, int]]:
    """For each image axis x, y, z the patient axis that it follows most closely, and the sign with which it does."""
    cosines = np.array(direction, dtype=float).reshape(3, 3)
    left = np.abs(cosines)
    found = [(0, 1)] * 3
    for _ in range(3):  # the clearest axis first, so that no patient axis is given away twice
        patient, image = np.unravel_index(np.argmax(left), left.shape)
        found[image] = (int(patient), 1 if cosines[patient, image] >= 0 else -1)
        left[patient, :] = -1
        left[:, image] = -1
    return found


def orientation_code(direction: Sequence[float]) -> str:
    """The three letters towards which the image axes x, y, z run, as in DICOM: ``"LPS"`` for ITK's identity.

    Parameters
    ----------
    direction : sequence of 9 float
        ITK's direction matrix in row-major order. Oblique axes count as the patient axis that is nearest.

    Examples
    --------
    >>> orientation_code((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    'RAS'
    """
    return "".join(_LETTERS[axis][0 if sign > 0 else 1] for axis, sign in _closest_axes(direction))


@dataclass(frozen=True)
class Reorientation:
    """A turn of an array by exchanging and flipping axes; no voxel changes its value.

    Attributes
    ----------
    axes : tuple of int
        For each axis of the result, in (z, y, x) order, the axis of the original that it comes from.
    flips : tuple of bool
        Whether that axis of the result is reversed.
    """

    axes: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)

    @classmethod
    def between(cls, direction: Sequence[float], code: str = CANONICAL) -> Reorientation:
        """The turn from an image with `direction` (ITK's, 9 values, row-major) to the orientation `code`."""
        now = _closest_axes(direction)
        wanted = [_OF_LETTER[letter] for letter in code]
        axes, flips = [], []
        for patient, sign in reversed(wanted):  # x, y, z becomes z, y, x
            source = next(axis for axis, (follows, _) in enumerate(now) if follows == patient)
            axes.append(2 - source)
            flips.append(now[source][1] != sign)
        return cls((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))

    @property
    def is_identity(self) -> bool:
        """Whether nothing changes."""
        return self.axes == (0, 1, 2) and not any(self.flips)

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Turn the last three axes (z, y, x) of `array`; the result is a view."""
        lead = array.ndim - 3
        turned = array.transpose(*range(lead), *(lead + axis for axis in self.axes))
        return turned[(..., *(slice(None, None, -1 if flip else None) for flip in self.flips))]

    def undo(self, array: np.ndarray) -> np.ndarray:
        """Turn the last three axes of `array` back; the result is a view."""
        lead = array.ndim - 3
        flipped = array[(..., *(slice(None, None, -1 if flip else None) for flip in self.flips))]
        return flipped.transpose(*range(lead), *(lead + int(axis) for axis in np.argsort(self.axes)))

    def geometry(self, geometry: Geometry) -> Geometry:
        """The grid of the turned image: every voxel stays where it was in the patient."""
        columns = np.array(geometry.direction, dtype=float).reshape(3, 3)[:, ::-1]  # of image axes z, y, x
        size = [geometry.size[axis] for axis in self.axes]
        spacing = [geometry.spacing[axis] for axis in self.axes]
        turned = columns[:, list(self.axes)]
        origin = np.array(geometry.origin, dtype=float)
        for axis, flip in enumerate(self.flips):
            if flip:
                origin = origin + turned[:, axis] * spacing[axis] * (size[axis] - 1)
                turned[:, axis] *= -1
        return Geometry(
            size=(size[0], size[1], size[2]),
            spacing=(spacing[0], spacing[1], spacing[2]),
            origin=(float(origin[0]), float(origin[1]), float(origin[2])),
            direction=tuple(float(v) for v in turned[:, ::-1].ravel()),
            planar=geometry.planar,
        )
