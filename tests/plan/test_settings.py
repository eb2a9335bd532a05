"""`--set field=value`."""

import pytest

from bts_auto.errors import PlanError
from bts_auto.plan.recipes import Recipe, apply_recipe
from bts_auto.plan.schema import Component
from bts_auto.plan.settings import apply_settings
from tests.plan.cases import plan


def test_numbers_lists_words_and_positions():
    wanted = ["training.epochs=50", "patch_size=[64,64,64]", "training.precision=fp32", "training.loss.0.weight=2"]
    made = apply_settings(plan(), wanted, "3d_fullres").configuration("3d_fullres")
    assert made.training.epochs == 50
    assert made.patch_size == (64, 64, 64)
    assert made.training.precision == "fp32"
    assert [term.weight for term in made.training.loss] == [2.0, 1.0]


def test_without_a_configuration_all_change():
    made = apply_settings(plan((500, 512, 512)), ["training.epochs=50"])
    assert {made.configuration(name).training.epochs for name in made.configurations} == {50}


def test_an_inheriting_configuration_changes_without_the_one_it_inherits_from():
    made = apply_settings(plan((500, 512, 512)), ["training.epochs=50"], "3d_cascade_fullres")
    assert made.configuration("3d_cascade_fullres").training.epochs == 50
    assert made.configuration("3d_fullres").training.epochs == 1000
    assert set(made.configurations["3d_cascade_fullres"]) == {"inherits_from", "previous_stage", "training"}


def test_what_concerns_the_training_holds_for_the_stage_before_and_sizes_do_not():
    before = plan((500, 512, 512))
    settings = ["training.loss.0.weight=2", "batch_size=3", "training.deep_supervision_weights=[1]"]
    made = apply_settings(before, settings, "3d_cascade_fullres").configuration("3d_lowres")
    assert made.training.loss[0].weight == 2
    assert made.batch_size == before.configuration("3d_lowres").batch_size
    assert made.training.deep_supervision_weights is None


def test_a_first_stage_changes_alone():
    made = apply_settings(plan((500, 512, 512)), ["training.epochs=50"], "3d_lowres")
    assert made.configuration("3d_cascade_fullres").training.epochs == 1000


def test_the_target_is_a_field_of_the_whole_plan():
    made = apply_settings(plan(), ["target=regions"], "3d_fullres")
    assert made.target == "regions"
    assert (
        made.label_set().outputs
        == apply_recipe(plan(), Recipe(name="r", about="", target="regions")).label_set().outputs
    )


@pytest.mark.parametrize(
    ("short", "written_out"),
    [
        ("training.mixing=mix_up", 'training.mixing={"name": "mix_up"}'),
        ("training.loss=dice", 'training.loss=[{"name": "dice"}]'),
        ('training.loss=["dice", "focal"]', 'training.loss=[{"name": "dice"}, {"name": "focal"}]'),
        ("training.more_augmentation=cut_out", 'training.more_augmentation=[{"name": "cut_out"}]'),
        ("network=residual_unet", 'network={"name": "residual_unet"}'),
    ],
)
def test_a_name_alone_is_a_component_without_options(short: str, written_out: str):
    made = [apply_settings(plan(), [setting], "2d").configuration("2d") for setting in (short, written_out)]
    assert made[0] == made[1]


def test_options_follow_a_name_alone():
    settings = ["training.mixing=mix_up", "training.mixing.options.alpha=0.3"]
    made = apply_settings(plan(), settings, "2d").configuration("2d")
    assert made.training.mixing == Component(name="mix_up", options={"alpha": 0.3})


def test_another_component_starts_without_options():
    before = apply_settings(plan(), ["training.optimizer.options.lr=0.1"], "2d")
    made = apply_settings(before, ["training.optimizer.name=adam"], "2d").configuration("2d")
    assert made.training.optimizer.options == {}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("training.epoch=3", "did you mean 'epochs'"),
        ("training.epochs=many", "training.epochs"),
        ("training.epochs=0", "training.epochs"),
        ("training.epochs", "field=value"),
        ("training.loss.7.weight=1", "no position"),
        ("training.loss=[]", "'training.loss': needs at least one term"),
        ("training.loss=3", "'training.loss.0': a component is a name, or"),
        ("training.mixing=3", "'training.mixing': a component is a name, or"),
        ("target=voxels", "'target': .*'regions'"),
        ("target.x=1", "below a plain value"),
        ("batch_size.x=1", "below a plain value"),
    ],
)
def test_what_does_not_fit_is_refused(setting: str, words: str):
    with pytest.raises(PlanError, match=words):
        apply_settings(plan(), [setting], "2d")


def test_the_plan_itself_stays():
    made = plan()
    apply_settings(made, ["training.epochs=50"])
    assert made == plan()
