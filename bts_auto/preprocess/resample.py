"""Bringing images, label maps and probabilities to another grid, with nnU-Net v2's rules.

Images and probabilities are interpolated by splines as scikit-image's `resize` does (edge mode, clipped to the range of
the input, no anti-aliasing). In label maps each voxel gets the label whose interpolated indicator is largest. An axis
much coarser than the others is treated apart ("separate z"): splines within the slices, nearest slice along it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bts_auto.preprocess.label_maps import largest_score
from bts_auto.preprocess.operators import apply_axis, axis_operator, nearest_index

# An axis is resampled apart where the spacing exceeds the finest by more than this (nnU-Net's ANISO_THRESHOLD).
ANISOTROPY_THRESHOLD = 3.0


def separate_axis(spacing: Sequence[float], new_spacing: Sequence[float], separate_z: bool | None = None) -> int | None:
    """The axis that is resampled apart from the others, or None.

    Parameters
    ----------
    spacing, new_spacing : sequence of float, length 3
        In mm, before and after.
    separate_z : bool or None
        None: where the anisotropy of the old spacing, else of the new one, exceeds `ANISOTROPY_THRESHOLD`; True: along
        the coarsest axis of the old spacing; False: never. Two axes equally coarse are never treated apart.
    """
    if separate_z is False:
        return None
    if separate_z is None:
        coarse = [one for one in (spacing, new_spacing) if max(one) / min(one) > ANISOTROPY_THRESHOLD]
        if not coarse:
            return None
        spacing = coarse[0]
    coarsest = [axis for axis, value in enumerate(spacing) if max(spacing) / value == 1]
    return coarsest[0] if len(coarsest) == 1 else None


def resample_image(
    array: np.ndarray,
    new_shape: Sequence[int],
    *,
    order: int = 3,
    spacing: Sequence[float],
    new_spacing: Sequence[float],
    separate_z: bool | None = None,
    order_z: int = 0,
) -> np.ndarray:
    """Resample channels by splines.

    Parameters
    ----------
    array : ndarray, shape (c, z, y, x)
        The channels; float32 is taken without a copy.
    new_shape : sequence of int, length 3
        Voxels (z, y, x) afterwards.
    order : int
        Of the spline, 0 to 5; along an axis treated apart it is `order_z`.
    spacing, new_spacing : sequence of float, length 3
        In mm, before and after; they only decide about an axis treated apart.
    separate_z : bool or None
        See :func:`separate_axis`.

    Returns
    -------
    ndarray of float32, shape (c, *new_shape)
        Clipped to the range of each channel (of each slice where slices are interpolated one by one), since cubic
        splines overshoot; `array` itself when the shape does not change.
    """
    target = tuple(int(n) for n in new_shape)
    array = array.astype(np.float32, copy=False)
    if array.shape[1:] == target:
        return array
    apart = separate_axis(spacing, new_spacing, separate_z)
    out = np.empty((array.shape[0], *target), np.float32)
    for channel, result in zip(array, out, strict=True):
        if apart is None:
            result[...] = _spline(channel, target, order, clip=order > 1)
        else:
            slices, slice_shape = np.moveaxis(channel, apart, 0), tuple(n for a, n in enumerate(target) if a != apart)
            np.moveaxis(result, apart, 0)[...] = _spline_slices(slices, target[apart], slice_shape, order, order_z)
    return out


def _spline(channel: np.ndarray, shape: tuple[int, ...], order: int, *, clip: bool) -> np.ndarray:
    lowest, highest = (channel.min(), channel.max()) if clip else (None, None)
    # Shrinking axes first keeps what lies between small.
    for axis in sorted(range(channel.ndim), key=lambda a: shape[a] / channel.shape[a]):
        channel = apply_axis(channel, axis_operator(channel.shape[axis], shape[axis], order), axis)
    return np.clip(channel, lowest, highest, out=channel) if clip else channel


def _spline_slices(slices: np.ndarray, n_out: int, shape: tuple[int, ...], order: int, order_z: int) -> np.ndarray:
    """Interpolate each slice on its own (clipped to its own range), then along the slices by `order_z`."""
    along = axis_operator(slices.shape[0], n_out, order_z)
    if along.index is not None and n_out < slices.shape[0]:  # do not interpolate slices that nobody will see
        slices, along = slices[along.index], axis_operator(n_out, n_out, 0)
    slices = np.ascontiguousarray(slices)
    if slices.shape[1:] != shape:
        lowest, highest = slices.min(axis=(1, 2), keepdims=True), slices.max(axis=(1, 2), keepdims=True)
        for axis in (1, 2):
            slices = apply_axis(slices, axis_operator(slices.shape[axis], shape[axis - 1], order), axis)
        if order > 1:
            np.clip(slices, lowest, highest, out=slices)
    return apply_axis(slices, along, 0)


def resample_mask(
    mask: np.ndarray,
    new_shape: Sequence[int],
    *,
    order: int = 1,
    spacing: Sequence[float],
    new_spacing: Sequence[float],
    separate_z: bool | None = None,
    order_z: int = 0,
) -> np.ndarray:
    """Resample a label map.

    Each output voxel gets the label whose indicator, interpolated with `order`, is largest; among equals the label of
    the nearest input voxel if it is one of them, else the smallest (see :mod:`bts_auto.preprocess.label_maps`).

    Parameters
    ----------
    mask : ndarray of int, shape (z, y, x)
        Labels, negative ones included.
    new_shape, order, spacing, new_spacing, separate_z, order_z
        As in :func:`resample_image`. Along an axis treated apart, labels are also chosen by the largest score.

    Returns
    -------
    ndarray of int, shape `new_shape`
        Of the type of `mask`; `mask` itself when the shape does not change.
    """
    target = tuple(int(n) for n in new_shape)
    if mask.shape == target:
        return mask
    apart = separate_axis(spacing, new_spacing, separate_z)
    if apart is None:
        return largest_score(mask, target, order)
    slices = np.moveaxis(mask, apart, 0)
    in_plane = tuple(n for axis, n in enumerate(target) if axis != apart)
    n_out = target[apart]
    if order_z == 0 and n_out < slices.shape[0]:
        slices = slices[nearest_index(slices.shape[0], n_out)]
    slices = largest_score(np.ascontiguousarray(slices), (slices.shape[0], *in_plane), order)
    slices = largest_score(slices, (n_out, *in_plane), order_z)
    return np.ascontiguousarray(np.moveaxis(slices, 0, apart))
