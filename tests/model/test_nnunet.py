"""Trained models of nnU-Net, in and out."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bts_auto.errors import ModelError
from bts_auto.events import Observer
from bts_auto.files import read_json, write_json
from bts_auto.model.build import build_network
from bts_auto.model.nnunet import CHECKPOINT, export_nnunet, import_nnunet, read_checkpoint
from bts_auto.model.nnunet_weights import weights_from_nnunet, weights_to_nnunet
from bts_auto.plan.schema import MeasuredTile
from tests.model.tiny import NAME, REGIONS, logits, tiny_fold, tiny_plan

NETWORKS = pytest.mark.parametrize("network", ["plain_unet", "residual_unet"])
# All names and shapes in the states of PlainConvUNet and ResidualEncoderUNet (dynamic_network_architectures 0.4.4),
# built for the topology of `tiny_plan`.
NNUNET_NAMES = json.loads((Path(__file__).parent / "nnunet_names.json").read_text())


def shapes(state: dict[str, torch.Tensor]) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in state.items()}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder as nnU-Net writes it, with folds 0 and 1."""
    folds = [tiny_fold(tmp_path / "ours", fold=fold, seed=fold) for fold in (0, 1)]
    return export_nnunet(folds, tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres")


def change_plans(model: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Let `change` have its way with the first stage's configuration, from which the others inherit nothing."""
    plans = read_json(model / "plans.json")
    for configuration in plans["configurations"].values():
        change(configuration)
    write_json(model / "plans.json", plans)
    return model


def change_checkpoint(model: Path, change: Callable[[dict[str, Any]], object], fold: int = 0) -> Path:
    path = model / f"fold_{fold}" / CHECKPOINT
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    return model


@NETWORKS
def test_every_name_of_nnunet_has_one_of_ours(network: str) -> None:
    theirs = {name: torch.empty(shape) for name, shape in NNUNET_NAMES[network].items()}
    ours = build_network(tiny_plan(network), NAME).state_dict()
    assert shapes(weights_from_nnunet(theirs)) == shapes(ours)


@NETWORKS
def test_every_name_of_ours_has_all_of_nnunets(network: str) -> None:
    plan = tiny_plan(network)
    ours, strides = build_network(plan, NAME).state_dict(), plan.configuration(NAME).strides
    theirs = weights_to_nnunet(ours, residual=network == "residual_unet", dropout=False, strides=strides)
    assert shapes(theirs) == NNUNET_NAMES[network]


@NETWORKS
@pytest.mark.parametrize("name", ["3d_lowres", NAME, "3d_cascade_fullres"])
@pytest.mark.parametrize("changes", [{}, REGIONS], ids=["labels", "regions"])
def test_out_and_in_again_is_the_same_model(network: str, name: str, changes: dict, tmp_path: Path) -> None:
    options = {"dropout": 0.25, "activation": "relu", "n_conv_per_stage_decoder": 1}
    ours = tiny_fold(tmp_path / "ours", tiny_plan(network, options, **changes), name=name)
    (back,) = import_nnunet(export_nnunet([ours], tmp_path / "theirs"), tmp_path / "back")
    channels = 4 if name == "3d_cascade_fullres" else 2
    assert torch.equal(logits(back.network(), channels), logits(ours.network(), channels))
    for field in (
        "spacing",
        "patch_size",
        "batch_size",
        "strides",
        "resampling",
        "normalization_schemes",
        "previous_stage",
    ):
        assert getattr(back.configuration, field) == getattr(ours.configuration, field)
    options = back.configuration.network_options()
    assert (options.dropout, options.activation, options.n_conv_per_stage_decoder) == (0.25, "relu", (1, 1))
    assert back.labels == ours.labels
    assert (back.fold, back.epoch, back.plan.channel_names) == (0, 7, ("T1", "FLAIR"))


def test_an_imported_model_predicts_as_nnunet_does(model: Path, tmp_path: Path) -> None:
    (fold, _) = import_nnunet(model, tmp_path / "back")
    inference = fold.configuration.inference
    assert fold.plan.orientation == "as_stored"
    assert (inference.averaging, inference.tile, inference.mirror_axes) == ("logits", "patch", (0, 1))
    assert str(fold.folder.relative_to(tmp_path)) == f"back/nnunet__{NAME}/fold_0"


def test_channels_follow_the_labels_values(tmp_path: Path) -> None:
    """nnU-Net takes a channel's index for its label, in whichever order the labels were declared."""
    plan = tiny_plan(labels={"background": 0, "core": 2, "edema": 1})
    ours = tiny_fold(tmp_path / "ours", plan)
    (back,) = import_nnunet(export_nnunet([ours], tmp_path / "theirs"), tmp_path / "back")
    assert back.labels.outputs == ("background", "edema", "core")
    assert torch.equal(logits(back.network()), logits(ours.network())[:, [0, 2, 1]])


def test_labels_with_gaps_cannot_leave(tmp_path: Path) -> None:
    ours = tiny_fold(tmp_path, tiny_plan(labels={"background": 0, "edema": 1, "core": 4}))
    with pytest.raises(ModelError, match="needs the labels 0, 1, 2"):
        export_nnunet([ours], tmp_path / "theirs")


def test_a_network_that_nnunet_lacks_cannot_leave(tmp_path: Path) -> None:
    ours = tiny_fold(tmp_path, tiny_plan(options={"norm": "group"}))
    with pytest.raises(ModelError, match="knows no normalisation 'group'"):
        export_nnunet([ours], tmp_path / "theirs")


def test_folds_of_different_plans_cannot_leave_together(tmp_path: Path) -> None:
    folds = [tiny_fold(tmp_path / "a"), tiny_fold(tmp_path / "b", tiny_plan("residual_unet"), fold=1)]
    with pytest.raises(ModelError, match="another plan"):
        export_nnunet(folds, tmp_path / "theirs")


def test_folds_that_were_validated_on_other_cases_leave_together(tmp_path: Path) -> None:
    folds = [
        tiny_fold(tmp_path, fold=fold)
        .with_measured([MeasuredTile(tile="patch", dice={f"case_{fold}": {"core": 0.5}})])
        .with_ranges({"encoder.0.0.conv": (0.0, float(fold))})
        for fold in (0, 1)
    ]
    assert len(import_nnunet(export_nnunet(folds, tmp_path / "theirs"), tmp_path / "back")) == 2


def test_leaving_a_canonical_plan_warns_of_the_orientation(tmp_path: Path) -> None:
    class Ear(Observer):
        heard: list[str]

        def warn(self, message: str) -> None:
            self.heard.append(message)

    ear = Ear()
    ear.heard = []
    export_nnunet([tiny_fold(tmp_path)], tmp_path / "theirs", observer=ear)
    assert "LPS" in ear.heard[0]


def test_half_precision_weights_and_numpy_numbers_load(model: Path, tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["network_weights"] = {name: tensor.half() for name, tensor in content["network_weights"].items()}
        content["_best_ema"] = np.float32(0.5)
        content["logging"] = {"losses": [np.float64(1.0), np.float32(2.0)], "n": [np.int64(3), np.bool_(True)]}

    folds = import_nnunet(change_checkpoint(model, change), tmp_path / "back")
    assert {tensor.dtype for tensor in folds[0].state().values()} == {torch.float32}


def test_a_checkpoint_that_would_execute_something_is_refused(model: Path, tmp_path: Path) -> None:
    class Command:
        def __reduce__(self) -> tuple:
            return os.system, (f"touch {tmp_path / 'executed'}",)

    change_checkpoint(model, lambda content: content.update(logging=Command()))
    with pytest.raises(ModelError, match="holds something other than weights and plain values"):
        import_nnunet(model, tmp_path / "back")
    assert not (tmp_path / "executed").exists()


def test_a_wrapped_networks_names_are_known(model: Path, tmp_path: Path) -> None:
    def wrap(content: dict[str, Any]) -> None:
        content["network_weights"] = {f"module.{name}": one for name, one in content["network_weights"].items()}

    plain = import_nnunet(model, tmp_path / "plain")[0]
    wrapped = import_nnunet(change_checkpoint(model, wrap), tmp_path / "wrapped")[0]
    assert wrapped.content_hash == plain.content_hash


def test_a_trainer_with_batch_normalisation(tmp_path: Path) -> None:
    """nnUNetTrainerBN replaces the layer without saying so in the plan."""
    ours = tiny_fold(tmp_path / "ours", tiny_plan(options={"norm": "batch"}))
    model = export_nnunet([ours], tmp_path / "theirs")

    def instance(configuration: dict[str, Any]) -> None:
        configuration["architecture"]["arch_kwargs"]["norm_op"] = "torch.nn.modules.instancenorm.InstanceNorm3d"

    (back,) = import_nnunet(change_plans(model, instance), tmp_path / "back")
    assert torch.equal(logits(back.network()), logits(ours.network()))


def test_plans_of_before_version_2_3(model: Path, tmp_path: Path) -> None:
    def old(configuration: dict[str, Any]) -> None:
        keywords = configuration.pop("architecture")["arch_kwargs"]
        configuration |= {
            "UNet_class_name": "PlainConvUNet",
            "UNet_base_num_features": 4,
            "unet_max_num_features": 8,
            "n_conv_per_stage_encoder": keywords["n_conv_per_stage"],
            "n_conv_per_stage_decoder": keywords["n_conv_per_stage_decoder"],
            "pool_op_kernel_sizes": keywords["strides"],
            "conv_kernel_sizes": keywords["kernel_sizes"],
        }

    plan = tiny_plan()
    for configuration in plan.configurations.values():
        configuration["features_per_stage"] = (4, 8, 8)
    ours = tiny_fold(tmp_path / "ours", plan)
    (back,) = import_nnunet(change_plans(export_nnunet([ours], tmp_path / "old"), old), tmp_path / "back")
    assert torch.equal(logits(back.network()), logits(ours.network()))


def zipped(folder: Path, path: Path, prefix: str = "Dataset001_Tiny") -> Path:
    with zipfile.ZipFile(path, "a") as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, f"{prefix}/{folder.name}/{file.relative_to(folder)}")
    return path


def test_an_archive_is_a_model_too(model: Path, tmp_path: Path) -> None:
    folds = import_nnunet(zipped(model, tmp_path / "model.zip"), tmp_path / "back")
    assert [fold.fold for fold in folds] == [0, 1]


def test_an_archive_with_several_configurations(model: Path, tmp_path: Path) -> None:
    lowres = export_nnunet([tiny_fold(tmp_path / "lowres", name="3d_lowres")], tmp_path / "t__p__3d_lowres")
    archive = zipped(lowres, zipped(model, tmp_path / "model.zip"))
    folds = import_nnunet(archive, tmp_path / "back")
    assert sorted(fold.configuration_name for fold in folds) == [NAME, NAME, "3d_lowres"]


def test_two_models_of_one_configuration_are_refused(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, model.with_name("other__nnUNetPlans__3d_fullres"))
    with pytest.raises(ModelError, match="two models of 3d_fullres, fold 0"):
        import_nnunet(tmp_path, tmp_path / "back")


def test_chosen_folds(model: Path, tmp_path: Path) -> None:
    assert [fold.fold for fold in import_nnunet(model, tmp_path / "back", folds=[1])] == [1]


def test_a_fold_that_is_not_there(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"fold 4 has no checkpoint_final\.pth - it has 0, 1"):
        import_nnunet(model, tmp_path / "back", folds=[4])


def test_no_model_at_all(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no trained model of nnU-Net v2"):
        import_nnunet(tmp_path, tmp_path / "back")
    with pytest.raises(ModelError, match="no such file or folder"):
        import_nnunet(tmp_path / "none", tmp_path / "back")


def test_a_truncated_checkpoint(model: Path, tmp_path: Path) -> None:
    path = model / "fold_0" / CHECKPOINT
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ModelError, match="cannot be read as a checkpoint"):
        import_nnunet(model, tmp_path / "back")


def test_another_programs_checkpoint(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "c.pth")
    with pytest.raises(ModelError, match="no checkpoint of nnU-Net v2"):
        read_checkpoint(tmp_path / "c.pth")


def test_weights_of_another_network_name_their_trainer(model: Path, tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["trainer_name"] = "nnUNetTrainerMine"
        content["network_weights"]["decoder.seg_layers.0.bias"] = torch.zeros(9)

    with pytest.raises(ModelError, match=r"'heads.0.bias' has shape \[9\].*trained by nnUNetTrainerMine"):
        import_nnunet(change_checkpoint(model, change), tmp_path / "back")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(preprocessor_name="MyPreprocessor"), "preprocessor 'MyPreprocessor' is not known"),
        (lambda c: c.update(resampling_fn_data="resample_torch_fornnunet"), "resampling 'resample_torch_fornnunet'"),
        (lambda c: c.update(normalization_schemes=["Mine", "Mine"]), "normalisation 'Mine' is not known"),
        (lambda c: c["architecture"].update(network_class_name="a.b.PrimusM"), "architecture 'PrimusM' is not known"),
        (lambda c: c["architecture"]["arch_kwargs"].update(nonlin="torch.nn.PReLU"), "activation 'PReLU'"),
        (lambda c: c["architecture"]["arch_kwargs"].update(nonlin_first=True), "option 'nonlin_first' is not known"),
        (lambda c: c["architecture"]["arch_kwargs"]["norm_op_kwargs"].update(eps=1e-3), "layer 'InstanceNorm' with"),
        (lambda c: c.pop("spacing"), "has no 'spacing'"),
        (lambda c: c.update(patch_size=[5, 8, 8]), "its plan does not fit"),
    ],
)
def test_what_is_not_known_is_refused_in_words(change: Callable, message: str, model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        import_nnunet(change_plans(model, change), tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_reader_that_turns_images_is_refused(model: Path, tmp_path: Path) -> None:
    plans = read_json(model / "plans.json") | {"image_reader_writer": "NibabelIOWithReorient"}
    write_json(model / "plans.json", plans)
    with pytest.raises(ModelError, match="turns images to RAS"):
        import_nnunet(model, tmp_path / "back")


def test_other_configurations_may_be_unknown(model: Path, tmp_path: Path) -> None:
    plans = read_json(model / "plans.json")
    plans["configurations"]["primus"] = {"inherits_from": NAME, "architecture": {"network_class_name": "a.Primus"}}
    write_json(model / "plans.json", plans)
    assert "primus" not in import_nnunet(model, tmp_path / "back")[0].plan.configurations


@pytest.mark.real_data
def test_a_trained_model_computes_nnunets_logits(real_data: Path, tmp_path: Path) -> None:
    """Root mean square of each class's logits, and the logits at one voxel, as nnU-Net 2.8.1 computes them."""
    source = real_data / "nnunet_model" / "nnUNetTrainer__nnUNetPlans_1__3d_fullres"
    if not source.is_dir():
        pytest.skip(f"no trained nnU-Net in {source}")
    (fold,) = import_nnunet(source, tmp_path)
    assert (fold.fold, fold.configuration_name, fold.labels.ignore) == ("all", NAME, None)
    assert fold.plan.channel_names == ("FLAIR", "T1c")
    assert fold.configuration.inference.mirror_axes == (0, 1, 2)
    x = torch.sin(0.37 * torch.arange(2 * 64**3, dtype=torch.float64)).float().reshape(1, 2, 64, 64, 64)
    with torch.no_grad():
        found = fold.network()(x)["logits"][0].double()
    size = found.square().mean((0, 2, 3, 4)).sqrt().tolist()
    assert size == pytest.approx([13.365426, 4.349541, 2.186715, 5.060111, 6.664118], abs=1e-5)
    at = found[0, :, 31, 32, 33].tolist()
    assert at == pytest.approx([18.084032, -5.142469, 1.775103, -6.250957, -9.591792], abs=1e-4)


def test_another_fold_is_not_overwritten_but_the_same_one_may_come_again(model: Path, tmp_path: Path) -> None:
    other = export_nnunet([tiny_fold(tmp_path / "other", seed=7)], tmp_path / "other_model")
    results = tmp_path / "back"
    import_nnunet(model, results)
    import_nnunet(model, results)
    with pytest.raises(ModelError, match="another trained fold is there"):
        import_nnunet(other, results)
