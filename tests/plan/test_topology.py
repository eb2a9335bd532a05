"""Depth, strides and kernels."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bts_auto.plan.topology import MIN_EDGE, plan_topology


def test_isotropic_128_cube():
    topology = plan_topology((1.0, 1.0, 1.0), (128, 128, 128))
    assert topology.n_stages == 6
    assert topology.strides == ((1, 1, 1), *[(2, 2, 2)] * 5)
    assert topology.kernel_sizes == ((3, 3, 3),) * 6


def test_thick_slices_are_pooled_and_convolved_later():
    topology = plan_topology((5.0, 1.0, 1.0), (16, 256, 256))
    assert topology.strides[:4] == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2))
    assert topology.kernel_sizes[:3] == ((1, 3, 3), (1, 3, 3), (3, 3, 3))


def test_bottleneck_kernel_is_full():
    assert plan_topology((9.0, 1.0, 1.0), (8, 32, 32)).kernel_sizes[-1] == (3, 3, 3)


@pytest.mark.parametrize(("edge", "pools"), [(8, 0), (11, 0), (12, 1)])
def test_a_lone_axis_needs_twelve_voxels(edge: int, pools: int):
    assert plan_topology((1.0, 1.0, 1.0), (edge, 4, 4)).n_stages == 1 + pools


def test_patch_is_padded_to_the_strides():
    assert plan_topology((1.0, 1.0), (158.5, 143.0)).patch_size == (160, 160)


@given(
    st.lists(st.tuples(st.floats(0.2, 10), st.integers(1, 600)), min_size=2, max_size=3),
)
def test_patch_is_a_multiple_of_the_divisors_and_features_stay_large_enough(axes: list[tuple[float, int]]):
    spacing, size = [a for a, _ in axes], [n for _, n in axes]
    topology = plan_topology(spacing, size)
    for wanted, edge, divisor in zip(size, topology.patch_size, topology.divisors, strict=True):
        assert edge % divisor == 0
        assert wanted <= edge < wanted + divisor
        assert divisor == 1 or edge // divisor >= MIN_EDGE
    assert len(topology.kernel_sizes) == topology.n_stages
