"""A folder of cases: files in, masks out, and nothing lost when something goes wrong."""

import errno
import json
import os

import numpy as np
import pytest
import SimpleITK as sitk

from bts_auto.combine.saved import find_probabilities
from bts_auto.data.readers import read_mask, write_map
from bts_auto.data.volume import Volume
from bts_auto.errors import DataError, PlanError
from bts_auto.events import Observer
from bts_auto.predict.predictor import CasePredictor
from tests.predict.models import MemoryFold, make_configuration, make_plan, make_volume, predict_folder

OBLIQUE = {
    "origin": (-91.5, 126.25, -72.0),
    "direction": (-1.0, 0.0, 0.0, 0.0, -0.8, 0.6, 0.0, 0.6, 0.8),
}


def make_predictor(**plan_changes) -> CasePredictor:
    plan = make_plan(make_configuration(), **plan_changes)
    return CasePredictor([MemoryFold(plan)], device="cpu", engine="torch", precision="fp32", member_entropy=True)


@pytest.fixture(scope="module")
def predictor():
    return make_predictor()


def write_case(folder, name: str, seed: int = 0, ending: str = ".nii.gz", **geometry) -> Volume:
    volume = make_volume(seed=seed, **geometry)
    for number, channel in enumerate(volume.array):
        write_map(folder / f"{name}_{number:04d}{ending}", channel, volume.geometry)
    return volume


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for number, name in enumerate(("anna", "bert", "carl")):
        write_case(folder, name, seed=number)
    return folder


class Listening(Observer):
    def __init__(self):
        self.notes, self.warnings = [], []

    def note(self, message):
        self.notes.append(message)

    def warn(self, message):
        self.warnings.append(message)


def test_every_case_gets_the_mask_that_the_predictor_gives_alone(images, tmp_path, predictor):
    result = predict_folder(predictor, images, tmp_path / "out")
    assert result.done == ("anna", "bert", "carl")
    assert result.failures == ()
    for number, name in enumerate(result.done):
        expected = predictor.predict(make_volume(seed=number)).mask
        np.testing.assert_array_equal(read_mask(tmp_path / "out" / f"{name}.nii.gz")[0], expected)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_masks_have_the_grid_and_the_type_of_the_images(tmp_path, predictor, ending):
    (tmp_path / "in").mkdir()
    write_case(tmp_path / "in", "one", ending=ending, spacing=(2.5, 0.9, 1.1), **OBLIQUE)
    predict_folder(predictor, tmp_path / "in", tmp_path / "out")
    image = sitk.ReadImage(str(tmp_path / "in" / f"one_0000{ending}"))
    mask = sitk.ReadImage(str(tmp_path / "out" / f"one{ending}"))
    assert mask.GetSize() == image.GetSize()
    for get in (sitk.Image.GetSpacing, sitk.Image.GetOrigin, sitk.Image.GetDirection):
        np.testing.assert_allclose(get(mask), get(image), atol=1e-6)


def test_a_bad_case_is_named_and_the_others_are_done(images, tmp_path, predictor):
    (images / "bert_0001.nii.gz").write_bytes(b"no image")
    listening = Listening()
    result = predict_folder(predictor, images, tmp_path / "out", observer=listening)
    assert result.done == ("anna", "carl")
    (failure,) = result.failures
    assert failure.case == "bert"
    assert "bert_0001.nii.gz" in failure.reason
    assert any("bert" in warning for warning in listening.warnings)
    assert not list((tmp_path / "out").glob("bert*"))


def test_a_missing_channel_is_named(images, tmp_path, predictor):
    (images / "carl_0001.nii.gz").unlink()
    result = predict_folder(predictor, images, tmp_path / "out")
    assert result.done == ("anna", "bert")
    assert "carl_0001" in result.failures[0].reason


def test_finished_cases_are_not_made_again(images, tmp_path, predictor):
    predict_folder(predictor, images, tmp_path / "out")
    before = (tmp_path / "out" / "anna.nii.gz").stat().st_mtime_ns
    (tmp_path / "out" / "bert.nii.gz").unlink()
    listening = Listening()
    result = predict_folder(predictor, images, tmp_path / "out", observer=listening)
    assert result.done == ("anna", "bert", "carl")
    assert (tmp_path / "out" / "anna.nii.gz").stat().st_mtime_ns == before
    assert listening.notes == ["2 of 3 cases are already done"]


def test_a_case_whose_images_changed_is_made_again(images, tmp_path, predictor):
    predict_folder(predictor, images, tmp_path / "out")
    write_case(images, "anna", seed=9)
    predict_folder(predictor, images, tmp_path / "out")
    np.testing.assert_array_equal(
        read_mask(tmp_path / "out" / "anna.nii.gz")[0], predictor.predict(make_volume(seed=9)).mask
    )


def test_a_case_stopped_between_mask_and_record_is_made_again(images, tmp_path, predictor):
    predict_folder(predictor, images, tmp_path / "out")
    record = tmp_path / "out" / "anna.prediction.json"
    values = json.loads(record.read_text())
    record.write_text(json.dumps({key: values[key] for key in ("case", "made_by")} | {"finished": False}))
    predict_folder(predictor, images, tmp_path / "out")
    assert json.loads(record.read_text())["finished"]


def test_masks_of_other_settings_are_not_taken_for_ours(images, tmp_path, predictor):
    predict_folder(predictor, images, tmp_path / "out")
    plan = make_plan(make_configuration())
    other = CasePredictor([MemoryFold(plan)], device="cpu", engine="torch", precision="fp32", tile="whole")
    with pytest.raises(PlanError, match=r"another tile.*--overwrite"):
        predict_folder(other, images, tmp_path / "out")
    predict_folder(other, images, tmp_path / "out", overwrite=True)
    assert json.loads((tmp_path / "out" / "anna.prediction.json").read_text())["made_by"]["tile"] == "whole"


def test_masks_of_another_program_are_not_replaced(images, tmp_path, predictor):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "anna.nii.gz").write_bytes(b"precious")
    with pytest.raises(PlanError, match="something else"):
        predict_folder(predictor, images, tmp_path / "out")
    assert (tmp_path / "out" / "anna.nii.gz").read_bytes() == b"precious"


def test_parts_divide_the_cases(images, tmp_path, predictor):
    first = predict_folder(predictor, images, tmp_path / "out", part=(1, 2))
    second = predict_folder(predictor, images, tmp_path / "out", part=(2, 2))
    assert (first.done, second.done) == (("anna", "carl"), ("bert",))


def test_a_part_that_does_not_exist_is_refused(images, tmp_path, predictor):
    with pytest.raises(PlanError, match="part 3 of 2"):
        predict_folder(predictor, images, tmp_path / "out", part=(3, 2))


def test_the_record_of_a_case(images, tmp_path, predictor):
    predict_folder(predictor, images, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "anna.prediction.json").read_text())
    mask = read_mask(tmp_path / "out" / "anna.nii.gz")[0]
    assert record["made_by"]["plan"] == predictor.plan.content_hash()
    assert set(record["seconds"]) == {"read", "prepare", "network", "export", "write"}
    assert record["volumes_ml"]["core"] == pytest.approx((mask == 2).sum() / 1000, abs=1e-3)


def test_submission_labels_are_written(images, tmp_path):
    changed = make_predictor(submission_labels={2: 4})
    predict_folder(changed, images, tmp_path / "out")
    mask = read_mask(tmp_path / "out" / "anna.nii.gz")[0]
    assert set(np.unique(mask)) == {0, 1, 4}


def test_probabilities_and_uncertainty(images, tmp_path, predictor):
    out = tmp_path / "out"
    predict_folder(predictor, images, out, save_probabilities=True, save_uncertainty=True)
    folder = out / "probabilities" / "anna"
    names = [path.name for path in sorted(folder.iterdir())]
    assert names == ["0_background.nii.gz", "1_edema.nii.gz", "2_core.nii.gz"]
    maps = np.stack([sitk.GetArrayFromImage(sitk.ReadImage(str(folder / name))) for name in names])
    np.testing.assert_allclose(maps.sum(0), 1, atol=2e-3)
    np.testing.assert_array_equal(maps.argmax(0), read_mask(out / "anna.nii.gz")[0])
    entropy = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "uncertainty" / "anna_entropy.nii.gz")))
    inside = make_volume(seed=0).array.any(0)
    assert entropy.min() >= 0
    assert entropy.max() <= 1
    np.testing.assert_allclose(
        entropy[inside], -(maps * np.log(np.maximum(maps, 1e-12))).sum(0)[inside] / np.log(3), atol=5e-3
    )


def test_probabilities_that_are_wanted_later_are_made(images, tmp_path, predictor):
    predict_folder(predictor, images, tmp_path / "out")
    predict_folder(predictor, images, tmp_path / "out", save_probabilities=True)
    assert (tmp_path / "out" / "probabilities" / "carl").is_dir()


def test_extras_of_an_older_mask_do_not_stay_beside_a_new_one(images, tmp_path, predictor):
    out = tmp_path / "out"
    predict_folder(predictor, images, out, save_probabilities=True, save_uncertainty=True)
    write_case(images, "anna", seed=9)
    predict_folder(predictor, images, out)
    left = [path.name for path in out.rglob("*") if "anna" in str(path)]
    assert sorted(left) == ["anna.nii.gz", "anna.prediction.json"]
    assert find_probabilities(out, "anna", predictor.labels) is None
    assert find_probabilities(out, "bert", predictor.labels) is not None


@pytest.mark.parametrize("lost", ["probabilities/anna/2_core.nii.gz", "uncertainty/anna_entropy.nii.gz"])
def test_extras_that_were_deleted_are_made_again(images, tmp_path, predictor, lost):
    for _ in range(2):
        predict_folder(predictor, images, tmp_path / "out", save_probabilities=True, save_uncertainty=True)
        assert (tmp_path / "out" / lost).is_file()
        (tmp_path / "out" / lost).unlink()


@pytest.mark.parametrize("content", ["[]", "null", "3", '{"made_by": 3}', "{", '{"made_by": null}'])
def test_a_damaged_record_costs_its_case_only(images, tmp_path, predictor, content):
    predict_folder(predictor, images, tmp_path / "out")
    (tmp_path / "out" / "anna.prediction.json").write_text(content)
    (tmp_path / "out" / "carl.nii.gz").unlink()
    result = predict_folder(predictor, images, tmp_path / "out")
    assert result.done == ("bert", "carl")
    assert "anna.prediction.json: is damaged" in result.failures[0].reason
    assert predict_folder(predictor, images, tmp_path / "out", overwrite=True).done == ("anna", "bert", "carl")


@pytest.mark.parametrize("change", [{"finished": None}, {"finished": 3}, {"inputs": 3}, {"beside": 3}, {"beside": []}])
def test_a_case_whose_record_is_not_whole_is_made_again(images, tmp_path, predictor, change):
    record = tmp_path / "out" / "anna.prediction.json"
    predict_folder(predictor, images, tmp_path / "out", save_probabilities=True)
    whole = json.loads(record.read_text())
    record.write_text(json.dumps(whole | change))
    predict_folder(predictor, images, tmp_path / "out", save_probabilities=True)
    assert json.loads(record.read_text())["beside"] == whole["beside"]


def test_an_interrupt_leaves_what_is_finished_and_nothing_half_written(images, tmp_path):
    class Interrupted(CasePredictor):
        calls = 0

        def predict_prepared(self, image):
            Interrupted.calls += 1
            if Interrupted.calls == 3:
                raise KeyboardInterrupt
            return super().predict_prepared(image)

    plan = make_plan(make_configuration())
    stopped = Interrupted([MemoryFold(plan)], device="cpu", engine="torch", precision="fp32")
    with pytest.raises(KeyboardInterrupt):
        predict_folder(stopped, images, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == ["anna.nii.gz", "bert.nii.gz"]
    assert not list((tmp_path / "out").glob(".writing*"))


def test_a_scan_unlike_the_training_data_is_remarked_on_and_segmented(tmp_path, predictor):
    (tmp_path / "in").mkdir()
    write_case(tmp_path / "in", "thick", spacing=(6.0, 1.0, 1.0))
    listening = Listening()
    result = predict_folder(predictor, tmp_path / "in", tmp_path / "out", observer=listening)
    assert result.done == ("thick",)
    assert any("6 mm" in warning for warning in listening.warnings)


def test_a_case_with_a_wrong_spacing_fails_before_it_fills_the_memory(images, tmp_path, predictor, monkeypatch):
    write_case(images, "bert", spacing=(25.0, 25.0, 25.0))
    monkeypatch.setattr("bts_auto.machine.free_memory", lambda: 200 << 20)
    listening = Listening()
    result = predict_folder(predictor, images, tmp_path / "out", observer=listening)
    assert result.done == ("anna", "carl")
    assert "check the spacing" in result.failures[0].reason
    assert any("25 x 25 x 25 mm" in warning for warning in listening.warnings[:-1])


def test_slabs_thinner_than_a_voxel_of_the_network_are_segmented(tmp_path, predictor):
    (tmp_path / "in").mkdir()
    write_case(tmp_path / "in", "slab", size=(2, 20, 20), spacing=(0.2, 1.0, 1.0))
    predict_folder(predictor, tmp_path / "in", tmp_path / "out", save_probabilities=True)
    assert read_mask(tmp_path / "out" / "slab.nii.gz")[0].shape == (2, 20, 20)


def test_images_and_masks_in_one_folder_are_refused(images, predictor):
    with pytest.raises(PlanError, match="one folder"):
        predict_folder(predictor, images, images)


def test_a_folder_without_images_is_refused(tmp_path, predictor):
    with pytest.raises(DataError):
        predict_folder(predictor, tmp_path / "nothing", tmp_path / "out")


def test_a_full_disk_fails_the_case_and_leaves_the_mask_that_was_there(images, tmp_path, predictor, monkeypatch):
    predict_folder(predictor, images, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("bts_auto.files.os.fsync", full)
    result = predict_folder(predictor, images, tmp_path / "out", overwrite=True)
    assert [failure.case for failure in result.failures] == ["anna", "bert", "carl"]
    assert "no space" in result.failures[0].reason
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_scans_of_another_format_than_the_training_data_are_segmented(images, tmp_path, predictor):
    write_case(images, "dora", seed=3, ending=".mha")
    result = predict_folder(predictor, images, tmp_path / "out")
    assert result.done == ("anna", "bert", "carl", "dora")
    np.testing.assert_array_equal(
        read_mask(tmp_path / "out" / "dora.mha")[0], predictor.predict(make_volume(seed=3)).mask
    )
