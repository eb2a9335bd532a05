"""Resampling against scikit-image and batchgenerators, called as nnU-Net calls them.

Run ``python benchmarks/resample.py``. Each pair runs in turn, the best of some repetitions counts, and the results of
both are compared. Needs nothing but the package's own dependencies.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from batchgenerators.augmentations.utils import resize_segmentation
from scipy.ndimage import gaussian_filter
from skimage.transform import resize

from bts_auto.pool import one_blas_thread
from bts_auto.preprocess.resample import resample_image, resample_mask

ISO = (1.0, 1.0, 1.0)
GRIDS = {
    "brain 1 mm to 1.47 mm": ((140, 160, 145), (95, 109, 99)),
    "brain 1 mm to 0.8 mm": ((140, 160, 145), (175, 200, 181)),
    "120x384x384 to 200x300x300": ((120, 384, 384), (200, 300, 300)),
}


@dataclass(frozen=True)
class Pair:
    """One comparison; times in seconds."""

    what: str
    grid: str
    ours: float
    peer: float
    ratio: float
    agreement: str


def best(function: Callable[[], np.ndarray], repetitions: int) -> tuple[float, np.ndarray]:
    """The shortest time of some repetitions, and the result."""
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - start)
    return min(times), result


def compare_images(grid: str, repetitions: int) -> Pair:
    """Order 3, one channel."""
    shape, new_shape = GRIDS[grid]
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    ours, found = best(lambda: resample_image(image, new_shape, spacing=ISO, new_spacing=ISO), repetitions)
    exact = image[0].astype(np.float64)  # nnU-Net converts to float64 first
    peer, expected = best(
        lambda: resize(exact, new_shape, order=3, mode="edge", anti_aliasing=False, clip=True), repetitions
    )
    error = float(np.abs(found[0] - expected).max() / np.ptp(image))
    return Pair("image, order 3", grid, ours, peer, peer / ours, f"largest difference {error:.1e} of the range")


def compare_masks(grid: str, repetitions: int, n_labels: int = 5) -> Pair:
    """Order 1: a head with nested labels."""
    shape, new_shape = GRIDS[grid]
    axes = np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float32) for n in shape], indexing="ij")
    wobble = gaussian_filter(np.random.default_rng(0).normal(size=shape).astype(np.float32), 4)
    radius = np.sqrt(sum(axis**2 for axis in axes)) + wobble
    mask = np.digitize(-radius, [-0.9, -0.4, -0.3, -0.2, -0.1][:n_labels]).astype(np.int16) - 1
    ours, found = best(lambda: resample_mask(mask, new_shape, spacing=ISO, new_spacing=ISO), repetitions)
    peer, expected = best(lambda: resize_segmentation(mask, new_shape, order=1), repetitions)
    equal = float((found == expected).mean())
    return Pair(f"mask, order 1, {len(np.unique(mask))} labels", grid, ours, peer, peer / ours, f"{equal:.4%} equal")


def main() -> int:
    """Run all pairs; the exit status says whether all aims were met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", action="store_true", help="let BLAS use all cores (default: one thread)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    limit = None if options.threads else one_blas_thread()
    pairs = []
    for grid in GRIDS:
        for compare in (compare_images, compare_masks):
            pairs.append(compare(grid, options.repetitions))
            if not options.json:
                pair = pairs[-1]
                print(f"{pair.what:26} {pair.grid:28} {pair.ours:6.3f} s against {pair.peer:6.2f} s: "
                      f"{pair.ratio:5.1f} times as fast, {pair.agreement}")  # fmt: skip
    if options.json:
        print(json.dumps([asdict(pair) for pair in pairs], indent=2))
    del limit
    return 0 if min(pair.ratio for pair in pairs) >= 5 else 1


if __name__ == "__main__":
    sys.exit(main())
