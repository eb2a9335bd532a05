"""What a chosen pipeline does to new cases beside their masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from bts_auto.combine.probabilities import geometric_mean
from bts_auto.combine.temperature import scale_exclusive
from bts_auto.ensemble.best import Best, Member
from bts_auto.ensemble.calibration import Calibrated, Calibration
from bts_auto.ensemble.predictor import JointPredictor
from bts_auto.plan.schema import Component
from bts_auto.predict.predictor import CasePredictor
from tests.predict.models import MemoryFold, make_configuration, make_plan, make_volume

CHANNELS = {"name": "region_channels", "options": {"members": {"edema": 1, "core": 0}}}
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


class _Darker(torch.nn.Module):
    """Answers otherwise than the network of the other member."""

    deep_supervision = False

    def forward(self, x: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        value = x[:, 1:]
        return {"logits": [torch.cat([0.5 + 0 * value, 3 * value, 2 - 5 * value], dim=1)]}


def _unlike(combiner: dict[str, Any], weights: tuple[float, ...] | None = None, **how: Any) -> JointPredictor:
    """Two members that contradict each other, combined in a certain way."""
    members = tuple(Member(recipe=f"r{n}", configuration="3d_fullres", folds=(0,)) for n in range(2))
    chosen = Component.model_validate(combiner)
    best = Best(dataset_name="Dataset001_Test", members=members, combiner=chosen, weights=weights)
    folds = (MemoryFold(PLAN), MemoryFold(PLAN, _Darker()))
    return JointPredictor(best, [CasePredictor([one], device="cpu", engine="torch", tta=False, **how) for one in folds])


@pytest.mark.parametrize(
    ("combiner", "weights", "expected"),
    [
        ({"name": "mean"}, None, lambda a, b: (a + b) / 2),
        ({"name": "weighted"}, (0.75, 0.25), lambda a, b: 0.75 * a + 0.25 * b),
        ({"name": "weighted", "options": {"weights": [1.0, 0.0]}}, None, lambda a, b: a),
        ({"name": "geometric_mean"}, None, lambda a, b: geometric_mean([a, b])),
        (CHANNELS, None, lambda a, b: np.stack([np.clip(1 - b[1] - a[2], 0, None), b[1], a[2]])),
        ({"name": "staple"}, None, lambda a, b: (a + b) / 2),
    ],
    ids=["mean", "weights of the choice", "weights of the recipe", "geometric mean", "channels", "STAPLE"],
)
def test_probabilities_are_what_the_combiner_makes_of_the_members(combiner, weights, expected) -> None:
    joint = _unlike(combiner, weights)
    made = joint.predict(make_volume(), keep_scores=True)
    own = [member.probabilities(one) for member, one in zip(joint.members, made.members, strict=True)]
    a, b = (np.stack([array for _, array in stream]) for stream in own)
    assert np.abs(a - b).max() > 0.5
    found = np.stack([array for _, array in joint.probabilities(made)])
    np.testing.assert_allclose(found, expected(a, b), atol=1e-5)


def test_a_mask_is_the_most_probable_label_of_what_is_written() -> None:
    joint = _unlike(CHANNELS)
    made = joint.predict(make_volume(), keep_scores=True)
    written = np.stack([array for _, array in joint.probabilities(made)])
    first, second = np.sort(written, axis=0)[-1:-3:-1]
    clear = first - second > 0.01  # members are combined in steps of 1/255
    np.testing.assert_array_equal(made.mask[clear], joint.labels.decode(written)[clear])


def test_what_the_combiner_does_not_take_still_counts_as_disagreement() -> None:
    joint = _unlike(CHANNELS, member_entropy=True, tile="whole")
    made = joint.predict(make_volume(), keep_scores=True)
    assert joint.mutual_information(made).max() > 0.1
