"""Auxiliary maps of the truth that losses ask for by name; worked out from each sample's mask before the step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from bts_auto.losses.target import Target

SIGNED_DISTANCE = "signed_distance"
# Where a channel is nowhere in a patch (or everywhere) there is no boundary to measure from.
_NO_BOUNDARY = 1.0


def dense_truth(target: Target, channels: int) -> Tensor:
    """Where each channel is true, bool of shape (b, k, \\*s)."""
    if target.regions is not None:
        return target.regions
    assert target.classes is not None
    every = torch.arange(channels, device=target.device).view(1, -1, *[1] * (target.classes.ndim - 1))
    return target.classes.unsqueeze(1) == every


def signed_distance(target: Target, spacing: Sequence[float], channels: int) -> Tensor:
    """Distance of each voxel from the boundary of each channel's object: negative inside, positive outside.

    Measured from the centres of the object's border voxels, those with background among their neighbours (diagonal ones
    too), less half a voxel; in edges of the smallest side of a voxel. A channel that is nowhere in a patch has 1
    everywhere, one that is everywhere -1.

    Parameters
    ----------
    target : Target
    spacing : sequence of float
        Of the spatial axes, in mm.
    channels : int
        k.

    Returns
    -------
    Tensor of float32, shape (b, k, \\*s)

    References
    ----------
    Maurer et al., A Linear Time Algorithm for Computing Exact Euclidean Distance Transforms of Binary Images in
    Arbitrary Dimensions, IEEE TPAMI 25(2), 2003.
    """
    truth = dense_truth(target, channels)
    edges = [float(one) / min(spacing) for one in spacing]
    maps = [[_distance(channel, edges) for channel in sample] for sample in truth.cpu().numpy()]
    return torch.from_numpy(np.stack([np.stack(sample) for sample in maps])).to(truth.device)


def _distance(inside: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    if not inside.any():
        return np.full(inside.shape, _NO_BOUNDARY, np.float32)
    if inside.all():
        return np.full(inside.shape, -_NO_BOUNDARY, np.float32)
    import SimpleITK as sitk  # ten times as fast as SciPy's transform

    image = sitk.GetImageFromArray(np.ascontiguousarray(inside, np.uint8))
    image.SetSpacing(list(reversed(spacing)))
    measure = sitk.SignedMaurerDistanceMapImageFilter()
    measure.SetSquaredDistance(False)
    measure.SetUseImageSpacing(True)
    measure.SetNumberOfWorkUnits(1)  # the loader's workers are threads already
    # From the centres of the border voxels to the boundary it is half an edge.
    return sitk.GetArrayFromImage(measure.Execute(image)).astype(np.float32) - np.float32(0.5)


MAPS: Mapping[str, Callable[[Target, Sequence[float], int], Tensor]] = {SIGNED_DISTANCE: signed_distance}
"""(target, spacing in mm, number of network channels) -> map of shape (b, m, \\*s)."""
