"""The picture of a case."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from bts_auto.data.labels import Labels
from bts_auto.data.volume import Geometry, Volume
from bts_auto.report.overlay import write_overlay

LABELS = Labels({"background": (0,), "edema": (1,), "enhancing": (2,)})


def _case(direction=(1.0, 0, 0, 0, 1, 0, 0, 0, 1)):
    image = np.zeros((2, 12, 20, 24), np.float32)
    image[:, 1:-1, 2:-2, 2:-2] = np.random.default_rng(0).uniform(1, 2, (2, 10, 16, 20))
    mask = np.zeros((12, 20, 24), np.uint8)
    mask[7, 5:12, 6:14] = 1
    mask[7, 7:9, 8:10] = 2
    geometry = Geometry((12, 20, 24), (2.0, 1.0, 1.0), direction=direction)
    return Volume(image, geometry, ("T1", "FLAIR")), mask


def _coloured(path):
    """Number of pixels that are not grey."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return int((pixels.max(axis=2) - pixels.min(axis=2) > 40).sum())


def test_outlines_are_drawn_in_colour(tmp_path):
    volume, mask = _case()
    write_overlay(tmp_path / "empty.png", volume, {"prediction": np.zeros_like(mask)}, LABELS)
    write_overlay(tmp_path / "full.png", volume, {"prediction": mask}, LABELS)
    assert _coloured(tmp_path / "full.png") > _coloured(tmp_path / "empty.png") + 100


def test_each_mask_gets_a_row(tmp_path):
    volume, mask = _case()
    write_overlay(tmp_path / "one.png", volume, {"prediction": mask}, LABELS)
    write_overlay(tmp_path / "two.png", volume, {"prediction": mask, "reference": mask}, LABELS)
    one, two = (Image.open(tmp_path / f"{name}.png") for name in ("one", "two"))
    assert two.width == one.width
    assert two.height > 1.6 * one.height


@pytest.mark.parametrize("direction", [(-1.0, 0, 0, 0, -1, 0, 0, 0, 1), (0.0, 0, 1, 1, 0, 0, 0, -1, 0)])
def test_any_orientation_can_be_drawn(tmp_path, direction):
    volume, mask = _case(direction)
    write_overlay(tmp_path / "case.png", volume, {"prediction": mask}, LABELS)
    assert _coloured(tmp_path / "case.png") > 0


@pytest.mark.parametrize("thin", [0, 1, 2])
def test_a_volume_one_voxel_thick_can_be_drawn(tmp_path, thin):
    size = tuple(1 if axis == thin else 12 for axis in range(3))
    array = np.random.default_rng(0).uniform(1, 2, (1, *size)).astype(np.float32)
    mask = np.zeros(size, np.uint8)
    mask[tuple(slice(None) if n == 1 else slice(3, 8) for n in size)] = 1
    volume = Volume(array, Geometry(size, (1.0, 1.0, 1.0)), ("T1",))
    for name, one in (("empty", np.zeros_like(mask)), ("full", mask)):
        write_overlay(tmp_path / f"{name}.png", volume, {"prediction": one}, LABELS)
    assert _coloured(tmp_path / "full.png") > _coloured(tmp_path / "empty.png")
