"""Export in blocks against resampling everything with scikit-image and SciPy and then deciding."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, zoom
from skimage.transform import resize

from bts_auto.data.labels import Labels
from bts_auto.data.orientation import Reorientation
from bts_auto.data.volume import Geometry
from bts_auto.plan.schema import Resampling
from bts_auto.predict.export import export_labels, export_scores
from bts_auto.preprocess.spatial import Crop, Reorient, Resample, SpatialSteps, Transpose

LABELS = Labels({"background": (0,), "a": (1,), "b": (2,), "c": (3,)})
REGIONS = Labels({"background": (0,), "WT": (1, 2, 3), "TC": (2, 3), "ET": (3,)}, (1, 2, 3))
ISOTROPIC = Resampling()


def make_steps(cropped, shape, spacing=(1.0, 1.0, 1.0), new_spacing=None, margin=0, direction=None):
    full = tuple(n + 2 * margin for n in cropped)
    turn = Reorientation.between(direction) if direction else Reorientation()
    back = [turn.axes.index(axis) for axis in range(3)]
    geometry = Geometry(tuple(full[axis] for axis in back), tuple(spacing[axis] for axis in back))
    new_spacing = new_spacing or tuple(s * a / b for s, a, b in zip(spacing, cropped, shape, strict=True))
    stop = tuple(n + margin for n in cropped)
    steps = (
        Reorient(turn.axes, turn.flips),
        Transpose((0, 1, 2)),
        Crop((margin,) * 3, stop, full),
        Resample(cropped, shape, spacing, new_spacing),
    )
    return SpatialSteps(geometry, steps)


def smooth(channels, shape, seed=0, sigma=2.0):
    """Logits whose winners are blobs."""
    noise = np.random.default_rng(seed).standard_normal((channels, *shape))
    logits = np.stack([gaussian_filter(channel, sigma) for channel in noise])
    return (6 * logits / logits.std()).astype(np.float32)


def softmax(logits):
    e = np.exp(logits - logits.max(0))
    return e / e.sum(0)


def naive(scores, shape, order=1, kept=np.float64):
    """Every channel at full size; nnU-Net keeps resampled logits in half precision."""
    full = [resize(s.astype(np.float64), shape, order, mode="edge", anti_aliasing=False) for s in scores]
    return np.stack(full).astype(kept)


@pytest.mark.parametrize("shape", [(70, 75, 90), (20, 18, 25), (40, 30, 80)])
@pytest.mark.parametrize("probabilities", [True, False])
def test_labels_equal_argmax_after_resampling_everything(shape, probabilities):
    logits = smooth(4, (40, 36, 50))
    scores = softmax(logits) if probabilities else logits
    exported = export_labels(scores, make_steps(shape, (40, 36, 50)), LABELS, ISOTROPIC, logits=not probabilities)
    expected = naive(scores, shape, kept=np.float64 if probabilities else np.float16).argmax(0)
    assert (exported == expected).mean() >= 0.9999
    assert len(np.unique(exported)) == 4


@pytest.mark.parametrize("logits", [True, False])
def test_regions_are_painted_in_order(logits):
    scores = smooth(3, (40, 36, 50))
    scores = scores if logits else 1 / (1 + np.exp(-scores))
    exported = export_labels(scores, make_steps((60, 70, 75), (40, 36, 50)), REGIONS, ISOTROPIC, logits=logits)
    expected = np.zeros((60, 70, 75))
    for value, score in zip((1, 2, 3), naive(scores, (60, 70, 75)), strict=True):
        expected[score > (0 if logits else 0.5)] = value
    assert (exported == expected).mean() >= 0.9999


def test_noise_without_any_uniform_block_is_exact_too():
    scores = np.random.default_rng(0).random((4, 20, 20, 20), dtype=np.float32)
    exported = export_labels(scores, make_steps((33, 41, 29), (20, 20, 20)), LABELS, ISOTROPIC)
    assert (exported == naive(scores, (33, 41, 29)).argmax(0)).mean() >= 0.9999


def test_a_class_that_wins_only_between_voxels_is_found():
    scores = np.zeros((3, 1, 1, 2), np.float32)
    scores[:, 0, 0, 0], scores[:, 0, 0, 1] = (1, 0, 0.8), (0, 1, 0.8)
    labels = Labels({"background": (0,), "a": (1,), "b": (2,)})
    exported = export_labels(scores, make_steps((1, 1, 6), (1, 1, 2)), labels, ISOTROPIC)
    assert exported.ravel().tolist() == naive(scores, (1, 1, 6)).argmax(0).ravel().tolist()
    assert 2 in exported


def test_a_thick_axis_takes_the_nearest_slice():
    logits = smooth(4, (12, 30, 34), sigma=1.5)
    steps = make_steps((31, 50, 61), (12, 30, 34), spacing=(1.0, 1.0, 1.0), new_spacing=(5.0, 1.6, 1.8))
    exported = export_labels(logits, steps, LABELS, ISOTROPIC, logits=True)
    in_plane = np.stack([[resize(s, (50, 61), 1, mode="edge", anti_aliasing=False) for s in c] for c in logits])
    near = zoom(np.arange(12), 31 / 12, order=0, mode="nearest", grid_mode=True)
    assert (exported == in_plane[:, near].astype(np.float16).argmax(0)).mean() >= 0.9999


def test_cubic_scores_are_clipped_like_the_image_library_does():
    logits = smooth(4, (20, 22, 18), sigma=1.0)
    exported = export_labels(logits, make_steps((31, 35, 40), (20, 22, 18)), LABELS, Resampling(probabilities_order=3))
    assert (exported == naive(logits, (31, 35, 40), order=3).argmax(0)).mean() >= 0.9999


def test_without_a_change_of_grid_the_scores_decide_as_they_are():
    logits = smooth(4, (20, 33, 70))
    exported = export_labels(logits, make_steps((20, 33, 70), (20, 33, 70)), LABELS, ISOTROPIC, logits=True)
    np.testing.assert_array_equal(exported, logits.argmax(0))


def test_scores_are_not_changed():
    logits = smooth(4, (20, 33, 70))
    before = logits.copy()
    export_labels(logits, make_steps((20, 33, 70), (20, 33, 70)), LABELS, ISOTROPIC, logits=True)
    np.testing.assert_array_equal(logits, before)


def test_equal_scores_go_to_the_first_label():
    exported = export_labels(np.zeros((4, 4, 4, 4), np.float32), make_steps((7, 7, 7), (4, 4, 4)), LABELS, ISOTROPIC)
    assert not exported.any()


def test_half_precision_is_taken_as_it_is():
    scores = softmax(smooth(4, (20, 22, 18))).astype(np.float16)
    steps = make_steps((31, 35, 40), (20, 22, 18))
    wide = export_labels(scores.astype(np.float32), steps, LABELS, ISOTROPIC)
    np.testing.assert_array_equal(export_labels(scores, steps, LABELS, ISOTROPIC), wide)


def test_thread_count_does_not_matter():
    scores, steps = smooth(4, (40, 60, 70)), make_steps((90, 130, 140), (40, 60, 70))
    one = export_labels(scores, steps, LABELS, ISOTROPIC, workers=1)
    np.testing.assert_array_equal(export_labels(scores, steps, LABELS, ISOTROPIC, workers=3), one)


def test_values_of_labels_are_written_not_channels():
    labels = Labels({"background": (0,), "a": (300,), "b": (7,)})
    scores = np.zeros((3, 2, 2, 2), np.float32)
    scores[1, 0], scores[2, 1] = 1, 1
    exported = export_labels(scores, make_steps((2, 2, 2), (2, 2, 2)), labels, ISOTROPIC)
    assert exported.dtype == np.uint16
    assert exported[:, 0, 0].tolist() == [300, 7]


def test_crop_and_orientation_are_undone():
    direction = (0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
    steps = make_steps((10, 12, 14), (10, 12, 14), margin=3, direction=direction)
    logits = smooth(4, (10, 12, 14), sigma=1.0)
    exported = export_labels(logits, steps, LABELS, ISOTROPIC, logits=True)
    assert exported.shape == steps.geometry.size
    np.testing.assert_array_equal(steps.apply(exported), logits.argmax(0))
    assert exported.sum() == logits.argmax(0).sum()


@pytest.mark.parametrize("labels", [LABELS, REGIONS])
def test_probabilities_in_the_grid_of_the_scan(labels):
    logits = smooth(len(labels.outputs), (10, 12, 14), sigma=1.0)
    steps = make_steps((15, 19, 20), (10, 12, 14), margin=2)
    maps = dict(export_scores(logits, steps, labels, ISOTROPIC, logits=True))
    assert tuple(maps) == labels.outputs
    full = naive(logits, (15, 19, 20))
    expected = 1 / (1 + np.exp(-full)) if labels.has_regions else softmax(full)
    for channel, name in enumerate(labels.outputs):
        np.testing.assert_allclose(steps.apply(maps[name]), expected[channel], atol=1e-5)
        assert maps[name][0, 0, 0] == float(name == "background")


def test_probabilities_stay_what_they_are():
    scores = softmax(smooth(4, (10, 12, 14)))
    steps = make_steps((15, 19, 20), (10, 12, 14))
    maps = [full for _, full in export_scores(scores, steps, LABELS, ISOTROPIC)]
    np.testing.assert_allclose(np.stack(maps), naive(scores, (15, 19, 20)), atol=1e-5)


def test_scores_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="shape"):
        export_labels(np.zeros((3, 4, 4, 4), np.float32), make_steps((4, 4, 4), (4, 4, 4)), LABELS, ISOTROPIC)
