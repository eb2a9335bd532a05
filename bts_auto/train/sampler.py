"""Which case and which position: a pure function of (seed, step, index).

The rules are nnU-Net v2's. Cases are drawn uniformly with replacement. The last samples of a batch are forced to hold
foreground: a class is drawn uniformly among those present in the case, then one of its stored voxels, and the patch is
centred there. All others lie anywhere in the case, or, where a dataset has an ignore label, around an annotated voxel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bts_auto.preprocess.foreground import ANNOTATED, Key

# Keeps these draws apart from those of the augmentation for the same (seed, step, index).
_STREAM = 0x5A3


@dataclass(frozen=True)
class CaseInfo:
    """What the sampler has to know of a case.

    Attributes
    ----------
    case : str
        Its name.
    shape : tuple of int
        Stored size along (z, y, x).
    foreground : mapping of int or str to ndarray, shape (n, 3)
        Stored voxels (z, y, x) of each label (int) and region (str); lists may be empty. Under `ANNOTATED`: voxels that
        do not carry the ignore label.
    """

    case: str
    shape: tuple[int, int, int]
    foreground: Mapping[Key, np.ndarray]


@dataclass(frozen=True)
class Position:
    """A patch of a case.

    Attributes
    ----------
    case : str
        Its name.
    lower : tuple of int
        Lower corner along (z, y, x); the patch may reach beyond the case.
    size : tuple of int
        Size along (z, y, x); 1 along z for 2D patches.
    forced_foreground : bool
        Whether the patch had to hold foreground.
    label : int or str or None
        The class around a voxel of which it is centred; None for a patch anywhere.
    """

    case: str
    lower: tuple[int, int, int]
    size: tuple[int, int, int]
    forced_foreground: bool
    label: Key | None

    @property
    def box(self) -> list[tuple[int, int]]:
        """(first, last + 1) along (z, y, x)."""
        return [(at, at + size) for at, size in zip(self.lower, self.size, strict=True)]


def is_forced(index: int, batch_size: int, oversample_foreground: float) -> bool:
    """Whether sample `index` of a batch has to hold foreground: the last ones have, of 2 at 0.33 the second."""
    return index >= round(batch_size * (1 - oversample_foreground))


def bounds(shape: int, size: int) -> tuple[int, int]:
    """Lowest and highest lower corner along an axis; a case shorter than the patch is centred in it."""
    missing = size - shape
    if missing <= 0:
        return 0, -missing
    return -((missing + 1) // 2), -(missing // 2)


def draw_sample(
    seed: int,
    step: int,
    index: int,
    cases: Sequence[CaseInfo],
    batch_size: int,
    oversample_foreground: float,
    patch_size: Sequence[int],
    *,
    has_ignore: bool = False,
    weights: Sequence[float] | None = None,
) -> Position:
    """Draw case and position of one sample.

    Parameters
    ----------
    seed, step, index : int
        Of the run, of the optimiser's step, of the sample in its batch; all not negative.
    cases : sequence of CaseInfo
        Only the drawn one is looked at, so that a sequence may open cases when asked for them.
    batch_size : int
        Samples in the whole batch.
    oversample_foreground : float
        Share of a batch that has to hold foreground.
    patch_size : sequence of int
        3 axes, or 2 for slices along the first axis of the case.
    has_ignore : bool
        Whether the dataset has an ignore label; patches anywhere are then drawn around annotated voxels.
    weights : sequence of float, optional
        How often each case is drawn, relative to the others; uniformly by default.
    """
    rng = np.random.default_rng([_STREAM, seed, step, index])
    chosen = int(rng.integers(len(cases))) if weights is None else _weighted(rng, weights)
    case = cases[chosen]
    size = (1, *patch_size) if len(patch_size) == 2 else tuple(patch_size)
    forced = is_forced(index, batch_size, oversample_foreground)
    label = _draw_label(rng, case.foreground, forced, has_ignore)
    limits = [bounds(n, patch) for n, patch in zip(case.shape, size, strict=True)]
    if label is None:
        lower = [int(rng.integers(low, high + 1)) for low, high in limits]
    else:
        voxels = case.foreground[label]
        voxel = voxels[int(rng.integers(len(voxels)))]
        # As in nnU-Net the patch stays centred near the upper border, where it then reaches into the padding.
        lower = [max(low, int(at) - patch // 2) for (low, _), at, patch in zip(limits, voxel, size, strict=True)]
    return Position(case.case, tuple(lower), size, forced, label)  # type: ignore[arg-type]


def _weighted(rng: np.random.Generator, weights: Sequence[float]) -> int:
    share = np.cumsum(np.asarray(weights, dtype=float))
    return int(np.searchsorted(share, rng.random() * share[-1], side="right"))


def _draw_label(
    rng: np.random.Generator, foreground: Mapping[Key, np.ndarray], forced: bool, has_ignore: bool
) -> Key | None:
    """The class to centre on; None for anywhere."""
    annotated = has_ignore and len(foreground.get(ANNOTATED, ())) > 0
    if not forced:
        return ANNOTATED if annotated else None
    present = [key for key, voxels in foreground.items() if key != ANNOTATED and len(voxels)]
    # Where regions are declared they are the classes; the labels that they are made of are listed beside them.
    present = [key for key in present if isinstance(key, str)] or present
    if present:
        return present[int(rng.integers(len(present)))]
    return ANNOTATED if annotated else None
