"""A second stage that gets the masks of a first one."""

import numpy as np
import pytest

from bts_auto.errors import DataError, ModelError
from bts_auto.predict.predictor import CasePredictor, guided
from bts_auto.preprocess.prepare import prepare, prepare_mask
from tests.predict.models import MemoryFold, make_configuration, make_plan, make_volume

HOW = {"device": "cpu", "engine": "torch", "precision": "fp32"}


def two_stages():
    """Predictors of the stages; the second one works at half the resolution, so that masks are resampled."""
    first = CasePredictor([MemoryFold(make_plan(make_configuration()))], **HOW)
    configuration = make_configuration(spacing=(2.0, 2.0, 2.0), previous_stage="3d_lowres")
    return first, CasePredictor([MemoryFold(make_plan(configuration))], previous=first, **HOW)


def test_the_previous_mask_follows_the_image_as_channels():
    volume = make_volume()
    first, second = two_stages()
    prepared = second.prepare(volume)
    given = second.network_input(volume, prepared)
    mask = prepare_mask(first.predict(volume).mask, prepared.steps, second.configuration)
    channels = prepared.image.shape[0]
    np.testing.assert_array_equal(given[:channels], prepared.image)
    np.testing.assert_array_equal(given[channels:], np.stack([mask == 1, mask == 2]))
    assert given[channels:].any(axis=(1, 2, 3)).all()


def test_a_missing_previous_stage_is_named():
    plan = make_plan(make_configuration(previous_stage="3d_lowres"))
    with pytest.raises(ModelError, match="3d_lowres"):
        CasePredictor([MemoryFold(plan)], **HOW)
    CasePredictor([MemoryFold(plan)], given_previous=True, **HOW)


def test_a_mask_on_the_grid_of_the_scan_meets_its_annotation():
    """Where nothing is resampled, a map and an annotation of equal content come out equal but for the marks outside."""
    volume = make_volume()
    configuration = make_configuration()
    mask = (volume.array[0] > np.quantile(volume.array[0], 0.8)).astype(np.uint8)
    prepared = prepare(volume, make_plan(configuration), configuration, mask)
    brought = prepare_mask(mask, prepared.steps, configuration)
    np.testing.assert_array_equal(brought, np.maximum(prepared.mask, 0))


def test_a_mask_of_another_shape_is_refused():
    volume, configuration = make_volume(), make_configuration()
    steps = prepare(volume, make_plan(configuration), configuration).steps
    with pytest.raises(DataError, match="shape"):
        prepare_mask(np.zeros((3, 3, 3), np.uint8), steps, configuration)


def test_each_label_becomes_a_channel():
    mask = np.array([[[0, 1, 2]]])
    given = guided(np.zeros((1, 1, 1, 3), np.float32), mask, (1, 2))
    assert given.dtype == np.float32
    np.testing.assert_array_equal(given[1:, 0, 0], [[0, 1, 0], [0, 0, 1]])
