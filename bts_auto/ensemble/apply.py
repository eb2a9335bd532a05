"""Obeying `best.json`: one case's members combined and corrected."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bts_auto.combine.combiners import combine
from bts_auto.combine.saved import Source
from bts_auto.data.labels import Labels
from bts_auto.ensemble.best import Best
from bts_auto.ensemble.join import combine_sources, uses_probabilities
from bts_auto.errors import DataError
from bts_auto.postprocess.context import Context, apply_rules


def combine_members(
    best: Best,
    labels: Labels,
    spacing: tuple[float, ...],
    *,
    masks: Sequence[np.ndarray] = (),
    sources: Sequence[Source] = (),
    brain: np.ndarray | None = None,
) -> np.ndarray:
    """Combine the members of one case in the order of ``best.members`` and apply the chosen post-processing.

    Parameters
    ----------
    masks : sequence of ndarray, shape (z, y, x)
        Label maps of the members: enough for a single member, or where they vote.
    sources : sequence of Source
        Their probabilities on the case's grid, for the other combiners.
    spacing : tuple of float
        Voxel distances (z, y, x) in mm.
    brain : ndarray of bool, optional
        Where the image is not zero.

    Raises
    ------
    DataError
        When the members are not as many as chosen, or their grids differ.
    """
    needs_sources = uses_probabilities(best.combiner.name) and len(best.members) > 1
    given: Sequence = sources if needs_sources else masks
    if len(given) != len(best.members):
        what = "probabilities" if needs_sources else "masks"
        raise DataError(f"{what} of {len(given)} members where {len(best.members)} were chosen")
    if needs_sources:
        mask = combine_sources(best.combiner.name, sources, labels, best.combiner_options())
    elif len(masks) == 1:
        mask = masks[0]
    else:
        mask = combine(best.combiner.name, masks, labels, best.combiner_options())
    return apply_rules(mask, best.postprocessing, Context(labels, spacing, brain=brain))
