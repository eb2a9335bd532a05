"""Losses at several resolutions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bts_auto.losses.deep_supervision import DeepSupervision, downsample_target, scale_weights
from bts_auto.losses.target import Target


def mean_of_logits(logits: Tensor, target: Target) -> Tensor:
    return logits.mean()


def outputs(*values: float) -> dict[str, list[Tensor]]:
    return {"logits": [torch.full((1, 1, 2), float(value)) for value in values]}


TARGET = Target(classes=torch.zeros(1, 2, dtype=torch.long))


def test_weights_are_nnunets() -> None:
    assert scale_weights(4) == pytest.approx((4 / 7, 2 / 7, 1 / 7, 0))


def test_one_scale_has_all_the_weight() -> None:
    assert scale_weights(1) == (1.0,)


def test_terms_and_scales_are_weighted_sums() -> None:
    supervision = DeepSupervision([(1.0, mean_of_logits), (3.0, mean_of_logits)], 3)
    assert supervision(outputs(3, 6, 1e9), [TARGET] * 3).item() == pytest.approx(4 * (2 / 3 * 3 + 1 / 3 * 6))


def test_parts_of_the_terms() -> None:
    supervision = DeepSupervision([(1.0, mean_of_logits), (3.0, mean_of_logits)], 1)
    loss, parts = supervision.detailed(outputs(2), [TARGET])
    assert (loss.item(), [part.item() for part in parts]) == (8.0, [2.0, 6.0])


def test_own_weights() -> None:
    supervision = DeepSupervision([(1.0, mean_of_logits)], 2, weights=(0.25, 0.75))
    assert supervision(outputs(4, 8), [TARGET] * 2).item() == 7.0


def test_wrong_number_of_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="3 weights for 2 resolutions"):
        DeepSupervision([(1.0, mean_of_logits)], 2, weights=(1, 1, 1))


def test_wrong_number_of_targets_is_refused() -> None:
    with pytest.raises(ValueError, match="2 outputs and 1 targets for 2 weights"):
        DeepSupervision([(1.0, mean_of_logits)], 2)(outputs(1, 2), [TARGET])


@given(
    size=st.tuples(*[st.integers(2, 12)] * 3),
    steps=st.tuples(*[st.sampled_from([1, 2, 3, 4])] * 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_nearest_voxel_as_torch_takes_it(size: tuple[int, ...], steps: tuple[int, ...], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(0, 9, (2, *size), generator=generator)
    regions = torch.rand(2, 3, *size, generator=generator) > 0.5
    smaller = tuple(-(-n // step) for n, step in zip(size, steps, strict=True))

    def nearest(tensor: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(tensor.float(), smaller, mode="nearest-exact")

    (found,) = downsample_target(Target(classes=classes, valid=regions[:, :1]), [smaller])
    assert found.size == smaller
    torch.testing.assert_close(found.classes.float(), nearest(classes[:, None])[:, 0])
    torch.testing.assert_close(found.valid.float(), nearest(regions[:, :1]))
    (found,) = downsample_target(Target(regions=regions, maps={"distance": regions.float()}), [smaller])
    torch.testing.assert_close(found.regions.float(), nearest(regions))
    torch.testing.assert_close(found.maps["distance"], nearest(regions))


def test_full_resolution_is_the_target_itself() -> None:
    assert downsample_target(TARGET, [(2,)])[0] is TARGET


def test_a_target_has_either_classes_or_regions() -> None:
    with pytest.raises(ValueError, match="either classes or regions"):
        Target()
