"""Lesion-wise scores by the rules of BraTS 2023, and panoptic quality.

Per region of one case: components are 26-connected. Reference components whose dilations (18-neighbour element, so many
steps) touch are one lesion. Every predicted component that touches a lesion's dilation is a match of it, and a lesion
is scored against all its matches together. Lesions up to a volume are dropped, and so are their matches. A predicted
component that matches nothing is a false positive, at any size. A lesion without a match and a false positive have Dice
0 and the distance 374 mm, and the score is the mean over kept lesions and false positives.

The empty-case rule decides nothing here but the case in which nothing is left to average: Dice and F1 1 and 0 mm, as in
BraTS, unless the rule says NaN for two empty masks.

References
----------
BraTS 2023 organisers, "Performance metrics", synapse.org syn51156910, discussion thread 10357, and their code
BraTS-2023-Metrics. Moawad et al., The Brain Tumor Segmentation - Metastases (BraTS-METS) Challenge 2023,
arXiv:2306.00838, section on evaluation; LaBella et al., arXiv:2305.07642.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bts_auto.errors import PlanError
from bts_auto.evaluate.components import label_components
from bts_auto.evaluate.distance import hd95
from bts_auto.evaluate.empty import BRATS_2023_PENALTY_MM, EMPTY_RULES, EmptyRule
from bts_auto.evaluate.metric import metric
from bts_auto.evaluate.pair import Pair


@dataclass(frozen=True)
class LesionRule:
    """What a BraTS-2023 task counts as a lesion.

    `dilation` steps join reference components; lesions of up to `least_mm3` are dropped.
    """

    dilation: int
    least_mm3: float


LESION_RULES = {
    "GLI": LesionRule(3, 50.0),
    "SSA": LesionRule(3, 50.0),
    "PED": LesionRule(3, 50.0),
    "MEN": LesionRule(1, 50.0),
    "MET": LesionRule(1, 2.0),
}
_MATCH_IOU = 0.5


@dataclass(frozen=True)
class Lesions:
    """The lesions of one region of one case.

    Attributes
    ----------
    dice, hd95 : tuple of float
        For each kept reference lesion; an unmatched one has 0 and 374.
    matched : int
        Kept lesions with at least one match.
    false_positives : int
        Predicted components without a match.
    """

    dice: tuple[float, ...]
    hd95: tuple[float, ...]
    matched: int
    false_positives: int

    @property
    def total(self) -> int:
        """Kept lesions and false positives: what scores are averaged over."""
        return len(self.dice) + self.false_positives


def find_lesions(pair: Pair, task: str) -> Lesions:
    """Match and score the lesions of `pair` by the rules of a task (GLI, SSA, PED, MEN, MET).

    Raises
    ------
    PlanError
        For an unknown task.
    """
    rule = LESION_RULES.get(task.upper())
    if rule is None:
        raise PlanError(f"no lesion-wise rules are called '{task}'", mend=f"known are {', '.join(LESION_RULES)}")
    predicted, sizes = _predicted(pair)
    n_predicted = len(sizes) - 1
    lesions = _joined(_solid(pair.reference), rule.dilation)
    boxes = ndimage.find_objects(predicted) if n_predicted else []
    matches: set[int] = set()
    dice, distance, matched = [], [], 0
    for number, found in enumerate(ndimage.find_objects(lesions) if lesions.any() else [], start=1):
        near = _grown(found, rule.dilation, lesions.shape)
        touching = np.unique(predicted[near][_dilated(lesions[near] == number, rule.dilation)])
        touching = touching[touching != 0]
        matches.update(touching.tolist())
        if np.count_nonzero(lesions[found] == number) * pair.voxel_mm3 <= rule.least_mm3:
            continue
        matched += bool(touching.size)
        box = _around([found, *(boxes[component - 1] for component in touching)])
        chosen = np.zeros(n_predicted + 1, bool)
        chosen[touching] = True
        one = Pair(chosen[predicted[box]], lesions[box] == number, pair.spacing3, planar=pair.planar)
        dice.append(2 * one.true_positives / (one.n_prediction + one.n_reference))
        distance.append(hd95.compute(one, EMPTY_RULES["brats2023"]))
    return Lesions(tuple(dice), tuple(distance), matched, n_predicted - len(matches))


def _around(boxes: list[tuple[slice, ...]]) -> tuple[slice, ...]:
    """The smallest box around several."""
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True))


def _predicted(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """The 26-connected components of the prediction and their sizes."""
    return pair.once("predicted components", lambda: label_components(_solid(pair.prediction)))


def _solid(mask: np.ndarray) -> np.ndarray:
    return mask if mask.ndim == 3 else mask[None]


def _joined(reference: np.ndarray, dilation: int) -> np.ndarray:
    """Number the reference's lesions: components whose dilations touch have one number."""
    # Room for the dilation, so that what grows over the edge joins as it would in the whole volume.
    padded = np.pad(reference, dilation)
    joined, _ = label_components(_dilated(padded, dilation))
    inner = joined[tuple(slice(dilation, dilation + n) for n in reference.shape)]
    return np.where(reference, inner, 0)


def _dilated(mask: np.ndarray, steps: int) -> np.ndarray:
    return ndimage.binary_dilation(mask, ndimage.generate_binary_structure(3, 2), iterations=steps)


def _grown(box: tuple[slice, ...], margin: int, shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(max(s.start - margin, 0), min(s.stop + margin, n)) for s, n in zip(box, shape, strict=True))


def _kept(pair: Pair, task: str) -> Lesions:
    """The lesions of `pair` with their distances, worked out once for all the scores that need them."""
    return pair.once(("lesions", task), lambda: find_lesions(pair, task))


@metric(parameter="GLI", choices=tuple(LESION_RULES))
def lesion_dice(pair: Pair, empty: EmptyRule, task: str) -> float:
    """Lesion-wise Dice of BraTS 2023: mean over kept reference lesions and false positives (which count 0).

    Empty prediction or reference: 0, unless every reference lesion is too small to be kept. Both empty, or nothing kept
    and nothing invented: 1, or NaN where the rule says so for two empty masks.

    References
    ----------
    BraTS 2023 organisers, synapse.org syn51156910, discussion thread 10357, and their code BraTS-2023-Metrics.
    """
    lesions = _kept(pair, task)
    return sum(lesions.dice) / lesions.total if lesions.total else _nothing(empty, 1.0)


@metric(unit="mm", better="lower", parameter="GLI", choices=tuple(LESION_RULES))
def lesion_hd95(pair: Pair, empty: EmptyRule, task: str) -> float:
    """Lesion-wise HD95 of BraTS 2023: mean over kept reference lesions and false positives (which count 374 mm).

    Empty prediction or empty reference: 374, whatever the rule, unless every reference lesion is too small to be kept.
    Both empty, or nothing kept and nothing invented: 0, or NaN where the rule says so for two empty masks.

    References
    ----------
    BraTS 2023 organisers, synapse.org syn51156910, discussion thread 10357, and their code BraTS-2023-Metrics.
    """
    lesions = _kept(pair, task)
    total = sum(lesions.hd95) + lesions.false_positives * BRATS_2023_PENALTY_MM
    return total / lesions.total if lesions.total else _nothing(empty, 0.0)


@metric(parameter="GLI", choices=tuple(LESION_RULES))
def lesion_f1(pair: Pair, empty: EmptyRule, task: str) -> float:
    """Lesion-wise F1: 2 TP / (2 TP + FP + FN), TP the kept reference lesions that have a match.

    Empty prediction or reference: 0, unless every reference lesion is too small to be kept. Both empty, or nothing kept
    and nothing invented: 1, or NaN where the rule says so for two empty masks.

    References
    ----------
    The lesions are those of BraTS 2023 (module docstring); F1 is the Dice of counts, after Dice, Ecology 26 (1945).
    """
    lesions = _kept(pair, task)
    if not lesions.total:
        return _nothing(empty, 1.0)
    missed = len(lesions.dice) - lesions.matched
    return 2 * lesions.matched / (2 * lesions.matched + lesions.false_positives + missed)


def _nothing(empty: EmptyRule, best: float) -> float:
    return best if empty.both == "perfect" else math.nan


@metric()
def panoptic_quality(pair: Pair, empty: EmptyRule) -> float:
    """Panoptic quality: sum of IoU over matched components / (TP + FP / 2 + FN / 2); matched: IoU above 0.5.

    26-connected components, one to one. One empty: 0. Both empty: the rule's value.

    References
    ----------
    Kirillov et al., Panoptic segmentation, CVPR 2019, equation 1.
    """
    if pair.both_empty:
        return empty.overlap(both=True)
    predicted, sizes = _predicted(pair)
    reference, reference_sizes = label_components(_solid(pair.reference))
    shared = (predicted != 0) & (reference != 0)
    couples, counts = np.unique(
        np.stack([predicted[shared], reference[shared]]).astype(np.int64), axis=1, return_counts=True
    )
    union = sizes[couples[0]] + reference_sizes[couples[1]] - counts
    overlap = counts / union
    matched = overlap[overlap > _MATCH_IOU]
    n_components = len(sizes) - 1 + len(reference_sizes) - 1
    return float(matched.sum() / (n_components / 2))
