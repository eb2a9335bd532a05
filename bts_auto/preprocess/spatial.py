"""The ordered spatial steps that lead from a scan to the network's grid, recorded so that each can be undone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from bts_auto.data.orientation import Reorientation
from bts_auto.data.volume import Geometry
from bts_auto.errors import DataError

Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Reorient:
    """Axes exchanged and reversed, see :class:`bts_auto.data.orientation.Reorientation`."""

    kind: ClassVar[str] = "reorient"
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @property
    def _turn(self) -> Reorientation:
        return Reorientation(self.axes, self.flips)

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Turn the last three axes; a view."""
        return self._turn.apply(array)

    def undo(self, array: np.ndarray, fill: float = 0) -> np.ndarray:
        """Turn them back; a view."""
        return self._turn.undo(array)

    def shape_after(self, shape: Sequence[int]) -> Shape:
        """The shape that `shape` becomes."""
        return _pick(shape, self.axes)

    def spacing_after(self, spacing: Sequence[float]) -> Spacing:
        """The spacing that `spacing` becomes."""
        return _pick(spacing, self.axes)


@dataclass(frozen=True)
class Transpose:
    """Axes exchanged: axis i of the result is axis ``axes[i]`` of the input."""

    kind: ClassVar[str] = "transpose"
    axes: tuple[int, int, int]

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Exchange the last three axes; a view."""
        return _transpose(array, self.axes)

    def undo(self, array: np.ndarray, fill: float = 0) -> np.ndarray:
        """Exchange them back; a view."""
        return _transpose(array, tuple(int(axis) for axis in np.argsort(self.axes)))

    def shape_after(self, shape: Sequence[int]) -> Shape:
        """The shape that `shape` becomes."""
        return _pick(shape, self.axes)

    def spacing_after(self, spacing: Sequence[float]) -> Spacing:
        """The spacing that `spacing` becomes."""
        return _pick(spacing, self.axes)


@dataclass(frozen=True)
class Crop:
    """A box cut out of a grid of shape `shape`."""

    kind: ClassVar[str] = "crop"
    start: Shape
    stop: Shape
    shape: Shape

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """The box as slices of the uncropped grid."""
        one, two, three = (slice(low, high) for low, high in zip(self.start, self.stop, strict=True))
        return one, two, three

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Cut the box out of the last three axes; a view."""
        return array[(..., *self.box)]

    def undo(self, array: np.ndarray, fill: float = 0) -> np.ndarray:
        """Put the box back; voxels outside get `fill`."""
        if self.start == (0, 0, 0) and self.stop == self.shape:
            return array
        out = np.full((*array.shape[:-3], *self.shape), fill, array.dtype)
        out[(..., *self.box)] = array
        return out

    def shape_after(self, shape: Sequence[int]) -> Shape:
        """The shape of the box."""
        return _triple(high - low for low, high in zip(self.start, self.stop, strict=True))

    def spacing_after(self, spacing: Sequence[float]) -> Spacing:
        """`spacing`."""
        return _triple(spacing)


@dataclass(frozen=True)
class Resample:
    """A change of grid. It loses information, so `apply` and `undo` leave it to :mod:`bts_auto.preprocess.resample`."""

    kind: ClassVar[str] = "resample"
    shape: Shape
    new_shape: Shape
    spacing: Spacing
    new_spacing: Spacing

    @property
    def is_identity(self) -> bool:
        """Whether the grid keeps its shape."""
        return self.shape == self.new_shape

    def shape_after(self, shape: Sequence[int]) -> Shape:
        """`new_shape`."""
        return self.new_shape

    def spacing_after(self, spacing: Sequence[float]) -> Spacing:
        """`new_spacing`."""
        return self.new_spacing


Step = Reorient | Transpose | Crop | Resample
_KINDS: dict[str, type] = {kind.kind: kind for kind in (Reorient, Transpose, Crop, Resample)}


@dataclass(frozen=True)
class SpatialSteps:
    """What was done to a scan's grid, in order.

    Attributes
    ----------
    geometry : Geometry
        The grid of the scan as it was read.
    steps : tuple of Step
        Reorient, transpose, crop, and last resample.
    """

    geometry: Geometry
    steps: tuple[Step, ...]

    @property
    def resample(self) -> Resample:
        """The change of grid, the last step."""
        last = self.steps[-1]
        if not isinstance(last, Resample):
            raise ValueError("the last spatial step is not a resampling")
        return last

    @property
    def exact(self) -> tuple[Reorient | Transpose | Crop, ...]:
        """The steps before it, which only move voxels."""
        return tuple(step for step in self.steps if not isinstance(step, Resample))

    @property
    def cropped_shape(self) -> Shape:
        """Shape (z, y, x) after the exact steps: the original voxels, before resampling."""
        return self.resample.shape

    @property
    def shape(self) -> Shape:
        """Shape (z, y, x) of the network's grid, after all steps."""
        return self.resample.new_shape

    @property
    def spacing(self) -> Spacing:
        """Spacing (z, y, x) of the network's grid, in mm."""
        return self.resample.new_spacing

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Take an array in the scan's grid through the exact steps.

        Parameters
        ----------
        array : ndarray, shape (..., *geometry.size)

        Returns
        -------
        ndarray, shape (..., *cropped_shape)
            A view.
        """
        for step in self.exact:
            array = step.apply(array)
        return array

    def undo(self, array: np.ndarray, fill: float = 0) -> np.ndarray:
        """Bring an array in the cropped grid (before resampling) back to the scan's grid.

        Parameters
        ----------
        array : ndarray, shape (..., *cropped_shape)
            A label map, or anything else in original voxels.
        fill : float
            Value of voxels outside the crop.

        Returns
        -------
        ndarray, shape (..., *geometry.size)
            Contiguous.
        """
        if array.shape[-3:] != self.cropped_shape:
            raise ValueError(f"shape {array.shape[-3:]} where the steps say {self.cropped_shape}")
        for step in reversed(self.exact):
            array = step.undo(array, fill)
        return np.ascontiguousarray(array)

    def to_json(self) -> dict[str, Any]:
        """As a JSON value."""
        return {
            "geometry": self.geometry.to_json(),
            "steps": [{"kind": step.kind} | asdict(step) for step in self.steps],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SpatialSteps:
        """Read what :meth:`to_json` gave.

        Raises
        ------
        DataError
            When it is something else.
        """
        try:
            geometry = Geometry.from_json(value["geometry"])
            return cls(geometry, tuple(_step(entry) for entry in value["steps"]))
        except (KeyError, TypeError) as error:
            raise DataError(f"is no record of spatial steps ({error})", mend="preprocess again") from None


def _step(entry: Mapping[str, Any]) -> Step:
    fields = _tuples(entry)
    return _KINDS[fields.pop("kind")](**fields)


def _tuples(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(one) if isinstance(one, list) else one for key, one in value.items()}


def _transpose(array: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    lead = array.ndim - 3
    return array.transpose(*range(lead), *(lead + axis for axis in axes))


def _pick(values: Sequence[Any], axes: Sequence[int]) -> tuple[Any, Any, Any]:
    one, two, three = (values[axis] for axis in axes)
    return one, two, three


def _triple(values: Any) -> tuple[Any, Any, Any]:
    one, two, three = values
    return one, two, three
