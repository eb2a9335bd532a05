"""Scores that measure how far two surfaces lie apart, in mm.

With an empty prediction or an empty reference there is no distance: one empty or both, the empty-case rule's value.
"Border voxels" and "surface elements" are explained in :mod:`bts_auto.evaluate.surface`; the 95 % Hausdorff distance
has three meanings in the literature, which differ by several per cent on the same masks, and all three are here.
"""

from __future__ import annotations

import numpy as np

from bts_auto.evaluate.empty import EmptyRule
from bts_auto.evaluate.metric import metric
from bts_auto.evaluate.pair import Pair

_PERCENT = 95.0


@metric(unit="mm", better="lower")
def hd(pair: Pair, empty: EmptyRule) -> float:
    """Hausdorff distance: the largest distance from a border voxel of one mask to the other's border, both ways.

    An empty prediction, an empty reference or both: the rule's value.

    References
    ----------
    Huttenlocher, Klanderman and Rucklidge, Comparing images using the Hausdorff distance, IEEE TPAMI 15 (1993) 850-863.
    """
    if pair.any_empty:
        return empty.distance(both=pair.both_empty)
    return float(max(one.max() for one in pair.border_distances))


@metric(unit="mm", better="lower")
def hd95(pair: Pair, empty: EmptyRule) -> float:
    """HD95 as surface-distance and BraTS define it: area-weighted 95th percentile each way, the larger of the two.

    The distance at which 95 % of a surface's area is reached, over surface elements.

    An empty prediction, an empty reference or both: the rule's value.

    References
    ----------
    DeepMind, surface-distance (Python package): ``compute_robust_hausdorff``; Nikolov et al., Clinically applicable
    segmentation of head and neck anatomy, J Med Internet Res 23 (2021) e26151, for the surface elements.
    """
    if pair.any_empty:
        return empty.distance(both=pair.both_empty)
    return max(_weighted_percentile(*one) for one in pair.element_distances)


def _weighted_percentile(found: np.ndarray, areas: np.ndarray) -> float:
    reached = np.cumsum(areas) / np.sum(areas)
    return float(found[min(int(np.searchsorted(reached, _PERCENT / 100)), len(found) - 1)])


@metric(unit="mm", better="lower")
def hd95_directed(pair: Pair, empty: EmptyRule) -> float:
    """HD95 as MONAI defines it: 95th percentile over border voxels each way, the larger of the two.

    An empty prediction, an empty reference or both: the rule's value.

    References
    ----------
    MONAI, ``monai.metrics.compute_hausdorff_distance`` with ``percentile=95``.
    """
    if pair.any_empty:
        return empty.distance(both=pair.both_empty)
    return float(max(np.percentile(one, _PERCENT) for one in pair.border_distances))


@metric(unit="mm", better="lower")
def hd95_pooled(pair: Pair, empty: EmptyRule) -> float:
    """HD95 as medpy defines it: 95th percentile of the distances of both ways thrown together, over border voxels.

    An empty prediction, an empty reference or both: the rule's value.

    References
    ----------
    medpy, ``medpy.metric.binary.hd95``.
    """
    if pair.any_empty:
        return empty.distance(both=pair.both_empty)
    return float(np.percentile(np.concatenate(pair.border_distances), _PERCENT))


@metric(unit="mm", better="lower")
def assd(pair: Pair, empty: EmptyRule) -> float:
    """Average symmetric surface distance: mean of the distances of both ways thrown together, over border voxels.

    An empty prediction, an empty reference or both: the rule's value.

    References
    ----------
    Heimann et al., Comparison and evaluation of methods for liver segmentation from CT datasets, IEEE TMI 28 (2009)
    1251-1265.
    """
    if pair.any_empty:
        return empty.distance(both=pair.both_empty)
    return float(np.mean(np.concatenate(pair.border_distances)))


@metric(parameter=1.0)
def nsd(pair: Pair, empty: EmptyRule, tolerance_mm: float) -> float:
    """Normalised surface Dice: the share of both surfaces' area within a tolerance (mm, default 1) of the other.

    One empty: 0. Both empty: the rule's value.

    References
    ----------
    Nikolov et al., Clinically applicable segmentation of head and neck anatomy, J Med Internet Res 23 (2021)
    e26151.
    """
    if pair.both_empty:
        return empty.overlap(both=True)
    if pair.any_empty:
        return 0.0
    near = sum(areas[found <= tolerance_mm].sum() for found, areas in pair.element_distances)
    return float(near / sum(areas.sum() for _, areas in pair.element_distances))
