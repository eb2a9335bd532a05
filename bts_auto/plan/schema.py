"""The plan: one JSON document that says everything that happens after the raw data.

Field names are nnU-Net v2's where it has one. Spatial fields of a configuration are in the plan's transposed axis
order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from bts_auto import registry
from bts_auto.data.labels import Labels
from bts_auto.data.split_rules import SplitRules
from bts_auto.documents import Document, parse
from bts_auto.errors import PlanError
from bts_auto.files import hash_json, read_json, write_json
from bts_auto.plan.merge import merge
from bts_auto.plan.presets import PresetName

PLAN_VERSION: Literal[1] = 1
_LABEL_FIELDS = ("labels", "regions_class_order", "submission_labels", "soft_labels")
DECIDES_NOTHING = frozenset({"expected", "asked", "settled", "considered"})
"""Fields of a plan that tell how it came about and what it will take."""
Ints = tuple[int, ...]
Floats = tuple[float, ...]


class Component(Document):
    """A registered component by name, with its options; the bare name stands for one without options."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if not isinstance(value, Mapping | Component):
            raise ValueError('a component is a name, or {"name": ..., "options": {...}}')
        return value


class LossTerm(Component):
    """One term of the loss; terms are summed with their weights."""

    weight: float = 1.0


def _as_list(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else [value]


def _at_least_one(terms: tuple[LossTerm, ...]) -> tuple[LossTerm, ...]:
    if not terms:
        raise ValueError("needs at least one term")
    return terms


Components = Annotated[tuple[Component, ...], BeforeValidator(_as_list)]
"""In order; a single one needs no list around it."""
LossTerms = Annotated[
    tuple[LossTerm, ...],
    BeforeValidator(_as_list),
    AfterValidator(_at_least_one),
    Field(json_schema_extra={"minItems": 1}),
]


class Resampling(Document):
    """How arrays are brought to the planned spacing and back."""

    image_order: int = Field(3, ge=0, le=5)
    label_order: int = Field(1, ge=0, le=5)
    probabilities_order: int = Field(1, ge=0, le=5)
    order_z: int = Field(0, ge=0, le=5)
    separate_z: bool | None = Field(None, description="None: where one axis is over 3 times coarser than the others")


class ModelChoice(Document):
    """Ship the weights that are best on whole held-out volumes, not the last ones."""

    cases: int = Field(3, ge=1, description="held-out cases to look at, the first in order")
    every: int = Field(50, ge=1, description="epochs from one look to the next; the last epoch is always looked at")


class Training(Document):
    """Length, optimisation and sampling of a training run. Defaults are nnU-Net v2's."""

    objective: Component = Component(name="segmentation")
    loss: LossTerms = (LossTerm(name="dice"), LossTerm(name="cross_entropy"))
    epochs: int = Field(1000, ge=1)
    iterations: int = Field(250, ge=1, description="optimiser steps per epoch")
    validation_iterations: int = Field(50, ge=0)
    optimizer: Component = Component(name="sgd")
    schedule: Component = Component(name="poly")
    gradient_clip: float | None = Field(12.0, gt=0)
    until_plateau: int | None = Field(
        None, ge=1, description="come to the end after so many epochs without a better running Dice; None: never"
    )
    accumulation: int = Field(1, ge=1, description="batches whose gradients are averaged in one optimiser step")
    weight_average: float | None = Field(None, gt=0, lt=1, description="decay of the averaged weights that are shipped")
    oversample_foreground: float = Field(0.33, ge=0, le=1)
    case_weights: str | None = Field(
        None, description="column of cases.csv: how often a case is drawn, an empty field being 1; None: all alike"
    )
    model_choice: ModelChoice | None = Field(None, description="None: the last weights are shipped, as nnU-Net does")
    deep_supervision: bool = True
    deep_supervision_weights: Floats | None = Field(
        None, description="of each resolution's loss, finest first; None: 1, 1/2, 1/4, ..., the coarsest 0, normalised"
    )
    augmentation: Components | None = Field(None, description="None: the default list for the patch")
    more_augmentation: Components = Field((), description="applied after that list")
    mixing: Component | None = Field(None, description="how the samples of a batch are mixed; None: not")
    augmentation_device: Literal["auto", "cpu", "device"] = Field(
        "auto",
        description="cpu: in the threads that read; device: all samples of a batch at once where the network is; "
        "auto: the faster one of the two for a GPU",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="torch.compile; auto: where the training is long enough for it to pay, by measurement"
    )
    seed: int = Field(0, ge=0)


Ranges = dict[str, tuple[float, float]]
"""Smallest and largest input of a network's convolutions, by the path of their modules."""


_MEASURED = ("measured", "ranges")  # fields of an inference that a trained network brings with it


class MeasuredTile(Document):
    """What validation found with one size of tile and one distance between tiles.

    Attributes
    ----------
    tile : "patch", "whole" or tuple of int
    step_size : float
        Distance of tiles as a share of the tile.
    mirrored : bool
        Whether answers to mirrored inputs were averaged.
    int8 : bool
        Whether convolutions were computed in 8-bit integers.
    dice : dict of str to dict of str to float
        Of each held-out case, of each label and region that it has.
    seconds : dict of str to float
        Of the network, for each case.
    """

    tile: Literal["patch", "whole"] | Ints
    step_size: float = Field(0.5, gt=0, le=1)
    mirrored: bool = False
    int8: bool = False
    dice: dict[str, dict[str, float]]
    seconds: dict[str, float] = Field(default_factory=dict)


class Inference(Document):
    """How a trained network is used."""

    step_size: float = Field(0.5, gt=0, le=1, description="distance of tiles as a share of the tile")
    mirror_axes: Ints = Field((), description="spatial axes (0-based, of the network's input) that are mirrored")
    tile: Literal["auto", "patch", "whole"] | Ints = Field(
        "auto", description="'auto': validation tries several sizes, and prediction uses the best"
    )
    measured: tuple[MeasuredTile, ...] = Field((), description="what validation found; written by training")
    ranges: Ranges = Field(
        default_factory=dict, description="of the inputs of convolutions, for int8; written by training and by imports"
    )
    averaging: Literal["probabilities", "logits"] = "probabilities"


class SegmentationConfiguration(Document):
    """One way of segmenting: a resolution, a network and its training."""

    kind: Literal["segmentation"] = "segmentation"
    inherits_from: str | None = None
    spacing: Floats
    patch_size: Ints
    batch_size: int = Field(ge=1)
    median_image_size_in_voxels: Floats
    n_stages: int
    features_per_stage: Ints
    kernel_sizes: tuple[Ints, ...]
    strides: tuple[Ints, ...]
    batch_dice: bool
    normalization_schemes: tuple[str, ...]
    use_mask_for_norm: tuple[bool, ...]
    resampling: Resampling = Resampling()
    network: Component = Component(name="plain_unet")
    training: Training = Training()
    inference: Inference = Inference()
    postprocessing: Components = ()
    previous_stage: str | None = None
    next_stage: str | tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _sizes_agree(self) -> SegmentationConfiguration:
        problems = list(self._disagreements())
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _disagreements(self) -> Iterator[str]:
        dims, stages = self.dims, self.n_stages
        if dims not in (2, 3):
            yield f"patch_size has {dims} axes, a patch has 2 or 3"
        for name in ("spacing", "median_image_size_in_voxels"):
            if len(getattr(self, name)) != dims:
                yield f"{name} has {len(getattr(self, name))} axes, patch_size has {dims}"
        for name in ("features_per_stage", "kernel_sizes", "strides"):
            if len(getattr(self, name)) != stages:
                yield f"{name} has {len(getattr(self, name))} entries for {stages} stages"
        if any(len(entry) != dims for entry in (*self.kernel_sizes, *self.strides)):
            yield f"kernel_sizes and strides need {dims} numbers for each stage"
        elif any(edge < 1 or edge % n for edge, n in zip(self.patch_size, self.divisors, strict=True)):
            yield f"patch_size {self.patch_size} is not a multiple of the strides' product {self.divisors}"
        if any(value <= 0 for value in self.spacing):
            yield f"spacing {self.spacing} is not positive"
        if len(self.use_mask_for_norm) != len(self.normalization_schemes):
            yield "use_mask_for_norm and normalization_schemes need one entry for each channel"
        if self.training.mixing is not None and self.batch_size < 2:
            yield "training.mixing mixes the samples of a batch, and batch_size is 1"
        weights = self.training.deep_supervision_weights
        if weights is not None and (min(weights, default=-1) < 0 or not any(weights)):
            yield f"training.deep_supervision_weights {weights} need to be 0 or more, and one of them above"
        axes = self.inference.mirror_axes
        if len(set(axes)) != len(axes) or not set(axes) <= set(range(dims)):
            yield f"inference.mirror_axes {axes} must be different axes of 0 to {dims - 1}"

    @property
    def dims(self) -> int:
        """2 or 3: the number of spatial axes of a patch."""
        return len(self.patch_size)

    @property
    def divisors(self) -> Ints:
        """What each axis of a patch is a multiple of: the product of the strides."""
        return tuple(math.prod(stride[axis] for stride in self.strides) for axis in range(self.dims))

    def network_options(self) -> Any:
        """The network's options; those that the planner decides are filled in from this configuration."""
        planned = {
            "features_per_stage": self.features_per_stage,
            "kernel_sizes": self.kernel_sizes,
            "strides": self.strides,
        }
        fields = type(registry.options("network", self.network.name, None)).model_fields
        values = {name: value for name, value in planned.items() if name in fields} | self.network.options
        return registry.options("network", self.network.name, values)

    def check_components(self) -> None:
        """Look up every component and validate its options; none is loaded.

        Raises
        ------
        PlanError
            For an unknown component or option, or a value that does not fit.
        """
        self.network_options()
        training = self.training
        named = [
            ("objective", training.objective),
            ("optimizer", training.optimizer),
            ("schedule", training.schedule),
            *(("loss", term) for term in training.loss),
            *(("augmentation", one) for one in (*(training.augmentation or ()), *training.more_augmentation)),
            *(("mixing", one) for one in (training.mixing,) if one is not None),
            *(("postprocessing", rule) for rule in self.postprocessing),
            *(("normaliser", Component(name=scheme)) for scheme in self.normalization_schemes),
        ]
        for kind, one in named:
            registry.options(kind, one.name, one.options)

    def preprocessing_key(self) -> str:
        """Hash of all that decides a stored case's content (not the patch), 8 hexadecimal digits."""
        spatial = {"spacing": self.spacing, "resampling": self.resampling.model_dump(mode="json")}
        intensity = {"normalization_schemes": self.normalization_schemes, "use_mask_for_norm": self.use_mask_for_norm}
        return hash_json(spatial | intensity)[:8]


class Expected(Document):
    """What a configuration's training will take on the machine that was planned for."""

    memory_gb: float = Field(gt=0, description="peak of a training step, in 1024^3 bytes")
    step_tflop: float = Field(gt=0, description="floating-point operations of a training step, in 10^12")
    step_seconds: float | None = Field(None, gt=0, description="None: the machine's rate is not known")
    epoch_seconds: float | None = Field(None, gt=0, description="steps and held-out patches of an epoch")
    hardware: str | None = Field(None, description="what the times are for")
    precision: Literal["fp32", "bf16", "fp16"] | None = Field(None, description="number format that this is for")


class Asked(Document):
    """What measured sizes were made for, beside what other fields say: the same asked again finds the same plan."""

    gpu_memory_gb: float | None = Field(None, description="the memory that was named; None: what there was")
    hardware: str | None = Field(None, description="what steps were tried on; None: the GPU is elsewhere")


class Considered(Document):
    """A configuration that a time budget could have been spent on, as it was foretold when the plan was made."""

    spacing: Floats
    patch_size: Ints
    channels: int = Field(description="of the first stage")
    steps: int = Field(description="that fit the budget")
    price: float = Field(description="expected loss of mean Dice against unlimited time")


class Plan(Document):
    """Everything that happens after the raw data.

    `configurations` may hold partial entries with ``inherits_from``; :meth:`configuration` resolves them.
    """

    version: Literal[1] = PLAN_VERSION
    dataset_name: str
    recipe: str = "default"
    planner: Literal["nnunet", "measured"] = "nnunet"
    preset: PresetName = "plain"
    gpu_memory_gb: float = Field(8, gt=0)
    fingerprint_hash: str = ""
    channel_names: tuple[str, ...]
    labels: dict[str, int | Ints]
    target: Literal["labels", "regions"] = Field(
        "labels", description="regions: plain labels of a tumour's tissues are trained as WT, TC and ET"
    )
    regions_class_order: Ints | None = None
    submission_labels: dict[int, int] = Field(default_factory=dict)
    soft_labels: dict[str, dict[int, float]] = Field(
        default_factory=dict, description="region -> integer -> how far it belongs to it when trained, 0 to 1"
    )
    file_ending: str = ".nii.gz"
    orientation: Literal["canonical", "as_stored"] = "canonical"
    transpose_forward: Ints
    transpose_backward: Ints
    original_median_spacing_after_transp: Floats
    original_median_shape_after_transp: Ints
    foreground_intensity_properties_per_channel: dict[str, dict[str, float]]
    configurations: dict[str, dict[str, Any]]
    splits: SplitRules = Field(SplitRules(), description="how the folds are drawn; folds that were drawn stay")
    budget_seconds: float | None = Field(None, gt=0, description="what training and validation were sized for")
    expected: dict[str, Expected] = Field(default_factory=dict, description="by configuration; decides nothing")
    asked: Asked | None = Field(None, description="of measured sizes; decides nothing")
    settled: bool = Field(False, description="whether a budget's steps were timed on preprocessed cases")
    considered: tuple[Considered, ...] = Field(
        (), description="for a budget: what was chosen, then the best of other spacings, widths and patches"
    )

    def configuration(self, name: str) -> SegmentationConfiguration:
        """A configuration with everything that it inherits.

        Raises
        ------
        PlanError
            When the plan has no such configuration (the others are named), or its content does not fit.
        """
        if name not in self.configurations:
            raise PlanError(f"the plan has no configuration '{name}'", mend=f"it has {', '.join(self.configurations)}")
        merged: dict[str, Any] = {}
        seen: list[str] = []
        at: str | None = name
        while at is not None:
            if at in seen or at not in self.configurations:
                raise PlanError(f"configuration '{name}' inherits from '{at}', which is missing or in a circle")
            seen.append(at)
            merged = merge(self.configurations[at], merged)
            at = self.configurations[at].get("inherits_from")
        return parse(SegmentationConfiguration, merged, where=f"configuration '{name}'")

    def replaced(self, name: str, section: Literal["training", "inference"], changes: Mapping[str, Any]) -> Plan:
        """The plan with fields of a configuration's training or inference replaced, checked like any plan."""
        if not changes:
            return self
        values = getattr(self.configuration(name), section).model_dump(mode="json") | dict(changes)
        configurations = dict(self.configurations)
        configurations[name] = configurations[name] | {section: values}
        changed = self.model_copy(update={"configurations": configurations})
        changed.configuration(name)
        return changed

    def network_channels(self, name: str) -> tuple[int, int]:
        """Input and output channels of a configuration's network.

        Inputs are the images, then one one-hot channel for each label of a previous stage's mask.
        """
        return len(self.channel_names) + len(self.previous_stage_labels(name)), len(self.label_set().outputs)

    def previous_stage_labels(self, name: str) -> tuple[int, ...]:
        """The integers of a previous stage's mask that become one-hot input channels, in order; () without a stage."""
        if self.configuration(name).previous_stage is None:
            return ()
        return tuple(value for value in self.label_set().known_values if value != 0)

    def stages_before(self, name: str) -> tuple[str, ...]:
        """The configurations whose masks a configuration takes, directly or through others; the first stage first.

        Raises
        ------
        PlanError
            When there is no such configuration, or stages come before each other in a circle.
        """
        before: list[str] = []
        at = self.configuration(name).previous_stage
        while at is not None:
            if at in (name, *before):
                raise PlanError(f"configuration '{at}' comes before itself", mend="correct its previous_stage")
            before.insert(0, at)
            at = self.configuration(at).previous_stage
        return tuple(before)

    def check(self) -> None:
        """Check that all configurations are complete, that their components exist, and that stages name each other.

        Raises
        ------
        PlanError
            With the configuration's name and the first problem.
        """
        if sorted(self.transpose_forward) != [0, 1, 2] or self.transpose_backward != tuple(
            self.transpose_forward.index(axis) for axis in range(3)
        ):
            raise PlanError("transpose_forward and transpose_backward must be inverse orders of the axes 0, 1, 2")
        for name in self.configurations:
            configuration = self.configuration(name)
            configuration.check_components()
            following = configuration.next_stage or ()
            for stage in (configuration.previous_stage, *((following,) if isinstance(following, str) else following)):
                if stage is not None and stage not in self.configurations:
                    raise PlanError(f"configuration '{name}' names the stage '{stage}', which the plan has not")
            if len(configuration.normalization_schemes) != len(self.channel_names):
                raise PlanError(f"configuration '{name}' does not normalise each of {len(self.channel_names)} channels")

    def label_set(self) -> Labels:
        """What networks are trained on: the dataset's labels, or the regions that they make."""
        labels = Labels.from_dataset(self.model_dump(mode="json", include=set(_LABEL_FIELDS)))
        return labels.as_regions() if self.target == "regions" else labels

    @classmethod
    def load(cls, path: Path | str) -> Plan:
        """Read a plan and check it, configurations included.

        Raises
        ------
        PlanError
            For another version, unknown keys (with the nearest known one) or values that do not fit.
        """
        return cls.from_values(read_json(path), where=path)

    @classmethod
    def from_values(cls, values: Any, *, where: object = None) -> Plan:
        """Check the content of a plan's file, configurations included; `where` is named in errors.

        Raises
        ------
        PlanError
            As :meth:`load`.
        """
        version = values.get("version") if isinstance(values, dict) else None
        if version != PLAN_VERSION:
            raise PlanError(
                f"plan of version {version}, this program reads version {PLAN_VERSION}",
                where=where,
                mend="plan again with bts_plan",
            )
        plan = parse(cls, values, where=where)
        plan.check()
        return plan

    def save(self, path: Path | str) -> None:
        """Write the plan as JSON."""
        write_json(path, self.model_dump(mode="json"))

    def content_hash(self) -> str:
        """SHA-256 of what the plan decides; what was measured of trained networks is not among it."""
        values = self.model_dump(mode="json", exclude=set(DECIDES_NOTHING))
        for configuration in values["configurations"].values():
            inference = configuration.get("inference", {})
            configuration["inference"] = {k: v for k, v in inference.items() if k not in _MEASURED}
        return hash_json(values)
