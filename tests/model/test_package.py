"""Model packages, and what is done to them on the way."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bts_auto.errors import ModelError
from bts_auto.model.fold import TrainedFold
from bts_auto.model.layout import WEIGHTS_FILE
from bts_auto.model.package import MANIFEST, export_package, install_package, open_package, package_documents
from bts_auto.model.weights import save_weights
from tests.model.tiny import NAME, logits, tiny_fold, tiny_plan

FOLDER = f"default__{NAME}/fold_0"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folds = [tiny_fold(tmp_path / "results", fold=fold, seed=fold) for fold in (0, 1)]
    return export_package(folds, tmp_path / "model.zip", documents={"best.json": {"members": 2}})


def rewrite(package: Path, change: Callable[[dict[str, bytes]], None], method: int = zipfile.ZIP_STORED) -> Path:
    """Write the package anew after `change` had its way with the files."""
    with zipfile.ZipFile(package) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(package, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return package


def change_manifest(package: Path, **changes: object) -> Path:
    def change(files: dict[str, bytes]) -> None:
        files[MANIFEST] = json.dumps(json.loads(files[MANIFEST]) | changes).encode()

    return rewrite(package, change)


def test_folds_come_back(package: Path, tmp_path: Path) -> None:
    folds = open_package(package)
    assert [fold.fold for fold in folds] == [0, 1]
    for fold in folds:
        on_disk = TrainedFold(tmp_path / "results" / f"default__{NAME}" / f"fold_{fold.fold}")
        assert torch.equal(logits(fold.network()), logits(on_disk.network()))
        assert (fold.plan, fold.record, fold.content_hash) == (on_disk.plan, on_disk.record, on_disk.content_hash)


def test_documents_travel_along(package: Path) -> None:
    assert package_documents(package) == {"best.json": {"members": 2}}


def test_the_same_folds_make_the_same_file(package: Path, tmp_path: Path) -> None:
    again = export_package(open_package(package), tmp_path / "again.zip", documents={"best.json": {"members": 2}})
    assert again.read_bytes() == package.read_bytes()


def test_fp16_halves_the_weights_and_hardly_moves_the_logits(tmp_path: Path) -> None:
    fold = tiny_fold(tmp_path / "results")
    half = export_package([fold], tmp_path / "half.zip", precision="fp16")
    (opened,) = open_package(half)
    assert {tensor.dtype for tensor in opened.state().values()} == {torch.float32}
    torch.testing.assert_close(logits(opened.network()), logits(fold.network()), rtol=0.02, atol=0.02)
    names = zipfile.ZipFile(half).getinfo(f"{FOLDER}/{WEIGHTS_FILE}")
    n_parameters = sum(tensor.numel() for tensor in fold.state().values())
    assert 2 * n_parameters < names.file_size < 3 * n_parameters


def test_weights_beyond_fp16_are_refused(tmp_path: Path) -> None:
    fold = tiny_fold(tmp_path)
    state = fold.state()
    state["heads.0.bias"][0] = 1e6
    save_weights(fold.folder / WEIGHTS_FILE, state, fold.record.model_dump(mode="json"))
    with pytest.raises(ModelError, match=r"'heads\.0\.bias' does not fit into fp16 - export as fp32"):
        export_package([fold], tmp_path / "half.zip", precision="fp16")
    assert not (tmp_path / "half.zip").exists()


def test_the_same_fold_twice_is_refused(tmp_path: Path) -> None:
    fold = tiny_fold(tmp_path)
    with pytest.raises(ModelError, match="twice"):
        export_package([fold, fold], tmp_path / "model.zip")


def test_an_empty_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no trained fold"):
        export_package([], tmp_path / "model.zip")


def test_installed_folds_are_trained_folds(package: Path, tmp_path: Path) -> None:
    folds = install_package(package, tmp_path / "installed")
    assert [str(fold.folder.relative_to(tmp_path / "installed")) for fold in folds] == [
        f"default__{NAME}/fold_0",
        f"default__{NAME}/fold_1",
    ]
    assert torch.equal(logits(folds[0].network()), logits(open_package(package)[0].network()))


def test_installing_again_changes_nothing(package: Path, tmp_path: Path) -> None:
    (first, _) = install_package(package, tmp_path / "installed")
    before = (first.folder / WEIGHTS_FILE).stat().st_mtime_ns
    install_package(package, tmp_path / "installed")
    assert (first.folder / WEIGHTS_FILE).stat().st_mtime_ns == before


def test_another_fold_is_never_overwritten(package: Path, tmp_path: Path) -> None:
    there = tiny_fold(tmp_path / "installed", fold=1, seed=99)
    before = there.content_hash
    with pytest.raises(ModelError, match="another trained fold is there"):
        install_package(package, tmp_path / "installed")
    assert TrainedFold(there.folder).content_hash == before
    assert not (there.folder.parent / "fold_0").exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_truncated(package: Path, share: float) -> None:
    data = package.read_bytes()
    package.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ModelError, match=r"model\.zip: is damaged or no zip archive"):
        open_package(package)


def test_one_flipped_bit(package: Path) -> None:
    data = bytearray(package.read_bytes())
    data[len(data) // 3] ^= 1
    package.write_bytes(data)
    with pytest.raises(ModelError):
        open_package(package)


def test_weights_that_were_exchanged(package: Path, tmp_path: Path) -> None:
    def exchange(files: dict[str, bytes]) -> None:
        zero, one = f"{FOLDER}/{WEIGHTS_FILE}", f"default__{NAME}/fold_1/{WEIGHTS_FILE}"
        files[zero], files[one] = files[one], files[zero]

    with pytest.raises(ModelError, match="was altered: its hash is not the manifest's"):
        open_package(rewrite(package, exchange))


def test_an_additional_file(package: Path) -> None:
    with pytest.raises(ModelError, match=r"'more\.py' is in the package or in its manifest, but not in both"):
        open_package(rewrite(package, lambda files: files.update({"more.py": b"print()"})))


def test_a_missing_file(package: Path) -> None:
    with pytest.raises(ModelError, match="but not in both"):
        open_package(rewrite(package, lambda files: files.pop(f"{FOLDER}/{WEIGHTS_FILE}")))


def test_another_version(package: Path) -> None:
    with pytest.raises(ModelError, match="package of version 2, this program reads version 1"):
        open_package(change_manifest(package, version=2))


def test_another_kind_of_archive(package: Path) -> None:
    with pytest.raises(ModelError, match="not a model package of this program"):
        open_package(change_manifest(package, format="something else"))


def test_a_manifest_that_does_not_fit(package: Path) -> None:
    with pytest.raises(ModelError, match="unknown key 'more'"):
        open_package(change_manifest(package, more=1))


@pytest.mark.parametrize("recipe", ["../../elsewhere", "/tmp/elsewhere", "a/b"])
def test_a_member_that_would_leave_the_results(package: Path, recipe: str, tmp_path: Path) -> None:
    members = [{"recipe": recipe, "configuration": NAME, "fold": 0, "folder": f"{recipe}__{NAME}/fold_0"}]
    with pytest.raises(ModelError, match="does not fit the package"):
        install_package(change_manifest(package, members=members), tmp_path / "installed")
    assert not (tmp_path / "installed").exists()


def test_a_fold_of_another_recipe_stands_beside(tmp_path: Path) -> None:
    folds = [tiny_fold(tmp_path / "results"), tiny_fold(tmp_path / "results", tiny_plan(recipe="other"))]
    package = export_package(folds, tmp_path / "model.zip")
    assert [fold.plan.recipe for fold in open_package(package)] == ["default", "other"]
