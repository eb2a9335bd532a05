"""Giving voxels that a rule takes from a region another label."""

from __future__ import annotations

import numpy as np

from bts_auto.errors import PlanError
from bts_auto.postprocess.context import Context
from bts_auto.postprocess.options import NEXT


def relabel(
    mask: np.ndarray, where: np.ndarray, context: Context, becomes: str, region: str | None = None
) -> np.ndarray:
    """A copy of `mask` in which the voxels `where` have the label `becomes`.

    ``"next"`` is the most probable label or region outside `region`; it needs the probabilities.

    Raises
    ------
    PlanError
        For an unknown label, or ``"next"`` without probabilities.
    """
    out = mask.copy()
    if not where.any():
        return out
    out[where] = _next_likely(where, context, region) if becomes == NEXT else context.painted(becomes)
    return out


def _next_likely(where: np.ndarray, context: Context, region: str | None) -> np.ndarray:
    if context.probabilities is None:
        raise PlanError("'next' needs the probabilities of the case", mend="name a label, or save probabilities")
    labels = context.labels
    excluded = set(context.members(region)) if region is not None else set(labels.known_values) - {0}
    scores = context.probabilities[:, where].copy()
    for channel, members in enumerate(labels.members()):
        if set(members) <= excluded:
            scores[channel] = 0
    return labels.decode(scores)


def around(context: Context, region: str) -> str:
    """The label painted directly around `region`: the smallest declared region that contains it, or necrosis for ET.

    Raises
    ------
    PlanError
        When the dataset has no such label.
    """
    labels, inner = context.labels, set(context.members(region))
    outer = [name for name in labels.foreground if inner < set(labels.values[name])]
    if outer:
        return min(outer, key=lambda name: len(labels.values[name]))
    core = context.labels.tumour_regions().get("TC", ())
    rest = [name for name in labels.foreground if set(labels.values[name]) <= set(core) - inner]
    if not rest:
        raise PlanError(f"no label lies around '{region}'", mend="say what it becomes")
    return min(rest, key=lambda name: labels.values[name])
