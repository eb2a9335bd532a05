"""The default loss against nnU-Net 2.8.1's, whose values and gradients were written down once.

Softmax: DC_and_CE_loss, regions: DC_and_BCE_loss, both with MemoryEfficientSoftDiceLoss; inputs as made by the
functions below. Where regions meet an ignore label, its Dice alone: its binary cross entropy is not a mean there. It
rounds its sums to single precision.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from bts_auto import registry
from bts_auto.losses.target import Target

B, K, SIZE = 2, 4, (3, 4, 5)
# (value, norm of the gradient, its entry [1, 2, 1, 2, 3])
NNUNET = {
    ("softmax", True): (2.8546323298, 0.1110374145, 0.0082769602),
    ("softmax ignore", True): (2.8317892132, 0.1254293850, 0.0100695180),
    ("regions", True): (0.7287370563, 0.0334715060, 0.0020058749),
    ("regions ignore", True): (-0.4474737048, 0.0083188948, 0.0000799153),
    ("softmax", False): (2.8546451746, 0.1110401667, 0.0082966757),
    ("softmax ignore", False): (2.8318165122, 0.1254354769, 0.0101000928),
    ("regions", False): (0.7288891077, 0.0334712179, 0.0020077613),
    ("regions ignore", False): (-0.4474551976, 0.0083192507, 0.0000806017),
}
TERMS = {"regions ignore": ("dice",)}


def logits() -> torch.Tensor:
    count = torch.arange(B * K * 60, dtype=torch.float64)
    return (3 * torch.sin(1.7 * count)).reshape(B, K, *SIZE).requires_grad_()


def target(kind: str) -> Target:
    voxel = torch.arange(B * 60)
    valid = (voxel % 5 != 0).reshape(B, 1, *SIZE) if "ignore" in kind else None
    if kind.startswith("softmax"):
        return Target(classes=((voxel * 7 + voxel // 5) % K).reshape(B, *SIZE), valid=valid)
    entry = torch.arange(B * K * 60)
    return Target(regions=((entry * 5 + entry // 7) % 3 == 0).reshape(B, K, *SIZE), valid=valid)


def loss(name: str, batch_dice: bool = False, **options: object) -> Callable:
    return registry.component("loss", name)(registry.options("loss", name, options), batch_dice=batch_dice)


@pytest.mark.parametrize(("kind", "batch_dice"), NNUNET)
def test_value_and_gradient(kind: str, batch_dice: bool) -> None:
    z = logits()
    value = sum(loss(name, batch_dice)(z, target(kind)) for name in TERMS.get(kind, ("dice", "cross_entropy")))
    value.backward()
    found = (value.item(), z.grad.square().sum().sqrt().item(), z.grad[1, 2, 1, 2, 3].item())
    assert found == pytest.approx(NNUNET[kind, batch_dice], abs=1e-6)


def test_top_k_is_nnunets() -> None:
    z = logits()
    value = loss("top_k")(z, target("softmax"))
    value.backward()
    assert (value.item(), z.grad.square().sum().sqrt().item()) == pytest.approx((6.0392977716, 0.3859641372), abs=1e-8)
