"""Target spacing, axis order and median size."""

import numpy as np
import pytest

from bts_auto.plan.spacing import axis_order, median_shape, target_spacing, transposed


def test_target_is_the_median_per_axis():
    spacings = [(1.0, 0.5, 0.9), (2.0, 0.7, 0.9), (1.5, 0.6, 1.1)]
    assert target_spacing(spacings, [(100, 200, 200)] * 3) == pytest.approx((1.5, 0.6, 0.9))


def test_thick_and_few_slices_take_a_fine_percentile():
    spacings = [(float(z), 1.0, 1.0) for z in range(4, 15)]
    assert target_spacing(spacings, [(20, 200, 200)] * 11)[0] == pytest.approx(5.0)


def test_thick_slices_in_number_take_the_median():
    spacings = [(float(z), 1.0, 1.0) for z in range(4, 15)]
    assert target_spacing(spacings, [(70, 200, 200)] * 11)[0] == pytest.approx(9.0)


def test_a_coarse_axis_stays_the_coarsest():
    spacings = [(0.5, 1.0, 1.0)] * 4 + [(8.0, 1.0, 1.0)] * 16
    spacings = [(0.5, 1.0, 1.0)] * 4 + spacings[4:]
    assert target_spacing(spacings, [(20, 200, 200)] * 20)[0] == pytest.approx(1.0 + 1e-5, abs=1e-12)


@pytest.mark.parametrize("coarse", [0, 1, 2])
def test_coarsest_axis_comes_first_and_the_order_can_be_undone(coarse: int):
    target = np.ones(3)
    target[coarse] = 5.0
    forward, backward = axis_order(target)
    assert forward[0] == coarse
    assert forward[1] < forward[2]
    assert transposed(transposed((10.0, 20.0, 30.0), forward), backward) == (10.0, 20.0, 30.0)


def test_median_size_after_resampling_may_have_halves():
    shapes, spacings = [(10, 20, 30), (11, 20, 30)], [(1.0, 1.0, 1.0), (1.0, 2.0, 1.0)]
    assert median_shape(spacings, shapes, (1.0, 1.0, 2.0)) == (10.5, 30.0, 15.0)
