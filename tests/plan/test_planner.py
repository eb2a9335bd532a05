"""The planner as a whole: what it refuses, and what holds for every plan."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bts_auto.errors import DataError, PlanError
from bts_auto.plan.planner import make_plan
from bts_auto.plan.presets import PRESETS
from tests.plan.cases import dataset, fingerprint, plan


def test_slices_get_2d_only():
    assert list(plan((1, 300, 280), (999.0, 1.0, 1.0)).configurations) == ["2d"]


def test_large_cases_get_a_cascade():
    made = plan((500, 512, 512), (1.0, 0.8, 0.8))
    assert list(made.configurations) == ["2d", "3d_lowres", "3d_fullres", "3d_cascade_fullres"]
    assert made.configuration("3d_lowres").next_stage == "3d_cascade_fullres"
    assert made.configuration("3d_cascade_fullres").patch_size == made.configuration("3d_fullres").patch_size
    assert [made.configuration(name).batch_dice for name in made.configurations] == [True, False, True, True]


def test_small_cases_use_no_batch_dice_at_full_resolution():
    assert plan().configuration("3d_fullres").batch_dice is False


def test_residual_presets_name_their_network_and_its_blocks():
    component = plan(preset="resenc_l", gpu_memory_gb=24).configuration("3d_fullres").network
    assert component.name == "residual_unet"
    assert component.options["n_blocks_per_stage"][:5] == [1, 3, 4, 6, 6]
    assert set(component.options["n_conv_per_stage_decoder"]) == {1}


@pytest.mark.parametrize("preset", PRESETS)
def test_memory_defaults_to_the_presets_own(preset: str):
    assert plan(preset=preset).gpu_memory_gb == PRESETS[preset].reference_gb


def test_all_axes_are_mirrored():
    made = plan()
    assert made.configuration("2d").inference.mirror_axes == (0, 1)
    assert made.configuration("3d_fullres").inference.mirror_axes == (0, 1, 2)


def test_channels_are_ordered_by_number():
    names = {str(i): f"c{i}" for i in (10, 2, 0, 1, 3, 4, 5, 6, 7, 8, 9)}
    made = make_plan(fingerprint(channels=11), dataset(channel_names=names), dataset_name="x")
    assert made.channel_names == tuple(f"c{i}" for i in range(11))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_axis_of_one_voxel_ends(axis: int):
    shape = [700, 800, 900]
    shape[axis] = 1
    made = plan(shape, gpu_memory_gb=1)
    assert all(min(made.configuration(name).patch_size) >= 1 for name in made.configurations)


def test_single_voxels_everywhere_are_planned():
    assert plan((1, 1, 1)).configuration("2d").patch_size == (1, 1)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"spacings": [], "shapes_after_crop": []}, "no case"),
        ({"spacings": [[1.0, 1.0, 1.0]]}, "1 spacings but 10 shapes"),
        ({"spacings": [[0.0, 1.0, 1.0]] * 10}, "three positive numbers"),
    ],
)
def test_impossible_fingerprints_are_refused(fields: dict, words: str):
    broken = fingerprint().model_copy(update=fields)
    with pytest.raises(PlanError, match=words):
        make_plan(broken, dataset(), dataset_name="x")


@pytest.mark.parametrize("memory", [0, -1, math.nan, math.inf])
def test_impossible_memory_is_refused(memory: float):
    with pytest.raises(PlanError, match="GB"):
        plan(gpu_memory_gb=memory)


def test_memory_that_nothing_fits_is_refused():
    with pytest.raises(PlanError, match="no patch fits"):
        plan(gpu_memory_gb=1e-6)


def test_unknown_preset_names_the_known():
    with pytest.raises(PlanError, match="resenc_m"):
        plan(preset="large")


def test_other_channels_than_measured_are_refused():
    with pytest.raises(PlanError, match="3 channels but the fingerprint measured 2"):
        make_plan(fingerprint(), dataset(channels=3), dataset_name="x")


def test_contradicting_labels_are_refused():
    with pytest.raises(DataError, match="regions_class_order"):
        make_plan(fingerprint(), dataset(labels={"background": 0, "WT": [1, 2]}), dataset_name="x")


sizes = st.tuples(*[st.integers(1, 700)] * 3)
spacings = st.tuples(*[st.floats(0.2, 9.0)] * 3)


@settings(max_examples=40, deadline=None)
@given(sizes, spacings, st.sampled_from(sorted(PRESETS)), st.floats(1, 80))
def test_every_plan_is_consistent(shape, spacing, preset, memory):
    made = plan(shape, spacing, preset=preset, gpu_memory_gb=memory)
    made.check()
    for name in made.configurations:
        one = made.configuration(name)
        assert all(edge % n == 0 for edge, n in zip(one.patch_size, one.divisors, strict=True))
        assert one.batch_size >= 2
    assert max(made.original_median_spacing_after_transp) == made.original_median_spacing_after_transp[0]


@settings(max_examples=25, deadline=None)
@given(sizes, st.sampled_from(["plain", "resenc_m"]), st.floats(1, 40))
def test_more_memory_never_means_less_work_a_step(shape, preset, memory):
    voxels = []
    for gb in (memory, 2 * memory):
        one = plan(shape, preset=preset, gpu_memory_gb=gb).configuration("2d")
        voxels.append(math.prod(one.patch_size))
    assert voxels[0] <= voxels[1]
