"""Options of the losses, as they stand in a plan. Needs no torch."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from bts_auto.documents import Document


class LossOptions(Document):
    """What every loss has: the names of the maps of the truth that it asks for (:mod:`bts_auto.losses.maps`)."""

    maps: ClassVar[tuple[str, ...]] = ()


class DiceOptions(LossOptions):
    """Soft Dice; defaults are nnU-Net v2's."""

    smooth: float = Field(default=1e-5, ge=0, description="added to numerator and denominator")
    background: bool = Field(default=False, description="whether softmax's background counts; regions have none")


class CrossEntropyOptions(LossOptions):
    """Cross entropy (softmax) or binary cross entropy (regions)."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


class WeightedCrossEntropyOptions(LossOptions):
    """Cross entropy in which some channels count more."""

    weights: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(), description="one per network channel; empty: all classes of a batch count the same"
    )


class FocalOptions(LossOptions):
    """Focal loss."""

    gamma: float = Field(default=2.0, ge=1, description="how much less a voxel counts that is already right")


class TopKOptions(LossOptions):
    """Cross entropy of the worst voxels."""

    share: float = Field(default=0.1, gt=0, le=1, description="share of the valid voxels that counts")


class TverskyOptions(LossOptions):
    """Tversky index; with both weights at 0.5 it is the Dice."""

    false_positives: float = Field(default=0.3, ge=0)
    false_negatives: float = Field(default=0.7, ge=0)
    smooth: float = Field(default=1e-5, gt=0, description="added to numerator and denominator")
    background: bool = Field(default=False, description="whether softmax's background counts; regions have none")


class GeneralisedDiceOptions(LossOptions):
    """Generalised Dice: all channels in one ratio."""

    weighting: Literal["square", "simple", "uniform"] = Field(
        default="square", description="a channel's weight: 1 / volume^2, 1 / volume, or 1"
    )
    smooth: float = Field(default=1e-5, gt=0, description="added to numerator and denominator")
    background: bool = Field(default=True, description="whether softmax's background counts; regions have none")


class DistanceOptions(LossOptions):
    """What losses by the distance from the true boundary have."""

    maps: ClassVar[tuple[str, ...]] = ("signed_distance",)
    background: bool = Field(default=False, description="whether softmax's background counts; regions have none")


class BoundaryOptions(DistanceOptions):
    """Boundary loss."""


class HausdorffOptions(DistanceOptions):
    """Hausdorff distance loss by distance transforms."""

    alpha: float = Field(default=2.0, gt=0, description="power of the distance")
