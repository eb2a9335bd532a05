"""Two bounds on predicted volumes, below and above which a region is given up: a decision tree of depth two."""

from __future__ import annotations

import numpy as np


def fit_gate(small_ml: np.ndarray, other_ml: np.ndarray, gain: np.ndarray) -> tuple[float, float] | None:
    """The bounds under which giving up the region gains most over cases.

    Every pair of bounds halfway between two neighbouring volumes is tried, so that the answer is the best one.

    Parameters
    ----------
    small_ml, other_ml : ndarray, shape (cases,)
        Predicted volume of the region, and of the one that decides with it.
    gain : ndarray, shape (cases,)
        What giving up the region would change in the score of each case.

    Returns
    -------
    tuple of float, or None
        The region goes where its volume is at most the first and the other's is above the second; None where nothing
        is gained. Of equally good bounds those that touch the fewest cases.

    References
    ----------
    Jabareen and Lukassen, Segmenting Brain Tumors in Multi-modal MRI Scans Using a 3D SegNet Architecture, BrainLes
    2021, whose tree splits the volumes of enhancing tumour and necrosis.
    """
    at_most, above = _halfway(small_ml), np.concatenate([[0.0], _halfway(other_ml)])
    inside = (small_ml <= at_most[:, None])[:, None] & (other_ml > above[:, None])[None]
    total = (inside * gain).sum(axis=2)
    touched = inside.sum(axis=2)
    if total.size == 0 or total.max() <= 0:
        return None
    best = np.where(total >= total.max() - 1e-12, touched, np.inf)
    first, second = np.unravel_index(np.argmin(best), best.shape)
    return float(at_most[first]), float(above[second])


def _halfway(volumes: np.ndarray) -> np.ndarray:
    """The middles between neighbouring volumes, and half a step beyond the largest."""
    known = np.unique(volumes)
    beyond = known[-1:] + (known[-1:] - known[-2:-1] if known.size > 1 else known[-1:]) / 2
    return np.concatenate([(known[1:] + known[:-1]) / 2, beyond])
