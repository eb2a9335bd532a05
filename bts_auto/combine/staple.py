"""STAPLE: the hidden true segmentation and every member's performance, estimated together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bts_auto.combine.patterns import Patterns, vote_patterns
from bts_auto.errors import DataError


@dataclass(frozen=True)
class Staple:
    """Result of binary STAPLE.

    Attributes
    ----------
    probability : ndarray of float32
        Probability that a voxel belongs to the true segmentation.
    sensitivity, specificity : ndarray of float, shape (members,)
        Estimated performance of each member.
    iterations : int
        Rounds until the estimate stood still.
    """

    probability: np.ndarray
    sensitivity: np.ndarray
    specificity: np.ndarray
    iterations: int


def staple(masks: Sequence[np.ndarray], *, iterations: int = 100, tolerance: float = 1e-7) -> Staple:
    """Binary STAPLE of boolean `masks`.

    The prior is the members' mean share of foreground, as in ITK. Where no member, or every member in every voxel, has
    foreground there is nothing to estimate: the answer is that.

    References
    ----------
    Warfield, Zou and Wells, Simultaneous truth and performance level estimation (STAPLE), IEEE TMI 23 (2004),
    equations 14, 18 and 19.
    """
    masks = [np.asarray(mask, bool) for mask in masks]
    patterns = vote_patterns(masks)
    n_members = patterns.votes.shape[1]
    if len(patterns.labels) == 1:
        certain = np.full(masks[0].shape, float(patterns.labels[0]), np.float32)
        return Staple(certain, np.ones(n_members), np.ones(n_members), 0)
    votes, counts = patterns.votes.astype(bool), patterns.counts
    prior = float((votes.mean(axis=1) * counts).sum() / counts.sum())
    belief = votes.mean(axis=1)
    sensitivity, specificity = np.zeros(n_members), np.zeros(n_members)
    done = 0
    while done < iterations:
        done += 1
        last = np.concatenate([sensitivity, specificity])
        inside, outside = belief * counts, (1 - belief) * counts
        sensitivity = _ratio(inside @ votes, inside.sum())
        specificity = _ratio(outside @ ~votes, outside.sum())
        belief = _belief(votes, sensitivity, specificity, prior)
        if np.abs(np.concatenate([sensitivity, specificity]) - last).max() < tolerance:
            break
    return Staple(belief.astype(np.float32)[patterns.where], sensitivity, specificity, done)


def _ratio(part: np.ndarray, whole: float) -> np.ndarray:
    return part / whole if whole > 0 else np.ones_like(part)


def _belief(votes: np.ndarray, sensitivity: np.ndarray, specificity: np.ndarray, prior: float) -> np.ndarray:
    inside = prior * np.where(votes, sensitivity, 1 - sensitivity).prod(axis=1)
    outside = (1 - prior) * np.where(votes, 1 - specificity, specificity).prod(axis=1)
    both = inside + outside
    return np.divide(inside, both, out=np.zeros_like(inside), where=both > 0)


def staple_regions(
    masks: Sequence[np.ndarray],
    regions: Sequence[tuple[int, ...]],
    painted: Sequence[int],
    *,
    iterations: int = 100,
    tolerance: float = 1e-7,
) -> np.ndarray:
    """Binary STAPLE for each region, painted in order where its probability exceeds 0.5.

    Parameters
    ----------
    masks : sequence of ndarray of int
        A label map per member.
    regions : sequence of tuple of int
        The integers that belong to each region, the outermost first.
    painted : sequence of int
        The integer painted for each region.
    """
    if not masks:
        raise DataError("no member to combine")
    out = np.zeros_like(masks[0])
    for members, value in zip(regions, painted, strict=True):
        found = staple([np.isin(mask, members) for mask in masks], iterations=iterations, tolerance=tolerance)
        out[found.probability > 0.5] = value
    return out


def staple_labels(masks: Sequence[np.ndarray], *, iterations: int = 100, tolerance: float = 1e-7) -> np.ndarray:
    """Multi-label STAPLE: one confusion matrix per member; the most probable label, the lowest integer in a tie.

    References
    ----------
    Rohlfing, Russakoff and Maurer, Performance-based classifier combination in atlas-based image segmentation using
    expectation-maximization parameter estimation, IEEE TMI 23 (2004).
    """
    patterns = vote_patterns(masks)
    n_labels, n_members = len(patterns.labels), patterns.votes.shape[1]
    belief = _vote_shares(patterns, n_labels)
    share = belief * patterns.counts[:, None]
    prior = share.sum(axis=0) / patterns.counts.sum()
    confusion = np.zeros((n_members, n_labels, n_labels))
    for _ in range(iterations):
        last = confusion
        confusion = _confusion(patterns, share, n_labels)
        belief = np.tile(prior, (len(patterns.votes), 1))
        for member in range(n_members):
            belief *= confusion[member][patterns.votes[:, member]]
        total = belief.sum(axis=1, keepdims=True)
        belief = np.divide(belief, total, out=np.zeros_like(belief), where=total > 0)
        share = belief * patterns.counts[:, None]
        if np.abs(confusion - last).max() < tolerance:
            break
    return patterns.labels[belief.argmax(axis=1)][patterns.where].astype(masks[0].dtype)


def _vote_shares(patterns: Patterns, n_labels: int) -> np.ndarray:
    """For each pattern (p,) the share of members that vote for each label (l,)."""
    return np.stack([(patterns.votes == label).mean(axis=1) for label in range(n_labels)], axis=1)


def _confusion(patterns: Patterns, share: np.ndarray, n_labels: int) -> np.ndarray:
    """For each member (m,) the probability that it says label i where the truth is label j: shape (m, i, j)."""
    found = np.zeros((patterns.votes.shape[1], n_labels, n_labels))
    for member, table in enumerate(found):
        np.add.at(table, patterns.votes[:, member], share)
    total = found.sum(axis=1, keepdims=True)
    return np.divide(found, total, out=np.zeros_like(found), where=total > 0)
