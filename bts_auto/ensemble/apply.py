"""Obeying `best.json`: one case's members combined and corrected."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bts_auto.combine.combiners import combine
from bts_auto.combine.saved import Source
from bts_auto.data.labels import Labels
from bts_auto.ensemble.best import Best
from bts_auto.ensemble.join import combine_sources, join_sources, uses_probabilities
from bts_auto.errors import DataError
from bts_auto.postprocess.context import Context, apply_rules, need_probabilities


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
        Label maps of the members: enough for a single member, or where label maps are combined.
    sources : sequence of Source
        Their probabilities on the case's grid, for the other combiners and for rules that need them.
    spacing : tuple of float
        Voxel distances (z, y, x) in mm.
    brain : ndarray of bool, optional
        Where the image is not zero.

    Raises
    ------
    DataError
        When the members are not as many as chosen, or their grids differ.
    """
    n_members = len(best.members)
    pooled = uses_probabilities(best.combiner.name) and n_members > 1
    asked = need_probabilities(best.postprocessing)
    for given, wanted, what in ((sources, pooled or asked, "probabilities"), (masks, not pooled, "masks")):
        if wanted and len(given) != n_members:
            raise DataError(f"{what} of {len(given)} members where {n_members} were chosen")
    options = best.combiner_options()
    if pooled:
        mask = combine_sources(best.combiner.name, sources, labels, options)
    elif n_members == 1:
        mask = masks[0]
    else:
        mask = combine(best.combiner.name, masks, labels, options)
    if not best.postprocessing:
        return mask
    probabilities = None
    if asked:
        joined = best.combiner.name if n_members > 1 else "mean"
        probabilities = join_sources(joined, sources, labels, options if n_members > 1 else None)
    return apply_rules(mask, best.postprocessing, Context(labels, spacing, probabilities=probabilities, brain=brain))
