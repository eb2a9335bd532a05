"""An augmentation: a list of transforms whose parameters are drawn before anything is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bts_auto import registry
from bts_auto.errors import PlanError
from bts_auto.plan.schema import Component
from bts_auto.train.augment.base import Surroundings, Transform
from bts_auto.train.augment.intensities import CaseIntensities
from bts_auto.train.augment.spatial import Spatial

# Keeps these draws apart from those of the sampler and of other users of the same (seed, step, index).
_STREAM = 0xA06
# Beyond the case a box holds padding. Two voxels of it make the outermost cells pure padding, so that a box may stop
# there and positions further out may be moved into these cells.
_MARGIN = 2

Box = list[tuple[int, int]]


@dataclass(frozen=True)
class Draw:
    """All that is decided about one sample.

    Attributes
    ----------
    steps : tuple of (transform, parameters)
        What will be applied, in order.
    reach : list of (int, int)
        What has to be read, relative to the patch's lower corner.
    """

    steps: tuple[tuple[Transform | Spatial, Any], ...]
    reach: tuple[tuple[int, int], ...]
    warped: bool

    def read_box(self, lower: Sequence[int], shape: Sequence[int]) -> Box:
        """The part of a case to read.

        Parameters
        ----------
        lower : sequence of int
            Lower corner of the patch in the case; may lie outside.
        shape : sequence of int
            Spatial shape of the case.

        Returns
        -------
        list of (int, int)
            (first, last + 1) for each axis. Without a spatial transform: the patch. With one: the bounding box of all
            positions, without what lies further outside the case than interpolation can see.
        """
        box = [(at + first, at + last) for at, (first, last) in zip(lower, self.reach, strict=True)]
        if not self.warped:
            return box
        clipped = []
        for (first, last), size in zip(box, shape, strict=True):
            first = min(max(first, -_MARGIN), size)
            clipped.append((first, max(min(last, size + _MARGIN), first + _MARGIN)))
        return clipped


class Augmentation:
    """A list of registered transforms for patches of one size.

    Parameters
    ----------
    components : sequence of Component
        Names and options, in the order of application. ``spatial`` can only be the first.
    patch_size : tuple of int
        Spatial size of the patches, 2 or 3 axes.
    channels : int
        Channels of the images.
    intensities : CaseIntensities, optional
        For transforms that take other cases as an example.

    Raises
    ------
    PlanError
        For unknown transforms or options, and for a spatial transform that is not the first.
    """

    def __init__(
        self,
        components: Sequence[Component],
        patch_size: Sequence[int],
        *,
        channels: int,
        intensities: CaseIntensities | None = None,
    ) -> None:
        self.patch_size = tuple(int(n) for n in patch_size)
        self._around = Surroundings(self.patch_size, intensities)
        self.channels = channels
        self.transforms = [self._build(component, position) for position, component in enumerate(components)]

    def _build(self, component: Component, position: int) -> Transform | Spatial:
        options = registry.options("augmentation", component.name, component.options)
        kind = registry.component("augmentation", component.name)
        if kind is Spatial and position:
            raise PlanError("spatial must be the first transform: it decides what is read", where="augmentation")
        return kind.build(options, self._around) if hasattr(kind, "build") else kind(options)

    def draw(self, seed: int, step: int, index: int, case: str = "") -> Draw:
        """Decide everything about sample `index` of step `step`, which is of `case`: the same for the same numbers."""
        steps = []
        for position, transform in enumerate(self.transforms):
            rng = np.random.default_rng([_STREAM, seed, step, index, position])
            apart = getattr(transform, "draw_for", None)
            parameters = transform.draw(rng, self.channels) if apart is None else apart(rng, case)
            if parameters is not None:
                steps.append((transform, parameters))
        warped = bool(steps) and isinstance(steps[0][0], Spatial)
        reach = steps[0][0].box(steps[0][1]) if warped else [(0, size) for size in self.patch_size]  # type: ignore[union-attr]
        return Draw(tuple(steps), tuple(reach), warped)

    def apply_batch(
        self,
        draws: Sequence[Draw],
        images: Sequence[torch.Tensor],
        masks: Sequence[torch.Tensor],
        offsets: Sequence[tuple[int, ...]],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Augment samples together, on the device where they lie; each as :meth:`apply` does.

        White noise comes from the device's own generator: on a GPU it has other values than on a CPU.

        Returns
        -------
        image, mask : Tensor, shapes (b, c, \\*patch_size) and (b, m, \\*patch_size)
        """
        ready = list(zip(images, masks, strict=True))
        warped = [number for number, draw in enumerate(draws) if draw.warped]
        if warped:
            spatial: Any = draws[warped[0]].steps[0][0]
            chosen = [(*ready[number], draws[number].steps[0][1], offsets[number]) for number in warped]
            made = spatial.apply_batch(*zip(*chosen, strict=True))
            for number, image, mask in zip(warped, *made, strict=True):
                ready[number] = image, mask
        image, mask = (torch.stack(parts) for parts in zip(*ready, strict=True))
        for transform in self.transforms:
            drawn = [
                (number, parameters)
                for number, draw in enumerate(draws)
                for one, parameters in draw.steps
                if one is transform and not isinstance(one, Spatial)
            ]
            if drawn:
                image, mask = _apply_to_all(transform, image, mask, drawn)
        return image, mask

    def apply(
        self, draw: Draw, image: torch.Tensor, mask: torch.Tensor, offset: Sequence[int] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Augment one sample, on the device where it lies.

        Parameters
        ----------
        draw : Draw
            What to do.
        image : Tensor of float32, shape (c, \\*box)
            What was read; may be overwritten.
        mask : Tensor of int16, shape (m, \\*box)
            The mask and, for later stages, the mask of the previous one; may be overwritten.
        offset : sequence of int, optional
            Lower corner of what was read relative to the patch's; by default that of an unclipped box.

        Returns
        -------
        image, mask : Tensor, shapes (c, \\*patch_size) and (m, \\*patch_size)
        """
        for transform, parameters in draw.steps:
            if isinstance(transform, Spatial):
                start = tuple(offset) if offset is not None else tuple(first for first, _ in draw.reach)
                image, mask = transform.apply(image, mask, parameters, start)
            else:
                image, mask = transform.apply(image, mask, parameters)
        return image, mask


def _apply_to_all(
    transform: Any, image: torch.Tensor, mask: torch.Tensor, drawn: Sequence[tuple[int, Any]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """A transform on those samples of a batch that it was drawn for."""
    if hasattr(transform, "apply_batch"):
        return transform.apply_batch(image, mask, drawn)
    for number, parameters in drawn:
        image[number], mask[number] = transform.apply(image[number], mask[number], parameters)
    return image, mask
