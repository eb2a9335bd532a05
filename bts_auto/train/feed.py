"""Batches for a step: one from each stream, on the right device, and how long the loop waited for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

OpenStream = Callable[[str, int], Iterable[Any]]
"""(stream, index of the first batch) -> endless batches from there on."""


def to_device(batch: Any, device: torch.device) -> Any:
    """The batch (a dataclass) with its tensors, and those in mappings, on `device`."""
    return batch if device.type == "cpu" else replace(batch, **_moved(vars(batch), device))


def _moved(values: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    moved: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Tensor):
            moved[name] = value.to(device, non_blocking=True)
        elif isinstance(value, Mapping):
            moved[name] = _moved(value, device)
    return moved


class Feed:
    """Draws one batch a step from each of the named streams.

    Attributes
    ----------
    waited : float
        Seconds that the last :meth:`next` took.
    """

    def __init__(self, open_stream: OpenStream, streams: Sequence[str], start: int, device: torch.device) -> None:
        self._loaders = {name: open_stream(name, start) for name in streams}
        self._iterators: dict[str, Iterator[Any]] = {name: iter(loader) for name, loader in self._loaders.items()}
        self._device = device
        self.waited = 0.0

    def next(self) -> dict[str, Any]:
        """The next batch of each stream."""
        start = time.perf_counter()
        batches = {name: to_device(next(iterator), self._device) for name, iterator in self._iterators.items()}
        self.waited = time.perf_counter() - start
        return batches

    def close(self) -> None:
        """Stop the workers of those loaders that have any."""
        for one in (*self._iterators.values(), *self._loaders.values()):
            close = getattr(one, "close", None)
            if close is not None:
                close()
