"""The objective of supervised segmentation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bts_auto.errors import PlanError
from bts_auto.train.objectives.base import LABELLED, At
from bts_auto.train.objectives.segmentation import Segmentation
from bts_auto.train.options import SegmentationOptions
from bts_auto.train.pseudo_dice import PseudoDice, running_mean
from tests.train.tiny import NAME, batch, tiny_plan

REGIONS = {"background": 0, "whole": (1, 2), "core": 2}


def make(plan) -> Segmentation:
    return Segmentation(SegmentationOptions(), plan=plan, configuration_name=NAME, labels=plan.label_set())


def region_plan(**training):
    return tiny_plan(REGIONS, **training).model_copy(update={"regions_class_order": (1, 2)})


@pytest.mark.parametrize("plan", [tiny_plan(), region_plan()])
def test_a_step_has_one_phase_whose_terms_sum_to_its_loss(plan) -> None:
    (phase,) = make(plan).phases({LABELLED: batch(0)}, At(0, 0.0))
    assert set(phase.terms) == {"dice", "cross_entropy"}
    assert sum(phase.terms.values()) == pytest.approx(phase.loss.item())
    assert not any(term.requires_grad for term in phase.terms.values())


def test_two_terms_of_one_name_are_told_apart() -> None:
    plan = tiny_plan(loss=[{"name": "dice"}, {"name": "dice", "weight": 0.5}])
    (phase,) = make(plan).phases({LABELLED: batch(0)}, At(0, 0.0))
    assert set(phase.terms) == {"dice", "dice_2"}


def test_ignored_voxels_earn_no_loss() -> None:
    plan = tiny_plan({"background": 0, "a": 1, "b": 2, "ignore": 3})
    objective, one = make(plan), batch(0)
    hidden = one.mask.clone()
    hidden[..., :4] = 3
    other = hidden.clone()
    losses = []
    for mask in (hidden, other):
        (phase,) = objective.phases({LABELLED: replace(one, mask=mask)}, At(0, 0.0))
        losses.append(phase.loss.item())
    (whole,) = objective.phases({LABELLED: one}, At(0, 0.0))
    assert losses[0] == losses[1] != whole.loss.item()


@pytest.mark.parametrize("plan", [tiny_plan(), region_plan()])
def test_counts_are_those_of_the_decoded_masks(plan) -> None:
    objective, one, labels = make(plan), batch(0), plan.label_set()
    with torch.no_grad():
        _, confusion = objective.measure({LABELLED: one})
        scores = objective.modules["network"](one.image)["logits"][0]
        scores = scores.sigmoid() if labels.has_regions else scores.softmax(1)
    truth = one.mask[:, 0].numpy()
    for index, name in enumerate(objective.measured):
        reference = np.isin(truth, labels.values[name])
        if labels.has_regions:
            predicted = scores[:, index].numpy() > 0.5
        else:
            predicted = scores.argmax(1).numpy() == labels.outputs.index(name)
        assert confusion.tp[index] == (predicted & reference).sum()
        assert confusion.fp[index] == (predicted & ~reference).sum()
        assert confusion.fn[index] == (~predicted & reference).sum()


def test_regions_of_a_tumour_are_counted_beside_its_labels() -> None:
    """They do not decide which weights are the best: they say the same twice."""
    plan = tiny_plan({"background": 0, "edema": 1, "enhancing": 2})
    objective, one = make(plan), batch(0)
    assert objective.measured == ("edema", "enhancing", "WT", "TC", "ET")
    assert objective.decisive == ("edema", "enhancing")
    with torch.no_grad():
        _, confusion = objective.measure({LABELLED: one})
        predicted = objective.modules["network"](one.image)["logits"][0].argmax(1)
    assert confusion.tp[2] == ((predicted > 0) & (one.mask[:, 0] > 0)).sum()
    assert confusion.fp[2] == ((predicted > 0) & (one.mask[:, 0] == 0)).sum()
    assert (confusion.tp[3], confusion.fn[3]) == (confusion.tp[1], confusion.fn[1])


def test_only_the_whole_tumour_is_counted_where_only_it_is_annotated() -> None:
    plan = tiny_plan({"background": 0, "edema": 1, "enhancing": 2})
    with torch.no_grad():
        _, confusion = make(plan).measure({LABELLED: replace(batch(0), annotated=(("WT",),) * 2)})
    told = (confusion.tp + confusion.fp + confusion.fn) > 0
    assert told.tolist() == [False, False, True, False, False]


def test_without_deep_supervision_one_resolution_is_computed() -> None:
    network = make(tiny_plan(deep_supervision=False)).modules["network"]
    assert len(network(batch(0).image)["logits"]) == 1


def test_pseudo_dice_pools_voxels_over_batches() -> None:
    objective, dice = make(tiny_plan()), PseudoDice(("edema", "core"))
    total = np.zeros((3, 2))
    for index in range(3):
        with torch.no_grad():
            _, confusion = objective.measure({LABELLED: batch(index)})
        dice.add(confusion)
        total += (confusion.tp, confusion.fp, confusion.fn)
    tp, fp, fn = total
    assert list(dice.result().values()) == pytest.approx(list(2 * tp / (2 * tp + fp + fn)))


def test_what_is_nowhere_counts_for_nothing() -> None:
    assert np.isnan(PseudoDice(("a",)).result()["a"])
    assert running_mean(None, {"a": float("nan")}) is None
    assert running_mean(0.5, {"a": float("nan"), "b": 1.0}) == pytest.approx(0.55)


def test_weights_of_the_resolutions_come_from_the_plan() -> None:
    losses = []
    for weights in (None, (2.0,)):
        (phase,) = make(tiny_plan(deep_supervision_weights=weights)).phases({LABELLED: batch(0)}, At(0, 0.0))
        losses.append(phase.loss.item())
    assert losses[1] == pytest.approx(2 * losses[0])


def test_a_wrong_number_of_weights_is_refused_in_words() -> None:
    objective = make(tiny_plan(deep_supervision_weights=(1.0, 0.5, 0.25)))
    with pytest.raises(PlanError, match="3 weights for a network that answers at"):
        next(objective.phases({LABELLED: batch(0)}, At(0, 0.0)))


def test_weights_that_leave_nothing_are_refused() -> None:
    with pytest.raises(PlanError, match="deep_supervision_weights"):
        tiny_plan(deep_supervision_weights=(0.0, 0.0)).configuration(NAME)


@pytest.mark.parametrize("plan", [tiny_plan(), region_plan()])
def test_what_a_sample_is_not_annotated_for_is_not_counted(plan) -> None:
    objective, one = make(plan), batch(0)
    name, other = objective.measured
    with torch.no_grad():
        _, both = objective.measure({LABELLED: one})
        halves = [replace(one, image=one.image[i : i + 1], mask=one.mask[i : i + 1]) for i in range(2)]
        _, first = objective.measure({LABELLED: halves[0]})
        _, found = objective.measure({LABELLED: replace(one, annotated=(None, (name,)))})
    index, missing = objective.measured.index(name), objective.measured.index(other)
    assert found.fn[index] == both.fn[index]
    assert (found.tp[missing], found.fp[missing]) == (first.tp[missing], first.fp[missing])


def test_a_region_without_annotation_teaches_nothing() -> None:
    objective, one = make(region_plan()), batch(0)
    losses = []
    for values in (one.mask, torch.where(one.mask == 1, 2, one.mask)):  # whole is the same, core is not
        (phase,) = objective.phases({LABELLED: replace(one, mask=values, annotated=(("whole",),) * 2)}, At(0, 0.0))
        losses.append(phase.loss.item())
    assert losses[0] == losses[1]
