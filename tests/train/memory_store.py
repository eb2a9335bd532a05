"""A stand-in for a store of prepared cases, in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bts_auto.data.labels import Labels
from bts_auto.plan.schema import SegmentationConfiguration

TUMOUR = Labels({"background": (0,), "necrosis": (1,), "edema": (2,)})


class MemoryCase:
    """One case; `read` pads with image 0 and mask -1."""

    annotated_labels: tuple[str, ...] | None = None

    def __init__(self, case: str, image: np.ndarray, mask: np.ndarray, foreground: Mapping | None = None) -> None:
        self.case, self.image, self.mask = case, image.astype(np.float32), mask.astype(np.int16)
        labels = [int(v) for v in np.unique(mask) if v > 0]
        self.foreground = {v: np.argwhere(mask == v) for v in labels} if foreground is None else foreground

    @property
    def shape(self) -> tuple[int, ...]:
        return self.image.shape

    def read(self, box: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
        before = [max(0, -first) for first, _ in box]
        after = [max(0, last - n) for (_, last), n in zip(box, self.mask.shape, strict=True)]
        widths = list(zip(before, after, strict=True))
        image = np.pad(self.image, [(0, 0), *widths])
        mask = np.pad(self.mask, widths, constant_values=-1)
        inner = tuple(slice(first + b, last + b) for (first, last), b in zip(box, before, strict=True))
        return image[(slice(None), *inner)], mask[inner]


class MemoryStore:
    """Cases by name."""

    folder = Path("memory")

    def __init__(self, cases: Sequence[MemoryCase]) -> None:
        self.stored = {case.case: case for case in cases}

    def cases(self) -> list[str]:
        return sorted(self.stored)

    def open(self, case: str) -> MemoryCase:
        return self.stored[case]


def make_store(n: int = 3, shape: tuple[int, int, int] = (24, 28, 26), channels: int = 2) -> MemoryStore:
    """Noise with a bright ball of label 1 in label 2; one case has no foreground; a border layer is outside."""
    rng = np.random.default_rng(5)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij"))
    cases = []
    for number in range(n):
        distance = np.sqrt(((grid - rng.uniform(-0.3, 0.3, (3, 1, 1, 1))) ** 2).sum(0))
        mask = np.where(distance < 0.25, 1, np.where(distance < 0.5, 2, 0))
        if number == n - 1:
            mask[:] = 0
        mask[0] = -1
        image = rng.standard_normal((channels, *shape)) + mask
        cases.append(MemoryCase(f"case_{number}", image, mask))
    return MemoryStore(cases)


def make_configuration(
    patch_size: tuple[int, ...] = (16, 16, 16), batch_size: int = 2, **changes: object
) -> SegmentationConfiguration:
    """A configuration with what the loader looks at."""
    dims = len(patch_size)
    values = {
        "spacing": (1.0,) * dims,
        "patch_size": patch_size,
        "batch_size": batch_size,
        "median_image_size_in_voxels": (24, 28, 26)[-dims:],
        "n_stages": 2,
        "features_per_stage": (8, 16),
        "kernel_sizes": ((3,) * dims,) * 2,
        "strides": ((1,) * dims, (2,) * dims),
        "batch_dice": False,
        "normalization_schemes": ("ZScoreNormalization",) * 2,
        "use_mask_for_norm": (False, False),
        "inference": {"mirror_axes": tuple(range(dims))},
    }
    return SegmentationConfiguration.model_validate(values | changes)
