"""What holds for every registered transform; new ones are tested by being registered."""

from __future__ import annotations

import ast
import inspect

import numpy as np
import pytest
import torch

from bts_auto import registry
from bts_auto.errors import PlanError
from bts_auto.plan.schema import Component
from bts_auto.train.augment.intensities import CaseIntensities
from bts_auto.train.augment.pipeline import Augmentation
from tests.train.memory_store import make_store

NAMES = registry.names("augmentation")
INTENSITIES = CaseIntensities(["case_0"], make_store(2).open)
SIZE = (12, 14, 16)
# Options with which a transform certainly acts; {} where certainty needs only the probabilities.
NEEDED: dict[str, dict] = {
    "mirror": {"axes": (0, 1, 2)},
    "mask_outside": {"channels": (0,), "value": -9.0},
    "previous_morphology": {"labels": (1,), "operations": ("dilate",)},
    "previous_drop_component": {"labels": (1,)},
    "low_resolution": {"scale": (0.5, 0.5)},
    "gaussian_noise": {"sigma": (0.1, 0.1)},
    "histogram_matching": {"strength": (0.5, 1.0)},
}


def probabilities(name: str) -> list[str]:
    fields = type(registry.options("augmentation", name, NEEDED.get(name, {}))).model_fields
    return [field for field in fields if field.startswith("probability")]


def build(name: str, chance: float | None, size: tuple[int, ...] = SIZE, **more: object) -> Augmentation:
    chances = {} if chance is None else dict.fromkeys(probabilities(name), chance)
    options = {**NEEDED.get(name, {}), **chances, **more}
    return Augmentation([Component(name=name, options=options)], size, channels=2, intensities=INTENSITIES)


def make_sample(augmentation: Augmentation, step: int = 0, constant: bool = False):
    draw = augmentation.draw(0, step, 0, "case_1")
    size = [last - first for first, last in draw.reach]
    rng = np.random.default_rng(1)
    image = torch.from_numpy(rng.standard_normal((2, *size), dtype=np.float32))
    mask = torch.zeros((2, *size), dtype=torch.int16)
    mask[(slice(None), *[slice(n // 3, n // 2) for n in size])] = 1
    mask[:, 0] = -1
    if constant:
        image[:] = 1.5
        mask[:] = 1
    return draw, image, mask


@pytest.mark.parametrize("name", NAMES)
def test_does_nothing_when_told_to(name: str) -> None:
    if not probabilities(name):
        pytest.skip("not random")
    augmentation = build(name, 0.0)
    draw, image, mask = make_sample(augmentation)
    out, out_mask = augmentation.apply(draw, image.clone(), mask.clone())
    assert draw.steps == ()
    assert torch.equal(out, image)
    assert torch.equal(out_mask, mask)


@pytest.mark.parametrize("size", [SIZE, SIZE[1:]])
@pytest.mark.parametrize("name", NAMES)
def test_has_its_effect(name: str, size: tuple[int, ...]) -> None:
    more = {"axes": (0, 1)} if name == "mirror" else {}
    augmentation = build(name, 1.0, size, **more)
    draw, image, mask = make_sample(augmentation)
    out, out_mask = augmentation.apply(draw, image.clone(), mask.clone())
    assert out.shape == (2, *size)
    assert out_mask.shape == (2, *size)
    assert (out.dtype, out_mask.dtype) == (torch.float32, torch.int16)
    same = out.shape == image.shape and torch.equal(out, image) and torch.equal(out_mask, mask)
    assert not same
    assert torch.isfinite(out).all()


# Those whose purpose is to change the level of a whole channel or to write into it.
CHANGES_CONSTANTS = {
    "gaussian_noise",
    "brightness",
    "brightness_shift",
    "mask_outside",
    "histogram_matching",
    "previous_morphology",
    "previous_drop_component",
}


@pytest.mark.parametrize("name", sorted({*NAMES} - CHANGES_CONSTANTS))
def test_keeps_constants_constant(name: str) -> None:
    augmentation = build(name, 1.0)
    draw, image, mask = make_sample(augmentation, constant=True)
    out, out_mask = augmentation.apply(draw, image, mask)
    torch.testing.assert_close(out, torch.full_like(out, 1.5), rtol=0, atol=1e-5)
    assert (out_mask == 1).all()


@pytest.mark.parametrize("name", NAMES)
def test_refuses_bad_arguments(name: str) -> None:
    with pytest.raises(PlanError, match="unknown key"):
        build(name, None, strenght=1)
    for field in probabilities(name):
        with pytest.raises(PlanError, match=field):
            build(name, None, **{field: 1.5})


@pytest.mark.parametrize("name", NAMES)
def test_reversed_and_infinite_ranges_are_refused(name: str) -> None:
    fields = type(registry.options("augmentation", name, NEEDED.get(name, {}))).model_fields
    for field, information in fields.items():
        if str(information.annotation) != "tuple[float, float]":
            continue
        for bad in ((0.9, 0.1), (0.1, float("inf"))):
            with pytest.raises(PlanError, match=field):
                build(name, None, **{field: bad})


@pytest.mark.parametrize("name", NAMES)
def test_same_draw_gives_the_same_result(name: str) -> None:
    results = []
    for _ in range(2):
        augmentation = build(name, None)
        outs = []
        for step in range(6):
            draw, image, mask = make_sample(augmentation, step)
            outs.append(augmentation.apply(draw, image, mask))
        results.append(outs)
    for one, other in zip(*results, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


@pytest.mark.parametrize("name", NAMES)
def test_touches_no_global_generator(name: str) -> None:
    before = torch.get_rng_state()
    augmentation = build(name, 1.0)
    augmentation.apply(*make_sample(augmentation))
    assert torch.equal(before, torch.get_rng_state())


def test_options_need_no_torch() -> None:
    from bts_auto.train.augment import options

    imported = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(ast.parse(inspect.getsource(options)))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert not any(module and module.startswith("torch") for module in imported)
