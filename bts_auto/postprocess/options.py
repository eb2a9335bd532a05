"""Options of the post-processing rules.

A region is a label or region by name; WT, TC and ET are known where they can be derived.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from bts_auto import registry
from bts_auto.documents import Document
from bts_auto.plan.schema import Component

NEXT = "next"
_BECOMES = "the label that removed voxels get; 'next': the most probable of the others (needs probabilities)"


class RuleOptions(Document):
    """What every rule's options can say."""

    @property
    def needs_probabilities(self) -> bool:
        """Whether the rule cannot do without the probabilities of the case."""
        return getattr(self, "becomes", None) == NEXT

    @property
    def starts_anew(self) -> bool:
        """Whether the rule makes the label map from probabilities, whatever was done before."""
        return False


class _Size(RuleOptions):
    """A volume given in voxels or in ml, one of the two."""

    voxels: int | None = Field(None, ge=0)
    ml: float | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _one_of_two(self) -> _Size:
        if (self.voxels is None) == (self.ml is None):
            raise ValueError("give either 'voxels' or 'ml'")
        return self


class KeepLargestOptions(RuleOptions):
    """Options of keep_largest."""

    region: str | None = Field(None, description="None: all foreground taken together")
    becomes: str = Field("background", description=_BECOMES)
    connectivity: Literal[6, 18, 26] = 26


class MinimumSizeOptions(_Size):
    """Options of minimum_size."""

    region: str | None = Field(None, description="None: all foreground taken together")
    becomes: str = Field("background", description=_BECOMES)
    connectivity: Literal[6, 18, 26] = 26


class SmallRegionOptions(_Size):
    """Options of small_region: the region's total volume in the case below which it becomes another label."""

    region: str = "ET"
    becomes: str | None = Field(
        None, description="the label it becomes; None: the one painted around it (necrosis for ET); 'next': " + _BECOMES
    )


class FillHolesOptions(RuleOptions):
    """Options of fill_holes."""

    region: str | None = Field(None, description="None: all foreground taken together")
    label: str | None = Field(None, description="what fills them; None: the label most frequent around each hole")
    in_slices: bool = Field(False, description="fill holes that are closed within a slice (z) too")


class MorphologyOptions(RuleOptions):
    """Options of morphology."""

    operation: Literal["open", "close"]
    region: str | None = Field(None, description="None: all foreground taken together")
    radius_mm: float = Field(1.0, gt=0, description="radius of the ball")
    becomes: str = Field("background", description="what opening leaves behind; " + _BECOMES)
    label: str | None = Field(None, description="what closing adds; None: the nearest label of the region")


class NestingOptions(RuleOptions):
    """Options of nesting."""

    threshold: float = Field(0.5, gt=0, lt=1)

    @property
    def needs_probabilities(self) -> bool:
        """Always: the label map is made from them."""
        return True


class SmoothingOptions(RuleOptions):
    """Options of smoothing."""

    radius: int = Field(1, ge=1, description="voxels; the neighbourhood is a cube of 2 radius + 1")


class ThresholdDrawsOptions(Document):
    """Options of threshold_search draws: how many combinations are tried for each fold, and how they are drawn."""

    draws: int = Field(1000, ge=1)
    sampler: Literal["tpe", "random"] | None = Field(
        None, description="tpe: Optuna's tree-structured Parzen estimator; None: that where it is installed"
    )


class ThresholdsOptions(RuleOptions):
    """Options of thresholds."""

    values: dict[str, float] = Field(
        default_factory=dict, description="region or label -> probability above which it is painted; 0.5 otherwise"
    )
    search: Component | None = Field(None, description="how bts_ensemble fits the values; None: over a grid")

    @field_validator("search")
    @classmethod
    def _search_is_known(cls, search: Component | None) -> Component | None:
        if search is not None:
            registry.options("threshold_search", search.name, search.options)
        return search

    @property
    def starts_anew(self) -> bool:
        """Always."""
        return True

    @property
    def needs_probabilities(self) -> bool:
        """Always: the label map is made from them."""
        return True


class VolumeGateOptions(RuleOptions):
    """Options of volume_gate: the region goes where its volume is at most one bound and another's is above a second.

    The defaults are those of Jabareen and Lukassen's decision tree for the enhancing tumour (BraTS 2021), in voxels of
    1 mm3.
    """

    region: str = "ET"
    at_most_ml: float = Field(0.1295, ge=0)
    other: str = "necrosis"
    above_ml: float = Field(16.954, ge=0)
    becomes: str = Field("next", description=_BECOMES)


class OutputGateOptions(RuleOptions):
    """Options of output_gate."""

    output: str = Field(description="name of the number that another model gives for the case")
    below: float = Field(0.5, description="the region is removed where the number is smaller")
    region: str | None = Field(None, description="None: all foreground")
    becomes: str = Field("background", description=_BECOMES)
