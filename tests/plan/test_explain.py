"""The reasons say what happened."""

import pytest

from bts_auto.plan.explain import explain
from bts_auto.plan.planner import make_plan
from tests.plan.cases import dataset, fingerprint


def _reasons(shape, spacing=(1.0, 1.0, 1.0), **options) -> str:
    measured = fingerprint(shape, spacing)
    return "\n".join(explain(make_plan(measured, dataset(), dataset_name="x", **options), measured))


def test_a_cascade_is_explained_by_what_a_patch_shows():
    text = _reasons((500, 512, 512))
    assert "Cascade: a patch of 3d_fullres shows" in text
    assert "3d_cascade_fullres: the same as 3d_fullres, with the masks of 3d_lowres" in text


@pytest.mark.parametrize(
    ("shape", "spacing", "words"),
    [
        ((140, 160, 145), (1.0, 1.0, 1.0), "No cascade"),
        ((1, 300, 300), (999.0, 1.0, 1.0), "single slices"),
        ((300, 20, 300), (0.5, 5.0, 0.5), "Axis order: the second axis is the coarsest"),
        ((300, 20, 300), (0.5, 5.0, 0.5), "do not convolve along the coarse axis"),
        ((30, 30, 30), (1.0, 1.0, 1.0), "would cover over 5% of the dataset"),
        ((30, 30, 30), (1.0, 1.0, 1.0), "the whole median case"),
        ((140, 160, 145), (1.0, 1.0, 1.0), "inside the non-zero mask"),
    ],
)
def test_choices_are_explained(shape, spacing, words: str):
    assert words in _reasons(shape, spacing)


def test_thick_slices_of_one_spacing_are_called_thick():
    text = _reasons((24, 256, 256), (5.0, 1.0, 1.0))
    assert "Its first axis is more than 3 times coarser" in text
    assert "5 mm, the median as well" in text
    assert "No axis is both" not in text


def test_numbers_are_the_plans():
    measured = fingerprint((140, 160, 145))
    made = make_plan(measured, dataset(), dataset_name="x", gpu_memory_gb=1)
    full = made.configuration("3d_fullres")
    line = next(line for line in explain(made, measured) if line.startswith("3d_fullres: patch"))
    assert " x ".join(map(str, full.patch_size)) in line
    assert "1 GB" in line


def test_what_a_step_costs_is_said():
    assert "million parameters" in _reasons((140, 160, 145))


def test_networks_of_one_stage_are_explained_without_a_cost():
    assert "million parameters" not in _reasons((6, 6, 6))
