"""What a chosen pipeline does to new cases beside their masks."""

from __future__ import annotations

import numpy as np
import pytest

from bts_auto.combine.temperature import scale_exclusive
from bts_auto.ensemble.best import Best, Member
from bts_auto.ensemble.calibration import Calibrated, Calibration
from bts_auto.ensemble.predictor import JointPredictor
from bts_auto.predict.predictor import CasePredictor
from tests.predict.models import MemoryFold, make_configuration, make_plan, make_volume

PLAN = make_plan(make_configuration((8, 8, 8), postprocessing=()))


def _temperature(value: float) -> Calibrated:
    return Calibrated(
        temperature=value, fitted=value, apart=(value, value), likelihood_before=1.0, likelihood_after=0.5
    )


def _joint(calibration: Calibration | None, n_members: int = 2) -> JointPredictor:
    members = tuple(Member(recipe=f"r{n}", configuration="3d_fullres", folds=(0,)) for n in range(n_members))
    best = Best(dataset_name="Dataset001_Test", members=members, calibration=calibration)
    predictors = [CasePredictor([MemoryFold(PLAN)], device="cpu", engine="torch", tta=False) for _ in members]
    return JointPredictor(best, predictors)


@pytest.mark.parametrize("n_members", [1, 2])
def test_probabilities_are_calibrated_and_masks_are_not_touched(n_members: int) -> None:
    volume = make_volume()
    plain = _joint(None, n_members)
    warm = _joint(Calibration(regions={}, labels=_temperature(3.0)), n_members)
    before, after = (one.predict(volume, keep_scores=True) for one in (plain, warm))
    np.testing.assert_array_equal(before.mask, after.mask)
    unscaled = np.stack([array for _, array in plain.probabilities(before)])
    scaled = np.stack([array for _, array in warm.probabilities(after)])
    np.testing.assert_allclose(scaled, scale_exclusive(unscaled, 3.0), atol=1e-6)
    assert warm.uncertainty(after).mean() > plain.uncertainty(before).mean()


def test_what_is_remembered_about_masks_names_the_temperatures() -> None:
    described = _joint(Calibration(regions={"WT": _temperature(2.0)}, labels=_temperature(3.0))).describe()
    assert described["temperatures"] == {"WT": 2.0, "labels": 3.0}


def test_members_of_an_ensemble_disagree_where_their_answers_do() -> None:
    """Both members are the same, so that all mutual information is that of rounding."""
    members = tuple(Member(recipe=f"r{n}", configuration="3d_fullres", folds=(0,)) for n in range(2))
    how = {"device": "cpu", "engine": "torch", "tta": False, "member_entropy": True, "tile": "whole"}
    best = Best(dataset_name="Dataset001_Test", members=members)
    joint = JointPredictor(best, [CasePredictor([MemoryFold(PLAN)], **how) for _ in members])
    made = joint.predict(make_volume(), keep_scores=True)
    assert joint.mutual_information(made).max() < 1e-3
    assert joint.uncertainty(made).max() > 0.1
