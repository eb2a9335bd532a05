"""Voxel-counting scores against scikit-learn and SimpleITK, and their empty cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
from sklearn import metrics as sk

from bts_auto.evaluate import overlap
from bts_auto.evaluate.empty import EMPTY_RULES, EmptyRule
from bts_auto.evaluate.pair import Pair
from tests.evaluate.pairs import all_pairs

NAN = EMPTY_RULES["nan"]
BRATS = EMPTY_RULES["brats"]


@pytest.mark.parametrize(
    ("metric", "oracle"),
    [
        (overlap.dice, sk.f1_score),
        (overlap.iou, sk.jaccard_score),
        (overlap.precision, sk.precision_score),
        (overlap.recall, sk.recall_score),
    ],
)
def test_equals_scikit_learn(metric, oracle) -> None:
    for one in all_pairs()[::3]:
        expected = oracle(one.reference.ravel(), one.prediction.ravel())
        assert metric.compute(Pair(one.prediction, one.reference, one.spacing), NAN) == pytest.approx(expected), (
            one.name
        )


def test_dice_iou_and_volumes_equal_simpleitk_on_all_pairs() -> None:
    measures = sitk.LabelOverlapMeasuresImageFilter()
    for one in all_pairs():
        images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (one.reference, one.prediction)]
        measures.Execute(*images)
        pair = Pair(one.prediction, one.reference, one.spacing)
        assert overlap.dice.compute(pair, NAN) == pytest.approx(measures.GetDiceCoefficient(), abs=1e-9), one.name
        assert overlap.iou.compute(pair, NAN) == pytest.approx(measures.GetJaccardCoefficient(), abs=1e-9), one.name


def test_specificity_counts_the_whole_image() -> None:
    for one in all_pairs()[::7]:
        if one.reference.all():
            continue
        expected = sk.recall_score(~one.reference.ravel(), ~one.prediction.ravel())
        pair = Pair(one.prediction, one.reference, one.spacing)
        assert overlap.specificity.compute(pair, NAN) == pytest.approx(expected), one.name


def test_volumes_are_in_ml_of_the_spacing() -> None:
    prediction, reference = np.zeros((4, 5, 6), bool), np.zeros((4, 5, 6), bool)
    prediction[:2, :2, :2] = True
    reference[:1, :2, :2] = True
    pair = Pair(prediction, reference, (5.0, 2.0, 1.0))
    assert overlap.volume_ml.compute(pair, NAN) == pytest.approx(0.080)
    assert overlap.reference_volume_ml.compute(pair, NAN) == pytest.approx(0.040)
    assert overlap.volume_error_ml.compute(pair, NAN) == pytest.approx(0.040)
    assert overlap.relative_volume_error.compute(pair, NAN) == pytest.approx(1.0)


def _pair(prediction: bool, reference: bool) -> Pair:
    masks = []
    for filled in (prediction, reference):
        mask = np.zeros((3, 3, 3), bool)
        mask[1, 1, 1] = filled
        masks.append(mask)
    return Pair(*masks, (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("metric", "rule", "both", "no_prediction", "no_reference"),
    [
        (overlap.dice, NAN, math.nan, 0.0, 0.0),
        (overlap.dice, BRATS, 1.0, 0.0, 0.0),
        (overlap.iou, NAN, math.nan, 0.0, 0.0),
        (overlap.iou, BRATS, 1.0, 0.0, 0.0),
        (overlap.precision, NAN, math.nan, math.nan, 0.0),
        (overlap.precision, BRATS, 1.0, 0.0, 0.0),
        (overlap.recall, NAN, math.nan, 0.0, math.nan),
        (overlap.recall, BRATS, 1.0, 0.0, 0.0),
        (overlap.specificity, NAN, 1.0, 1.0, 26 / 27),
        (overlap.relative_volume_error, NAN, math.nan, -1.0, math.nan),
        (overlap.relative_volume_error, BRATS, 0.0, -1.0, math.nan),
        (overlap.volume_error_ml, NAN, 0.0, -0.001, 0.001),
    ],
)
def test_empty_cases(metric, rule: EmptyRule, both: float, no_prediction: float, no_reference: float) -> None:
    assert metric.compute(_pair(False, False), rule) == pytest.approx(both, nan_ok=True)
    assert metric.compute(_pair(False, True), rule) == pytest.approx(no_prediction, nan_ok=True)
    assert metric.compute(_pair(True, False), rule) == pytest.approx(no_reference, nan_ok=True)
