"""The objective of several tasks on one encoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bts_auto.errors import PlanError
from bts_auto.train.objectives.base import LABELLED, UNLABELLED, At
from bts_auto.train.objectives.multitask import MultiTask
from bts_auto.train.options import MultiTaskOptions
from tests.train.tiny import NAME, batch, epochs, same, tiny_loop, tiny_plan, weights

LABELS = {"background": 0, "edema": 1, "enhancing": 2}


def plan(**training: Any):
    return tiny_plan(LABELS, deep_supervision=False, **training)


def make(**options: Any) -> MultiTask:
    made = plan()
    small = {"hidden": 6, "latent": 3} | options
    return MultiTask(MultiTaskOptions(**small), plan=made, configuration_name=NAME, labels=made.label_set())


def batches(index: int = 0) -> dict[str, Any]:
    return {LABELLED: batch(index), UNLABELLED: batch(index, seed=7)}


def step(objective: MultiTask, given: dict[str, Any]):
    for module in objective.modules.values():
        module.train()
    torch.manual_seed(0)
    (phase,) = objective.phases(given, At(0, 0.0))
    return phase


def test_the_terms_sum_to_the_loss() -> None:
    phase = step(make(), batches())
    assert set(phase.terms) == {"dice", "cross_entropy", "reconstruction", "divergence", "presence"}
    assert sum(phase.terms.values()) == pytest.approx(phase.loss.item(), rel=1e-5)


def test_masks_of_scans_without_annotation_are_not_looked_at() -> None:
    given = batches()
    spoilt = replace(given[UNLABELLED], mask=torch.full_like(given[UNLABELLED].mask, 2))
    losses = [step(make(), given | {UNLABELLED: one}).loss for one in (given[UNLABELLED], spoilt)]
    assert torch.equal(*losses)


def test_scans_without_annotation_teach_the_encoder_but_neither_its_last_stage_nor_the_decoder() -> None:
    """With the other losses off, what has a gradient is what the reconstruction passes through."""
    objective = make(classification=0.0)
    network = objective.modules["network"]
    objective._terms = [(0.0, loss) for _, loss in objective._terms]
    step(objective, batches()).loss.backward()
    taught = {n.split(".")[1] for n, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert any(p.grad.any() for p in network.encoder[0].parameters())
    assert not any(p.grad is not None and p.grad.any() for p in network.decoder.parameters())
    assert taught == {"0"}  # of two stages


def test_presence_is_what_the_mask_holds() -> None:
    mask = torch.zeros(3, 1, 4, 4, 4, dtype=torch.int16)
    mask[0, 0, 0, 0, 0], mask[1, 0, 1, 1, 1] = 2, 1
    assert make(presence="enhancing")._is_present(mask).tolist() == [1, 0, 0]
    assert make(presence="WT")._is_present(mask).tolist() == [1, 1, 0]


def test_an_unknown_region_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(PlanError, match=r"no label or region 'cyst' .*edema, enhancing"):
        make(presence="cyst")


def test_the_network_that_is_shipped_is_the_planned_one() -> None:
    from bts_auto.model.build import build_network

    assert make().modules["network"].state_dict().keys() == build_network(plan(), NAME).state_dict().keys()


def test_a_resumed_training_equals_one_that_was_never_stopped(tmp_path: Path) -> None:
    """The branches' weights, their optimiser states and the latents' draws are part of what is saved."""
    from bts_auto.train.stopping import Interruption, TrainingInterrupted
    from tests.train.test_loop import Heard

    def streams(name: str, first: int):
        return (batch(index, seed=7 if name == UNLABELLED else 0) for index in range(first, 1000))

    parts = {"objective": lambda: make(), "batches": streams}
    whole = tiny_loop(tmp_path / "whole", plan(), parts=parts)
    whole.run()
    interruption = Interruption()
    with pytest.raises(TrainingInterrupted):
        tiny_loop(
            tmp_path / "parts", plan(), parts=parts, interruption=interruption, observer=Heard(interruption, 3)
        ).run()
    resumed = tiny_loop(tmp_path / "parts", plan(), parts=parts)
    resumed.run()
    assert same(weights(whole), weights(resumed))
    assert epochs(tmp_path / "whole") == epochs(tmp_path / "parts")
