"""Spatial steps: exact ways back."""

from __future__ import annotations

import json
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bts_auto.data.volume import Geometry
from bts_auto.errors import DataError
from bts_auto.preprocess.spatial import Crop, Reorient, Resample, SpatialSteps, Transpose

AXES = st.sampled_from(list(permutations(range(3))))


@st.composite
def all_steps(draw: st.DrawFn) -> SpatialSteps:
    shape = draw(st.tuples(*[st.integers(1, 7)] * 3))
    spacing = draw(st.tuples(*[st.sampled_from([0.5, 1.0, 3.0])] * 3))
    reorient = Reorient(draw(AXES), draw(st.tuples(*[st.booleans()] * 3)))
    transpose = Transpose(draw(AXES))
    whole = transpose.shape_after(reorient.shape_after(shape))
    start = tuple(draw(st.integers(0, n - 1)) for n in whole)
    stop = tuple(draw(st.integers(low + 1, n)) for low, n in zip(start, whole, strict=True))
    crop = Crop(start, stop, whole)
    cropped = crop.shape_after(whole)
    before = transpose.spacing_after(reorient.spacing_after(spacing))
    resample = Resample(cropped, draw(st.tuples(*[st.integers(1, 9)] * 3)), before, (1.0, 1.0, 1.0))
    return SpatialSteps(Geometry(shape, spacing), (reorient, transpose, crop, resample))


@settings(max_examples=60, deadline=None)
@given(all_steps())
def test_undo_is_the_inverse_inside_the_crop(steps: SpatialSteps) -> None:
    number = np.arange(1, np.prod(steps.geometry.size) + 1).reshape(steps.geometry.size)
    there = steps.apply(number)
    back = steps.undo(there, fill=-5)
    assert there.shape == steps.cropped_shape
    assert back.shape == steps.geometry.size
    kept = np.isin(number, there)
    np.testing.assert_array_equal(back, np.where(kept, number, -5))
    assert kept.sum() == there.size


@settings(max_examples=30, deadline=None)
@given(all_steps())
def test_json_round_trip(steps: SpatialSteps) -> None:
    assert SpatialSteps.from_json(json.loads(json.dumps(steps.to_json()))) == steps


@settings(max_examples=30, deadline=None)
@given(all_steps())
def test_leading_axes_are_left_alone(steps: SpatialSteps) -> None:
    array = np.random.default_rng(0).integers(0, 9, size=(2, *steps.geometry.size))
    np.testing.assert_array_equal(steps.apply(array)[1], steps.apply(array[1]))
    np.testing.assert_array_equal(steps.undo(steps.apply(array))[1], steps.undo(steps.apply(array[1])))


def test_what_the_record_tells() -> None:
    resample = Resample((2, 2, 2), (3, 3, 3), (1.5, 1.5, 1.5), (1.0, 1.0, 1.0))
    steps = SpatialSteps(Geometry((4, 4, 4), (1.5,) * 3), (Crop((1, 1, 1), (3, 3, 3), (4, 4, 4)), resample))
    assert (steps.cropped_shape, steps.shape, steps.spacing) == ((2, 2, 2), (3, 3, 3), (1.0, 1.0, 1.0))
    assert not steps.resample.is_identity


def test_undo_refuses_another_shape() -> None:
    steps = SpatialSteps(Geometry((2, 2, 2), (1.0,) * 3), (Resample((2, 2, 2), (2, 2, 2), (1.0,) * 3, (1.0,) * 3),))
    with pytest.raises(ValueError, match="shape"):
        steps.undo(np.zeros((3, 2, 2)))


GEOMETRY = {"size": [1, 1, 1], "spacing": [1, 1, 1]}


@pytest.mark.parametrize("value", [{}, {"geometry": GEOMETRY, "steps": [{"kind": "shear"}]}])
def test_another_record_is_refused(value: dict) -> None:
    with pytest.raises(DataError, match="no record of spatial steps"):
        SpatialSteps.from_json(value)
