"""The coarser configuration."""

import math

import pytest

from bts_auto.plan.lowres import MIN_COVERAGE, Grid, plan_lowres


def _fixed(edge: int):
    return lambda grid: (grid, (edge,) * len(grid.spacing))


def test_none_where_the_patch_covers_enough():
    assert plan_lowres((1.0,) * 3, (100.0,) * 3, (64, 64, 64), _fixed(64)) is None


def test_dropped_where_it_gains_too_little():
    assert plan_lowres((1.0,) * 3, (110.0,) * 3, (64, 64, 64), _fixed(64)) is None


def test_spacing_grows_until_the_patch_covers_a_quarter():
    found = plan_lowres((1.0,) * 3, (300.0,) * 3, (64, 64, 64), _fixed(64))
    assert found is not None
    assert 64**3 / found[0].voxels >= MIN_COVERAGE
    assert 64**3 / (found[0].voxels * 1.03**3) < MIN_COVERAGE


def test_fine_axes_grow_first():
    found = plan_lowres((4.0, 1.0, 1.0), (20.0, 400.0, 400.0), (64, 64, 64), _fixed(64))
    assert found is not None
    assert found[0].spacing[0] == pytest.approx(4.0)
    assert found[0].spacing[1] > 1


def test_an_axis_of_one_voxel_keeps_it():
    def clipped(grid: Grid):
        return grid, tuple(min(64, round(edge)) for edge in grid.median)

    found = plan_lowres((1.0,) * 3, (900.0, 900.0, 1.0), (64, 64, 1), clipped)
    assert found is not None
    assert found[0].median[2] == 1
    assert math.prod(clipped(found[0])[1]) / found[0].voxels >= MIN_COVERAGE
