"""Temperature scaling: one number that turns how sure a network says it is into how often it is right.

A temperature divides logits. It acts on the logit of an averaged probability, so that what is calibrated is what is
written, and it never moves a probability across a half or a label past another: masks stay as they are.

Probabilities below 1e-4 are scaled in proportion, and so are complements: what was certain stays certain. A temperature
is fitted near tumour; without this rule it would let the millions of voxels elsewhere add up to one.

References
----------
Guo, Pleiss, Sun and Weinberger, On calibration of modern neural networks, ICML 2017.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Also stands for what 8 bits store as 0, which may be anything from 0 to 1/510: about the middle of the logits there.
SMALLEST = 1e-4
# Temperatures among which the best is sought before it is refined; the likelihood has one maximum in 1/T.
TEMPERATURES = np.geomspace(0.25, 8.0, 101)


def scale(probability: np.ndarray, temperature: float) -> np.ndarray:
    """The probability of a region under a temperature, float32, same shape.

    Parameters
    ----------
    probability : ndarray of float
        Between 0 and 1.
    temperature : float
        Above 1 makes less sure, below 1 surer; 1 changes nothing.
    """
    p = np.clip(np.asarray(probability, np.float32), 0, 1)
    if temperature == 1:
        return p
    # Of the likelier side only the complement is worked out: it keeps its digits, and both sides are alike.
    rarer = np.minimum(p, 1 - p)
    weight = _weight(rarer, temperature)
    scaled = weight / (weight + _weight(1 - rarer, temperature))
    edge = np.float32(SMALLEST) ** np.float32(1 / temperature)
    edge = edge / (edge + np.float32(1 - SMALLEST) ** np.float32(1 / temperature))
    scaled = np.where(rarer < SMALLEST, rarer * (edge / np.float32(SMALLEST)), scaled)
    return np.where(p > 0.5, 1 - scaled, scaled).astype(np.float32)


def exclusive_weight(probability: np.ndarray, temperature: float) -> np.ndarray:
    """What one label's probability weighs under a temperature shared by all labels; normalised by the sum over them."""
    return _weight(np.clip(np.asarray(probability, np.float32), 0, 1), temperature)


def scale_exclusive(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """The probabilities (k, ...) of labels that exclude one another under one temperature, float32."""
    weights = exclusive_weight(probabilities, temperature)
    return weights / weights.sum(axis=0, keepdims=True)


def _weight(p: np.ndarray, temperature: float) -> np.ndarray:
    """p ** (1 / T), in proportion to p below the smallest probability."""
    power = np.float32(1 / temperature)
    least = np.float32(SMALLEST)
    return np.where(p < least, p * (least**power / least), np.maximum(p, least) ** power).astype(np.float32)


def region_likelihoods(levels: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Mean negative log-likelihood of a region for each of `TEMPERATURES`.

    Parameters
    ----------
    levels : ndarray, shape (n,)
        Probabilities.
    positive, negative : ndarray, shape (n,)
        How many voxels of that probability belong to the region, and how many do not.
    """
    p = np.clip(levels, SMALLEST, 1 - SMALLEST)
    voxels = max(1, int(positive.sum() + negative.sum()))
    out = []
    for temperature in TEMPERATURES:
        inside, outside = np.log(scale(p, temperature)), np.log(scale(1 - p, temperature))
        out.append(-(positive @ inside.astype(np.float64) + negative @ outside.astype(np.float64)) / voxels)
    return np.array(out)


def label_likelihoods(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mean negative log-likelihood of exclusive labels for each of `TEMPERATURES`.

    Parameters
    ----------
    probabilities : ndarray, shape (k, n)
        Of n voxels.
    truth : ndarray of int, shape (n,)
        The channel that is right.
    """
    p = np.clip(probabilities, SMALLEST, 1)
    out = []
    for temperature in TEMPERATURES:
        weights = exclusive_weight(p, temperature)
        right = np.take_along_axis(weights, truth[None], axis=0)[0]
        out.append(float(np.mean(np.log(weights.sum(axis=0)) - np.log(right), dtype=np.float64)))
    return np.array(out)


def best_temperature(likelihoods: Sequence[np.ndarray]) -> float:
    """The temperature with the smallest mean of negative log-likelihoods, in which each case counts the same.

    Parameters
    ----------
    likelihoods : sequence of ndarray
        For each case its values at `TEMPERATURES`.
    """
    mean = np.mean(likelihoods, axis=0)
    at = int(np.argmin(mean))
    place = np.log(TEMPERATURES)
    if not 0 < at < len(mean) - 1:
        return float(TEMPERATURES[at])
    # The vertex of the parabola through the smallest value and its neighbours, which are equally far.
    left, middle, right = mean[at - 1 : at + 2]
    bend = left - 2 * middle + right
    shift = 0.0 if bend <= 0 else 0.5 * (left - right) / bend
    return float(np.exp(place[at] + shift * (place[at + 1] - place[at])))


def at_temperature(likelihoods: np.ndarray, temperature: float) -> float:
    """A negative log-likelihood between `TEMPERATURES`."""
    return float(np.interp(np.log(temperature), np.log(TEMPERATURES), likelihoods))
