"""A tiny segmentation task whose steps take milliseconds, without a store or a loader."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bts_auto.events import SILENT, Observer
from bts_auto.losses.across import HERE, Across
from bts_auto.plan.schema import Plan
from bts_auto.train.journal import JOURNAL, read_journal
from bts_auto.train.loader import Batch
from bts_auto.train.loop import Limits, Loop, Parts
from bts_auto.train.objectives.segmentation import Segmentation
from bts_auto.train.options import PolyOptions, SegmentationOptions
from bts_auto.train.precision import Precision
from bts_auto.train.schedules import poly
from bts_auto.train.stopping import Interruption

NAME = "3d_fullres"
PATCH = (8, 8, 8)


def tiny_plan(labels: dict | None = None, network: dict | None = None, **training: Any) -> Plan:
    """Two channels, two labels, two stages; `training` replaces fields of that name."""
    defaults = {"epochs": 3, "iterations": 2, "validation_iterations": 1, "precision": "fp32"}
    configuration = {
        "spacing": (1.0, 1.0, 1.0),
        "patch_size": PATCH,
        "batch_size": 2,
        "median_image_size_in_voxels": (16.0, 16.0, 16.0),
        "n_stages": 2,
        "features_per_stage": (4, 8),
        "kernel_sizes": ((3, 3, 3), (3, 3, 3)),
        "strides": ((1, 1, 1), (2, 2, 2)),
        "batch_dice": False,
        "normalization_schemes": ("ZScoreNormalization",) * 2,
        "use_mask_for_norm": (False, False),
        "training": defaults | training,
    }
    if network:
        configuration["network"] = {"name": "plain_unet", "options": network}
    return Plan(
        dataset_name="Dataset001_Tiny",
        channel_names=("T1", "FLAIR"),
        labels=labels or {"background": 0, "edema": 1, "core": 2},
        transpose_forward=(0, 1, 2),
        transpose_backward=(0, 1, 2),
        original_median_spacing_after_transp=(1.0, 1.0, 1.0),
        original_median_shape_after_transp=(16.0, 16.0, 16.0),
        foreground_intensity_properties_per_channel={},
        configurations={NAME: configuration},
    )


def batch(index: int, seed: int = 0, size: int = 2, samples: Sequence[int] | None = None) -> Batch:
    """Samples of noise whose labels are the bright voxels of the first channel; a function of (seed, index).

    `samples`: those that are wanted.
    """
    generator = np.random.default_rng((seed, index))
    image = generator.normal(size=(size, 2, *PATCH)).astype(np.float32)
    mask = np.digitize(image[:, :1], (0.5, 1.2)).astype(np.int16)
    cases = (*(f"case_{(index + sample) % 3}" for sample in range(size - 1)), "case_9")
    wanted = list(range(size) if samples is None else samples)
    chosen = tuple(cases[sample] for sample in wanted)
    return Batch(torch.from_numpy(image)[wanted], torch.from_numpy(mask)[wanted], chosen, index)


def stream(seed: int = 0, size: int = 2, samples: Sequence[int] | None = None) -> Callable[[str, int], Iterator[Batch]]:
    """Endless batches from an index on."""
    return lambda name, first: (batch(index, seed, size, samples) for index in itertools.count(first))


def tiny_loop(
    folder: Path,
    plan: Plan | None = None,
    *,
    parts: dict[str, Any] | None = None,
    limits: Limits | None = None,
    observer: Observer = SILENT,
    interruption: Interruption | None = None,
    across: Across = HERE,
    samples: Sequence[int] | None = None,
    batch_size: int = 2,
    **options: Any,
) -> Loop:
    """A loop over :func:`batch`; `parts` replaces fields of its :class:`Parts`."""
    plan = plan or tiny_plan()
    made = Parts(
        objective=lambda: Segmentation(
            SegmentationOptions(), plan=plan, configuration_name=NAME, labels=plan.label_set(), across=across
        ),
        batches=stream(0, batch_size, samples),
        held_out=stream(1, batch_size, samples),
        schedule=poly(PolyOptions()),
        schedule_per="epoch",
    )
    return Loop(
        replace(made, **(parts or {})),
        plan.configuration(NAME).training,
        folder,
        device=torch.device("cpu"),
        precision=Precision(options.pop("precision", "fp32"), torch.device("cpu")),
        limits=limits,
        observer=observer,
        interruption=interruption,
        **options,
    )


def epochs(folder: Path) -> list[dict[str, Any]]:
    """The journal's epochs without what a clock has told."""
    timed = {"seconds", "waiting", "validation_seconds", "memory_mb", "others"}
    records = read_journal(folder / JOURNAL, "epoch")
    return [{key: value for key, value in record.items() if key not in timed} for record in records]


def weights(loop: Loop) -> dict[str, torch.Tensor]:
    """A copy of what the loop ships."""
    return {name: tensor.clone() for name, tensor in loop.shipped_weights().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two state dicts are equal bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
