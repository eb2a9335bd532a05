"""Name -> component. A table of data: importing this module imports no component, and no plan can name a path.

Every entry says where the component lives and where its options do. Options are pydantic models in modules that need no
torch, so that a plan can be validated, listed and described without loading one.
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from typing import Any

from bts_auto.errors import PlanError


@dataclass(frozen=True)
class Entry:
    """Where a component and its options live, each as ``"module:attribute"``; `options` None: it has none."""

    component: str
    options: str | None = None


def _augmentation(component: str, options: str) -> Entry:
    return Entry(f"bts_auto.train.augment.{component}", f"bts_auto.train.augment.options:{options}")


TABLE: dict[str, dict[str, Entry]] = {
    "normaliser": {
        "ZScoreNormalization": Entry("bts_auto.preprocess.normalise:z_score"),
        "CTNormalization": Entry("bts_auto.preprocess.normalise:ct"),
        "NoNormalization": Entry("bts_auto.preprocess.normalise:unchanged"),
        "RescaleTo01Normalization": Entry("bts_auto.preprocess.normalise:rescale_to_0_1"),
        "RGBTo01Normalization": Entry("bts_auto.preprocess.normalise:rgb_to_0_1"),
    },
    "network": {
        "deepseg": Entry("bts_auto.networks.deepseg:deepseg", "bts_auto.networks.options:DeepSegOptions"),
        "plain_unet": Entry("bts_auto.networks.unet:plain_unet", "bts_auto.networks.options:PlainUNetOptions"),
        "residual_unet": Entry("bts_auto.networks.unet:residual_unet", "bts_auto.networks.options:ResidualUNetOptions"),
        "unpooling_unet": Entry(
            "bts_auto.networks.unpooling_unet:unpooling_unet", "bts_auto.networks.options:UnpoolingUNetOptions"
        ),
    },
    "loss": {
        "boundary": Entry("bts_auto.losses.boundary:Boundary", "bts_auto.losses.options:BoundaryOptions"),
        "hausdorff": Entry("bts_auto.losses.hausdorff:Hausdorff", "bts_auto.losses.options:HausdorffOptions"),
        "dice": Entry("bts_auto.losses.dice:SoftDice", "bts_auto.losses.options:DiceOptions"),
        "cross_entropy": Entry(
            "bts_auto.losses.cross_entropy:CrossEntropy", "bts_auto.losses.options:CrossEntropyOptions"
        ),
        "weighted_cross_entropy": Entry(
            "bts_auto.losses.weighted_cross_entropy:WeightedCrossEntropy",
            "bts_auto.losses.options:WeightedCrossEntropyOptions",
        ),
        "focal": Entry("bts_auto.losses.focal:Focal", "bts_auto.losses.options:FocalOptions"),
        "top_k": Entry("bts_auto.losses.top_k:TopK", "bts_auto.losses.options:TopKOptions"),
        "tversky": Entry("bts_auto.losses.tversky:Tversky", "bts_auto.losses.options:TverskyOptions"),
        "generalised_dice": Entry(
            "bts_auto.losses.generalised_dice:GeneralisedDice", "bts_auto.losses.options:GeneralisedDiceOptions"
        ),
    },
    "optimizer": {
        "adam": Entry("bts_auto.train.optimizers:adam", "bts_auto.train.options:AdamOptions"),
        "adamw": Entry("bts_auto.train.optimizers:adamw", "bts_auto.train.options:AdamWOptions"),
        "sgd": Entry("bts_auto.train.optimizers:sgd", "bts_auto.train.options:SGDOptions"),
    },
    "schedule": {
        "constant": Entry("bts_auto.train.schedules:constant", "bts_auto.train.options:ConstantOptions"),
        "cosine": Entry("bts_auto.train.schedules:cosine", "bts_auto.train.options:CosineOptions"),
        "one_cycle": Entry("bts_auto.train.schedules:one_cycle", "bts_auto.train.options:OneCycleOptions"),
        "poly": Entry("bts_auto.train.schedules:poly", "bts_auto.train.options:PolyOptions"),
    },
    "objective": {
        "multitask": Entry("bts_auto.train.objectives.multitask:MultiTask", "bts_auto.train.options:MultiTaskOptions"),
        "segmentation": Entry(
            "bts_auto.train.objectives.segmentation:Segmentation", "bts_auto.train.options:SegmentationOptions"
        ),
    },
    "mixing": {
        "mix_up": Entry("bts_auto.train.mixing:MixUp", "bts_auto.train.options:MixUpOptions"),
    },
    "augmentation": {
        "spatial": _augmentation("spatial:Spatial", "SpatialOptions"),
        "gaussian_noise": _augmentation("noise:GaussianNoise", "GaussianNoiseOptions"),
        "gaussian_blur": _augmentation("blur:GaussianBlur", "GaussianBlurOptions"),
        "brightness": _augmentation("brightness:Brightness", "BrightnessOptions"),
        "brightness_shift": _augmentation("brightness_shift:BrightnessShift", "BrightnessShiftOptions"),
        "contrast": _augmentation("contrast:Contrast", "ContrastOptions"),
        "low_resolution": _augmentation("low_resolution:LowResolution", "LowResolutionOptions"),
        "gamma": _augmentation("gamma:Gamma", "GammaOptions"),
        "mirror": _augmentation("mirror:Mirror", "MirrorOptions"),
        "mask_outside": _augmentation("mask_outside:MaskOutside", "MaskOutsideOptions"),
        "bias_field": _augmentation("bias_field:BiasField", "BiasFieldOptions"),
        "brightness_gradient": _augmentation("brightness_gradient:BrightnessGradient", "BrightnessGradientOptions"),
        "local_gamma": _augmentation("local_gamma:LocalGamma", "LocalGammaOptions"),
        "cut_out": _augmentation("cut_out:CutOut", "CutOutOptions"),
        "histogram_matching": _augmentation("histogram_matching:HistogramMatching", "HistogramMatchingOptions"),
        "positive_mining": _augmentation("positive_mining:PositiveMining", "PositiveMiningOptions"),
        "ghosting": _augmentation("kspace:Ghosting", "GhostingOptions"),
        "spike": _augmentation("kspace:SpikeNoise", "SpikeOptions"),
        "motion": _augmentation("kspace:Motion", "MotionOptions"),
        "previous_morphology": _augmentation("previous_morphology:PreviousMorphology", "PreviousMorphologyOptions"),
        "previous_drop_component": _augmentation("previous_drop:PreviousDrop", "PreviousDropOptions"),
    },
    "engine": {
        "torch": Entry("bts_auto.predict.engine_torch:TorchEngine"),
        "openvino": Entry("bts_auto.predict.engine_openvino:OpenVinoEngine"),
    },
    "executor": {
        "dask": Entry("bts_auto.execute.dask_cluster:DaskCluster", "bts_auto.execute.options:DaskOptions"),
        "local": Entry("bts_auto.execute.local:LocalProcesses", "bts_auto.execute.options:LocalOptions"),
        "serial": Entry("bts_auto.execute.serial:Serial", "bts_auto.execute.options:SerialOptions"),
    },
    "combiner": {
        "by_region": Entry("bts_auto.combine.combiners:by_region", "bts_auto.combine.options:ByRegionOptions"),
        "geometric_mean": Entry("bts_auto.combine.combiners:geometric", "bts_auto.combine.options:WeightedOptions"),
        "mean": Entry("bts_auto.combine.combiners:mean"),
        "region_channels": Entry(
            "bts_auto.combine.combiners:region_channels", "bts_auto.combine.options:ByRegionOptions"
        ),
        "simple": Entry("bts_auto.combine.combiners:simple", "bts_auto.combine.options:SimpleOptions"),
        "staple": Entry("bts_auto.combine.combiners:staple", "bts_auto.combine.options:StapleOptions"),
        "vote": Entry("bts_auto.combine.combiners:majority", "bts_auto.combine.options:VoteOptions"),
        "weighted": Entry("bts_auto.combine.combiners:weighted", "bts_auto.combine.options:WeightedOptions"),
    },
    "postprocessing": {
        "fill_holes": Entry(
            "bts_auto.postprocess.fill_holes:fill_holes", "bts_auto.postprocess.options:FillHolesOptions"
        ),
        "keep_largest": Entry(
            "bts_auto.postprocess.keep_largest:keep_largest", "bts_auto.postprocess.options:KeepLargestOptions"
        ),
        "minimum_size": Entry(
            "bts_auto.postprocess.minimum_size:minimum_size", "bts_auto.postprocess.options:MinimumSizeOptions"
        ),
        "morphology": Entry(
            "bts_auto.postprocess.morphology:morphology", "bts_auto.postprocess.options:MorphologyOptions"
        ),
        "nesting": Entry("bts_auto.postprocess.nesting:nesting", "bts_auto.postprocess.options:NestingOptions"),
        "output_gate": Entry(
            "bts_auto.postprocess.output_gate:output_gate", "bts_auto.postprocess.options:OutputGateOptions"
        ),
        "outside_brain": Entry("bts_auto.postprocess.outside_brain:outside_brain"),
        "small_region": Entry(
            "bts_auto.postprocess.small_region:small_region", "bts_auto.postprocess.options:SmallRegionOptions"
        ),
        "smoothing": Entry("bts_auto.postprocess.smoothing:smoothing", "bts_auto.postprocess.options:SmoothingOptions"),
        "thresholds": Entry(
            "bts_auto.postprocess.thresholds:thresholds", "bts_auto.postprocess.options:ThresholdsOptions"
        ),
        "volume_gate": Entry(
            "bts_auto.postprocess.volume_gate:volume_gate", "bts_auto.postprocess.options:VolumeGateOptions"
        ),
    },
    "rater_fusion": {
        "agreement": Entry("bts_auto.combine.raters:agreement"),
        "majority": Entry("bts_auto.combine.raters:majority", "bts_auto.combine.options:RaterVoteOptions"),
        "staple": Entry("bts_auto.combine.raters:staple", "bts_auto.combine.options:StapleOptions"),
    },
    "threshold_search": {
        "draws": Entry(
            "bts_auto.ensemble.threshold_draws:DrawSearch", "bts_auto.postprocess.options:ThresholdDrawsOptions"
        ),
        "grid": Entry("bts_auto.ensemble.thresholds:GridSearch"),
    },
    "logger": {
        "mlflow": Entry("bts_auto.train.loggers:MLflow"),
        "tensorboard": Entry("bts_auto.train.loggers:TensorBoard"),
        "wandb": Entry("bts_auto.train.loggers:WeightsAndBiases"),
    },
    "metric": {
        "assd": Entry("bts_auto.evaluate.distance:assd"),
        "auroc": Entry("bts_auto.evaluate.probability_metrics:auroc"),
        "average_precision": Entry("bts_auto.evaluate.probability_metrics:average_precision"),
        "brier": Entry("bts_auto.evaluate.probability_metrics:brier"),
        "dice": Entry("bts_auto.evaluate.overlap:dice"),
        "expected_calibration_error": Entry("bts_auto.evaluate.probability_metrics:expected_calibration_error"),
        "hd": Entry("bts_auto.evaluate.distance:hd"),
        "hd95": Entry("bts_auto.evaluate.distance:hd95"),
        "hd95_directed": Entry("bts_auto.evaluate.distance:hd95_directed"),
        "hd95_pooled": Entry("bts_auto.evaluate.distance:hd95_pooled"),
        "iou": Entry("bts_auto.evaluate.overlap:iou"),
        "lesion_dice": Entry("bts_auto.evaluate.lesions:lesion_dice"),
        "lesion_f1": Entry("bts_auto.evaluate.lesions:lesion_f1"),
        "lesion_hd95": Entry("bts_auto.evaluate.lesions:lesion_hd95"),
        "nsd": Entry("bts_auto.evaluate.distance:nsd"),
        "panoptic_quality": Entry("bts_auto.evaluate.lesions:panoptic_quality"),
        "precision": Entry("bts_auto.evaluate.overlap:precision"),
        "qubiq": Entry("bts_auto.evaluate.agreement:qubiq"),
        "recall": Entry("bts_auto.evaluate.overlap:recall"),
        "reference_volume_ml": Entry("bts_auto.evaluate.overlap:reference_volume_ml"),
        "relative_volume_error": Entry("bts_auto.evaluate.overlap:relative_volume_error"),
        "specificity": Entry("bts_auto.evaluate.overlap:specificity"),
        "volume_error_ml": Entry("bts_auto.evaluate.overlap:volume_error_ml"),
        "volume_ml": Entry("bts_auto.evaluate.overlap:volume_ml"),
    },
}


def names(kind: str) -> tuple[str, ...]:
    """The registered names of a kind, sorted."""
    return tuple(sorted(TABLE[kind]))


def _entry(kind: str, name: str) -> Entry:
    try:
        return TABLE[kind][name]
    except KeyError:
        near = difflib.get_close_matches(name, TABLE[kind], n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(names(kind)) or 'none'}"
        raise PlanError(f"no {kind} is called '{name}'", mend=hint) from None


def _load(reference: str) -> Any:
    module, attribute = reference.split(":")
    return getattr(importlib.import_module(module), attribute)


def component(kind: str, name: str) -> Any:
    """Import and return a component.

    Raises
    ------
    PlanError
        When no component of that kind has that name; the nearest name is suggested.
    """
    return _load(_entry(kind, name).component)


def options(kind: str, name: str, values: dict[str, Any] | None = None) -> Any:
    """Validate `values` as the options of a component (None where the component has none).

    Raises
    ------
    PlanError
        For an unknown component, an unknown option (the nearest one is named) or a value that does not fit.
    """
    from bts_auto.documents import parse

    entry = _entry(kind, name)
    if entry.options is None:
        if values:
            raise PlanError(f"{kind} '{name}' takes no options, got {', '.join(values)}")
        return None
    return parse(_load(entry.options), values or {}, where=f"options of {kind} '{name}'")
