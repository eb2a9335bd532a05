"""How combinations are compared: by mean Dice, or by their ranks as BraTS does."""

from __future__ import annotations

from typing import Literal

import numpy as np

from bts_auto.evaluate.metric import resolve

RankingRule = Literal["mean_dice", "brats_ranking"]
METRICS: dict[str, tuple[str, ...]] = {"mean_dice": ("dice",), "brats_ranking": ("dice", "hd95")}


def mean_dice(scores: np.ndarray, metrics: tuple[str, ...]) -> float:
    """Mean Dice over cases and regions of `scores`, shape (cases, regions, metrics)."""
    return float(np.mean(scores[:, :, metrics.index("dice")]))


def case_dice(scores: np.ndarray, metrics: tuple[str, ...]) -> np.ndarray:
    """Mean Dice over regions for each case."""
    return scores[:, :, metrics.index("dice")].mean(axis=1)


def mean_ranks(scores: np.ndarray, metrics: tuple[str, ...]) -> np.ndarray:
    """The mean rank of each candidate over cases, regions and metrics; 1 is best, ties share the mean of their places.

    Parameters
    ----------
    scores : ndarray, shape (candidates, cases, regions, metrics)

    References
    ----------
    Bakas et al., Identifying the best machine learning algorithms for brain tumor segmentation (2018),
    arXiv:1811.02629, section on ranking.
    """
    from scipy.stats import rankdata

    sign = np.array([1.0 if one.metric.better == "lower" else -1.0 for one in resolve(metrics)])
    # Rounded, so that equal masks that were summed in another order share a rank.
    return rankdata(np.round(scores * sign, 9), axis=0).mean(axis=(1, 2, 3))


def compare(scores: np.ndarray, metrics: tuple[str, ...], rule: RankingRule) -> np.ndarray:
    """A value for each candidate, the larger the better: the mean Dice, or the negative mean rank."""
    if rule == "mean_dice":
        return np.array([mean_dice(one, metrics) for one in scores])
    return -mean_ranks(scores, metrics)
