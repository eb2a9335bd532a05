"""The exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class WeightAverage:
    """A running average of all floating-point weights and buffers; others are taken as they are.

    The decay grows with the number of updates, ``min(decay, (1 + n) / (10 + n))``, so that the first weights, which are
    random, are soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._network, self._decay, self._updates = network, decay, 0
        self._values = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    def update(self) -> None:
        """Take the network's present weights in."""
        self._updates += 1
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        mine, theirs = [], []
        for name, tensor in self._network.state_dict().items():
            if tensor.is_floating_point():
                mine.append(self._values[name])
                theirs.append(tensor.detach())
            else:
                self._values[name].copy_(tensor)
        torch._foreach_lerp_(mine, theirs, 1 - decay)

    def weights(self) -> dict[str, Tensor]:
        """The averaged state dict."""
        return self._values

    def tensors(self) -> dict[str, Tensor]:
        """Everything to be saved."""
        return {**self._values, "updates": torch.tensor(self._updates)}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from :meth:`tensors`."""
        self._updates = int(tensors["updates"])
        for name, tensor in self._values.items():
            tensor.copy_(tensors[name])
