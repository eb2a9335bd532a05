"""The plan: one JSON document that says everything that happens after the raw data.

Field names are nnU-Net v2's where it has one. Spatial fields of a configuration are in the plan's transposed axis order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from bts_auto import registry
from bts_auto.data.labels import Labels
from bts_auto.documents import Document, parse
from bts_auto.errors import PlanError
from bts_auto.files import hash_json, read_json, write_json

PLAN_VERSION = 1
Ints = tuple[int, ...]
Floats = tuple[float, ...]


class Component(Document):
    """A registered component by name, with its options."""

    name: str
    options: dict[str, Any] = {}


class LossTerm(Component):
    """One term of the loss; terms are summed with their weights."""

    weight: float = 1.0


class Resampling(Document):
    """How arrays are brought to the planned spacing and back."""

    image_order: int = 3
    label_order: int = 1
    probabilities_order: int = 1
    order_z: int = 0
    separate_z: bool | None = Field(None, description="None: where one axis is more than 3 times coarser than the others")


class Training(Document):
    """Length, optimisation and sampling of a training run. Defaults are nnU-Net v2's."""

    objective: Component = Component(name="segmentation")
    loss: tuple[LossTerm, ...] = (LossTerm(name="dice"), LossTerm(name="cross_entropy"))
    epochs: int = Field(1000, ge=1)
    iterations: int = Field(250, ge=1, description="optimiser steps per epoch")
    validation_iterations: int = Field(50, ge=0)
    optimizer: Component = Component(name="sgd")
    schedule: Component = Component(name="poly")
    gradient_clip: float | None = Field(12.0, gt=0)
    accumulation: int = Field(1, ge=1, description="batches whose gradients are averaged in one optimiser step")
    weight_average: float | None = Field(None, gt=0, lt=1, description="decay of the averaged weights that are shipped")
    oversample_foreground: float = Field(0.33, ge=0, le=1)
    deep_supervision: bool = True
    augmentation: tuple[Component, ...] | None = Field(None, description="None: the default list for the patch")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    seed: int = 0


class Inference(Document):
    """How a trained network is used."""

    step_size: float = Field(0.5, gt=0, le=1, description="distance of tiles as a share of the tile")
    mirror_axes: Ints = Field((), description="spatial axes (0-based, of the network's input) that are mirrored")
    tile: Literal["patch", "whole"] | Ints = "patch"
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
    postprocessing: tuple[Component, ...] = ()
    previous_stage: str | None = None
    next_stage: str | tuple[str, ...] | None = None

    @property
    def dims(self) -> int:
        """2 or 3: the number of spatial axes of a patch."""
        return len(self.patch_size)

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

    def preprocessing_key(self) -> str:
        """Hash of all that decides a stored case's content (not the patch), 8 hexadecimal digits."""
        spatial = {"spacing": self.spacing, "resampling": self.resampling.model_dump(mode="json")}
        intensity = {"normalization_schemes": self.normalization_schemes, "use_mask_for_norm": self.use_mask_for_norm}
        return hash_json(spatial | intensity)[:8]


class Plan(Document):
    """Everything that happens after the raw data.

    `configurations` may hold partial entries with ``inherits_from``; :meth:`configuration` resolves them.
    """

    version: int = PLAN_VERSION
    dataset_name: str
    recipe: str = "default"
    planner: Literal["nnunet", "measured"] = "nnunet"
    preset: Literal["plain", "resenc_m", "resenc_l", "resenc_xl"] = "plain"
    gpu_memory_gb: float = 8
    fingerprint_hash: str = ""
    channel_names: tuple[str, ...]
    labels: dict[str, int | Ints]
    regions_class_order: Ints | None = None
    submission_labels: dict[int, int] = {}
    file_ending: str = ".nii.gz"
    orientation: Literal["canonical", "as_stored"] = "canonical"
    transpose_forward: Ints
    transpose_backward: Ints
    original_median_spacing_after_transp: Floats
    original_median_shape_after_transp: Floats
    foreground_intensity_properties_per_channel: dict[str, dict[str, float]]
    configurations: dict[str, dict[str, Any]]

    def configuration(self, name: str) -> SegmentationConfiguration:
        """A configuration with everything that it inherits.

        Raises
        ------
        PlanError
            When the plan has no such configuration (the others are named), or its content does not fit.
        """
        if name not in self.configurations:
            raise PlanError(f"the plan has no configuration '{name}'", mend=f"it has {', '.join(self.configurations)}")
        merged, seen, at = {}, [], name
        while at is not None:
            if at in seen or at not in self.configurations:
                raise PlanError(f"configuration '{name}' inherits from '{at}', which is missing or in a circle")
            seen.append(at)
            merged = self.configurations[at] | merged
            at = self.configurations[at].get("inherits_from")
        return parse(SegmentationConfiguration, merged, where=f"configuration '{name}'")

    def label_set(self) -> Labels:
        """The dataset's labels."""
        return Labels.from_dataset(self.model_dump(mode="json"))

    @classmethod
    def load(cls, path: Path | str) -> Plan:
        """Read a plan and check it, configurations included.

        Raises
        ------
        PlanError
            For another version, unknown keys (with the nearest known one) or values that do not fit.
        """
        values = read_json(path)
        version = values.get("version") if isinstance(values, dict) else None
        if version != PLAN_VERSION:
            raise PlanError(
                f"plan of version {version}, this program reads version {PLAN_VERSION}",
                where=path,
                mend="plan again with bts_plan",
            )
        plan = parse(cls, values, where=path)
        for name in plan.configurations:
            plan.configuration(name)
        return plan

    def save(self, path: Path | str) -> None:
        """Write the plan as JSON."""
        write_json(path, self.model_dump(mode="json"))

    def content_hash(self) -> str:
        """SHA-256 of the plan's content."""
        return hash_json(self.model_dump(mode="json"))
