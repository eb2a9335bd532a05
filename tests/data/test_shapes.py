import pytest

from bts_auto.data.shapes import resampled_shape


# Computed once with nnunetv2 2.8.1's compute_new_shape(shape, spacing, new_spacing).
@pytest.mark.parametrize(
    ("shape", "spacing", "new", "expected"),
    [
        ((155, 240, 240), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (155, 240, 240)),
        ((24, 256, 256), (5.5, 0.9, 0.9), (1.0, 1.0, 1.0), (132, 230, 230)),
        ((5, 7, 9), (1.0, 1.0, 1.0), (2.0, 2.0, 2.0), (2, 4, 4)),
        ((1, 512, 512), (999.0, 1.0, 1.0), (999.0, 1.5, 1.5), (1, 341, 341)),
    ],
)
def test_rule(shape, spacing, new, expected) -> None:
    assert resampled_shape(shape, spacing, new) == expected


def test_a_slab_thinner_than_half_a_new_voxel_keeps_one() -> None:
    assert resampled_shape((2, 64, 64), (0.2, 1.0, 1.0), (1.0, 1.0, 1.0)) == (1, 64, 64)


def test_axes_must_agree() -> None:
    with pytest.raises(ValueError, match="axes"):
        resampled_shape((3, 3), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
