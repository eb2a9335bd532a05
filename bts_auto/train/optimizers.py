"""Optimisers by name, each from its options. All use torch's fused kernels: one pass over the parameters a step."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from bts_auto.train.options import AdamOptions, AdamWOptions, SGDOptions


def sgd(options: SGDOptions, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Stochastic gradient descent with (Nesterov) momentum."""
    return torch.optim.SGD(
        parameters,
        lr=options.lr,
        momentum=options.momentum,
        nesterov=options.nesterov,
        weight_decay=options.weight_decay,
        fused=True,
    )


def _adam_arguments(options: AdamOptions) -> dict:
    fields = options.model_dump(include={"lr", "betas", "eps", "weight_decay", "amsgrad"})
    return fields | {"fused": True}


def adam(options: AdamOptions, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Adam."""
    return torch.optim.Adam(parameters, **_adam_arguments(options))


def adamw(options: AdamWOptions, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay."""
    return torch.optim.AdamW(parameters, **_adam_arguments(options))
