"""Options of the combiners."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bts_auto.documents import Document

Ties = Literal["first", "lowest", "background"]


class WeightedOptions(Document):
    """Options of the weighted mean and the weighted geometric mean."""

    weights: tuple[float, ...] | None = Field(None, description="one for each member, in their order; None: equal")


class VoteOptions(Document):
    """Options of majority voting."""

    ties: Ties = Field(
        "first",
        description="which of the labels with most votes wins: the one that the earliest member voted for, "
        "the lowest integer, or background (0)",
    )
    weights: tuple[float, ...] | None = Field(None, description="one for each member, in their order; None: equal")


class RaterVoteOptions(VoteOptions):
    """Options of the majority of raters; no rater comes first, so that a tie is background unless said otherwise."""

    ties: Ties = "background"


class StapleOptions(Document):
    """Options of STAPLE."""

    mode: Literal["regions", "labels"] = Field(
        "regions", description="one binary estimate for each region, painted in order, or one estimate over all labels"
    )
    iterations: int = Field(100, ge=1)
    tolerance: float = Field(1e-7, gt=0, description="largest change of a performance figure at which iterating ends")


class SimpleOptions(Document):
    """Options of SIMPLE."""

    iterations: int = Field(25, ge=1)
    alpha: float = Field(1.0, ge=0, description="a member this many standard deviations below the mean Dice is dropped")


class ByRegionOptions(Document):
    """Options of the choice of a member for each region."""

    members: dict[str, int] = Field(description="region or label -> position (from 0) of the member that gives it")
