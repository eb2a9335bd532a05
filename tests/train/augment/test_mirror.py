"""Mirroring."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch

from bts_auto.train.augment.mirror import Mirror
from bts_auto.train.augment.options import MirrorOptions


def test_image_and_mask_are_reversed_alike() -> None:
    image = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).float()
    out, mask = Mirror(MirrorOptions(axes=(0, 1, 2))).apply(image, image[:1].to(torch.int16), (0, 2))
    assert torch.equal(out, torch.from_numpy(image.numpy()[:, ::-1, :, ::-1].copy()))
    assert torch.equal(mask.float(), out[:1])


def test_each_allowed_axis_is_reversed_in_half_of_the_samples() -> None:
    mirror = Mirror(MirrorOptions(axes=(0, 2)))
    counts = Counter(mirror.draw(np.random.default_rng(n), 1) for n in range(2000))
    assert set(counts) == {None, (0,), (2,), (0, 2)}
    assert all(abs(count - 500) < 4 * np.sqrt(375) for count in counts.values())
