"""Scores written down a second time, from their definitions, on whole volumes, with other libraries' calls."""

from __future__ import annotations

import numpy as np
import surface_distance
from scipy import ndimage

PENALTY = 374.0


def border_distances(
    first: np.ndarray, second: np.ndarray, spacing: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Distances between face-neighbour borders, by erosion and a distance transform."""
    borders = [mask & ~ndimage.binary_erosion(mask) for mask in (first, second)]
    fields = [ndimage.distance_transform_edt(~border, sampling=spacing) for border in borders]
    return fields[1][borders[0]], fields[0][borders[1]]


def surface_hd95(prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, ...]) -> float:
    """HD95 by the surface-distance package."""
    found = surface_distance.compute_surface_distances(reference, prediction, spacing)
    return float(surface_distance.compute_robust_hausdorff(found, 95))


def surface_dice(prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, ...], tolerance: float) -> float:
    """Surface Dice by the surface-distance package."""
    found = surface_distance.compute_surface_distances(reference, prediction, spacing)
    return float(surface_distance.compute_surface_dice_at_tolerance(found, tolerance))


def lesion_wise(
    prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, ...], dilation: int, least_mm3: float
) -> tuple[float, float, float]:
    """Lesion-wise Dice, HD95 and F1 of BraTS 2023, step by step on the whole volume."""
    neighbours, element = np.ones((3, 3, 3)), ndimage.generate_binary_structure(3, 2)
    predicted, n_predicted = ndimage.label(prediction, neighbours)
    grown, n_lesions = ndimage.label(ndimage.binary_dilation(reference, element, iterations=dilation), neighbours)
    dice, hd95, touched, found = [], [], set(), 0
    for number in range(1, n_lesions + 1):
        lesion = reference & (grown == number)
        near = ndimage.binary_dilation(lesion, element, iterations=dilation)
        matches = set(predicted[near].tolist()) - {0}
        touched |= matches
        if lesion.sum() * np.prod(spacing) <= least_mm3:
            continue
        if not matches:
            dice.append(0.0)
            hd95.append(PENALTY)
            continue
        found += 1
        match = np.isin(predicted, list(matches))
        dice.append(2 * (match & lesion).sum() / (match.sum() + lesion.sum()))
        hd95.append(surface_hd95(match, lesion, spacing))
    n_false = n_predicted - len(touched)
    if not dice and not n_false:
        return 1.0, 0.0, 1.0
    total = len(dice) + n_false
    f1 = 2 * found / (2 * found + n_false + len(dice) - found)
    return sum(dice) / total, (sum(hd95) + n_false * PENALTY) / total, f1
