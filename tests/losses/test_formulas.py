"""Every loss against its published formula, written out over one-hot truths."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bts_auto import registry
from bts_auto.errors import PlanError
from bts_auto.losses.deep_supervision import downsample_target
from bts_auto.losses.target import Target

K = 3
GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(2, K, 4, 5, 6, dtype=torch.float64, generator=GENERATOR)
CLASSES = torch.randint(0, K, (2, 4, 5, 6), generator=GENERATOR)
TRUTH = torch.nn.functional.one_hot(CLASSES, K).movedim(-1, 1).double()
VALID = torch.rand(2, 1, 4, 5, 6, generator=GENERATOR) > 0.4
P = LOGITS.softmax(1)
VOXELS = (2, 3, 4)


def value(name: str, target: Target, *, batch_dice: bool = False, **options: object) -> Tensor:
    loss = registry.component("loss", name)(registry.options("loss", name, options), batch_dice=batch_dice)
    return loss(LOGITS, target)


def cross_entropy() -> Tensor:
    return -(TRUTH * P.log()).sum(1)


@pytest.mark.parametrize("axes", [VOXELS, (0, *VOXELS)])
def test_dice(axes: tuple[int, ...]) -> None:
    p, y = P * VALID, TRUTH * VALID
    score = (2 * (p * y).sum(axes) + 1e-5) / (p.sum(axes) + y.sum(axes) + 1e-5)
    found = value("dice", Target(CLASSES, valid=VALID), batch_dice=0 in axes)
    torch.testing.assert_close(found, -score[..., 1:].mean())


def test_dice_with_background() -> None:
    score = (2 * (P * TRUTH).sum(VOXELS) + 1) / (P.sum(VOXELS) + TRUTH.sum(VOXELS) + 1)
    torch.testing.assert_close(value("dice", Target(CLASSES), background=True, smooth=1), -score.mean())


def test_tversky() -> None:
    y = TRUTH
    right, wrong, missed = (P * y).sum(VOXELS), (P * (1 - y)).sum(VOXELS), ((1 - P) * y).sum(VOXELS)
    score = (right + 1e-5) / (right + 0.2 * wrong + 0.8 * missed + 1e-5)
    found = value("tversky", Target(CLASSES), false_positives=0.2, false_negatives=0.8)
    torch.testing.assert_close(found, -score[:, 1:].mean())


def test_tversky_with_equal_weights_is_dice() -> None:
    equal = {"false_positives": 0.5, "false_negatives": 0.5}
    torch.testing.assert_close(
        value("tversky", Target(CLASSES), smooth=0.5, **equal), value("dice", Target(CLASSES), smooth=1.0)
    )


@pytest.mark.parametrize(("weighting", "power"), [("square", 2), ("simple", 1), ("uniform", 0)])
def test_generalised_dice(weighting: str, power: int) -> None:
    weights = TRUTH.sum(VOXELS) ** -power
    weights = weights / weights.amax(1, keepdim=True)
    top = (weights * (P * TRUTH).sum(VOXELS)).sum(1)
    bottom = (weights * (P + TRUTH).sum(VOXELS)).sum(1)
    found = value("generalised_dice", Target(CLASSES), weighting=weighting)
    torch.testing.assert_close(found, -((2 * top + 1e-5) / (bottom + 1e-5)).mean())


def test_cross_entropy_over_the_valid_voxels() -> None:
    torch.testing.assert_close(
        value("cross_entropy", Target(CLASSES, valid=VALID)), cross_entropy()[VALID[:, 0]].mean()
    )


def test_label_smoothing() -> None:
    smoothed = TRUTH * 0.9 + 0.1 / K
    torch.testing.assert_close(
        value("cross_entropy", Target(CLASSES), label_smoothing=0.1), -(smoothed * P.log()).sum(1).mean()
    )


def test_binary_cross_entropy_is_a_mean_over_valid_voxels_and_regions() -> None:
    p, y = LOGITS.sigmoid(), TRUTH
    each = -(y * p.log() + (1 - y) * (1 - p).log())
    found = value("cross_entropy", Target(regions=TRUTH.bool(), valid=VALID))
    torch.testing.assert_close(found, each[VALID.expand_as(each)].mean())


def test_classes_that_are_not_told_apart_share_their_probability() -> None:
    """Class 2 of the first sample was not looked for: the loss is that of two classes."""
    classes = CLASSES.clone()
    classes[0][classes[0] == 2] = 0
    target = Target(classes[:1], counts_in=((0, 1, 0),))
    background, first = (P[0, 0] + P[0, 2]).log(), P[0, 1].log()
    of_truth = torch.where(classes[0] == 1, first, background)
    loss = registry.component("loss", "cross_entropy")
    plain, smoothed = (loss(registry.options("loss", "cross_entropy", {"label_smoothing": s})) for s in (0, 0.1))
    torch.testing.assert_close(plain(LOGITS[:1], target), -of_truth.mean())
    torch.testing.assert_close(smoothed(LOGITS[:1], target), -(0.9 * of_truth + 0.05 * (background + first)).mean())


def test_weighted_cross_entropy() -> None:
    weights = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64)
    expected = torch.nn.functional.cross_entropy(LOGITS, CLASSES, weights)
    torch.testing.assert_close(value("weighted_cross_entropy", Target(CLASSES), weights=weights.tolist()), expected)


def test_balanced_cross_entropy_is_the_mean_of_the_classes_means() -> None:
    means = [cross_entropy()[VALID[:, 0] & (c == CLASSES)].mean() for c in range(K)]
    torch.testing.assert_close(value("weighted_cross_entropy", Target(CLASSES, valid=VALID)), torch.stack(means).mean())


def test_balanced_regions_weigh_inside_and_outside_the_same() -> None:
    p, y = LOGITS.sigmoid(), TRUTH
    each = -(y * p.log() + (1 - y) * (1 - p).log())
    halves = [each[:, r][y[:, r] == side].mean() for r in range(K) for side in (0, 1)]
    torch.testing.assert_close(value("weighted_cross_entropy", Target(regions=y.bool())), torch.stack(halves).mean())


def test_a_wrong_number_of_weights_is_refused() -> None:
    with pytest.raises(PlanError, match="2 weights for 3 channels"):
        value("weighted_cross_entropy", Target(CLASSES), weights=[1, 2])


def test_focal() -> None:
    of_truth = (P * TRUTH).sum(1)
    expected = -((1 - of_truth) ** 3 * of_truth.log())
    torch.testing.assert_close(value("focal", Target(CLASSES), gamma=3), expected.mean())


def test_top_k_of_the_valid_voxels() -> None:
    worst = cross_entropy()[VALID[:, 0]].sort(descending=True).values
    expected = worst[: int(0.25 * len(worst))].mean()
    torch.testing.assert_close(value("top_k", Target(CLASSES, valid=VALID), share=0.25), expected)


def test_dice_of_many_voxels_is_exact_in_fp32() -> None:
    """Sixteen million equal addends: single precision added one by one would stop growing."""
    logits = torch.zeros(1, 2, 2**24 + 2**20)
    logits[:, 1] = 30.0
    classes = torch.ones(1, logits.shape[2], dtype=torch.long)
    loss = registry.component("loss", "dice")(registry.options("loss", "dice"), batch_dice=False)
    assert loss(logits, Target(classes)).item() == pytest.approx(-1, abs=1e-6)


def test_soft_regions_are_learnt_as_their_shares() -> None:
    shares = torch.tensor([[[0.25, 0.5, 0.9]]]).double()
    target = Target(regions=shares > 0.5, shares=shares)
    logits = torch.logit(shares).requires_grad_()
    loss = registry.component("loss", "cross_entropy")(registry.options("loss", "cross_entropy", {}), batch_dice=False)
    (slope,) = torch.autograd.grad(loss(logits, target), logits)
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-12, rtol=0)


def test_soft_dice_counts_shares() -> None:
    shares, predicted = torch.tensor([[[0.25, 0.5, 1.0]]]).double(), torch.tensor([[[0.5, 0.5, 0.5]]]).double()
    dice = registry.component("loss", "dice")(registry.options("loss", "dice", {"smooth": 0.0}), batch_dice=False)
    found = dice(torch.logit(predicted), Target(regions=shares > 0.5, shares=shares)).item()
    assert found == pytest.approx(-2 * 0.875 / (1.75 + 1.5))


def test_shares_are_taken_to_coarser_resolutions() -> None:
    shares = torch.arange(16.0).view(1, 1, 4, 4) / 16
    (coarse,) = downsample_target(Target(regions=shares > 0.5, shares=shares), [(2, 2)])
    assert coarse.shares is not None
    assert coarse.shares.flatten().tolist() == [5 / 16, 7 / 16, 13 / 16, 15 / 16]
