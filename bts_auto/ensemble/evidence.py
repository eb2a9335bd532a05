"""What one cross-validated case tells about confidence: probabilities, counted where it matters, beside the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bts_auto.combine.temperature import label_likelihoods, region_likelihoods
from bts_auto.data.crop import bounding_box
from bts_auto.data.labels import Labels

# Voxels further than this from what is predicted and from what is true are certain background; however many a scan
# has of them, they say nothing about confidence and would hide all that does.
ZONE_MM = 5.0
# 16 levels for each step of an 8-bit probability: exact for one member and for the mean of 2, 4, 8 or 16.
LEVELS = np.arange(255 * 16 + 1) / (255 * 16)
# Voxels of a case from which the likelihood of its labels is worked out; regions count them all.
_MOST_VOXELS = 20_000


@dataclass(frozen=True)
class Evidence:
    """The voxels of a case that are near tumour, counted.

    Attributes
    ----------
    regions : dict of str to ndarray of uint32, shape (2, levels)
        For each region how many voxels of each of `LEVELS` lie outside and inside it.
    region_likelihoods : dict of str to ndarray
        See :func:`bts_auto.combine.temperature.region_likelihoods`.
    label_likelihoods : ndarray or None
        The same for labels that exclude one another.
    """

    regions: dict[str, np.ndarray]
    region_likelihoods: dict[str, np.ndarray]
    label_likelihoods: np.ndarray | None

    @classmethod
    def of(
        cls,
        probabilities: np.ndarray,
        reference: np.ndarray,
        labels: Labels,
        regions: Mapping[str, tuple[int, ...]],
        spacing: Sequence[float],
    ) -> Evidence | None:
        """Count the voxels of a case; None where nothing is predicted and nothing is there.

        Parameters
        ----------
        probabilities : ndarray, shape (k, z, y, x)
            In the order of ``labels.outputs``.
        reference : ndarray of int, shape (z, y, x)
            Voxels with the ignore label do not count.
        regions : mapping of str to tuple of int
            The integers of each region; those that the labels do not know are left out.
        spacing : sequence of float
            (z, y, x) in mm.
        """
        predicted = labels.decode(probabilities) != 0
        there = reference != 0
        zone = near(predicted | there, spacing)
        if labels.ignore is not None:
            zone &= reference != labels.ignore
        if not zone.any():
            return None
        inside, truth = probabilities[:, zone], reference[zone]
        counts = {}
        for name, values in regions.items():
            probability = region_probability(inside, labels, values)
            if probability is not None:
                counts[name] = count_levels(probability, np.isin(truth, values))
        likelihoods = {name: region_likelihoods(LEVELS, one[1], one[0]) for name, one in counts.items()}
        return cls(counts, likelihoods, None if labels.has_regions else _of_labels(inside, truth, labels))


def near(mask: np.ndarray, spacing: Sequence[float], distance: float = ZONE_MM) -> np.ndarray:
    """Voxels within `distance` mm of a mask (z, y, x), boolean."""
    out = np.zeros(mask.shape, bool)
    if not mask.any():
        return out
    from scipy import ndimage

    margin = [int(np.ceil(distance / step)) for step in spacing]
    box = tuple(
        slice(max(0, s.start - m), min(n, s.stop + m))
        for s, m, n in zip(bounding_box(mask), margin, mask.shape, strict=True)
    )
    out[box] = ndimage.distance_transform_edt(~mask[box], sampling=spacing) <= distance
    return out


def region_probability(probabilities: np.ndarray, labels: Labels, values: Sequence[int]) -> np.ndarray | None:
    """The probability of a region, of the integers `values`, from outputs (k, ...); None where they do not tell."""
    if labels.has_regions:
        found = [channel for channel, own in enumerate(labels.members()) if set(own) == set(values)]
        return probabilities[found[0]] if found else None
    channels = [channel for channel, own in enumerate(labels.members()) if own[0] in values]
    return probabilities[channels].sum(axis=0) if channels else None


def count_levels(probability: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """How many voxels of each of `LEVELS` are outside and inside, shape (2, levels)."""
    steps = np.rint(np.clip(probability, 0, 1) * (len(LEVELS) - 1)).astype(np.int64)
    counts = [np.bincount(steps[truth == side], minlength=len(LEVELS)) for side in (False, True)]
    return np.stack(counts).astype(np.uint32)


def _of_labels(probabilities: np.ndarray, truth: np.ndarray, labels: Labels) -> np.ndarray:
    every = -(-len(truth) // _MOST_VOXELS)
    channel = np.zeros(max(*labels.known_values, int(truth.max())) + 1, np.int64)
    for number, (value, *_) in enumerate(labels.members()):
        channel[value] = number
    return label_likelihoods(probabilities[:, ::every], channel[truth[::every]])
