"""The outside of the brain."""

from __future__ import annotations

import torch

from bts_auto.train.augment.mask_outside import MaskOutside
from bts_auto.train.augment.options import MaskOutsideOptions


def test_chosen_channels_get_the_value_where_the_mask_is_negative() -> None:
    mask = torch.tensor([[[-1, 0], [1, -1]]], dtype=torch.int16)
    out, out_mask = MaskOutside(MaskOutsideOptions(channels=(1,))).apply(torch.ones((2, 2, 2)), mask, (1,))
    assert out[0].eq(1).all()
    assert out[1].tolist() == [[0, 1], [1, 0]]
    assert torch.equal(out_mask, mask)
