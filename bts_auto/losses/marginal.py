"""Classes that a sample's annotation does not tell apart, taken together."""

from __future__ import annotations

import torch
from torch import Tensor

from bts_auto.losses.target import Target


def marginal_logits(logits: Tensor, target: Target) -> Tensor:
    """Logits whose softmax gives each class of a sample the probability of all classes that count in it.

    A class that counts in another one (`Target.counts_in`) has minus infinity and so no probability. What a loss makes
    of these logits does not depend on how the network shares probability among classes that the annotation does not
    tell apart. Regions, and samples that are annotated in full, are left as they are.

    Parameters
    ----------
    logits : Tensor, shape (b, k, \\*s)

    References
    ----------
    Fang, Yan, Multi-organ Segmentation over Partially Labeled Datasets with Multi-scale Feature Abstraction, IEEE TMI
    39(11), 2020, section III-C; Shi et al., Marginal loss and exclusion loss for partially supervised multi-organ
    segmentation, Medical Image Analysis 70, 2021, section 3.2.
    """
    if target.classes is None or target.counts_in is None:
        return logits
    return torch.stack([_merged(*pair) for pair in zip(logits, target.counts_in, strict=True)])


def _merged(logits: Tensor, counts_in: tuple[int, ...]) -> Tensor:
    """One sample, (k, \\*s)."""
    nothing = logits.new_tensor(-torch.inf).expand(logits.shape[1:])
    channels = []
    for channel in range(len(counts_in)):
        members = [one for one, into in enumerate(counts_in) if into == channel]
        if not members:
            channels.append(nothing)
        else:
            channels.append(logits[members[0]] if len(members) == 1 else logits[members].logsumexp(0))
    return torch.stack(channels)
