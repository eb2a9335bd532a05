"""Temperature scaling against SciPy's logistic functions and an independent minimiser."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, logit, softmax

from bts_auto.combine.temperature import (
    SMALLEST,
    TEMPERATURES,
    best_temperature,
    exclusive_weight,
    label_likelihoods,
    region_likelihoods,
    scale,
    scale_exclusive,
)

SEEN = np.linspace(SMALLEST, 1 - SMALLEST, 400, dtype=np.float32)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_temperature_divides_the_logit(temperature: float) -> None:
    np.testing.assert_allclose(scale(SEEN, temperature), expit(logit(SEEN.astype(float)) / temperature), atol=2e-5)


@pytest.mark.parametrize("temperature", [0.4, 2.5])
def test_masks_stay_as_they_are(temperature: float) -> None:
    p = np.sort(np.random.default_rng(0).random(1000, dtype=np.float32) ** 6)
    found = scale(np.concatenate([p, 1 - p]), temperature)
    np.testing.assert_array_equal(found > 0.5, np.concatenate([p, 1 - p]) > 0.5)
    assert (np.diff(found[:1000]) >= 0).all()


@pytest.mark.parametrize("temperature", [0.4, 2.5])
def test_what_is_certain_stays_certain(temperature: float) -> None:
    np.testing.assert_array_equal(scale(np.array([0.0, 1.0]), temperature), [0, 1])


def test_probabilities_that_were_never_seen_grow_in_proportion() -> None:
    edge = scale(np.array([SMALLEST]), 3.0)[0]
    np.testing.assert_allclose(scale(np.array([SMALLEST / 100]), 3.0), edge / 100, rtol=1e-4)


def test_exclusive_labels_follow_the_softmax_of_scaled_logits() -> None:
    logits = np.random.default_rng(1).uniform(-1.5, 1.5, (4, 50))
    found = scale_exclusive(softmax(logits, axis=0), 2.0)
    np.testing.assert_allclose(found, softmax(logits / 2, axis=0), atol=1e-5)


@pytest.mark.parametrize("temperature", [0.3, 5.0])
def test_exclusive_labels_keep_their_order_and_sum_to_one(temperature: float) -> None:
    p = softmax(np.random.default_rng(2).normal(0, 6, (5, 300)), axis=0).astype(np.float32)
    found = scale_exclusive(p, temperature)
    np.testing.assert_allclose(found.sum(axis=0), 1, rtol=1e-5)
    np.testing.assert_array_equal(found.argmax(axis=0), p.argmax(axis=0))


def test_a_single_label_streams_to_the_same_weight() -> None:
    p = softmax(np.random.default_rng(3).normal(0, 6, (3, 10)), axis=0).astype(np.float32)
    weights = np.stack([exclusive_weight(one, 1.7) for one in p])
    np.testing.assert_allclose(weights / weights.sum(axis=0), scale_exclusive(p, 1.7))


def test_the_best_temperature_of_a_region_is_the_likelihood_s() -> None:
    random = np.random.default_rng(4)
    truth = expit(random.normal(0, 1.5, 4000))
    said = expit(logit(truth) * 2.2)  # twice as sure as it should be
    p = np.clip(np.rint(said * 255) / 255, SMALLEST, 1 - SMALLEST)
    y = random.random(4000) < truth

    def loss(log_t: float) -> float:
        q = expit(logit(p) / np.exp(log_t))
        return -np.mean(np.where(y, np.log(q), np.log1p(-q)))

    expected = np.exp(minimize_scalar(loss, bounds=(-1, 2), method="bounded").x)
    found = best_temperature([region_likelihoods(p, y.astype(int), 1 - y.astype(int))])
    assert found == pytest.approx(expected, rel=2e-3)
    assert found == pytest.approx(2.2, rel=0.1)


def test_the_likelihood_of_labels_is_that_of_the_scaled_softmax() -> None:
    random = np.random.default_rng(5)
    logits = random.uniform(-1.5, 1.5, (3, 200))
    truth = random.integers(0, 3, 200)
    expected = [-log_softmax(logits / t, axis=0)[truth, np.arange(200)].mean() for t in TEMPERATURES]
    np.testing.assert_allclose(label_likelihoods(softmax(logits, axis=0), truth), expected, rtol=1e-4)


def test_cases_count_alike_whatever_their_size() -> None:
    levels = np.array([0.1, 0.9])
    sure = region_likelihoods(levels, np.array([1, 99]), np.array([99, 1]))
    unsure = region_likelihoods(levels, np.array([40, 60]), np.array([60, 40]))
    large = region_likelihoods(levels, np.array([4000, 6000]), np.array([6000, 4000]))
    assert best_temperature([sure, unsure]) == pytest.approx(best_temperature([sure, large]))
