"""Mixing the samples of a batch with each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bts_auto.train.options import MixUpOptions

# Keeps these draws apart from those of the sampler and of the augmentation for the same (seed, step).
_STREAM = 0x317

Truths = Sequence[tuple[float, Any]]
"""Batches whose masks an image is held against, each with the weight of its loss; the weights sum to 1."""


class MixUp:
    """Blend each sample with its neighbour in the batch; its loss is the blend of the losses against both masks.

    For cross entropy that is the loss against the blended one-hot masks.

    References
    ----------
    Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018, section 2 (partners within the batch: page 3).
    """

    def __init__(self, options: MixUpOptions, seed: int) -> None:
        self.options, self._seed = options, seed

    def share(self, step: int) -> float:
        """The share of a sample's own image in `step`, a function of (seed, step)."""
        rng = np.random.default_rng([_STREAM, self._seed, step])
        mixed = rng.random() < self.options.probability
        return float(rng.beta(self.options.alpha, self.options.alpha)) if mixed else 1.0

    def __call__(self, batch: Any, step: int) -> tuple[Any, Truths]:
        """The batch with blended images, and the batches that its answers are held against."""
        share = self.share(step)
        if share == 1.0:
            return batch, [(1.0, batch)]
        other = _neighbours(batch)
        mixed = replace(batch, image=share * batch.image + (1 - share) * other.image)
        return mixed, [(share, batch), (1 - share, other)]


def _neighbours(batch: Any) -> Any:
    """The batch with every sample in the place of the next one."""
    return replace(
        batch,
        image=batch.image.roll(1, 0),
        mask=batch.mask.roll(1, 0),
        cases=(*batch.cases[-1:], *batch.cases[:-1]),
        annotated=(*batch.annotated[-1:], *batch.annotated[:-1]),
        maps={name: one.roll(1, 0) for name, one in batch.maps.items()},
    )
