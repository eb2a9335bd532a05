"""From masks of a dataset's integers to what losses compare with."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from bts_auto.data.labels import Labels
from bts_auto.data.partial import Annotated, counts_in
from bts_auto.losses.across import HERE, Across
from bts_auto.losses.target import Target


class TargetMaker:
    """Turns masks into :class:`Target` for one dataset's labels.

    Plain labels become the index of their network channel, regions one bool channel each. Negative values (voxels
    outside the scan's non-zero box) are background; the ignore label is background in a voxel that is not valid.
    Labels that a sample is not annotated for are one with the background (or with each other, where a region is
    annotated and not its parts), and regions that it is not annotated for do not count.
    """

    def __init__(self, labels: Labels, across: Across = HERE) -> None:
        self._labels, self._across = labels, across
        self._members = labels.members()
        self._consecutive = not labels.has_regions and self._members == tuple((i,) for i in range(len(self._members)))
        self._counts_in = functools.cache(functools.partial(counts_in, labels))

    def __call__(
        self, mask: Tensor, annotated: Sequence[Annotated] = (), maps: Mapping[str, Tensor] | None = None
    ) -> Target:
        """Convert integers of shape (b, 1, *s).

        Parameters
        ----------
        annotated : sequence of tuple of str
            The labels and regions that each sample is annotated for, None for all; empty: all samples in full.
        maps : mapping of str to Tensor, optional
            What losses have asked for.
        """
        channels = tuple(map(self._counts_in, annotated)) if any(annotated) else None
        valid = None if self._labels.ignore is None else mask != self._labels.ignore
        if valid is not None:
            mask = mask.masked_fill(~valid, 0)
        if self._labels.has_regions:
            regions = self._regions(mask)
            shares = self._shares(mask) if self._labels.shares else None
            return Target(
                regions=regions,
                valid=valid,
                maps=maps or {},
                counts_in=channels,
                shares=shares,
                across=self._across,
            )
        classes = self._classes(mask[:, 0])
        if channels is not None:
            classes = torch.stack(
                [torch.tensor(into, device=mask.device)[one] for into, one in zip(channels, classes, strict=True)]
            )
        return Target(classes=classes, valid=valid, maps=maps or {}, counts_in=channels, across=self._across)

    def _shares(self, mask: Tensor) -> Tensor:
        """How far each voxel belongs to each region, float of shape (b, r, *s)."""
        out = torch.zeros(mask.shape[0], len(self._members), *mask.shape[2:], device=mask.device)
        for channel, (name, members) in enumerate(zip(self._labels.outputs, self._members, strict=True)):
            for value, share in (dict.fromkeys(members, 1.0) | dict(self._labels.shares.get(name, {}))).items():
                out[:, channel][mask[:, 0] == value] = share
        return out

    def _classes(self, mask: Tensor) -> Tensor:
        if self._consecutive:
            return mask.long().clamp_(min=0)
        classes = torch.zeros(mask.shape, dtype=torch.long, device=mask.device)
        for index, (value,) in enumerate(self._members):
            if index:
                classes[mask == value] = index
        return classes

    def _regions(self, mask: Tensor) -> Tensor:
        one_hot = {value: mask == value for value in {v for region in self._members for v in region}}
        regions = []
        for region in self._members:
            inside = one_hot[region[0]]
            for value in region[1:]:
                inside = inside | one_hot[value]
            regions.append(inside)
        return torch.cat(regions, dim=1)
