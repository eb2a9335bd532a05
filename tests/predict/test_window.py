"""The sliding window against what it must equal: the input, a naive computation, itself with mirroring."""

import numpy as np
import pytest
import torch

from bts_auto.errors import PlanError
from bts_auto.events import Task
from bts_auto.predict.tiles import Grid, gaussian_weights
from bts_auto.predict.window import count_tiles, predict_array
from tests.predict.models import FunctionEngine, make_configuration


def image(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def wild(batch):
    """An answer that depends on the place in the tile, so that joining tiles matters."""
    ramp = torch.arange(batch[0, 0].numel(), dtype=torch.float32).reshape(batch[0, 0].shape) / 500
    return torch.cat([batch * ramp, batch.cumsum(-1) / 3], dim=1)


def predict(engine, given, configuration=None, **options):
    """Probabilities of regions, each channel on its own."""
    return predict_array(engine, given, configuration or make_configuration(), regions=True, **options).numpy()


def sigmoid(logits):
    return 1 / (1 + np.exp(-np.asarray(logits)))


@pytest.mark.parametrize("shape", [(2, 8, 8, 8), (1, 19, 8, 13), (2, 5, 21, 3), (1, 1, 1, 1)])
def test_a_network_that_answers_its_input_gives_the_image(shape):
    given = image(*shape)
    np.testing.assert_allclose(predict(FunctionEngine(), given), sigmoid(given), atol=1e-5)


def test_equals_the_naive_weighted_mean_of_tiles():
    given = image(1, 13, 9, 20)
    result = predict(FunctionEngine(wild), given, step_size=0.5)
    total, weight, gaussian = np.zeros((2, 13, 9, 20)), np.zeros((13, 9, 20)), gaussian_weights((8, 8, 8))
    for region in Grid.over((13, 9, 20), (8, 8, 8), 0.5):
        tile = torch.from_numpy(given[(slice(None), *region)])[None]
        total[(slice(None), *region)] += sigmoid(wild(tile)[0]) * gaussian
        weight[region] += gaussian
    np.testing.assert_allclose(result, total / weight, atol=1e-5)


def test_small_images_are_padded_with_zeros_on_both_sides():
    engine = FunctionEngine()
    predict_array(engine, np.ones((1, 3, 8, 8), np.float32), make_configuration())
    (batch,) = engine.batches
    assert batch[0, 0, :, 0, 0].tolist() == [0, 0, 1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2)])
def test_mirroring_changes_nothing_for_an_equivariant_network(axes):
    given, square = image(1, 12, 9, 10), FunctionEngine(lambda batch: batch**2)
    plain, mirrored = predict(square, given), predict(square, given, mirror_axes=axes)
    np.testing.assert_allclose(mirrored, plain, atol=1e-5)


def test_mirroring_averages_over_all_combinations():
    given = image(1, 8, 8, 8)
    result = predict(FunctionEngine(wild), given, mirror_axes=(0, 2))
    tile = torch.from_numpy(given)[None]
    answers = [sigmoid(wild(tile.flip(axes)).flip(axes)[0]) for axes in ([], [2], [4], [2, 4])]
    np.testing.assert_allclose(result, np.mean(answers, axis=0), atol=1e-5)


def test_folds_are_averaged_as_probabilities():
    folds = [FunctionEngine(lambda batch, s=s: torch.cat([batch, s * batch], 1)) for s in (-1.0, 3.0)]
    given = image(1, 8, 8, 8)
    result = predict_array(folds, given, make_configuration())
    expected = np.mean([torch.softmax(f.function(torch.from_numpy(given)[None]), 1)[0].numpy() for f in folds], axis=0)
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-6)


def test_folds_are_averaged_as_logits_where_the_plan_says_so():
    folds = [FunctionEngine(lambda batch, s=s: s * batch) for s in (1.0, 2.0)]
    given = image(1, 8, 12, 20)
    result = predict_array(folds, given, make_configuration(), averaging="logits", tile=(10, 10, 10))
    np.testing.assert_allclose(result.numpy(), 1.5 * given, atol=1e-5)


def test_logits_are_summed_in_half_precision_tile_after_tile():
    """The arithmetic of nnU-Net, written out: float16 sums and weights, float32 answers."""
    given = image(1, 13, 9, 20)
    result = predict_array(FunctionEngine(wild), given, make_configuration(), averaging="logits")
    gaussian = torch.from_numpy(gaussian_weights((8, 8, 8))).half()
    gaussian[gaussian == 0] = gaussian[gaussian > 0].min()
    total, weight = torch.zeros(2, 13, 9, 20).half(), torch.zeros(13, 9, 20).half()
    for region in Grid.over((13, 9, 20), (8, 8, 8), 0.5):
        answer = wild(torch.from_numpy(given[(slice(None), *region)])[None])[0]
        total[(slice(None), *region)] += answer * gaussian
        weight[region] += gaussian
    np.testing.assert_array_equal(result.numpy(), (total / weight).float().numpy())


def test_two_dimensional_networks_see_slices():
    given, engine = image(2, 5, 11, 8), FunctionEngine(wild)
    flat = make_configuration(patch_size=(8, 8))
    result = predict(engine, given, flat, mirror_axes=(1,))
    assert engine.batches[0].shape[1:] == (2, 8, 8)
    for z in range(5):
        alone = predict(engine, given[:, z : z + 1], flat, mirror_axes=(1,))
        np.testing.assert_allclose(result[:, z : z + 1], alone, atol=1e-5)


def test_constant_tiles_are_computed_once_and_change_nothing():
    given = np.full((1, 8, 8, 64), -0.7, np.float32)
    given[..., 50:] = image(1, 8, 8, 14)
    engine = FunctionEngine(wild)
    result = predict(engine, given)
    constant = [batch for batch in engine.batches if batch.max() == batch.min()]
    assert sum(len(batch) for batch in constant) == 1
    noisy = given.copy()
    noisy[0, 0, 0, :50:7] += 1e-7
    np.testing.assert_allclose(result, predict(FunctionEngine(wild), noisy), atol=1e-5)


def test_the_whole_image_in_one_tile():
    engine = FunctionEngine()
    predict_array(engine, image(1, 13, 9, 20), make_configuration(), tile="whole")
    assert [tuple(batch.shape) for batch in engine.batches] == [(1, 1, 14, 10, 20)]


def test_every_tile_is_announced():
    class Count(Task):
        done = 0

        def advance(self, parts=1, **fields):
            self.done += parts

    count = Count()
    predict_array(FunctionEngine(), image(1, 12, 12, 12), make_configuration(), task=count)
    assert count.done == count_tiles((12, 12, 12), make_configuration()) == 8


def test_mirror_axes_that_do_not_exist_are_refused():
    with pytest.raises(PlanError, match="cannot mirror"):
        predict_array(FunctionEngine(), image(1, 8, 8, 8), make_configuration(), mirror_axes=(3,))


@pytest.mark.parametrize("step", [0, 1.5])
def test_impossible_steps_are_refused(step):
    with pytest.raises(PlanError, match="step size"):
        predict_array(FunctionEngine(), image(1, 8, 8, 8), make_configuration(), step_size=step)
