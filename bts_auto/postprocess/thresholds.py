"""A threshold of its own for each region."""

from __future__ import annotations

import numpy as np

from bts_auto.errors import PlanError
from bts_auto.postprocess.context import Context
from bts_auto.postprocess.options import ThresholdsOptions

_DEFAULT = 0.5


def thresholds(mask: np.ndarray, context: Context, options: ThresholdsOptions) -> np.ndarray:
    """Paint regions in order where their probability exceeds their threshold (0.5 where none is given).

    The label map is made anew from the probabilities. Plain labels: each label's probability is divided by its
    threshold before the most probable one is taken, background keeping 0.5.

    References
    ----------
    Jabareen and Lukassen, segmenting brain tumors in multi-modal MRI scans using a 3D SegNet architecture, BrainLes
    2021.

    Raises
    ------
    PlanError
        Without probabilities, for an unknown name, or a threshold that is not between 0 and 1.
    """
    if context.probabilities is None:
        raise PlanError("rule 'thresholds' needs the probabilities of the case")
    labels = context.labels
    values = {labels.declared(name) or name: value for name, value in options.values.items()}
    for name, value in values.items():
        if name not in labels.foreground or not 0 < value < 1:
            raise PlanError(f"no threshold {value} for '{name}'", mend=f"name one of {', '.join(labels.foreground)}")
    limits = [values.get(name, _DEFAULT) for name in labels.foreground]
    return labels.decode(context.probabilities, limits).astype(mask.dtype)
