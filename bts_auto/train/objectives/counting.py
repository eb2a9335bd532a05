"""Counting voxels found, imagined and missed: for each output and, of a tumour's tissues, for WT, TC and ET."""

from __future__ import annotations

import torch
from torch import Tensor

from bts_auto.data.labels import Labels
from bts_auto.losses.maps import dense_truth
from bts_auto.losses.target import Target, over_space
from bts_auto.train.objectives.base import Confusion


class VoxelCounter:
    """Compares the network's decisions with the truth.

    Attributes
    ----------
    names : tuple of str
        What is counted: the labels or regions that are trained, then the regions that plain labels make.
    """

    def __init__(self, labels: Labels) -> None:
        regions = {} if labels.has_regions else labels.tumour_regions()
        channel_of = {values[0]: channel for channel, values in enumerate(labels.members())}
        first = 0 if labels.has_regions else 1  # the background is no output
        single = [(channel,) for channel in range(first, len(labels.outputs))]
        self._channels = [*single, *(tuple(channel_of[v] for v in members) for members in regions.values())]
        self.names = (*labels.foreground, *regions)

    def __call__(self, logits: Tensor, target: Target) -> Confusion:
        """Counts over a batch (b, k, \\*s); what is not valid, or not told by a sample's annotation, counts nowhere."""
        truth = dense_truth(target, logits.shape[1])
        if target.regions is not None:
            predicted = logits > 0
        else:
            predicted = dense_truth(Target(classes=logits.argmax(1)), logits.shape[1])
        known = self._known(target)
        counts = []
        for entry, channels in enumerate(self._channels):
            mine, theirs = (_any_of(mask, channels) for mask in (predicted, truth))
            if target.valid is not None:
                mine, theirs = mine & target.valid, theirs & target.valid
            if known is not None:
                told = over_space(known[:, entry : entry + 1], logits)
                mine, theirs = mine & told, theirs & told
            tp = (mine & theirs).sum()
            counts.append(torch.stack([tp, mine.sum() - tp, theirs.sum() - tp]))
        return Confusion(*torch.stack(counts, dim=1).cpu().numpy())

    def _known(self, target: Target) -> Tensor | None:
        """Which entries each sample's annotation tells, bool of shape (b, entries); None: all."""
        if target.counts_in is None:
            return None
        rows = [[_is_told(channels, sample) for channels in self._channels] for sample in target.counts_in]
        return torch.tensor(rows, device=target.device)


def _any_of(mask: Tensor, channels: tuple[int, ...]) -> Tensor:
    found = mask[:, channels[0] : channels[0] + 1]
    for channel in channels[1:]:
        found = found | mask[:, channel : channel + 1]
    return found


def _is_told(channels: tuple[int, ...], counts_in: tuple[int, ...]) -> bool:
    """Whether nothing outside of `channels` counts as one of them, or the other way round."""
    inside = {counts_in[channel] for channel in channels}
    others = {into for channel, into in enumerate(counts_in) if channel not in channels and into >= 0}
    return -1 not in inside and inside.isdisjoint(others)
