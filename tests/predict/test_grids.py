"""Masks and maps lie exactly where SimpleITK says that the scan lies, whatever its grid and format."""

import json
import math

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bts_auto.predict.predictor import CasePredictor
from tests.predict.models import MemoryFold, make_configuration, make_plan, predict_folder

MM = st.floats(0.4, 6.0).map(lambda value: round(value, 3))
PLACE = st.floats(-300, 300).map(lambda value: round(value, 2))
ANGLE = st.floats(-math.pi, math.pi)


@pytest.fixture(scope="module")
def predictor():
    plan = make_plan(make_configuration())
    return CasePredictor([MemoryFold(plan)], device="cpu", engine="torch", precision="fp32", member_entropy=True)


def oblique_image(size, spacing, origin, angles, flip, seed):
    """A random image on a turned grid, left-handed where `flip`."""
    turn = sitk.Euler3DTransform()
    turn.SetRotation(*angles)
    matrix = np.array(turn.GetMatrix()).reshape(3, 3) @ np.diag([-1 if flip else 1, 1, 1])
    image = sitk.GetImageFromArray(1 + np.random.default_rng(seed).random(size[::-1]).astype(np.float32))
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(matrix.ravel())
    return image


def same_grid(one, other):
    assert one.GetSize() == other.GetSize()
    for get in (sitk.Image.GetSpacing, sitk.Image.GetOrigin, sitk.Image.GetDirection):
        np.testing.assert_allclose(get(one), get(other), atol=1e-5)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    ending=st.sampled_from([".nii.gz", ".nii", ".nrrd", ".mha", ".mhd"]),
    size=st.tuples(*[st.integers(5, 14)] * 3),
    spacing=st.tuples(MM, MM, MM),
    origin=st.tuples(PLACE, PLACE, PLACE),
    angles=st.tuples(ANGLE, ANGLE, ANGLE),
    flip=st.booleans(),
    extras=st.booleans(),
)
def test_outputs_lie_on_the_grid_of_the_scan(
    tmp_path_factory, predictor, ending, size, spacing, origin, angles, flip, extras
):
    where = tmp_path_factory.mktemp("grid")
    (where / "in").mkdir()
    for number in (0, 1):
        image = oblique_image(size, spacing, origin, angles, flip, number)
        sitk.WriteImage(image, str(where / "in" / f"one_000{number}{ending}"))
    options = {"save_probabilities": extras, "save_uncertainty": extras}
    result = predict_folder(predictor, where / "in", where / "out", **options)
    assert result.done == ("one",), result.failures
    scan = sitk.ReadImage(str(where / "in" / f"one_0000{ending}"))
    mask = sitk.ReadImage(str(where / "out" / f"one{ending}"))
    same_grid(mask, scan)
    voxels = sitk.GetArrayFromImage(mask)
    record = json.loads((where / "out" / "one.prediction.json").read_text())
    ml = float(np.prod(scan.GetSpacing())) / 1000
    assert record["volumes_ml"]["core"] == pytest.approx((voxels == 2).sum() * ml, abs=1e-3, rel=1e-5)
    maps = [*where.glob("out/probabilities/one/*"), *where.glob("out/uncertainty/*")]
    assert len(maps) == (5 if extras else 0)
    for path in maps:
        same_grid(sitk.ReadImage(str(path)), scan)
