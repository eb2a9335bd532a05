"""Whether a scan looks like those that a network was trained on: voxels, size of the head, intensities, channels.

Intensities of MRI have no scale. Each channel is therefore seen from its median, in units of its interquartile range,
over the voxels where any channel is not zero. Two channels are unlike when their joint histogram is clearly further
from the training cases' mean than any of these, in any two channels, is from the mean of the others. They look
exchanged when it is nearer to that mean with its axes swapped than as it is: a comparison within one case, which needs
no idea of how much cases differ.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bts_auto.data.crop import bounding_box
from bts_auto.data.orientation import Reorientation
from bts_auto.data.volume import Volume
from bts_auto.documents import Document

# A voxel or a head that is so many times larger or smaller than any of training.
FAR_SPACING, FAR_SIZE = 1.5, 1.25
# Where only the median voxel of training is known, one so many times as long or as short is worth a word.
_FAR_FROM_MEDIAN = 3.0
# A joint histogram is unlike when it is so many times as far as the furthest of training, and at least so far.
FAR_HISTOGRAM, LEAST_DISTANCE = 1.35, 0.02
# Channels look exchanged when the given order is so many times as far as the other.
EXCHANGED = 1.25
# Histograms go from -4 to 4 interquartile ranges of a normal distribution (1.35 standard deviations each).
_BINS, _REACH, _UNIT = 24, 4.0, 1.35
# Bins over which a histogram is smoothed; and voxels of a case that are looked at.
_SMOOTH, _VOXELS = 1.0, 400_000
# Numbers of a histogram as they are kept.
_DIGITS = 6
_AXES = ("from foot to head", "from front to back", "from side to side")


@dataclass(frozen=True)
class CaseLook:
    """One case: `spacing` and `size` of the non-zero box in mm (z, y, x) in LPS, joint histograms of two channels each.

    The histogram of channels i < j has shape (bins, bins); of a single channel, with itself, it is the only one.
    """

    spacing: tuple[float, ...]
    size: tuple[float, ...]
    joint: dict[tuple[int, int], np.ndarray]

    @classmethod
    def of(cls, volume: Volume) -> CaseLook:
        """Look at a scan as it was read."""
        head = (volume.array != 0).any(axis=0)
        turn = Reorientation.between(volume.geometry.direction)
        turned = turn.geometry(volume.geometry)
        box = bounding_box(turn.apply(head))
        size = tuple((part.stop - part.start) * step for part, step in zip(box, turned.spacing, strict=True))
        every = max(1, int(np.count_nonzero(head)) // _VOXELS)
        places = [_bins(channel[head][::every]) for channel in volume.array]
        pairs = itertools.combinations(range(len(places)), 2) if len(places) > 1 else [(0, 0)]
        return cls(turned.spacing, size, {pair: _joint(places[pair[0]], places[pair[1]]) for pair in pairs})


def _bins(values: np.ndarray) -> np.ndarray:
    low, middle, high = np.percentile(values, (25, 50, 75)) if values.size else (0.0, 0.0, 0.0)
    scaled = (values - middle) / max(float(high - low), 1e-6) * _UNIT
    return np.clip((scaled + _REACH) / (2 * _REACH) * _BINS, 0, _BINS - 1).astype(np.int64)


def _joint(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    counts = np.bincount(first * _BINS + second, minlength=_BINS**2).reshape(_BINS, _BINS).astype(np.float64)
    smooth = gaussian_filter(counts, _SMOOTH, mode="constant") + 1e-12
    return smooth / smooth.sum()


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon divergence of two histograms in bits, 0 (the same) to 1 (nothing in common).

    References
    ----------
    J. Lin, Divergence measures based on the Shannon entropy, IEEE Transactions on Information Theory 37 (1991).
    """
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    parts = (np.sum(one[one > 0] * np.log2(one[one > 0] / middle[one > 0])) for one in (p, q))
    return float(sum(parts) / 2)


class TrainingLook(Document):
    """What the training cases look like.

    Attributes
    ----------
    cases : int
        How many were looked at.
    channels : tuple of str
    spacing, size : tuple of (float, float)
        The smallest and the largest along each axis (z, y, x), mm.
    joint : dict of str to tuple of tuple of float
        For channels i < j ("i,j") the mean joint histogram.
    furthest : dict of str to float
        For the same the largest divergence of a case's histogram from the mean of the others'.
    """

    cases: int
    channels: tuple[str, ...]
    spacing: tuple[tuple[float, float], ...]
    size: tuple[tuple[float, float], ...]
    joint: dict[str, tuple[tuple[float, ...], ...]]
    furthest: dict[str, float]

    @classmethod
    def of(cls, looks: Iterable[CaseLook], channels: Sequence[str]) -> TrainingLook | None:
        """Sum up training cases; None with fewer than two, which cannot be compared."""
        found = list(looks)
        if len(found) < 2:
            return None
        joint = {pair: np.mean([one.joint[pair] for one in found], axis=0) for pair in found[0].joint}
        return cls(
            cases=len(found),
            channels=tuple(channels),
            spacing=_ranges([one.spacing for one in found]),
            size=_ranges([one.size for one in found]),
            joint={f"{i},{j}": _plain(mean) for (i, j), mean in joint.items()},
            furthest={f"{i},{j}": _furthest([one.joint[i, j] for one in found]) for i, j in joint},
        )

    def remarks(self, look: CaseLook) -> list[str]:
        """In what a case is unlike the training cases, a line each; none where it is like them."""
        return [*self._voxels(look), *self._intensities(look)]

    def _voxels(self, look: CaseLook) -> list[str]:
        out = []
        for what, own, known, factor in (
            ("voxels", look.spacing, self.spacing, FAR_SPACING),
            ("the head measures", look.size, self.size, FAR_SIZE),
        ):
            for axis, mm, (low, high) in zip(_AXES, own, known, strict=True):
                if not low / factor <= mm <= high * factor:
                    among = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
                    out.append(f"{what} {mm:.3g} mm {axis}, in training {among} mm")
        return out

    def _intensities(self, look: CaseLook) -> list[str]:
        exchanged, unlike = [], []
        furthest = max(self.furthest.values())
        limit = max(FAR_HISTOGRAM * furthest, LEAST_DISTANCE)
        for key, mean in self.joint.items():
            i, j = (int(channel) for channel in key.split(","))
            names = self.channels[i] if i == j else f"{self.channels[i]} and {self.channels[j]}"
            own, known = look.joint[i, j], np.array(mean)
            distance = divergence(own, known)
            if i != j and distance > EXCHANGED * divergence(own.T, known):
                exchanged.append(f"{names} look exchanged")
            elif distance > limit:
                words = f"divergence {distance:.2f}, there at most {furthest:.2f}"
                unlike.append((distance, f"intensities of {names} are unlike training's ({words})"))
        # One wrong channel shows in every pair: the clearest is named.
        return exchanged or [line for _, line in sorted(unlike)[-1:]]


def _ranges(values: Sequence[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    return tuple((float(min(axis)), float(max(axis))) for axis in zip(*values, strict=True))


def _plain(histogram: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(round(float(v), _DIGITS) for v in row) for row in histogram)


def _furthest(histograms: list[np.ndarray]) -> float:
    total, n = np.sum(histograms, axis=0), len(histograms)
    return round(max(divergence(one, (total - one) / (n - 1)) for one in histograms), _DIGITS)


def spacing_remarks(spacing: Sequence[float], usual: Sequence[float]) -> tuple[str, ...]:
    """A remark where the voxels of a scan (mm, any order of axes) are far from the training data's median."""
    own, median = sorted(spacing), sorted(usual)
    if all(1 / _FAR_FROM_MEDIAN <= mm / theirs <= _FAR_FROM_MEDIAN for mm, theirs in zip(own, median, strict=True)):
        return ()
    words = [" x ".join(f"{mm:.3g}" for mm in spacing) for spacing in (own, median)]
    return (f"voxels of {words[0]} mm, the training data had {words[1]} mm",)
