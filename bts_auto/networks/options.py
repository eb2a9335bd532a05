"""Options of the networks, as they stand in a plan. Needs no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from bts_auto.documents import Document
from bts_auto.errors import PlanError

Ints = tuple[int, ...]
PerStage = int | Ints

# Residual blocks of nnU-Net's residual encoder (ResEncUNetPlanner): 1, 3, 4, then 6 in every further stage.
RESIDUAL_BLOCKS: Ints = (1, 3, 4, 6)


class UNetOptions(Document):
    """What all planned U-Nets share.

    The first three fields have one entry per resolution stage, finest first; empty, they are the planner's to fill.
    """

    features_per_stage: Ints = Field(default=(), description="channels of each stage")
    kernel_sizes: tuple[Ints, ...] = Field(
        default=(), description="convolution kernel of each stage, one integer per axis"
    )
    strides: tuple[Ints, ...] = Field(
        default=(), description="step with which each stage is entered, one integer per axis"
    )
    conv_bias: bool = True
    norm: Literal["instance", "batch", "group", "none"] = "instance"
    activation: Literal["leaky_relu", "relu", "elu", "silu", "gelu"] = "leaky_relu"
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="share of channels dropped after each convolution in training"
    )

    @model_validator(mode="after")
    def _stages_agree(self) -> UNetOptions:
        lengths = {len(self.features_per_stage), len(self.kernel_sizes), len(self.strides)}
        if len(lengths) > 1:
            raise ValueError("features_per_stage, kernel_sizes and strides must have one entry per stage each")
        axes = {len(entry) for entry in (*self.kernel_sizes, *self.strides)}
        if len(axes) > 1:
            raise ValueError("kernel_sizes and strides must have the same number of axes in every stage")
        if any(size % 2 == 0 or size < 1 for kernel in self.kernel_sizes for size in kernel):
            raise ValueError("kernel sizes must be odd")
        if any(step < 1 for stride in self.strides for step in stride):
            raise ValueError("strides must be at least 1")
        if any(features < 1 for features in self.features_per_stage):
            raise ValueError("features_per_stage must be at least 1")
        return self

    @property
    def n_stages(self) -> int:
        """Number of resolution stages, the bottleneck included."""
        return len(self.features_per_stage)

    def check_planned(self, dims: int) -> None:
        """Refuse a network that cannot be built.

        Raises
        ------
        PlanError
            When the planner's fields are empty, there are fewer than two stages, or the kernels have other than `dims`
            axes.
        """
        if self.n_stages < 2:
            raise PlanError(f"a U-Net needs at least two stages, the plan has {self.n_stages}")
        if len(self.kernel_sizes[0]) != dims:
            raise PlanError(f"kernel_sizes have {len(self.kernel_sizes[0])} axes, the patch has {dims}")


class PlainUNetOptions(UNetOptions):
    """The plain convolutional U-Net; defaults are nnU-Net v2's."""

    n_conv_per_stage: PerStage = Field(default=2, description="convolutions of each encoder stage")
    n_conv_per_stage_decoder: PerStage = Field(
        default=2, description="convolutions of each decoder stage, coarsest first"
    )


class ResidualUNetOptions(UNetOptions):
    """The U-Net with a residual encoder; defaults are nnU-Net v2's."""

    n_blocks_per_stage: PerStage = Field(default=RESIDUAL_BLOCKS, description="residual blocks of each encoder stage")
    n_conv_per_stage_decoder: PerStage = Field(
        default=1, description="convolutions of each decoder stage, coarsest first"
    )


class UnpoolingUNetOptions(UNetOptions):
    """The U-Net that pools by maxima and goes back up by the places that they were found at."""

    n_conv_per_stage: PerStage = Field(default=2, description="convolutions of each encoder stage")
    n_conv_per_stage_decoder: PerStage = Field(
        default=2, description="convolutions of each decoder stage, coarsest first"
    )
    head_bias: bool = Field(default=False, description="whether the 1x1 convolutions to logits have a bias")


class DeepSegOptions(UNetOptions):
    """The 3D DeepSeg network."""

    norm: Literal["instance", "batch", "group", "none"] = "batch"
    activation: Literal["leaky_relu", "relu", "elu", "silu", "gelu"] = "relu"
    n_conv_per_stage: PerStage = Field(default=2, description="convolutions of each stage, encoder and decoder")
    most_stages: int = Field(default=5, ge=2, description="planned stages beyond these are left out")


def per_stage(value: PerStage, n_stages: int, name: str) -> Ints:
    """`value` for each of `n_stages` stages; the last entry of a shorter tuple repeats, a longer one is cut.

    Raises
    ------
    PlanError
        For an empty tuple or an entry below 1.
    """
    entries = (value,) if isinstance(value, int) else value
    if not entries or min(entries) < 1:
        raise PlanError(f"{name} must be at least 1 in every stage, got {value}")
    return (*entries, *[entries[-1]] * n_stages)[:n_stages]
