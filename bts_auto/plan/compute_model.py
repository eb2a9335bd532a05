"""How many floating-point operations a training step of a planned U-Net takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bts_auto.plan.layers import Layer, unet_layers
from bts_auto.plan.schema import Plan

# A multiplication and the addition that goes with it.
_FLOPS_PER_MULTIPLICATION = 2


@dataclass(frozen=True)
class Compute:
    """Floating-point operations of all convolutions; what else there is costs bandwidth, not operations.

    Attributes
    ----------
    forward, inference : int
        Of one sample: with the heads of all resolutions, and with the finest alone.
    step : int
        Of one training step: forward and backward of a whole batch.
    """

    forward: int
    inference: int
    step: int


def _forward(layers: Iterable[Layer]) -> int:
    return sum(_FLOPS_PER_MULTIPLICATION * layer.multiplications for layer in layers)


def layer_compute(layers: tuple[Layer, ...], batch_size: int, *, deep_supervision: bool = True) -> Compute:
    """Operations of a network, for a batch.

    The backward pass of a convolution is two further ones, for the gradients of its weights and its input; the images
    need no gradient. The coarsest head has no weight in the loss and no backward pass.
    """
    heads = [layer for layer in layers if layer.kind == "head"]
    used = tuple(layer for layer in layers if layer.kind != "head" or deep_supervision or layer.scale == 0)
    forward = _forward(used)
    # A network with a single head has no coarser one whose weight is 0.
    mute = [head for head in heads if deep_supervision and len(heads) > 1 and head.scale == len(heads) - 1]
    first = next(iter(layers))
    backward = 2 * (forward - _forward(mute)) - _forward([first])
    inference = _forward(layer for layer in layers if layer.kind != "head" or layer.scale == 0)
    return Compute(forward, inference, batch_size * (forward + backward))


def plan_compute(plan: Plan, name: str) -> Compute:
    """Operations of a configuration.

    Raises
    ------
    PlanError
        When the configuration's network is none of the planned U-Nets.
    """
    configuration = plan.configuration(name)
    layers = unet_layers(configuration, *plan.network_channels(name))
    return layer_compute(layers, configuration.batch_size, deep_supervision=configuration.training.deep_supervision)
