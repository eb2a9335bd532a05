"""A case's probabilities in its own grid, kept small on disk for combining members of any spacing or patch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bts_auto.combine.cache import write_cache
from bts_auto.data.crop import bounding_box
from bts_auto.data.labels import Labels
from bts_auto.plan.schema import Resampling
from bts_auto.predict.export import export_scores
from bts_auto.preprocess.spatial import SpatialSteps


def write_probabilities(
    path: Path,
    scores: np.ndarray,
    steps: SpatialSteps,
    labels: Labels,
    resampling: Resampling,
    *,
    logits: bool = False,
) -> None:
    """Bring scores to the scan's grid one channel at a time, and store them with 8 bits in the non-zero crop.

    Parameters
    ----------
    path : Path
        See :func:`bts_auto.combine.cache.write_cache`.
    scores, steps, labels, resampling, logits
        See :func:`bts_auto.predict.export.export_scores`.
    """
    crop = bounding_box(steps.undo(np.ones(steps.cropped_shape, bool)))
    channels = (full[crop] for _, full in export_scores(scores, steps, labels, resampling, logits=logits))
    write_cache(path, channels, outputs=labels.outputs, box=crop, shape=steps.geometry.size)
