"""What every registered post-processing rule keeps to."""

from __future__ import annotations

import numpy as np
import pytest

from bts_auto import registry
from bts_auto.data.labels import Labels
from bts_auto.errors import PlanError
from bts_auto.plan.schema import Component
from bts_auto.postprocess.context import Context, apply_rules

LABELS = Labels.from_dataset({"labels": {"background": 0, "necrosis": 1, "edema": 2, "enhancing": 3}})
OPTIONS = {
    "minimum_size": {"voxels": 5},
    "small_region": {"voxels": 50},
    "morphology": {"operation": "open"},
    "thresholds": {"values": {"edema": 0.4}},
    "output_gate": {"output": "tumour"},
}
NAMES = registry.names("postprocessing")


def _rule(name: str) -> Component:
    return Component(name=name, options=OPTIONS.get(name, {}))


def _context(mask: np.ndarray) -> Context:
    probabilities = np.stack([(mask == value).astype(np.float32) for value in range(4)])
    return Context(LABELS, (2.0, 1.0, 1.0), probabilities, np.ones(mask.shape, bool), {"tumour": 0.1})


@pytest.mark.parametrize("shape", [(9, 10, 11), (1, 10, 11)])
@pytest.mark.parametrize("name", NAMES)
def test_the_input_is_left_alone_and_the_output_is_like_it(name: str, shape: tuple[int, ...]) -> None:
    mask = np.random.default_rng(0).integers(0, 4, shape).astype(np.uint8)
    before = mask.copy()
    after = apply_rules(mask, [_rule(name)], _context(mask))
    np.testing.assert_array_equal(mask, before)
    assert (after.shape, after.dtype) == (mask.shape, mask.dtype)
    assert set(np.unique(after)) <= {0, 1, 2, 3}
    assert not np.shares_memory(after, mask)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_mask_stays_empty(name: str) -> None:
    mask = np.zeros((5, 6, 7), np.uint8)
    assert not apply_rules(mask, [_rule(name)], _context(mask)).any()


@pytest.mark.parametrize(
    "name", ["fill_holes", "keep_largest", "minimum_size", "morphology", "output_gate", "small_region"]
)
def test_an_unknown_region_is_named_with_those_there_are(name: str) -> None:
    mask = np.ones((3, 3, 3), np.uint8)
    rule = Component(name=name, options=OPTIONS.get(name, {}) | {"region": "tumor"})
    with pytest.raises(PlanError, match="necrosis, edema, enhancing, WT, TC, ET"):
        apply_rules(mask, [rule], _context(mask))


def test_rules_are_applied_in_order() -> None:
    mask = np.zeros((9, 9, 9), np.uint8)
    mask[1:5, 1:5, 1:5] = 2
    mask[7, 7, 7] = 3
    small = Component(name="small_region", options={"voxels": 10})
    largest = Component(name="keep_largest", options={"region": "necrosis"})
    removed = Component(name="minimum_size", options={"region": "necrosis", "voxels": 5})
    assert apply_rules(mask, [small, largest], _context(mask))[7, 7, 7] == 1
    assert apply_rules(mask, [small, removed], _context(mask))[7, 7, 7] == 0
    assert apply_rules(mask, [removed, small], _context(mask))[7, 7, 7] == 1


def test_a_misspelt_rule_or_option_is_refused_with_the_nearest() -> None:
    mask = np.zeros((3, 3, 3), np.uint8)
    with pytest.raises(PlanError, match="keep_largest"):
        apply_rules(mask, [Component(name="keep_larges")], _context(mask))
    with pytest.raises(PlanError, match="connectivity"):
        apply_rules(mask, [Component(name="keep_largest", options={"conectivity": 6})], _context(mask))


def test_components_without_the_fast_package(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from bts_auto.evaluate.components import label_components

    mask = np.random.default_rng(0).random((8, 9, 10)) < 0.2
    fast = {c: np.sort(label_components(mask, c)[1][1:]) for c in (6, 18, 26)}
    monkeypatch.setitem(sys.modules, "cc3d", None)
    for connectivity, sizes in fast.items():
        np.testing.assert_array_equal(np.sort(label_components(mask, connectivity)[1][1:]), sizes)
