"""Pairs of masks that metrics are checked on: random blobs, noise, and shapes made by hand, on many spacings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import ndimage

SPACINGS = ((1.0, 1.0, 1.0), (3.0, 0.8, 0.8), (1.3, 0.7, 2.1), (0.9375, 0.9375, 5.5))


@dataclass(frozen=True)
class MaskPair:
    """A named pair with its spacing."""

    name: str
    prediction: np.ndarray
    reference: np.ndarray
    spacing: tuple[float, float, float]


def _blobs(generator: np.random.Generator, shape: tuple[int, ...], smooth: float, share: float) -> np.ndarray:
    field = ndimage.gaussian_filter(generator.standard_normal(shape), smooth)
    return field > np.quantile(field, 1 - share)


def _random(number: int) -> MaskPair:
    generator = np.random.default_rng(number)
    shape = tuple(int(n) for n in generator.integers(4, 18, 3))
    share = float(generator.uniform(0.02, 0.6))
    smooth = (0.0, 1.0, 2.0)[number % 3]
    reference = _blobs(generator, shape, smooth, share)
    if number % 2:
        prediction = _blobs(generator, shape, smooth, share)
    else:
        prediction = np.roll(reference, 1, axis=number % 3) ^ (generator.random(shape) < 0.01)
    reference[0, 0, 0] = prediction[-1, -1, -1] = True  # neither is empty, and both touch the edge
    return MaskPair(f"random-{number}", prediction, reference, SPACINGS[number % 4])


def _by_hand() -> list[MaskPair]:
    def cube(*corner: int, size: int = 4) -> np.ndarray:
        out = np.zeros((14, 14, 14), bool)
        out[tuple(slice(c, c + size) for c in corner)] = True
        return out

    one, other, hollow = cube(2, 2, 2), cube(3, 2, 2), cube(2, 2, 2, size=7)
    hollow[4:7, 4:7, 4:7] = False
    voxel, full = cube(6, 6, 6, size=1), np.ones((14, 14, 14), bool)
    line = np.zeros_like(one)
    line[:, 7, 7] = True
    checkers = np.indices(one.shape).sum(axis=0) % 2 == 0
    shapes = {"cube": one, "moved": other, "far": cube(9, 9, 9), "hollow": hollow, "voxel": voxel, "line": line}
    shapes |= {"full": full, "checkers": checkers}
    names = list(shapes)
    return [
        MaskPair(f"{a}-{b}", shapes[a], shapes[b], SPACINGS[i % 4])
        for i, (a, b) in enumerate((a, b) for a in names for b in names)
    ]


@cache
def all_pairs() -> tuple[MaskPair, ...]:
    """214 pairs, none of them with an empty mask."""
    return (*(_random(number) for number in range(150)), *_by_hand())
