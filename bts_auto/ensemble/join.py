"""Combining the members of one case, whatever they come as."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bts_auto import registry
from bts_auto.combine.combiners import combine, combine_probabilities
from bts_auto.combine.saved import Source
from bts_auto.data.labels import BACKGROUND, Labels
from bts_auto.errors import DataError

# Voxels (outputs x volume) that are averaged at once.
_SLAB_VOXELS = 8_000_000


def uses_probabilities(combiner: str) -> bool:
    """Whether a registered combiner takes probabilities (else label maps)."""
    return registry.component("combiner", combiner).uses == "probabilities"


def combine_sources(
    combiner: str, sources: Sequence[Source], labels: Labels, options: dict[str, Any] | None = None
) -> np.ndarray:
    """Combine the probabilities of one case into a label map (z, y, x), a few slices at a time.

    Where no member has any foreground the answer is background.

    Raises
    ------
    DataError
        When the members lie on grids of different sizes.
    """
    out = np.zeros(_shape(sources), np.uint8 if max(labels.known_values) < 256 else np.uint16)
    for box in _slabs(sources, labels):
        out[box] = combine(combiner, [source.read(box) for source in sources], labels, options)
    return out


def join_sources(
    combiner: str, sources: Sequence[Source], labels: Labels, options: dict[str, Any] | None = None
) -> np.ndarray:
    """Combine the probabilities of one case into probabilities, float32 (k, z, y, x), for rules that need them.

    Raises
    ------
    DataError
        As :func:`combine_sources`.
    """
    out = np.zeros((len(labels.outputs), *_shape(sources)), np.float32)
    if not labels.has_regions:
        out[labels.outputs.index(BACKGROUND)] = 1
    for box in _slabs(sources, labels):
        members = [source.read(box) for source in sources]
        out[(slice(None), *box)] = combine_probabilities(combiner, members, labels, options)
    return out


def _shape(sources: Sequence[Source]) -> tuple[int, ...]:
    shapes = {source.shape for source in sources}
    if len(shapes) != 1:
        raise DataError(f"members of sizes {' and '.join(str(shape) for shape in sorted(shapes))}")
    return shapes.pop()


def _slabs(sources: Sequence[Source], labels: Labels) -> Iterator[tuple[slice, ...]]:
    """Boxes of a few slices each that together cover where some member has foreground."""
    active = tuple(
        slice(min(s.start for s in axis), max(s.stop for s in axis))
        for axis in zip(*(source.active for source in sources), strict=True)
    )
    z, *plane = active
    planes = max(1, _SLAB_VOXELS // max(1, len(labels.outputs) * math.prod(s.stop - s.start for s in plane)))
    for start in range(z.start, z.stop, planes):
        yield (slice(start, min(start + planes, z.stop)), *plane)
