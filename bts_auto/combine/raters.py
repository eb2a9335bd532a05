"""Reading several raters' masks of one case as one label map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bts_auto.combine import combiners
from bts_auto.data.labels import Labels
from bts_auto.errors import DataError


@dataclass(frozen=True)
class RaterFusion:
    """One way of reading raters as one.

    Attributes
    ----------
    fuse : callable
        ``(masks, labels, options) -> label map``, each of shape (z, y, x).
    keeps_labels : bool
        Whether the raters' masks hold the dataset's own labels, rather than just where the structure is.
    """

    fuse: Callable[[Sequence[np.ndarray], Labels, Any], np.ndarray]
    keeps_labels: bool = True


def agreement_classes(masks: Sequence[np.ndarray], labels: Labels, options: None = None) -> np.ndarray:
    """How many raters have marked a voxel (any integer above 0), 0 to N.

    Raises
    ------
    DataError
        When the dataset does not declare the classes 1 to N.

    References
    ----------
    Modeling multi-annotator uncertainty as multi-class segmentation problem, BrainLes 2021, LNCS 12962 (the QUBIQ
    challenge): N binary masks become N + 1 exclusive classes.
    """
    missing = set(range(1, len(masks) + 1)) - set(labels.known_values)
    if missing:
        raise DataError(
            f"{len(masks)} raters make the labels 1 to {len(masks)}, and dataset.json does not know {min(missing)}",
            mend="declare each number of raters as a label, or as regions such as 'at_least_2': [2, 3]",
        )
    return np.asarray(sum((mask != 0).astype(np.uint8) for mask in masks))


majority = RaterFusion(combiners.majority.combine)
staple = RaterFusion(combiners.staple.combine)
agreement = RaterFusion(agreement_classes, keeps_labels=False)
