"""The QUBIQ score against a transcription on float maps."""

from __future__ import annotations

import numpy as np
import pytest

from bts_auto.evaluate.case import score_case


def _by_definition(mine: np.ndarray, theirs: np.ndarray, first: int) -> float:
    values = []
    for threshold in range(first, 10):
        own, other = np.round(mine, 9) >= threshold / 10, np.round(theirs, 9) >= threshold / 10
        size = own.sum() + other.sum()
        values.append(2 * (own & other).sum() / size if size else 1.0)
    return float(np.mean(values))


@pytest.mark.parametrize("raters", [1, 2, 3, 5, 7, 10])
def test_equals_the_definition_on_shares_of_raters(raters: int) -> None:
    rng = np.random.default_rng(raters)
    for _ in range(10):
        mine, theirs = rng.integers(0, raters + 1, (2, 4, 5, 6))
        region = {"structure": tuple(range(1, raters + 1))}
        found = score_case(mine, theirs, (1.0, 1.0, 1.0), region, ["qubiq", "qubiq@1"])["structure"]
        assert found["qubiq"] == pytest.approx(_by_definition(mine / raters, theirs / raters, 0))
        assert found["qubiq@1"] == pytest.approx(_by_definition(mine / raters, theirs / raters, 1))


def test_an_empty_prediction_gets_a_tenth() -> None:
    reference = np.ones((2, 3, 3), int)
    found = score_case(0 * reference, reference, (1.0, 1.0, 1.0), {"structure": (1,)}, ["qubiq"])
    assert found["structure"]["qubiq"] == pytest.approx(0.1)
