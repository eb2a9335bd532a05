"""Small engines, plans and volumes for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bts_auto.data.volume import Geometry, Volume
from bts_auto.events import SILENT, Observer
from bts_auto.plan.schema import Plan, SegmentationConfiguration
from bts_auto.predict.cases import CaseTask, Loaded
from bts_auto.predict.folder import FolderResult, spread_folder
from bts_auto.predict.output import Extras
from bts_auto.predict.segmenter import Segmenter


class FunctionEngine:
    """An engine that computes `function` of the batch and counts its calls."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor] = lambda batch: batch) -> None:
        self.device = torch.device("cpu")
        self.function = function
        self.batches: list[torch.Tensor] = []

    def logits(self, batch: torch.Tensor) -> torch.Tensor:
        self.batches.append(batch.clone())
        return self.function(batch).clone()


def make_configuration(patch_size: Sequence[int] = (8, 8, 8), **changes: Any) -> SegmentationConfiguration:
    """A configuration with two stages and the given patch."""
    dims = len(patch_size)
    values: dict[str, Any] = {
        "spacing": (1.0,) * dims,
        "patch_size": tuple(patch_size),
        "batch_size": 2,
        "median_image_size_in_voxels": tuple(patch_size),
        "n_stages": 2,
        "features_per_stage": (4, 8),
        "kernel_sizes": ((3,) * dims,) * 2,
        "strides": ((1,) * dims, (2,) * dims),
        "batch_dice": False,
        "normalization_schemes": ("ZScoreNormalization",) * 2,
        "use_mask_for_norm": (False, False),
    }
    return SegmentationConfiguration(**(values | changes))


def make_plan(configuration: SegmentationConfiguration, **changes: Any) -> Plan:
    """A plan for two channels with three labels and one configuration, ``3d_fullres``."""
    values: dict[str, Any] = {
        "dataset_name": "Dataset001_Test",
        "channel_names": ("FLAIR", "T1c"),
        "labels": {"background": 0, "edema": 1, "core": 2},
        "transpose_forward": (0, 1, 2),
        "transpose_backward": (0, 1, 2),
        "original_median_spacing_after_transp": (1.0, 1.0, 1.0),
        "original_median_shape_after_transp": (16.0, 16.0, 16.0),
        "foreground_intensity_properties_per_channel": {},
        "configurations": {"3d_fullres": configuration.model_dump(mode="json")},
    }
    return Plan(**(values | changes))


class ThresholdNetwork(torch.nn.Module):
    """Three labels by the brightness of the first channel; equivariant to mirroring and independent of the tile."""

    def __init__(self) -> None:
        super().__init__()
        self.deep_supervision = False

    def forward(self, x: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        value = x[:, :1]
        return {"logits": [torch.cat([0 * value, 4 * (value - 0.3), 8 * (value - 0.7)], dim=1)]}


class MemoryFold:
    """A fold that holds its network in memory."""

    def __init__(self, plan: Plan, network: torch.nn.Module | None = None, name: str = "3d_fullres") -> None:
        self.plan, self.configuration_name = plan, name
        self.configuration = plan.configuration(name)
        self._network = network or ThresholdNetwork()

    def network(self, device: torch.device | str = "cpu") -> torch.nn.Module:
        return self._network.to(device)


def make_volume(
    size: tuple[int, int, int] = (20, 24, 22),
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    seed: int = 0,
    **geometry: Any,
) -> Volume:
    """Two smooth random channels, zero in a border of two voxels."""
    random = np.random.default_rng(seed)
    array = np.zeros((2, *size), np.float32)
    inner = tuple(slice(2, n - 2) if n > 4 else slice(None) for n in size)
    coarse = torch.from_numpy(random.random((1, 2, 4, 4, 4), dtype=np.float32))
    smooth = torch.nn.functional.interpolate(coarse, size=array[0][inner].shape, mode="trilinear")[0].numpy()
    array[(slice(None), *inner)] = 1 + 100 * smooth
    return Volume(array, Geometry(size, spacing, **geometry), ("FLAIR", "T1c"))


def predict_folder(
    predictor: Segmenter,
    input: Path,
    output: Path,
    *,
    save_probabilities: bool = False,
    save_uncertainty: bool = False,
    overwrite: bool = False,
    part: tuple[int, int] | None = None,
    observer: Observer = SILENT,
) -> FolderResult:
    """Segment a folder in this process by a model that is loaded."""
    extras = Extras(probabilities=save_probabilities, uncertainty=save_uncertainty)
    task = CaseTask(Loaded(predictor), overwrite=overwrite)
    return spread_folder(task, input, output, extras=extras, part=part, observer=observer)
