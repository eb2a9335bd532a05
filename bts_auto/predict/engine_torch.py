"""Inference with torch, on a CPU or a GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from bts_auto.plan.schema import Ranges

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class TorchEngine:
    """A network in torch's inference mode.

    Parameters
    ----------
    network : callable
        Returns the network, which answers ``{"logits": [tensor, ...]}``; it is moved to `device` and put in evaluation
        mode.
    device : torch.device
        Where it runs.
    precision : str
        ``"fp32"``, or the type of autocast: ``"bf16"``, ``"fp16"``.
    example, converted, ranges : optional
        Not needed: nothing is converted or quantised.
    """

    def __init__(
        self,
        network: Callable[[], torch.nn.Module],
        *,
        device: torch.device,
        precision: str = "fp32",
        example: Sequence[int] | None = None,
        converted: Path | None = None,
        ranges: Ranges | None = None,
    ) -> None:
        self.device = device
        self._autocast = _AUTOCAST.get(precision)
        self._network = network().to(device).eval()
        # bfloat16 convolutions on a CPU and tensor cores work in this layout; from others they reorder their input.
        self._channels_last = self._autocast is not None

    @torch.inference_mode()
    def logits(self, batch: torch.Tensor) -> torch.Tensor:
        """Logits (b, k, *tile) in float32 of a batch (b, c, *tile) of float32."""
        context = contextlib.nullcontext()
        if self._autocast is not None:
            context = torch.autocast(self.device.type, dtype=self._autocast)  # type: ignore[assignment]
        if self._channels_last:
            layout = torch.channels_last_3d if batch.ndim == 5 else torch.channels_last
            batch = batch.contiguous(memory_format=layout)
        with context:
            return self._network(batch)["logits"][0].float()
