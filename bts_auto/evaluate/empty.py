"""What a score is when the prediction, the reference or both are empty."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from bts_auto.documents import Document, parse
from bts_auto.errors import PlanError

# Diagonal of a BraTS volume (240 x 240 x 155 voxels of 1 mm), the distance that BraTS gave to a missed region until
# 2022.
BRATS_DIAGONAL_MM = math.sqrt(240**2 + 240**2 + 155**2)
# The same penalty as the BraTS-2023 evaluation rounds it.
BRATS_2023_PENALTY_MM = 374.0


class EmptyRule(Document):
    """The values of scores that are 0 / 0 or infinite by definition.

    A score that is defined stays as it is under every rule: the Dice of an empty prediction and a reference with voxels
    is 0, whatever this says.
    """

    both: Literal["nan", "perfect"] = Field(
        default="nan",
        description="both masks empty: not a number (left out of means), or the best (1, or 0 mm)",
    )
    one: Literal["nan", "worst"] = Field(
        default="nan",
        description="one empty and the score undefined: not a number, or the worst (0, or distance_mm)",
    )
    distance_mm: float = Field(
        default=BRATS_DIAGONAL_MM, gt=0, allow_inf_nan=False, description="the worst distance, in mm"
    )

    def overlap(self, *, both: bool) -> float:
        """The value of an undefined score whose best is 1 and whose worst is 0."""
        if both:
            return 1.0 if self.both == "perfect" else math.nan
        return 0.0 if self.one == "worst" else math.nan

    def distance(self, *, both: bool) -> float:
        """The value in mm of a distance between surfaces of which at least one does not exist."""
        if both:
            return 0.0 if self.both == "perfect" else math.nan
        return self.distance_mm if self.one == "worst" else math.nan


EMPTY_RULES: dict[str, EmptyRule] = {
    "nan": EmptyRule(),
    "brats": EmptyRule(both="perfect", one="worst"),
    "brats2023": EmptyRule(both="perfect", one="worst", distance_mm=BRATS_2023_PENALTY_MM),
}


def empty_rule(choice: str | Mapping[str, Any] | EmptyRule) -> EmptyRule:
    """A rule from its name (``"nan"``, ``"brats"``, ``"brats2023"``) or its fields.

    Fields may also be written as one text, ``"both=perfect,one=worst,distance_mm=50"``.

    Raises
    ------
    PlanError
        For an unknown name or field.
    """
    if isinstance(choice, EmptyRule):
        return choice
    if isinstance(choice, str) and "=" in choice:
        return empty_rule(dict(part.strip().partition("=")[::2] for part in choice.split(",")))
    if isinstance(choice, str):
        if choice not in EMPTY_RULES:
            raise PlanError(f"no empty-case rule is called '{choice}'", mend=f"known are {', '.join(EMPTY_RULES)}")
        return EMPTY_RULES[choice]
    return parse(EmptyRule, dict(choice), where="empty-case rule")
