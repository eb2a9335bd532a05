"""Giving a case the intensities of another one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.exposure import match_histograms

from bts_auto.errors import PlanError
from bts_auto.plan.schema import Component
from bts_auto.train.augment.histogram_matching import HistogramMatching, Match
from bts_auto.train.augment.intensities import N_QUANTILES, CaseIntensities
from bts_auto.train.augment.options import HistogramMatchingOptions
from bts_auto.train.augment.pipeline import Augmentation
from tests.train.memory_store import MemoryCase, MemoryStore

SHAPE = (12, 14, 16)


def make_cases() -> MemoryStore:
    rng = np.random.default_rng(0)
    mask = np.zeros(SHAPE)
    mask[:3] = -1
    images = rng.normal(size=(1, *SHAPE)), rng.gamma(2.0, size=(1, *SHAPE))
    return MemoryStore([MemoryCase(f"case_{i}", image * (mask >= 0), mask) for i, image in enumerate(images)])


CASES = make_cases()
INTENSITIES = CaseIntensities(CASES.cases(), CASES.open)


def matched(strength: float, example: str = "case_1") -> tuple[torch.Tensor, np.ndarray]:
    case = CASES.open("case_0")
    transform = HistogramMatching(HistogramMatchingOptions(), INTENSITIES)
    image = torch.from_numpy(case.image.copy())
    out, _ = transform.apply(image, torch.from_numpy(case.mask)[None], Match("case_0", example, strength))
    return out[0], case.mask >= 0


def test_quantiles_are_those_of_the_brain() -> None:
    case = CASES.open("case_1")
    found = INTENSITIES.quantiles("case_1")
    assert found.shape == (1, N_QUANTILES)
    assert found[0, 32] == pytest.approx(np.median(case.image[0][case.mask >= 0]), abs=1e-6)


def test_agrees_with_matching_of_cumulative_histograms() -> None:
    out, inside = matched(1.0)
    source, example = (CASES.open(name).image[0][inside] for name in ("case_0", "case_1"))
    expected = match_histograms(source, example)
    assert np.quantile(np.abs(out.numpy()[inside] - expected), 0.9) < 0.02 * np.std(expected)


def test_the_outside_stays() -> None:
    out, inside = matched(1.0)
    assert not out.numpy()[~inside].any()


def test_strength_is_the_share_of_the_way() -> None:
    before, after, half = (matched(strength)[0] for strength in (0.0, 1.0, 0.5))
    torch.testing.assert_close(half, (before + after) / 2)


def test_a_case_is_its_own_example_unchanged() -> None:
    torch.testing.assert_close(matched(1.0, "case_0")[0], matched(0.0)[0], atol=1e-5, rtol=0)


def test_the_example_is_a_function_of_seed_step_and_index() -> None:
    component = Component(name="histogram_matching", options={"probability": 1.0})
    augmentation = Augmentation([component], SHAPE, channels=1, intensities=INTENSITIES)
    examples = [augmentation.draw(4, step, 1, "case_0").steps[0][1].example for step in range(12)]
    assert set(examples) == {"case_0", "case_1"}
    assert examples == [augmentation.draw(4, step, 1, "case_0").steps[0][1].example for step in range(12)]


def test_without_stored_cases_it_is_refused() -> None:
    with pytest.raises(PlanError, match="needs stored cases"):
        Augmentation([Component(name="histogram_matching")], SHAPE, channels=1)
