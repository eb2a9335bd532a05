"""Trained folds on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bts_auto.errors import ModelError, PlanError
from bts_auto.files import read_json, write_json
from bts_auto.model.build import build_network
from bts_auto.model.fold import FoldRecord, TrainedFold, find_folds, write_fold
from bts_auto.model.layout import PLAN_FILE, WEIGHTS_FILE, fold_folder
from bts_auto.model.weights import as_precision, load_weights, save_weights
from tests.model.tiny import NAME, logits, tiny_fold, tiny_plan


def test_what_was_written_is_read(tmp_path: Path) -> None:
    written = tiny_fold(tmp_path, fold=2)
    fold = TrainedFold(written.folder)
    assert (fold.configuration_name, fold.fold, fold.epoch) == (NAME, 2, 7)
    assert fold.dataset == {"numTraining": 4}
    assert fold.plan == tiny_plan()
    assert fold.configuration == tiny_plan().configuration(NAME)
    assert fold.labels.outputs == ("background", "edema", "core")


def test_the_network_is_ready_to_predict(tmp_path: Path) -> None:
    network = tiny_fold(tmp_path).network()
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert len(network(torch.zeros(1, 2, 4, 8, 8))["logits"]) == 1


def test_the_network_computes_what_was_trained(tmp_path: Path) -> None:
    trained = build_network(tiny_plan(), NAME).eval()
    folder = fold_folder(tmp_path, "default", NAME, 0)
    fold = write_fold(folder, tiny_plan(), trained.state_dict(), {"configuration": NAME, "fold": 0})
    assert torch.equal(logits(fold.network()), logits(trained))


def test_half_precision_weights_load_as_single(tmp_path: Path) -> None:
    fold = tiny_fold(tmp_path)
    path = fold.folder / WEIGHTS_FILE
    state, metadata = load_weights(path)
    save_weights(path, as_precision(state, torch.float16), metadata)
    assert {tensor.dtype for tensor in fold.state().values()} == {torch.float32}


def test_the_hash_follows_the_weights(tmp_path: Path) -> None:
    one, same = tiny_fold(tmp_path / "a"), tiny_fold(tmp_path / "b")
    other = tiny_fold(tmp_path / "c", seed=1)
    assert one.content_hash == same.content_hash != other.content_hash


def test_weights_of_another_plan_are_refused(tmp_path: Path) -> None:
    fold = tiny_fold(tmp_path)
    tiny_plan("residual_unet").save(fold.folder / PLAN_FILE)
    with pytest.raises(ModelError, match=r"fold_0: the weights do not fit the plan's network"):
        TrainedFold(fold.folder).network()


def test_another_version_is_refused(tmp_path: Path) -> None:
    fold = tiny_fold(tmp_path)
    record = FoldRecord(configuration=NAME, fold=0).model_dump(mode="json") | {"version": 9}
    save_weights(fold.folder / WEIGHTS_FILE, fold.state(), record)
    with pytest.raises(ModelError, match="version 9, this program reads version 1"):
        TrainedFold(fold.folder)


def test_damaged_metadata_is_refused(tmp_path: Path) -> None:
    fold = tiny_fold(tmp_path)
    save_weights(fold.folder / WEIGHTS_FILE, fold.state(), {"version": 1, "configuration": NAME, "fold": "first"})
    with pytest.raises(ModelError, match="damaged metadata: 'fold"):
        TrainedFold(fold.folder)


def test_a_plan_of_another_version_is_refused(tmp_path: Path) -> None:
    fold = tiny_fold(tmp_path)
    write_json(fold.folder / PLAN_FILE, read_json(fold.folder / PLAN_FILE) | {"version": 0})
    with pytest.raises(PlanError, match="plan of version 0"):
        _ = TrainedFold(fold.folder).plan


def test_a_folder_without_a_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no plan\.json"):
        TrainedFold(tmp_path)


def test_numbered_folds_are_found_in_order(tmp_path: Path) -> None:
    for fold in (10, 2, "all", 0):
        tiny_fold(tmp_path, fold=fold)
    assert [fold.fold for fold in find_folds(tmp_path, "default", NAME)] == [0, 2, 10]


def test_all_is_found_where_it_is_alone(tmp_path: Path) -> None:
    tiny_fold(tmp_path, fold="all")
    assert [fold.fold for fold in find_folds(tmp_path, "default", NAME)] == ["all"]


def test_chosen_folds_keep_their_order(tmp_path: Path) -> None:
    for fold in (0, 1, 2):
        tiny_fold(tmp_path, fold=fold)
    assert [fold.fold for fold in find_folds(tmp_path, "default", NAME, [2, 0])] == [2, 0]


def test_a_fold_that_is_not_trained_is_named_with_those_that_are(tmp_path: Path) -> None:
    tiny_fold(tmp_path, fold=1)
    (fold_folder(tmp_path, "default", NAME, 3)).mkdir()  # begun, without weights
    with pytest.raises(
        ModelError, match="fold 3 is not trained - trained folds: 1; train with: bts_train 3d_fullres 3"
    ):
        find_folds(tmp_path, "default", NAME, [1, 3])


def test_how_to_train_names_the_recipe(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"bts_train 2d 0 --recipe deepseg_staple:focal$"):
        find_folds(tmp_path, "deepseg_staple.focal", "2d")


def test_an_untrained_configuration_says_how_to_train(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no fold is trained - trained folds: none; train with: bts_train 2d 0"):
        find_folds(tmp_path, "default", "2d")
