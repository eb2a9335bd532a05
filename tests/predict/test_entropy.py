"""Entropy against SciPy's."""

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy

from bts_auto.data.labels import Labels
from bts_auto.predict.entropy import entropy

LABELS = Labels({"background": (0,), "a": (1,), "b": (2,)})
REGIONS = Labels({"background": (0,), "WT": (1, 2), "TC": (2,)}, (1, 2))


@pytest.mark.parametrize("logits", [True, False])
def test_labels(logits):
    scores = np.random.default_rng(0).standard_normal((3, 4, 5, 6)).astype(np.float32)
    probabilities = softmax(scores, axis=0)
    found = entropy(scores if logits else probabilities, LABELS, logits=logits)
    np.testing.assert_allclose(found, scipy_entropy(probabilities, axis=0, base=3), atol=1e-5)


@pytest.mark.parametrize("logits", [True, False])
def test_regions(logits):
    scores = np.random.default_rng(0).standard_normal((2, 4, 5, 6)).astype(np.float32)
    p = 1 / (1 + np.exp(-scores))
    expected = scipy_entropy(np.stack([p, 1 - p]), axis=0, base=2).mean(0)
    np.testing.assert_allclose(entropy(scores if logits else p, REGIONS, logits=logits), expected, atol=1e-5)


def test_certainty_is_zero():
    certain = np.zeros((3, 2, 2, 2), np.float32)
    certain[1] = 1
    assert not entropy(certain, LABELS).any()
