"""Operators along one axis, against scikit-image and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import interpolate
from skimage.transform import resize

from bts_auto.preprocess.operators import apply_axis, axis_operator, b_spline, nearest_index

SIZES = [(7, 13), (1, 5), (5, 1), (2, 3), (30, 17), (64, 101), (100, 33)]


@pytest.mark.parametrize("order", range(6))
@pytest.mark.parametrize(("n_in", "n_out"), SIZES)
def test_equals_scikit_image(n_in: int, n_out: int, order: int) -> None:
    lines = np.random.default_rng(order).normal(size=(n_in, 3))
    expected = resize(lines, (n_out, 3), order=order, mode="edge", anti_aliasing=False, clip=False)
    found = apply_axis(lines.astype(np.float32), axis_operator(n_in, n_out, order), 0)
    np.testing.assert_allclose(found, expected, atol=3e-6)


@pytest.mark.parametrize("order", range(6))
def test_keeps_constants(order: int) -> None:
    assert np.allclose(axis_operator(40, 57, order).matrix.sum(axis=1), 1, atol=1e-6)


def test_long_axes_are_worked_on_in_bands() -> None:
    operator = axis_operator(300, 450, 3)
    assert (operator.stop - operator.first).max() < 60
    lines = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    np.testing.assert_allclose(apply_axis(lines, operator, 0), operator.matrix @ lines, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_works_along_any_axis(axis: int) -> None:
    array = np.random.default_rng(0).normal(size=(3, 4, 5, 6)).astype(np.float32)
    operator = axis_operator(array.shape[axis], 9, 3)
    expected = np.moveaxis(np.tensordot(operator.matrix, array, axes=(1, axis)), 0, axis)
    np.testing.assert_allclose(apply_axis(array, operator, axis), expected, atol=1e-5)


def test_a_part_needs_only_its_inputs() -> None:
    operator = axis_operator(50, 80, 3)
    lines = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    used = operator.inputs(20, 30)
    part = apply_axis(lines[used], operator.part(slice(20, 30)), 0)
    np.testing.assert_allclose(part, apply_axis(lines, operator, 0)[20:30], atol=1e-5)
    assert used.stop - used.start < 50


@pytest.mark.parametrize("order", [0, 1, 3])
def test_parts_join_to_the_whole(order: int) -> None:
    operator = axis_operator(30, 17, order)
    lines = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    rows = [slice(start, min(start + 4, 17)) for start in range(0, 17, 4)]
    parts = [apply_axis(lines[operator.inputs(one.start, one.stop)], operator.part(one), 0) for one in rows]
    np.testing.assert_allclose(np.concatenate(parts), apply_axis(lines, operator, 0), atol=1e-6)


def test_order_zero_keeps_the_type() -> None:
    labels = np.array([3, -1, 200], np.int16)
    assert apply_axis(labels, axis_operator(3, 6, 0), 0).tolist() == [3, 3, -1, -1, 200, 200]
    assert apply_axis(labels, axis_operator(3, 6, 0), 0).dtype == np.int16


def test_equal_sizes_change_nothing() -> None:
    array = np.arange(5.0, dtype=np.float32)
    assert apply_axis(array, axis_operator(5, 5, 3), 0) is array


def test_nearest_index_stays_inside() -> None:
    assert nearest_index(3, 7).tolist() == [0, 0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize("order", range(1, 6))
def test_b_spline_equals_scipy(order: int) -> None:
    at = np.linspace(-3.4, 3.4, 69)
    knots = np.arange(order + 2) - (order + 1) / 2
    expected = interpolate.BSpline.basis_element(knots, extrapolate=False)(at)
    np.testing.assert_allclose(b_spline(at, order), np.nan_to_num(expected), atol=1e-12)


@pytest.mark.parametrize(("n_in", "n_out", "order"), [(4, 5, 6), (4, 5, -1), (0, 5, 1), (4, 0, 1)])
def test_refuses_what_it_cannot_do(n_in: int, n_out: int, order: int) -> None:
    with pytest.raises(ValueError, match=r"order|resample"):
        axis_operator(n_in, n_out, order)
    with pytest.raises(ValueError, match="samples"):
        apply_axis(np.zeros((3, 2), np.float32), axis_operator(4, 5, 1), 0)
