"""From a scan to the network's grid: reorient, transpose, crop, normalise, resample."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from bts_auto.data.crop import bounding_box, nonzero_mask
from bts_auto.data.orientation import Reorientation
from bts_auto.data.shapes import resampled_shape
from bts_auto.data.volume import Volume
from bts_auto.errors import DataError
from bts_auto.plan.schema import Plan, SegmentationConfiguration
from bts_auto.preprocess.memory import check_resampling
from bts_auto.preprocess.normalise import normalise
from bts_auto.preprocess.resample import resample_image, resample_mask, separate_axis
from bts_auto.preprocess.spatial import Crop, Reorient, Resample, SpatialSteps, Transpose

T = TypeVar("T")

OUTSIDE = -1
"""In prepared masks: background that lies outside the non-zero part of the scan."""


@dataclass(frozen=True)
class Prepared:
    """A case in the network's grid.

    Attributes
    ----------
    image : ndarray of float32, shape (c, z, y, x)
    mask : ndarray of int16, shape (z, y, x), or None
        Labels, `OUTSIDE` where there is neither signal nor label. Without an annotation None, unless it was asked for.
    steps : SpatialSteps
        The way back.
    annotated : bool
        Whether the mask is an annotation.
    """

    image: np.ndarray
    mask: np.ndarray | None
    steps: SpatialSteps
    annotated: bool = True


def prepare(
    volume: Volume,
    plan: Plan,
    configuration: SegmentationConfiguration,
    mask: np.ndarray | None = None,
) -> Prepared:
    """Prepare a case for one configuration.

    Parameters
    ----------
    volume : Volume
        The scan as it was read; not changed.
    plan, configuration
        The plan and one of its configurations. A two-dimensional one keeps the first axis as it is.
    mask : ndarray of int, shape (z, y, x), or None
        The annotation, on the scan's grid; not changed.

    Raises
    ------
    DataError
        When the scan has other channels than were planned, the mask another shape, a scheme refuses the values, or
        what would be made is larger than the memory that is free.
    """
    return next(iter(prepare_all(volume, plan, [configuration], mask)))


def prepare_all(
    volume: Volume,
    plan: Plan,
    configurations: Sequence[SegmentationConfiguration],
    mask: np.ndarray | None = None,
    *,
    mark_outside: bool = False,
) -> Iterator[Prepared]:
    """Prepare a case for several configurations, one after the other; what they share is done once.

    Configurations that come to the same voxels (2d and 3d_fullres where nothing is resampled) get the same arrays.

    Parameters
    ----------
    mark_outside : bool
        Also without an annotation give a mask, 0 inside and `OUTSIDE` outside.
    """
    _check(volume, plan, mask)
    turn = Reorientation.between(volume.geometry.direction) if plan.orientation == "canonical" else Reorientation()
    if volume.geometry.planar and any(configuration.dims == 3 for configuration in configurations):
        raise DataError("is a 2D image, the plan is for volumes", mend="leave it out, or use the 2d configuration")
    turns = (Reorient(turn.axes, turn.flips), Transpose(_triple(plan.transpose_forward)))
    image, labels, spacing = volume.array, mask, volume.geometry.spacing
    for step in turns:
        image, spacing = step.apply(image), step.spacing_after(spacing)
        labels = None if labels is None else step.apply(labels)
    inside = nonzero_mask(image)
    box = bounding_box(inside)
    crop = Crop(_triple(s.start for s in box), _triple(s.stop for s in box), _triple(inside.shape))
    image, inside = crop.apply(image), np.ascontiguousarray(crop.apply(inside))
    labels = _with_outside(None if labels is None else crop.apply(labels), inside)
    keep_mask = mark_outside or mask is not None
    resamplings = [_resampling(_triple(inside.shape), spacing, configuration) for configuration in configurations]
    results = [_result(*pair) for pair in zip(configurations, resamplings, strict=True)]
    made: dict[object, tuple[np.ndarray, np.ndarray | None]] = {}
    normalised: tuple[object, np.ndarray] | None = None
    for index, (configuration, resampling, result) in enumerate(zip(configurations, resamplings, results, strict=True)):
        if result not in made:
            check_resampling(len(image), resampling)
            schemes = (configuration.normalization_schemes, configuration.use_mask_for_norm)
            if normalised is None or normalised[0] != schemes:
                fresh = np.array(image, dtype=np.float32, order="C")
                statistics = plan.foreground_intensity_properties_per_channel
                normalised = schemes, normalise(fresh, labels >= 0, *schemes, statistics)
            made[result] = (
                _resampled(normalised[1], resampling, configuration),
                _resampled_mask(labels, resampling, configuration) if keep_mask else None,
            )
        arrays = made[result] if result in results[index + 1 :] else made.pop(result)
        yield Prepared(*arrays, SpatialSteps(volume.geometry, (*turns, crop, resampling)), annotated=mask is not None)


def prepare_mask(mask: np.ndarray, steps: SpatialSteps, configuration: SegmentationConfiguration) -> np.ndarray:
    """Bring a label map from a scan's grid to that of the prepared scan, to be an input of a later stage.

    Unlike an annotation's, its background is 0 everywhere: a mark would take part in the interpolation.

    Parameters
    ----------
    mask : ndarray of int, shape (z, y, x)
        On the scan's grid.
    steps : SpatialSteps
        What was done to the scan.

    Returns
    -------
    ndarray of int16, shape `steps.shape`
    """
    if mask.shape != steps.geometry.size:
        raise DataError(f"mask of shape {mask.shape} for an image of shape {steps.geometry.size}")
    cropped = np.array(steps.apply(mask), dtype=np.int16, order="C")
    return _resampled_mask(cropped, steps.resample, configuration)


def _result(configuration: SegmentationConfiguration, resampling: Resample) -> tuple[object, ...]:
    """What decides the arrays: equal results are worked out once."""
    schemes = (configuration.normalization_schemes, configuration.use_mask_for_norm)
    if resampling.is_identity:
        return (schemes,)
    rules = configuration.resampling
    apart = separate_axis(resampling.spacing, resampling.new_spacing, rules.separate_z)
    return (schemes, resampling.new_shape, apart, *rules.model_dump().values())


def _check(volume: Volume, plan: Plan, mask: np.ndarray | None) -> None:
    if len(volume.channels) != len(plan.channel_names):
        raise DataError(
            f"channels {', '.join(volume.channels)} where the plan has {len(plan.channel_names)}",
            mend=f"give {', '.join(plan.channel_names)}",
        )
    if mask is not None and mask.shape != volume.geometry.size:
        raise DataError(f"mask of shape {mask.shape} for an image of shape {volume.geometry.size}")


def _with_outside(labels: np.ndarray | None, inside: np.ndarray) -> np.ndarray:
    """The mask with background outside the non-zero part marked, int16; labels that lie outside stay."""
    if labels is None:
        return np.where(inside, np.int16(0), np.int16(OUTSIDE))
    marked = np.array(labels, dtype=np.int16, order="C")
    marked[(marked == 0) & ~inside] = OUTSIDE
    return marked


def _resampling(
    shape: tuple[int, int, int], spacing: Sequence[float], configuration: SegmentationConfiguration
) -> Resample:
    target = tuple(configuration.spacing)
    if len(target) == 2:
        target = (spacing[0], *target)
    new_shape = resampled_shape(shape, spacing, target)
    return Resample(shape, _triple(new_shape), _triple(spacing), _triple(target))


def _resampled(image: np.ndarray, resample: Resample, configuration: SegmentationConfiguration) -> np.ndarray:
    rules = configuration.resampling
    return resample_image(
        image,
        resample.new_shape,
        order=rules.image_order,
        spacing=resample.spacing,
        new_spacing=resample.new_spacing,
        separate_z=rules.separate_z,
        order_z=rules.order_z,
    )


def _resampled_mask(mask: np.ndarray, resample: Resample, configuration: SegmentationConfiguration) -> np.ndarray:
    rules = configuration.resampling
    return resample_mask(
        mask,
        resample.new_shape,
        order=rules.label_order,
        spacing=resample.spacing,
        new_spacing=resample.new_spacing,
        separate_z=rules.separate_z,
        order_z=rules.order_z,
    )


def _triple(values: Iterable[T]) -> tuple[T, T, T]:
    one, two, three = values
    return one, two, three
