"""The default list of augmentations: nnU-Net v2's, with its order, probabilities and ranges."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bts_auto.plan.schema import Component

# nnU-Net v2's rules (nnUNetTrainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size).
_ANISOTROPIC = 3  # a 3D patch whose longest edge exceeds its first by more than this is transformed in plane only
_OBLONG = 1.5  # a 2D patch with a larger ratio of edges is rotated little
_ROTATION_3D = math.radians(30)
_ROTATION_OBLONG = math.radians(15)
_ROTATION_FREE = math.radians(180)


def default_augmentation(
    patch_size: Sequence[int],
    dims: int,
    mirror_axes: Sequence[int],
    *,
    mask_channels: Sequence[int] = (),
    previous_labels: Sequence[int] = (),
) -> tuple[Component, ...]:
    """The default list for a patch.

    Parameters
    ----------
    patch_size : sequence of int
        Spatial size, 2 or 3 axes.
    dims : int
        2 or 3.
    mirror_axes : sequence of int
        Spatial axes that may be mirrored.
    mask_channels : sequence of int
        Channels that were normalised inside the brain mask, to be set to 0 outside it.
    previous_labels : sequence of int
        Labels of a previous stage's mask, which is then augmented too.
    """
    in_plane = dims == 3 and max(patch_size) / patch_size[0] > _ANISOTROPIC
    if dims == 2:
        angle = _ROTATION_OBLONG if max(patch_size) / min(patch_size) > _OBLONG else _ROTATION_FREE
    else:
        angle = _ROTATION_FREE if in_plane else _ROTATION_3D
    components = [
        Component(name="spatial", options={"rotation": (-angle, angle), "in_plane": in_plane}),
        Component(name="gaussian_noise"),
        Component(name="gaussian_blur"),
        Component(name="brightness"),
        Component(name="contrast"),
        Component(name="low_resolution", options={"ignore_axes": (0,)} if in_plane else {}),
        Component(name="gamma", options={"probability": 0.1, "invert": True}),
        Component(name="gamma", options={"probability": 0.3}),
    ]
    if mirror_axes:
        components.append(Component(name="mirror", options={"axes": tuple(mirror_axes)}))
    if mask_channels:
        components.append(Component(name="mask_outside", options={"channels": tuple(mask_channels)}))
    if previous_labels:
        labels = {"labels": tuple(previous_labels)}
        components.append(Component(name="previous_morphology", options=labels))
        components.append(Component(name="previous_drop_component", options=labels))
    return tuple(components)
