"""Tiny raw datasets for tests: head-shaped phantoms with nested lesions, written in nnU-Net v2's format."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

TUMOUR = {"background": 0, "necrosis": 1, "edema": 2, "enhancing": 3}


def make_case(
    shape: tuple[int, int, int] = (20, 24, 22),
    n_channels: int = 2,
    values: Sequence[int] = (1, 2, 3),
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """One phantom: a bright ellipsoid in a background of zeros, with a lesion of nested shells.

    Returns
    -------
    image : ndarray of int16, shape (c, z, y, x)
    mask : ndarray of uint8, shape (z, y, x)
        The first of `values` is the innermost shell; the second is the outermost, as edema is.
    """
    random = np.random.default_rng([seed, 2013])
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape], indexing="ij"))
    head = (grid**2).sum(0) < 0.8
    centre = random.uniform(-0.25, 0.25, size=(3, 1, 1, 1))
    distance = np.sqrt(((grid - centre) ** 2).sum(0))
    mask = np.zeros(shape, dtype=np.uint8)
    shells = [*values[1:2], *values[2:], *values[:1]] if len(values) > 1 else list(values)
    for position, value in enumerate(shells):
        mask[(distance < 0.5 * (1 - position / len(shells))) & head] = value
    image = np.empty((n_channels, *shape), dtype=np.int16)
    for channel in range(n_channels):
        tissue = 300 + 50 * channel + random.normal(0, 20, size=shape)
        weights = random.uniform(40, 120, size=max(values) + 1)
        weights[0] = 0
        image[channel] = np.where(head, np.maximum(tissue + weights[mask], 1), 0)
    return image, mask


def write_image(
    path: Path | str,
    array: np.ndarray,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    origin: Sequence[float] = (0.0, 0.0, 0.0),
    direction: Sequence[float] | None = None,
) -> Path:
    """Write `array` (z, y, x) with SimpleITK; spacing is (z, y, x), origin and direction are ITK's (x, y, z)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([float(s) for s in reversed(spacing)])
    image.SetOrigin([float(o) for o in origin])
    if direction is not None:
        image.SetDirection([float(d) for d in direction])
    sitk.WriteImage(image, str(path))
    return path


def write_dataset_json(folder: Path, channels: Sequence[str], labels: Mapping[str, Any], n: int, **more: Any) -> None:
    """Write a dataset.json; `more` overrides or adds keys."""
    content = {
        "name": folder.name,
        "channel_names": {str(i): name for i, name in enumerate(channels)},
        "labels": dict(labels),
        "numTraining": n,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(content | more, indent=2))


def make_raw_dataset(
    folder: Path,
    n_cases: int = 4,
    shape: tuple[int, int, int] = (20, 24, 22),
    channels: Sequence[str] = ("T1", "FLAIR"),
    labels: Mapping[str, Any] | None = None,
    seed: int = 0,
    *,
    dataset_id: int = 1,
    name: str = "Tiny",
    n_test: int = 0,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    origin: Sequence[float] = (0.0, 0.0, 0.0),
    direction: Sequence[float] | None = None,
    file_ending: str = ".nii.gz",
    **more: Any,
) -> Path:
    """Make ``folder/DatasetXXX_Name`` with `n_cases` training cases ``case_000...`` and return its path.

    `labels` are those of dataset.json (default: necrosis, edema, enhancing); regions are allowed, and the masks then
    hold all the integers that the regions name. `more` goes into dataset.json (``regions_class_order=[...]``).
    """
    labels = dict(TUMOUR if labels is None else labels)
    declared = [value for key, value in labels.items() if key not in ("background", "ignore")]
    values = sorted({v for value in declared for v in (value if isinstance(value, (list, tuple)) else [value])})
    dataset = Path(folder) / f"Dataset{dataset_id:03d}_{name}"
    for index in range(n_cases + n_test):
        case, part = f"case_{index:03d}", "Tr" if index < n_cases else "Ts"
        image, mask = make_case(shape, len(channels), values, seed=1000 * seed + index)
        for number, channel in enumerate(image):
            path = dataset / f"images{part}" / f"{case}_{number:04d}{file_ending}"
            write_image(path, channel, spacing, origin, direction)
        write_image(dataset / f"labels{part}" / f"{case}{file_ending}", mask, spacing, origin, direction)
    write_dataset_json(dataset, channels, labels, n_cases, file_ending=file_ending, **more)
    return dataset
