"""Scores that count voxels. With P the prediction, R the reference, TP = |P and R|.

"Both empty" and "undefined" below are answered by the empty-case rule (:mod:`bts_auto.evaluate.empty`).

References
----------
All of them are defined in Taha and Hanbury, Metrics for evaluating 3D medical image segmentation: analysis, selection,
and tool, BMC Medical Imaging 15:29 (2015), or follow from a definition there. Older sources are named where a score has
one.
"""

from __future__ import annotations

from bts_auto.evaluate.empty import EmptyRule
from bts_auto.evaluate.metric import metric
from bts_auto.evaluate.pair import Pair

_MM3_PER_ML = 1000.0


def _share(part: int, whole: int, pair: Pair, empty: EmptyRule) -> float:
    return part / whole if whole else empty.overlap(both=pair.both_empty)


@metric()
def dice(pair: Pair, empty: EmptyRule) -> float:
    """2 TP / (|P| + |R|).

    One empty: 0. Both empty: the rule's value.

    References
    ----------
    Dice, Measures of the amount of ecologic association between species, Ecology 26 (1945) 297-302.
    """
    return _share(2 * pair.true_positives, pair.n_prediction + pair.n_reference, pair, empty)


@metric()
def iou(pair: Pair, empty: EmptyRule) -> float:
    """TP / |P or R| (Jaccard index).

    One empty: 0. Both empty: the rule's value.

    References
    ----------
    Jaccard, The distribution of the flora in the alpine zone, New Phytologist 11 (1912) 37-50.
    """
    return _share(pair.true_positives, pair.n_prediction + pair.n_reference - pair.true_positives, pair, empty)


@metric()
def precision(pair: Pair, empty: EmptyRule) -> float:
    """TP / |P| (positive predictive value).

    Empty reference: 0. Empty prediction: undefined, the rule's value. Both empty: the rule's value.

    References
    ----------
    Taha and Hanbury, BMC Medical Imaging 15:29 (2015).
    """
    return _share(pair.true_positives, pair.n_prediction, pair, empty)


@metric()
def recall(pair: Pair, empty: EmptyRule) -> float:
    """TP / |R| (sensitivity, true positive rate).

    Empty prediction: 0. Empty reference: undefined, the rule's value. Both empty: the rule's value.

    References
    ----------
    Taha and Hanbury, BMC Medical Imaging 15:29 (2015).
    """
    return _share(pair.true_positives, pair.n_reference, pair, empty)


@metric()
def specificity(pair: Pair, empty: EmptyRule) -> float:
    """True negatives / voxels outside R (true negative rate), over the whole image.

    Empty prediction: 1. Empty reference: the share of the image that is not predicted. A reference that fills the
    image: undefined, the rule's value.

    References
    ----------
    Taha and Hanbury, BMC Medical Imaging 15:29 (2015).
    """
    outside = pair.voxels - pair.n_reference
    return _share(outside - (pair.n_prediction - pair.true_positives), outside, pair, empty)


@metric(unit="ml", better="neither")
def volume_ml(pair: Pair, empty: EmptyRule) -> float:
    """Volume of P in ml.

    Empty: 0, whatever the rule.

    References
    ----------
    Voxels times the volume of a voxel; no source is needed.
    """
    return pair.n_prediction * pair.voxel_mm3 / _MM3_PER_ML


@metric(unit="ml", better="neither")
def reference_volume_ml(pair: Pair, empty: EmptyRule) -> float:
    """Volume of R in ml.

    Empty: 0, whatever the rule.

    References
    ----------
    Voxels times the volume of a voxel; no source is needed.
    """
    return pair.n_reference * pair.voxel_mm3 / _MM3_PER_ML


@metric(unit="ml", better="neither")
def volume_error_ml(pair: Pair, empty: EmptyRule) -> float:
    """Volume of P minus volume of R in ml; positive: too much was predicted.

    Defined for empty masks, whatever the rule.

    References
    ----------
    A difference of two volumes; no source is needed.
    """
    return (pair.n_prediction - pair.n_reference) * pair.voxel_mm3 / _MM3_PER_ML


@metric(better="neither")
def relative_volume_error(pair: Pair, empty: EmptyRule) -> float:
    """(|P| - |R|) / |R|.

    Empty prediction: -1. Empty reference: not a number (0 when both are empty and the rule says perfect).

    References
    ----------
    Heimann et al., IEEE Transactions on Medical Imaging 28 (2009) 1251-1265 ("relative volume difference", there in
    per cent).
    """
    if pair.n_reference:
        return (pair.n_prediction - pair.n_reference) / pair.n_reference
    return 0.0 if pair.both_empty and empty.both == "perfect" else float("nan")
