"""Positions and weights of tiles, against the formulas as published and SciPy's filter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from bts_auto.errors import PlanError
from bts_auto.predict.tiles import Grid, axis_positions, axis_weights, divisors, gaussian_weights, tile_size
from tests.predict.models import make_configuration

# compute_steps_for_sliding_window of nnunetv2 2.8.1 for these image sizes, tile sizes and steps.
PUBLISHED = [
    (110, 64, 0.5, [0, 23, 46]),
    (64, 64, 0.5, [0]),
    (65, 64, 0.5, [0, 1]),
    (155, 64, 0.5, [0, 30, 61, 91]),
    (240, 128, 0.5, [0, 56, 112]),
    (133, 40, 0.25, [0, 9, 19, 28, 37, 46, 56, 65, 74, 84, 93]),
    (50, 20, 1.0, [0, 15, 30]),
]


@pytest.mark.parametrize(("size", "tile", "step", "expected"), PUBLISHED)
def test_positions_are_the_published_ones(size, tile, step, expected):
    assert axis_positions(size, tile, step) == expected


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 64), st.floats(0.1, 1))
def test_positions_cover_the_axis_no_further_apart_than_the_step(size, tile, step):
    size = max(size, tile)
    positions = axis_positions(size, tile, step)
    assert positions[0] == 0
    assert positions[-1] == size - tile
    assert max(np.diff(positions), default=0) <= np.ceil(tile * step)


def test_positions_are_distinct_however_small_the_step():
    assert axis_positions(40, 32, 1e-9) == list(range(9))


@pytest.mark.parametrize("tile", [(8, 8, 8), (10, 16, 7), (1, 12, 20), (64, 48, 40)])
def test_weights_are_the_filtered_impulse(tile):
    impulse = np.zeros(tile)
    impulse[tuple(n // 2 for n in tile)] = 1
    filtered = gaussian_filter(impulse, [n / 8 for n in tile], mode="constant")
    np.testing.assert_allclose(gaussian_weights(tile), 10 * filtered / filtered.max(), rtol=1e-5)


def test_weights_are_never_zero():
    assert gaussian_weights((128, 128, 128)).min() > 0


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.integers(1, 30)] * 3), st.tuples(*[st.sampled_from([4, 8, 12])] * 3))
def test_every_voxel_is_visited_and_its_weights_are_totalled(size, tile):
    grid = Grid.over(size, tile, 0.5)
    z, y, x = (totals.size for totals in grid.axis_totals())
    total = np.zeros((z, y, x))
    for region in grid:
        total[region] += gaussian_weights(tile)
    expected = 10 * np.einsum("z,y,x->zyx", *grid.axis_totals())
    np.testing.assert_allclose(total, expected, rtol=1e-4)
    assert total.min() > 0
    assert np.empty(total.shape)[grid.inside].shape == size


def test_odd_padding_goes_above():
    assert Grid.over((5, 8, 9), (8, 8, 8), 0.5).padding == ((1, 2), (0, 0), (0, 0))


def test_two_dimensional_tiles_visit_every_slice():
    grid = Grid.over((3, 8, 8), (8, 8), 0.5)
    assert [region[0] for region in grid] == [slice(0, 1), slice(1, 2), slice(2, 3)]


@pytest.mark.parametrize(
    ("tile", "expected"),
    [("patch", (64, 64, 64)), ("whole", (160, 144, 48)), (96, (96, 96, 48)), ((70, 200, 33), (80, 144, 48))],
)
def test_tile_sizes(tile, expected):
    assert tile_size(tile, (155, 140, 45), (64, 64, 64), (16, 16, 16)) == expected


@pytest.mark.parametrize("tile", ["huge", (64, 64), 0])
def test_impossible_tiles_are_refused(tile):
    with pytest.raises(PlanError, match="as a tile"):
        tile_size(tile, (155, 140, 45), (64, 64, 64), (16, 16, 16))


def test_divisors_are_products_of_strides():
    strides = ((1, 1, 1), (1, 2, 2), (2, 2, 2))
    stages = {"n_stages": 3, "features_per_stage": (4, 8, 8), "kernel_sizes": ((3,) * 3,) * 3}
    assert divisors(make_configuration(strides=strides, **stages)) == (2, 4, 4)


@pytest.mark.parametrize("tile", [1, 2, 7, 8, 64, 80, 129])
def test_weights_along_an_axis_are_scipys_filter_of_an_impulse(tile):
    impulse = np.zeros(tile)
    impulse[tile // 2] = 1
    expected = gaussian_filter1d(impulse, tile / 8, mode="constant")
    np.testing.assert_allclose(axis_weights(tile), expected / expected.max(), rtol=1e-14, atol=0)
