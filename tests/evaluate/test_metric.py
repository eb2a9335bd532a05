"""The contract that every registered metric keeps, and how metrics are asked for."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bts_auto import registry
from bts_auto.errors import PlanError
from bts_auto.evaluate.empty import EMPTY_RULES, empty_rule
from bts_auto.evaluate.metric import DEFAULT_METRICS, resolve
from bts_auto.evaluate.pair import Pair

ALL = registry.names("metric")


def _cube(filled: bool = True) -> np.ndarray:
    mask = np.zeros((9, 9, 9), bool)
    mask[2:7, 2:7, 2:7] = filled
    return mask


def _pair(prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, ...]) -> Pair:
    """Of masks, with probabilities that are as sure."""
    sure = prediction.ravel().astype(np.float32)
    return Pair(prediction, reference, spacing, judged=lambda: (sure, reference.ravel()))


@pytest.mark.parametrize("name", ALL)
def test_perfection_is_the_best_value(name: str) -> None:
    (one,) = resolve([name])
    best = {"higher": 1.0, "lower": 0.0}.get(one.metric.better)
    found = one(_pair(_cube(), _cube(), (2.0, 1.0, 1.0)), EMPTY_RULES["nan"])
    assert best is None or found == best


@pytest.mark.parametrize("name", ALL)
def test_states_its_definition_its_empty_cases_and_its_source(name: str) -> None:
    (one,) = resolve([name])
    text = one.metric.compute.__doc__ or ""
    assert one.metric.about
    assert "mpty" in text
    assert "References" in text


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("filled", [(False, False), (True, False), (False, True)])
def test_the_brats_rule_leaves_no_score_undefined(name: str, filled: tuple[bool, bool]) -> None:
    (one,) = resolve([name])
    found = one(_pair(_cube(filled[0]), _cube(filled[1]), (1.0, 1.0, 1.0)), EMPTY_RULES["brats"])
    assert math.isfinite(found) or name == "relative_volume_error"


@pytest.mark.parametrize("name", ALL)
def test_one_slice_is_scored(name: str) -> None:
    (one,) = resolve([name])
    mask = np.zeros((1, 9, 9), bool)
    mask[0, 2:7, 2:7] = True
    assert math.isfinite(one(_pair(mask, np.roll(mask, 1, 2), (5.0, 1.0, 1.0)), EMPTY_RULES["nan"]))


def test_a_parameter_follows_the_name() -> None:
    near, far = resolve(["nsd@0.5", "nsd@3"])
    pair = Pair(_cube(), np.roll(_cube(), 2, axis=0), (1.0, 1.0, 1.0))
    assert near(pair, EMPTY_RULES["nan"]) < far(pair, EMPTY_RULES["nan"]) == 1
    assert (near.name, far.name) == ("nsd@0.5", "nsd@3")


@pytest.mark.parametrize(
    ("name", "word"), [("dcie", "dice"), ("dice@2", "no parameter"), ("nsd@-1", "nsd"), ("nsd@x", "nsd")]
)
def test_a_wrong_name_or_parameter_is_refused(name: str, word: str) -> None:
    with pytest.raises(PlanError, match=word):
        resolve([name])


def test_the_default_list_is_registered() -> None:
    assert set(DEFAULT_METRICS) <= set(ALL)


def test_empty_rules_by_name_and_by_fields() -> None:
    assert empty_rule("brats2023").distance_mm == 374
    assert empty_rule({"one": "worst", "distance_mm": 50.0}).distance(both=False) == 50
    with pytest.raises(PlanError, match="brats2023"):
        empty_rule("zero")
    with pytest.raises(PlanError, match="distance_mm"):
        empty_rule({"distanc_mm": 1.0})
