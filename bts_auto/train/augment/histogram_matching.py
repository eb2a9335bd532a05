"""Histogram matching: give a case the intensities of another one.

References
----------
Nyul, Udupa, Zhang: New Variants of a Method of MRI Scale Standardization. IEEE TMI 19(2), 2000 (piecewise linear maps
between quantiles).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from bts_auto.errors import PlanError
from bts_auto.train.augment.base import Surroundings, draw_uniform, happens
from bts_auto.train.augment.intensities import CaseIntensities
from bts_auto.train.augment.options import HistogramMatchingOptions


@dataclass(frozen=True)
class Match:
    """Whose intensities become whose, and how far (1: all the way)."""

    case: str
    example: str
    strength: float


class HistogramMatching:
    """Map the quantiles of a sample's case to those of another case, channel by channel, inside the brain."""

    def __init__(self, options: HistogramMatchingOptions, intensities: CaseIntensities) -> None:
        self.options, self._intensities = options, intensities

    @classmethod
    def build(cls, options: HistogramMatchingOptions, around: Surroundings) -> HistogramMatching:
        """Of what is around a sample it needs the intensities of cases."""
        if around.intensities is None:
            raise PlanError("histogram_matching needs stored cases", where="augmentation")
        return cls(options, around.intensities)

    def draw_for(self, rng: np.random.Generator, case: str) -> Match | None:
        """The example for a sample of `case`."""
        if not happens(rng, self.options.probability):
            return None
        cases = self._intensities.cases
        example = cases[int(rng.integers(len(cases)))]
        return Match(case, example, draw_uniform(rng, self.options.strength))

    def apply(self, image: torch.Tensor, mask: torch.Tensor, parameters: Match) -> tuple[torch.Tensor, torch.Tensor]:
        """Change the image in place where the mask is not negative."""
        inside = mask[0] >= 0
        mine, theirs = (
            torch.from_numpy(self._intensities.quantiles(case)).to(image.device)
            for case in (parameters.case, parameters.example)
        )
        for channel, values in enumerate(image):
            matched = _mapped(values[inside], mine[channel], theirs[channel])
            values[inside] = torch.lerp(values[inside], matched, parameters.strength)
        return image, mask


def _mapped(values: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Take each entry of `source` to that of `target`, linearly in between; beyond them values are only shifted."""
    within = values.clamp(source[0], source[-1])
    at = torch.searchsorted(source, within, right=True).sub_(1).clamp_(0, len(source) - 2)
    extent = (source[at + 1] - source[at]).clamp_(min=1e-6)
    share = ((within - source[at]) / extent).clamp_(0, 1)
    return torch.lerp(target[at], target[at + 1], share) + (values - within)
