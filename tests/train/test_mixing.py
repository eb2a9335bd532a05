"""Mixing samples of a batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bts_auto.errors import PlanError
from bts_auto.losses.maps import MAPS
from bts_auto.train.mixing import MixUp
from bts_auto.train.objectives.base import LABELLED, At
from bts_auto.train.objectives.segmentation import Segmentation
from bts_auto.train.options import MixUpOptions, SegmentationOptions
from tests.train.tiny import NAME, batch, tiny_plan

ALWAYS = MixUpOptions(alpha=1.0)


def test_images_are_blended_and_both_masks_are_kept() -> None:
    one = replace(batch(0), annotated=(None, ("edema",)), maps={name: torch.arange(2.0)[:, None] for name in MAPS})
    mixed, truths = MixUp(ALWAYS, seed=3)(one, step=7)
    (share, own), (rest, other) = truths
    assert share + rest == 1
    torch.testing.assert_close(mixed.image, share * one.image + rest * one.image.flip(0))
    assert own is one
    assert torch.equal(other.mask, one.mask.flip(0))
    assert other.annotated == (("edema",), None)
    assert other.cases == one.cases[::-1]
    assert all(made.flatten().tolist() == [1, 0] for made in other.maps.values())


def test_shares_are_beta_distributed_and_a_function_of_seed_and_step() -> None:
    shares = np.array([MixUp(MixUpOptions(alpha=2.0), 1).share(step) for step in range(2000)])
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    assert shares.var() == pytest.approx(1 / 20, abs=0.005)  # of Beta(2, 2)
    assert MixUp(MixUpOptions(alpha=2.0), 1).share(5) == shares[5]
    assert MixUp(MixUpOptions(alpha=2.0), 2).share(5) != shares[5]


def test_steps_that_are_not_mixed_are_left_alone() -> None:
    one = batch(0)
    mixed, truths = MixUp(MixUpOptions(probability=0.0), 0)(one, 0)
    assert mixed is one
    assert truths == [(1.0, one)]


def test_the_loss_is_that_of_the_blended_one_hot_masks() -> None:
    """For cross entropy; written out with torch's own on probabilities as targets."""
    plan = tiny_plan(loss=[{"name": "cross_entropy"}], mixing={"name": "mix_up", "options": {"alpha": 1.0}})
    objective = Segmentation(SegmentationOptions(), plan=plan, configuration_name=NAME, labels=plan.label_set())
    one = batch(0)
    (phase,) = objective.phases({LABELLED: one}, At(7, 0.0))
    mixed, ((share, own), (rest, other)) = MixUp(ALWAYS, seed=0)(one, 7)
    masks = [torch.nn.functional.one_hot(b.mask[:, 0].long(), 3).movedim(-1, 1) for b in (own, other)]
    with torch.no_grad():
        logits = objective.modules["network"](mixed.image)["logits"][0]
    expected = torch.nn.functional.cross_entropy(logits, share * masks[0] + rest * masks[1])
    assert phase.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert phase.terms["cross_entropy"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_batch_of_one_cannot_be_mixed() -> None:
    plan = tiny_plan(mixing={"name": "mix_up"})
    plan.configurations[NAME]["batch_size"] = 1
    with pytest.raises(PlanError, match="mixes the samples of a batch, and batch_size is 1"):
        plan.configuration(NAME)
