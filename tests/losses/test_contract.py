"""What every registered loss promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bts_auto import registry
from bts_auto.losses.maps import MAPS
from bts_auto.losses.target import Target

B, K, SIZE = 2, 3, (3, 4, 5)
PERFECT = {"dice": -1.0, "tversky": -1.0, "generalised_dice": -1.0}  # the others: 0
EVERY_LOSS = pytest.mark.parametrize("name", registry.names("loss"))
EVERY_KIND = pytest.mark.parametrize("kind", ["classes", "regions"])
BOTH_DICE = pytest.mark.parametrize("batch_dice", [False, True])


def make(name: str, batch_dice: bool = False, **options: object) -> Callable[[Tensor, Target], Tensor]:
    return registry.component("loss", name)(registry.options("loss", name, options), batch_dice=batch_dice)


def mapped(target: Target) -> Target:
    """With all the maps that losses may ask for."""
    spacing = (1.0,) * len(target.size)
    return replace(target, maps={name: make_map(target, spacing, K) for name, make_map in MAPS.items()})


def truth(kind: str, seed: int = 0, *, valid: bool = False) -> Target:
    generator = torch.Generator().manual_seed(seed)
    known = torch.rand(B, 1, *SIZE, generator=generator) > 0.3 if valid else None
    if kind == "classes":
        return mapped(Target(classes=torch.randint(0, K, (B, *SIZE), generator=generator), valid=known))
    return mapped(Target(regions=torch.rand(B, K, *SIZE, generator=generator) > 0.6, valid=known))


def perfect_logits(target: Target) -> Tensor:
    if target.classes is not None:
        return 60.0 * torch.nn.functional.one_hot(target.classes, K).movedim(-1, 1).double()
    assert target.regions is not None
    return 60.0 * (2 * target.regions.double() - 1)


def random_logits(seed: int = 7) -> Tensor:
    return torch.randn(B, K, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@EVERY_LOSS
@EVERY_KIND
@BOTH_DICE
def test_perfection(name: str, kind: str, batch_dice: bool) -> None:
    target = truth(kind)
    assert make(name, batch_dice)(perfect_logits(target), target).item() == pytest.approx(
        PERFECT.get(name, 0), abs=1e-6
    )


@EVERY_LOSS
@EVERY_KIND
def test_better_logits_lose_less(name: str, kind: str) -> None:
    target, loss = truth(kind), make(name)
    right, noise = perfect_logits(target) / 60, random_logits()
    values = [loss(noise + strength * right, target).item() for strength in (-2, 0, 2, 6)]
    assert values == sorted(values, reverse=True)


@EVERY_LOSS
@EVERY_KIND
@BOTH_DICE
@pytest.mark.parametrize("valid", [False, True])
def test_gradient_equals_finite_differences(name: str, kind: str, batch_dice: bool, valid: bool) -> None:
    target, loss = truth(kind, valid=valid), make(name, batch_dice)
    logits = random_logits().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, target), (logits,), fast_mode=True)


@EVERY_LOSS
@EVERY_KIND
@BOTH_DICE
def test_what_is_not_valid_has_no_influence(name: str, kind: str, batch_dice: bool) -> None:
    target, loss = truth(kind, valid=True), make(name, batch_dice)
    assert target.valid is not None
    other_truth = truth(kind, seed=5)
    elsewhere = replace(
        target,
        classes=None if target.classes is None else target.classes.where(target.valid[:, 0], other_truth.classes),
        regions=None if target.regions is None else target.regions.where(target.valid, other_truth.regions),
    )
    logits = random_logits().requires_grad_()
    value = loss(logits, target)
    value.backward()
    changed = logits.detach().where(target.valid, random_logits(9))
    assert loss(changed, elsewhere).item() == pytest.approx(value.item(), abs=1e-12)
    assert not logits.grad[(~target.valid).expand_as(logits)].any()


@EVERY_LOSS
@EVERY_KIND
def test_everything_valid_equals_no_mask(name: str, kind: str) -> None:
    target, loss, logits = truth(kind), make(name), random_logits()
    masked = replace(target, valid=torch.ones(B, 1, *SIZE, dtype=torch.bool))
    assert loss(logits, masked).item() == pytest.approx(loss(logits, target).item(), abs=1e-12)


@EVERY_LOSS
@EVERY_KIND
@BOTH_DICE
def test_nothing_valid_is_finite_and_without_gradient(name: str, kind: str, batch_dice: bool) -> None:
    target = truth(kind)
    nowhere = replace(target, valid=torch.zeros(B, 1, *SIZE, dtype=torch.bool))
    logits = random_logits().requires_grad_()
    value = make(name, batch_dice)(logits, nowhere)
    value.backward()
    assert torch.isfinite(value)
    assert not logits.grad.any()


@EVERY_LOSS
@EVERY_KIND
@BOTH_DICE
def test_an_empty_class_is_finite_and_trains(name: str, kind: str, batch_dice: bool) -> None:
    target = (
        mapped(Target(classes=torch.zeros(B, *SIZE, dtype=torch.long)))
        if kind == "classes"
        else mapped(Target(regions=torch.zeros(B, K, *SIZE, dtype=torch.bool)))
    )
    logits = random_logits().requires_grad_()
    value = make(name, batch_dice)(logits, target)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.any()


@EVERY_LOSS
@EVERY_KIND
def test_bf16_logits_are_summed_in_fp32(name: str, kind: str) -> None:
    target, logits = truth(kind), random_logits().bfloat16()
    value = make(name)(logits, target)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(make(name)(logits.double(), target).item(), abs=1e-5)


@EVERY_LOSS
def test_one_plane_is_enough(name: str) -> None:
    target = mapped(Target(classes=torch.arange(12).reshape(1, 3, 4) % K))
    assert torch.isfinite(make(name)(torch.randn(1, K, 3, 4), target))


def in_part(kind: str, seed: int = 0, *, valid: bool = False) -> Target:
    """The first sample in full; in the second, channel 2 is not annotated (a class counts as background)."""
    target = truth(kind, seed, valid=valid)
    full = tuple(range(K))
    if target.classes is None:
        return replace(target, counts_in=(full, (0, 1, -1)))
    classes = target.classes.clone()
    classes[1][classes[1] == 2] = 0
    return mapped(replace(target, classes=classes, counts_in=(full, (0, 1, 0))))


@EVERY_LOSS
@BOTH_DICE
def test_a_region_without_annotation_has_no_influence(name: str, batch_dice: bool) -> None:
    target, loss = in_part("regions"), make(name, batch_dice)
    logits = random_logits().requires_grad_()
    value = loss(logits, target)
    value.backward()
    assert not logits.grad[1, 2].any()
    assert logits.grad[0, 2].any()
    assert logits.grad[1, :2].any()
    changed, regions = logits.detach().clone(), target.regions.clone()
    changed[1, 2], regions[1, 2] = random_logits(9)[1, 2], ~regions[1, 2]
    assert loss(changed, replace(target, regions=regions)).item() == pytest.approx(value.item(), abs=1e-12)


@EVERY_LOSS
@BOTH_DICE
def test_a_class_without_annotation_is_one_with_the_background(name: str, batch_dice: bool) -> None:
    """What the network gives to one may as well go to the other."""
    target, loss, logits = in_part("classes"), make(name, batch_dice), random_logits()
    moved = logits.clone()
    both = logits[1, [0, 2]].logsumexp(0)
    share = torch.rand(SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    moved[1, 0], moved[1, 2] = both + share.log(), both + (1 - share).log()
    assert loss(moved, target).item() == pytest.approx(loss(logits, target).item(), abs=1e-12)


@EVERY_LOSS
@EVERY_KIND
@BOTH_DICE
@pytest.mark.parametrize("valid", [False, True])
def test_gradient_in_part_equals_finite_differences(name: str, kind: str, batch_dice: bool, valid: bool) -> None:
    target, loss = in_part(kind, valid=valid), make(name, batch_dice)
    logits = random_logits().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, target), (logits,), fast_mode=True)


@EVERY_LOSS
@EVERY_KIND
@BOTH_DICE
def test_perfection_in_part(name: str, kind: str, batch_dice: bool) -> None:
    target = in_part(kind)
    perfect = perfect_logits(target)
    if kind == "classes":  # any share of the background may be what was not looked for
        perfect[1, 2] = perfect[1, 0]
    assert make(name, batch_dice)(perfect, target).item() == pytest.approx(PERFECT.get(name, 0), abs=1e-6)


@EVERY_LOSS
@EVERY_KIND
@BOTH_DICE
def test_everything_annotated_equals_saying_nothing(name: str, kind: str, batch_dice: bool) -> None:
    target, loss, logits = truth(kind), make(name, batch_dice), random_logits()
    said = replace(target, counts_in=(tuple(range(K)),) * B)
    assert loss(logits, said).item() == pytest.approx(loss(logits, target).item(), abs=1e-12)


@EVERY_LOSS
def test_nothing_annotated_is_finite_and_without_gradient(name: str) -> None:
    target = replace(truth("regions"), counts_in=((-1,) * K,) * B)
    logits = random_logits().requires_grad_()
    value = make(name)(logits, target)
    value.backward()
    assert torch.isfinite(value)
    assert not logits.grad.any()
