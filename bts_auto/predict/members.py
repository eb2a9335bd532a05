"""What single members say before they are averaged: the entropy of each one's answer.

The entropy of the mean answer is the sum of two parts: the mean entropy of the members' own answers, and the mutual
information between answer and member, which is 0 where all agree. Only the first part needs more than the mean; it is
averaged over folds, mirrored inputs, dropout samples and tiles like one more output.

References
----------
Houlsby, Huszár, Ghahramani and Lengyel, Bayesian active learning for classification and preference learning, 2011.
Gal, Uncertainty in deep learning, University of Cambridge 2016, section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

Activation = Callable[[torch.Tensor], torch.Tensor]


def with_entropy(activation: Activation | None, *, regions: bool) -> Activation:
    """An activation whose last channel is the entropy of the answer, as a share of the largest possible one.

    Parameters
    ----------
    activation : callable, optional
        Of logits (b, k, *tile); None: logits stay as they are.
    regions : bool
        Whether the k outputs are overlapping regions (the mean of their binary entropies) or exclusive labels.
    """

    def both(logits: torch.Tensor) -> torch.Tensor:
        answer = logits if activation is None else activation(logits)
        own = _of_regions(logits) if regions else _of_labels(logits)
        return torch.cat([answer, own.unsqueeze(1).to(answer.dtype)], dim=1)

    return both


def _of_labels(logits: torch.Tensor) -> torch.Tensor:
    log_p = torch.log_softmax(logits, dim=1)
    return -(log_p.exp() * log_p).sum(dim=1) / math.log(max(2, logits.shape[1]))


def _of_regions(logits: torch.Tensor) -> torch.Tensor:
    # softplus(x) = -log(1 - p) and softplus(-x) = -log(p), without loss where p is near 0 or 1.
    softplus = torch.nn.functional.softplus
    p = torch.sigmoid(logits)
    return (p * softplus(-logits) + (1 - p) * softplus(logits)).mean(dim=1) / math.log(2)
