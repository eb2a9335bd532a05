"""How arrays lie on disk."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bts_auto.preprocess.layout import chunks_and_blocks, image_type, mask_type

SHAPES = [(4, 155, 240, 240), (2, 1, 500, 400), (1, 7, 9, 5), (1, 1, 1, 1), (155, 240, 240), (2, 600, 30, 700)]
PATCHES = [(128, 128, 128), (64, 64, 64), (160, 160), (20, 320, 256), None]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize("itemsize", [1, 2, 4])
def test_blocks_fit_the_cache_and_chunks_the_array(shape: tuple, patch: tuple | None, itemsize: int) -> None:
    chunks, blocks = chunks_and_blocks(shape, patch, itemsize)
    assert math.prod(blocks) * itemsize <= 32 << 10
    assert math.prod(chunks) * itemsize <= 4 << 20
    assert all(1 <= b <= c <= n for b, c, n in zip(blocks, chunks, shape, strict=True))
    assert len(shape) == 3 or chunks[0] == blocks[0] == 1


def test_a_chunk_is_a_patch_where_it_fits() -> None:
    assert chunks_and_blocks((2, 140, 160, 150), (64, 64, 64), 2)[0] == (1, 64, 64, 64)
    assert chunks_and_blocks((2, 140, 160, 150), (160, 160), 2)[0][1] == 1


def channel(mean: float, std: float) -> np.ndarray:
    return np.random.default_rng(0).normal(mean, std, size=(1, 8, 32, 32)).astype(np.float32)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (channel(0, 1), "float16"),
        (channel(40, 400), "float16"),
        (channel(5000, 10), "float32"),  # steps of 4 there, wider than the grain of the data
        (channel(0, 1e-7), "float32"),  # below the smallest number
        (channel(0, 1) * np.where(np.arange(32) == 3, 7e4, 1).astype(np.float32), "float32"),  # above the largest
        (np.full((1, 4, 4, 4), 3, np.float32), "float16"),
        (np.full((1, 4, 4, 4), np.inf, np.float32), "float32"),
    ],
)
def test_half_precision_only_where_nothing_is_lost(image: np.ndarray, expected: str) -> None:
    assert image_type(image) == np.dtype(expected)
    assert image_type(image, "float32") == np.float32


def test_one_bad_channel_decides() -> None:
    assert image_type(np.concatenate([channel(0, 1), channel(5000, 10)])) == np.float32


@pytest.mark.parametrize(("highest", "expected"), [(4, np.int8), (127, np.int8), (128, np.int16), (40000, np.int32)])
def test_masks_take_the_smallest_integers(highest: int, expected: type) -> None:
    assert mask_type(np.array([-1, highest])) == expected


def test_only_two_types_are_offered() -> None:
    with pytest.raises(ValueError, match="float64"):
        image_type(channel(0, 1), "float64")
