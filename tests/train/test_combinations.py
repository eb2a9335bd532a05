"""Any two training options combine: every pair of their values is planned, built and trained for one step.

A covering array of some dozen trainings holds every pair; it is made greedily from what is registered, so that a new
component is combined with all others by being registered.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from bts_auto import registry
from bts_auto.events import SILENT
from bts_auto.plan.schema import Plan
from bts_auto.train.assembly import Assembly
from bts_auto.train.average import WeightAverage
from bts_auto.train.job import Fold
from bts_auto.train.objectives.base import At
from bts_auto.train.precision import Precision
from bts_auto.train.step import Stepper
from tests.train.memory_store import make_store
from tests.train.tiny import NAME, tiny_plan

LABELS = {"background": 0, "edema": 1, "enhancing": 2}
LISTS = [name for name in registry.names("augmentation") if not name.startswith("previous")]
PRESENCE = {"presence": "ET", "hidden": 4, "latent": 2}


def every(kind: str, **options: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, "options": options.get(name, {})} for name in registry.names(kind)]


# Fields of `training`.
TRAINING: dict[str, list[Any]] = {
    "optimizer": every("optimizer"),
    "schedule": every("schedule"),
    "loss": [[{"name": "dice"}, {"name": name, "weight": 0.5}] for name in registry.names("loss")],
    "objective": every("objective", multitask=PRESENCE),
    "augmentation": [None, [{"name": name} for name in ("spatial", *(n for n in LISTS if n != "spatial"))]],
    "mixing": [None, *every("mixing", mix_up={"alpha": 1.0})],
    "deep_supervision": [True, False],
    "weight_average": [None, 0.9],
    "accumulation": [1, 2],
    "gradient_clip": [12.0, None],
    "precision": ["fp32", "bf16"],
    "oversample_foreground": [0.33, 1.0],
}
# Of the configuration and the data.
OTHERS: dict[str, list[Any]] = {
    "network": ["plain_unet", "residual_unet"],
    "norm": ["instance", "batch", "group", "none"],
    "activation": ["leaky_relu", "relu", "elu", "silu", "gelu"],
    "batch_dice": [False, True],
    "target": ["labels", "regions"],
    "ignore": [False, True],
    "annotated": [None, ("edema",), ("WT",)],
}
OPTIONS = TRAINING | OTHERS


def covering(sizes: list[int]) -> list[tuple[int, ...]]:
    """Rows of indices, one for each column, among which every pair of values of every two columns occurs."""
    columns = range(len(sizes))
    left = {
        ((a, i), (b, j))
        for a, b in itertools.combinations(columns, 2)
        for i, j in itertools.product(range(sizes[a]), range(sizes[b]))
    }
    rows = []
    while left:
        row = dict(min(left))
        for column in sorted(set(columns) - row.keys(), key=lambda column: -sizes[column]):
            new = [
                sum(tuple(sorted([(column, value), other])) in left for other in row.items())
                for value in range(sizes[column])
            ]
            row[column] = new.index(max(new))
        rows.append(tuple(row[column] for column in columns))
        left -= set(itertools.combinations(enumerate(rows[-1]), 2))
    return rows


ROWS = [
    {name: values[index] for (name, values), index in zip(OPTIONS.items(), row, strict=True)}
    for row in covering([len(values) for values in OPTIONS.values()])
]


def plan_of(chosen: dict[str, Any]) -> Plan:
    labels = LABELS | ({"ignore": 3} if chosen["ignore"] else {})
    plan = tiny_plan(labels, **{name: chosen[name] for name in TRAINING})
    plan = plan.model_copy(update={"target": chosen["target"]})
    more = {name: chosen[name] for name in ("norm", "activation")}
    plan.configurations[NAME]["network"] = {"name": chosen["network"], "options": more}
    plan.configurations[NAME]["batch_dice"] = chosen["batch_dice"]
    plan.check()
    return plan


def assembly_of(plan: Plan, annotated: tuple[str, ...] | None) -> Assembly:
    store = make_store(2, (12, 12, 12))
    store.stored["case_0"].annotated_labels = annotated
    if plan.label_set().ignore is not None:
        for case in store.stored.values():
            case.mask[6:8] = 3
    cases: tuple[Any, ...] = (NAME, 0, store, plan.label_set(), ("case_0", "case_1"), ("case_0",))
    return Assembly(Fold(plan, *cases, Path(), None, None, "cpu", 0, None), SILENT)


def test_every_pair_is_among_the_combinations() -> None:
    for (one, of_one), (other, of_other) in itertools.combinations(OPTIONS.items(), 2):
        missing = [(a, b) for a in of_one for b in of_other if not any(r[one] == a and r[other] == b for r in ROWS)]
        assert missing == [], (one, other)


@pytest.mark.parametrize("chosen", ROWS, ids=range(len(ROWS)))
def test_a_step_and_a_measurement(chosen: dict[str, Any]) -> None:
    assembly = assembly_of(plan_of(chosen), chosen["annotated"])
    parts, training = assembly.parts(), assembly.training
    objective = parts.objective()
    network = objective.modules["network"]
    average = WeightAverage(network, training.weight_average) if training.weight_average else None
    precision = Precision(chosen["precision"], torch.device("cpu"))
    stepper = Stepper(objective, precision, training.gradient_clip)
    assert parts.schedule(0.5) > 0
    streams = {name: iter(parts.batches(name, 0)) for name in objective.streams}
    batches = [{name: next(stream) for name, stream in streams.items()} for _ in range(training.accumulation)]
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    losses = stepper.run(batches, At(0, 0.0))
    assert math.isfinite(losses.loss)
    if average is not None:
        average.update()
    after = network.state_dict() if average is None else average.weights()
    assert all(torch.isfinite(tensor).all() for tensor in after.values())
    # Edema alone teaches nothing of WT, TC and ET; training leaves such cases out.
    if chosen["annotated"] != ("edema",):
        assert any(not torch.equal(before[name], tensor) for name, tensor in after.items())
    with torch.no_grad(), precision.autocast():
        loss, confusion = _measured(parts, objective)
    assert math.isfinite(loss)
    assert len(confusion.tp) == len(objective.measured)


def _measured(parts: Any, objective: Any) -> tuple[float, Any]:
    for module in objective.modules.values():
        module.eval()
    held_out = {name: next(iter(parts.held_out(name, 0))) for name in objective.streams}
    loss, confusion = objective.measure(held_out)
    return float(loss), confusion
