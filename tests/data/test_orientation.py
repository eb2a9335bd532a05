"""Reorientation against SimpleITK's DICOMOrient."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from bts_auto.data.orientation import Reorientation, orientation_code
from bts_auto.data.volume import Geometry

CODES = [
    "".join(pair[side] for pair, side in zip(axes, sides, strict=True))
    for axes in permutations(("LR", "PA", "SI"))
    for sides in product((0, 1), repeat=3)
]


def direction_of(code: str) -> tuple[float, ...]:
    return sitk.DICOMOrientImageFilter().GetDirectionCosinesFromOrientation(code)


def oblique(code: str, angles: tuple[float, float, float]) -> tuple[float, ...]:
    """The orientation `code` turned by small angles (radians)."""
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        c, s = np.cos(angle), np.sin(angle)
        one = np.eye(3)
        a, b = [i for i in range(3) if i != axis]
        one[a, a], one[a, b], one[b, a], one[b, b] = c, -s, s, c
        turn = turn @ one
    return tuple((turn @ np.array(direction_of(code)).reshape(3, 3)).ravel())


def made(direction: tuple[float, ...], seed: int) -> tuple[sitk.Image, np.ndarray, Geometry]:
    array = np.random.default_rng(seed).integers(0, 1000, size=(3, 4, 5)).astype(np.int16)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.5, 1.25, 3.0))
    image.SetOrigin((-7.0, 11.0, 2.5))
    image.SetDirection(direction)
    return image, array, Geometry((3, 4, 5), (3.0, 1.25, 0.5), (-7.0, 11.0, 2.5), tuple(direction))


@pytest.mark.parametrize("code", CODES)
def test_code_is_itks(code: str) -> None:
    assert orientation_code(direction_of(code)) == code


@settings(max_examples=60, deadline=None)
@given(
    stored=st.sampled_from(CODES),
    wanted=st.sampled_from(CODES),
    angles=st.tuples(*[st.floats(-0.4, 0.4)] * 3),
    seed=st.integers(0, 99),
)
def test_turning_is_dicom_orient(stored: str, wanted: str, angles: tuple[float, float, float], seed: int) -> None:
    image, array, geometry = made(oblique(stored, angles), seed)
    turn = Reorientation.between(geometry.direction, wanted)
    expected = sitk.DICOMOrient(image, wanted)
    turned = turn.geometry(geometry)
    np.testing.assert_array_equal(turn.apply(array), sitk.GetArrayFromImage(expected))
    np.testing.assert_allclose(turned.origin, expected.GetOrigin(), atol=1e-9)
    np.testing.assert_allclose(turned.direction, expected.GetDirection(), atol=1e-9)
    np.testing.assert_allclose(turned.spacing, expected.GetSpacing()[::-1])
    assert turned.size == expected.GetSize()[::-1]


@settings(max_examples=40, deadline=None)
@given(stored=st.sampled_from(CODES), wanted=st.sampled_from(CODES), channels=st.integers(1, 3))
def test_undo_gives_the_array_back(stored: str, wanted: str, channels: int) -> None:
    turn = Reorientation.between(direction_of(stored), wanted)
    array = np.arange(channels * 60).reshape(channels, 3, 4, 5)
    np.testing.assert_array_equal(turn.undo(turn.apply(array)), array)


@settings(max_examples=200, deadline=None)
@given(st.tuples(*[st.floats(-3.1, 3.1)] * 3))
def test_any_rotation_uses_each_patient_axis_once(angles: tuple[float, float, float]) -> None:
    code = orientation_code(oblique("LPS", angles))
    assert sorted("LPS"[["LR", "PA", "SI"].index(p)] for c in code for p in ("LR", "PA", "SI") if c in p) == [*"LPS"]


def test_canonical_images_stay() -> None:
    assert Reorientation.between(direction_of("LPS")).is_identity
    assert not Reorientation.between(direction_of("RAS")).is_identity
