"""A loaded predictor: the right voxels, in the grid that the scan came in."""

from functools import partial

import numpy as np
import pytest

from bts_auto.errors import DataError, ModelError
from bts_auto.predict.affordable import engine_share
from bts_auto.predict.predictor import CasePredictor
from tests.predict.models import MemoryFold, make_configuration, make_plan, make_volume


def predictor(configuration=None, plan_changes=None, **options):
    plan = make_plan(configuration or make_configuration(), **(plan_changes or {}))
    return CasePredictor([MemoryFold(plan)], device="cpu", engine="torch", precision="fp32", **options)


def expected_mask(volume):
    """What the threshold network does to the z-scored first channel."""
    inside = volume.array.any(0)
    values = volume.array[0]
    cropped = values[tuple(slice(2, n - 2) for n in values.shape)]
    z = (values - cropped.mean()) / cropped.std()
    logits = np.stack([0 * z, 4 * (z - 0.3), 8 * (z - 0.7)])
    return np.where(inside, logits.argmax(0), 0)


def test_a_scan_in_the_grid_of_the_plan():
    volume = make_volume()
    prediction = predictor().predict(volume)
    np.testing.assert_array_equal(prediction.mask, expected_mask(volume))
    assert set(np.unique(prediction.mask)) == {0, 1, 2}
    assert prediction.geometry == volume.geometry
    assert set(prediction.timings) == {"prepare", "network", "export"}


def test_mirroring_and_several_folds_leave_an_equivariant_network_alone():
    volume = make_volume()
    plan = make_plan(make_configuration(inference={"mirror_axes": (0, 1, 2)}))
    folds = [MemoryFold(plan), MemoryFold(plan)]
    mask = CasePredictor(folds, device="cpu", engine="torch", precision="fp32").predict(volume).mask
    np.testing.assert_array_equal(mask, expected_mask(volume))


def test_another_orientation_gives_the_same_voxels():
    """The same head, stored with all axes exchanged and reversed."""
    volume = make_volume()
    turned = make_volume(size=(22, 24, 20), direction=(0.0, 0.0, -1.0, 0.0, -1.0, 0.0, -1.0, 0.0, 0.0))
    turned.array[...] = volume.array.transpose(0, 3, 2, 1)[:, ::-1, ::-1, ::-1]
    mask = predictor().predict(turned).mask
    np.testing.assert_array_equal(mask[::-1, ::-1, ::-1].transpose(2, 1, 0), predictor().predict(volume).mask)


def test_another_spacing_is_brought_back():
    volume = make_volume(size=(12, 30, 28), spacing=(2.0, 0.8, 1.0))
    prediction = predictor().predict(volume)
    assert prediction.mask.shape == (12, 30, 28)
    assert (prediction.mask == expected_mask(volume)).mean() > 0.97


def test_two_dimensional_configurations():
    configuration = make_configuration(patch_size=(16, 16))
    volume = make_volume(size=(9, 20, 24))
    np.testing.assert_array_equal(predictor(configuration).predict(volume).mask, expected_mask(volume))


def test_transposed_plans():
    changes = {"transpose_forward": (2, 0, 1), "transpose_backward": (1, 2, 0)}
    volume = make_volume()
    np.testing.assert_array_equal(predictor(plan_changes=changes).predict(volume).mask, expected_mask(volume))


def test_scores_are_kept_on_request():
    prediction = predictor().predict(make_volume(), keep_scores=True)
    assert prediction.scores.shape == (3, *prediction.steps.shape)
    assert predictor().predict(make_volume()).scores is None


def test_prepared_images_give_scores():
    one = predictor(make_configuration(inference={"averaging": "probabilities"}))
    scores = one.predict_prepared(np.zeros((2, 10, 10, 10), np.float32))
    assert not one.averages_logits
    np.testing.assert_allclose(scores.sum(0), 1, atol=1e-5)


def test_a_cascade_gives_the_previous_mask_to_the_next_stage():
    seen = []

    class Watching(MemoryFold):
        def network(self, device="cpu"):
            network = super().network(device)
            network.register_forward_hook(lambda module, given, answer: seen.append(given[0]))
            return network

    second = make_configuration(previous_stage="3d_lowres")
    previous = predictor()
    fold = Watching(make_plan(second))
    volume = make_volume()
    mask = CasePredictor([fold], device="cpu", engine="torch", precision="fp32", previous=previous).predict(volume).mask
    assert {tensor.shape[1] for tensor in seen} == {4}
    np.testing.assert_array_equal(mask, expected_mask(volume))


def test_a_cascade_without_its_first_stage_is_refused():
    with pytest.raises(ModelError, match="previous stage"):
        predictor(make_configuration(previous_stage="3d_lowres"))


def test_an_image_too_large_for_its_tile_is_visited_with_patches_and_says_so(monkeypatch):
    whole = predictor(tile="whole")
    small, large = make_volume((12, 12, 12)), make_volume((28, 28, 28))
    monkeypatch.setattr("bts_auto.predict.predictor.working_memory", lambda device: 16**3 * 4 * 24)
    assert whole.predict(small).remarks == ()
    made = whole.predict(large)
    assert made.remarks == (
        "one tile of 24x24x24 voxels would take more memory than there is: tiles of 8x8x8 are used",
    )
    np.testing.assert_array_equal(made.mask, predictor().predict(large).mask)


def test_engines_that_keep_their_memory_share_it():
    share = partial(engine_share, 12_000, precision="fp32")
    assert (share(1, engine="openvino"), share(5, engine="torch")) == (12_000, 12_000)
    assert share(10, engine="openvino") < 12_000 / 5


def test_scores_that_do_not_fit_the_memory_are_refused_before_they_are_made(monkeypatch):
    one, volume = predictor(), make_volume((20, 24, 22), spacing=(9.0, 9.0, 9.0))
    prepared = one.prepare(volume)
    monkeypatch.setattr("bts_auto.machine.free_memory", lambda: 4 * prepared.image[0].size * 3)
    with pytest.raises(DataError, match="check the spacing"):
        one.run(volume, prepared)


def test_other_channels_are_refused():
    volume = make_volume()
    plan = make_plan(make_configuration(), channel_names=("T1",))
    one = CasePredictor([MemoryFold(plan)], device="cpu", engine="torch", precision="fp32")
    with pytest.raises(DataError, match="T1c"):
        one.predict(volume)


def test_folds_that_do_not_belong_together_are_refused():
    plans = [make_plan(make_configuration()), make_plan(make_configuration(spacing=(2.0, 2.0, 2.0)))]
    with pytest.raises(ModelError, match="same input"):
        CasePredictor([MemoryFold(plan) for plan in plans], device="cpu")


def test_no_fold_is_refused():
    with pytest.raises(ModelError, match="no trained fold"):
        CasePredictor([])
