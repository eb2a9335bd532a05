"""The peers' side of evaluate.py: reads paths of pairs from stdin, writes one line of JSON for each to stdout.

MONAI's and surface-distance's functions are called as their documentation shows; the lesion-wise scores follow the
published rules of BraTS 2023 with the libraries that its script uses (cc3d, SciPy, surface-distance), on whole volumes.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import cc3d
import numpy as np
import surface_distance
import torch
from monai import metrics as monai
from scipy import ndimage

REGIONS = {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}
SPACING = (1.0, 1.0, 1.0)
DILATION, LEAST_MM3, PENALTY = 3, 50, 374.0


def by_monai(prediction: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Overlap and border distances by MONAI, surface distances by surface-distance."""
    tensors = [torch.from_numpy(mask)[None, None].float() for mask in (prediction, reference)]
    shared = {"include_background": True, "spacing": SPACING}
    found = surface_distance.compute_surface_distances(reference, prediction, SPACING)
    return {
        "dice": float(monai.compute_dice(*tensors)),
        "hd95_directed": float(monai.compute_hausdorff_distance(*tensors, percentile=95, **shared)),
        "assd": float(monai.compute_average_surface_distance(*tensors, symmetric=True, **shared)),
        "hd95": float(surface_distance.compute_robust_hausdorff(found, 95)),
        "nsd@1": float(surface_distance.compute_surface_dice_at_tolerance(found, 1)),
    }


def by_brats(prediction: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Lesion-wise Dice and HD95."""
    element = ndimage.generate_binary_structure(3, 2)
    predicted = cc3d.connected_components(prediction, connectivity=26)
    grown = cc3d.connected_components(
        ndimage.binary_dilation(reference, structure=element, iterations=DILATION), connectivity=26
    )
    lesions = np.where(reference, grown, 0)
    dice, hd95, touched = [], [], set()
    for number in range(1, int(lesions.max()) + 1):
        lesion = lesions == number
        near = ndimage.binary_dilation(lesion, structure=element, iterations=DILATION)
        matches = [int(value) for value in np.unique(predicted * near) if value]
        touched.update(matches)
        if lesion.sum() * np.prod(SPACING) <= LEAST_MM3:
            continue
        match = np.isin(predicted, matches)
        dice.append(2 * (match & lesion).sum() / (match.sum() + lesion.sum()))
        if matches:
            found = surface_distance.compute_surface_distances(lesion, match, SPACING)
            hd95.append(surface_distance.compute_robust_hausdorff(found, 95))
        else:
            hd95.append(PENALTY)
    false = len(set(np.unique(predicted).tolist()) - {0} - touched)
    total = len(dice) + false
    if not total:
        return {"lesion_dice@GLI": 1.0, "lesion_hd95@GLI": 0.0}
    return {"lesion_dice@GLI": sum(dice) / total, "lesion_hd95@GLI": (sum(hd95) + false * PENALTY) / total}


PEERS: dict[str, Callable[[np.ndarray, np.ndarray], dict[str, float]]] = {
    "MONAI + surface-distance": by_monai,
    "BraTS 2023": by_brats,
}


def main() -> None:
    """Answer until stdin ends."""
    torch.set_num_threads(1)
    for line in sys.stdin:
        with np.load(line.strip()) as pair:
            prediction, reference = pair["prediction"], pair["reference"]
        answer = {}
        for name, peer in PEERS.items():
            started = time.perf_counter()
            scores = {r: peer(np.isin(prediction, v), np.isin(reference, v)) for r, v in REGIONS.items()}
            answer[name] = {"seconds": time.perf_counter() - started, "scores": scores}
        print(json.dumps(answer, default=float), flush=True)


if __name__ == "__main__":
    main()
