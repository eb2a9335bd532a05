"""Options of optimisers, schedules and objectives as they stand in a plan. Needs no torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from bts_auto.documents import Document


class SGDOptions(Document):
    """Stochastic gradient descent with momentum; the defaults are nnU-Net v2's."""

    lr: float = Field(0.01, gt=0)
    momentum: float = Field(0.99, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(3e-5, ge=0)

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> SGDOptions:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class AdamOptions(Document):
    """Adam (Kingma and Ba, 2015); the weight decay is added to the gradient."""

    lr: float = Field(3e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(3e-5, ge=0)
    amsgrad: bool = False

    @model_validator(mode="after")
    def _betas_below_one(self) -> AdamOptions:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError("betas must lie in [0, 1)")
        return self


class AdamWOptions(AdamOptions):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    weight_decay: float = Field(0.01, ge=0)


class ScheduleOptions(Document):
    """What every schedule can do: a linear warm-up before it, and change by epoch or by step."""

    warm_up: float = Field(0.0, ge=0, lt=1, description="share of the training in which the factor rises linearly to 1")
    warm_up_start: float = Field(0.0, ge=0, le=1, description="factor at the first step of the warm-up")
    per: Literal["epoch", "step"] = "epoch"


class PolyOptions(ScheduleOptions):
    """``(1 - fraction) ** exponent``, per epoch as in nnU-Net v2."""

    exponent: float = Field(0.9, gt=0)


class CosineOptions(ScheduleOptions):
    """Half a cosine from 1 down to `final` (Loshchilov and Hutter, 2017, without restarts)."""

    final: float = Field(0.0, ge=0, le=1)
    per: Literal["epoch", "step"] = "step"


class ConstantOptions(ScheduleOptions):
    """The learning rate stays as it is."""


class OneCycleOptions(ScheduleOptions):
    """Half a cosine up to 1, then half a cosine down (Smith and Topin, 2018); the momentum is left alone."""

    rise: float = Field(0.3, gt=0, lt=1, description="share of the training spent on the way up")
    start: float = Field(0.04, ge=0, le=1, description="factor at the first step")
    final: float = Field(4e-6, ge=0, le=1, description="factor at the last step")
    per: Literal["epoch", "step"] = "step"


class MixUpOptions(Document):
    """Samples of a batch blended with each other (Zhang et al., 2018)."""

    probability: float = Field(1.0, ge=0, le=1, description="share of the steps")
    alpha: float = Field(0.2, gt=0, description="both parameters of the Beta distribution of the share")


class SegmentationOptions(Document):
    """Supervised segmentation takes no options of its own: loss, optimiser and schedule are fields of `training`."""

    takes_unlabelled: ClassVar[bool] = False


class MultiTaskOptions(SegmentationOptions):
    """Weights of the losses beside the segmentation's; see :class:`bts_auto.train.objectives.multitask.MultiTask`."""

    takes_unlabelled: ClassVar[bool] = True
    reconstruction: float = Field(0.1, ge=0, description="weight of the image's mean squared error")
    divergence: float = Field(0.1, ge=0, description="weight of the latent's distance from a standard normal")
    classification: float = Field(0.1, ge=0, description="weight of the cross-entropy of the presence")
    presence: str = Field("ET", description="the label or region whose presence in a patch is told")
    hidden: int = Field(100, ge=1, description="channels around the latent")
    latent: int = Field(50, ge=1, description="channels of the latent")
