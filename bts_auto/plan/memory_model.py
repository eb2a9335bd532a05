"""How many bytes a training step of a planned U-Net takes at its peak, by simulating what is in memory when."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from bts_auto.plan.layers import Layer, unet_layers
from bts_auto.plan.schema import Plan

Format = Literal["fp32", "bf16", "fp16"]
_FLOAT = 4
_ACTIVATION = {"fp32": 4, "bf16": 2, "fp16": 2}
RUNTIME_ON_CPU = 250 * 2**20
"""Bytes that the first step of a process takes on a CPU besides all tensors: code of kernels, their tables, slack of
the heap. Measured (`benchmarks/memory.py`)."""
# Numbers per trained number that an optimiser keeps beside it.
_OPTIMISER_STATE = {"sgd": 1, "adam": 2, "adamw": 2}
# What the loss keeps of each logit for the backward pass, in single precision: the logits themselves, the softmax of
# the Dice term and the log-softmax of the cross entropy (sigmoid and targets for regions).
_LOSS_KEEPS = 3
# What it needs besides, at most, while its gradient is computed: that gradient and the two terms' parts of it.
_LOSS_NEEDS = 3


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of a training step.

    Attributes
    ----------
    parameters, gradients, optimiser : int
        All of them; gradients are counted in `peak` only as far as they exist at that moment.
    activations : int
        Everything that the forward pass keeps for the backward pass, logits and loss included.
    workspace : int
        What the most demanding layer needs besides while its gradient is computed.
    peak : int
        The most that is in memory at any one moment.
    """

    parameters: int
    gradients: int
    optimiser: int
    activations: int
    workspace: int
    peak: int


def _workspace(layer: Layer, batch: int, width: int) -> int:
    """Bytes that a layer's backward pass needs besides what is kept: the gradients of its output and of the
    convolution's, the gradient of its input, and a reordered copy of the input."""
    if layer.kind == "head":
        return batch * layer.in_elements * width
    return batch * width * (2 * layer.out_elements + 2 * layer.in_elements)


def layer_memory(
    layers: tuple[Layer, ...],
    batch_size: int,
    *,
    precision: Format = "fp32",
    optimiser: str = "sgd",
    deep_supervision: bool = True,
) -> Memory:
    """Bytes of a training step.

    The backward pass runs through the layers from the last to the first; while a layer is at work, there are the
    parameters, the optimiser's state, what the layers before it keep, the gradients of the layers after it, and its own
    workspace. The peak is the largest such sum, or the state in which the optimiser steps.
    """
    width = _ACTIVATION[precision]
    parameters = _FLOAT * sum(layer.parameters for layer in layers)
    states = parameters * _OPTIMISER_STATE.get(optimiser, 2)
    # Autocast keeps a copy of the weights in the lower precision until the backward pass is over.
    copies = 0 if precision == "fp32" else parameters * width // _FLOAT
    heads = [layer for layer in layers if layer.kind == "head" and (deep_supervision or layer.scale == 0)]
    logits = _FLOAT * batch_size * sum(head.out_elements for head in heads)
    image = _FLOAT * batch_size * layers[0].in_elements
    kept = [batch_size * layer.kept * width for layer in layers]
    activations = sum(kept) + _LOSS_KEEPS * logits + image
    fixed = parameters + states + copies + image
    finest = _FLOAT * batch_size * max(head.out_elements for head in heads)
    peak, workspace = fixed + sum(kept) + _LOSS_KEEPS * logits + _LOSS_NEEDS * finest, _LOSS_NEEDS * finest
    alive, gradients = sum(kept), 0
    for layer, own in zip(reversed(layers), reversed(kept), strict=True):
        needed = _workspace(layer, batch_size, width)
        gradients += _FLOAT * layer.parameters
        at_work = fixed + alive + gradients + needed
        if at_work > peak:
            peak, workspace = at_work, needed
        alive -= own
    peak = max(peak, fixed - copies + gradients)
    return Memory(parameters, parameters, states, activations, workspace, math.ceil(peak))


def plan_memory(plan: Plan, name: str, *, precision: Format | None = None) -> Memory:
    """Bytes of a configuration's training step.

    Parameters
    ----------
    precision : str, optional
        None: the plan's, ``auto`` counted as single precision.

    Raises
    ------
    PlanError
        When the configuration's network is none of the planned U-Nets.
    """
    configuration = plan.configuration(name)
    training = configuration.training
    planned: Format = "fp32" if training.precision == "auto" else training.precision
    return layer_memory(
        unet_layers(configuration, *plan.network_channels(name)),
        configuration.batch_size,
        precision=precision or planned,
        optimiser=training.optimizer.name,
        deep_supervision=training.deep_supervision,
    )
