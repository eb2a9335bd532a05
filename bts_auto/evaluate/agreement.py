"""Scores of maps of agreement among raters."""

from __future__ import annotations

import numpy as np

from bts_auto.evaluate.empty import EmptyRule
from bts_auto.evaluate.metric import metric
from bts_auto.evaluate.pair import Pair

_THRESHOLDS = 10


@metric(parameter=0.0)
def qubiq(pair: Pair, empty: EmptyRule, first: float) -> float:
    """QUBIQ score: mean Dice of both maps cut at the shares of raters 0, 0.1, ... 0.9 (``@1``: from 0.1 on).

    The region's integers in ascending order are 1 to N raters that agree, so that a map is a share of raters. At the
    threshold 0 everything is inside both maps, which gives a tenth for nothing; ``qubiq@1`` leaves that one out. At a
    threshold that neither map reaches the Dice is 1.

    One empty: only the thresholds that count nothing, 0.1 (0 from the second on). Both empty: the rule's value.

    References
    ----------
    Quantification of Uncertainties in Biomedical Image Quantification (QUBIQ) challenge 2020 and 2021, as described in
    Modeling multi-annotator uncertainty as multi-class segmentation problem, BrainLes 2021, LNCS 12962.
    """
    if pair.both_empty:
        return empty.overlap(both=True)
    mine, theirs, raters = pair.levels
    used = range(min(int(first), _THRESHOLDS - 1), _THRESHOLDS)
    return float(np.mean([_dice(mine, theirs, -(-threshold * raters // _THRESHOLDS)) for threshold in used]))


def _dice(mine: np.ndarray, theirs: np.ndarray, least: int) -> float:
    """Dice of the voxels that at least so many raters mark."""
    if least == 0:
        return 1.0
    own, other = mine >= least, theirs >= least
    size = np.count_nonzero(own) + np.count_nonzero(other)
    return 2 * np.count_nonzero(own & other) / size if size else 1.0
