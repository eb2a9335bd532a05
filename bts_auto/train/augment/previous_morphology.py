"""Make the previous stage's mask wrong in the way of a segmentation: too large, too small, closed or opened."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from bts_auto.train.augment.base import draw_uniform, happens
from bts_auto.train.augment.options import PreviousMorphologyOptions


@dataclass(frozen=True)
class Operation:
    """One operation with a ball of `radius` voxels on one label."""

    label: int
    name: str
    radius: float


def _dilate(inside: np.ndarray, radius: float) -> np.ndarray:
    """Every voxel within `radius` of the set: a ball of any size costs one distance transform."""
    if not inside.any():
        return inside
    return ndimage.distance_transform_edt(~inside) <= radius


def _erode(inside: np.ndarray, radius: float) -> np.ndarray:
    """Every voxel further than `radius` from the set's outside; beyond the array counts as inside."""
    if inside.all():
        return inside
    return ndimage.distance_transform_edt(inside) > radius


def apply_operation(inside: np.ndarray, name: str, radius: float) -> np.ndarray:
    """Dilate, erode, open or close a set, (\\*s) bool."""
    if name == "dilate":
        return _dilate(inside, radius)
    if name == "erode":
        return _erode(inside, radius)
    if name == "close":
        return _erode(_dilate(inside, radius), radius)
    return _dilate(_erode(inside, radius), radius)


class PreviousMorphology:
    """Apply a random operation to labels of the previous mask, in random order; what a label gains others lose."""

    def __init__(self, options: PreviousMorphologyOptions) -> None:
        self.options = options

    def draw(self, rng: np.random.Generator, channels: int) -> tuple[Operation, ...] | None:
        """The operations."""
        options = self.options
        if not happens(rng, options.probability):
            return None
        order = [label for label in rng.permutation(options.labels) if happens(rng, options.probability_per_label)]
        names = [options.operations[rng.integers(len(options.operations))] for _ in order]
        pairs = zip(order, names, strict=True)
        return tuple(Operation(int(label), name, draw_uniform(rng, options.radius)) for label, name in pairs) or None

    def apply(
        self, image: torch.Tensor, mask: torch.Tensor, parameters: tuple[Operation, ...]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Change ``mask[1:]`` (on the CPU, wherever it lies)."""
        for previous in mask[1:]:
            labels = previous.cpu().numpy().copy()
            for operation in parameters:
                _change(labels, operation)
            previous.copy_(torch.from_numpy(labels))
        return image, mask


def _change(labels: np.ndarray, operation: Operation) -> None:
    inside = labels == operation.label
    if not inside.any():
        return
    # Nothing changes further than the radius from the label: work in its box, with a margin for the ball.
    margin = int(np.ceil(operation.radius)) + 1
    found = ndimage.find_objects(inside.astype(np.uint8))[0]
    box = tuple(
        slice(max(0, at.start - margin), min(size, at.stop + margin))
        for at, size in zip(found, labels.shape, strict=True)
    )
    before = inside[box]
    after = apply_operation(before, operation.name, operation.radius)
    labels[box][before & ~after] = 0
    labels[box][after & ~before] = operation.label
