"""Inference with OpenVINO on a CPU (extra ``openvino``): the same network, several times as fast as torch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

_HINTS = {"fp32": "f32", "bf16": "bf16"}


class _FinestLogits(torch.nn.Module):
    """The network with one tensor for an answer, which is what can be traced."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x)["logits"][0]


class OpenVinoEngine:
    """A network compiled for this CPU, once for each shape of batch.

    Parameters
    ----------
    network : torch.nn.Module
        Answers ``{"logits": [tensor, ...]}``; on the CPU, in evaluation mode, without deep supervision.
    device : torch.device
        The CPU.
    precision : str
        ``"fp32"`` or ``"bf16"``.
    cache : Path, optional
        A folder where compiled models are kept under the hash of their content, so that the next start is quicker.
    """

    def __init__(
        self, network: torch.nn.Module, *, device: torch.device, precision: str = "fp32", cache: Path | None = None
    ) -> None:
        import openvino

        self.device = device
        self._network = _FinestLogits(network.cpu().eval())
        self._core = openvino.Core()
        self._settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _HINTS[precision], "PERFORMANCE_HINT": "LATENCY"}
        if cache is not None:
            self._settings["CACHE_DIR"] = str(cache)
        self._model: Any = None
        self._requests: dict[tuple[int, ...], Any] = {}

    def logits(self, batch: torch.Tensor) -> torch.Tensor:
        """Logits (b, k, *tile) in float32 of a batch (b, c, *tile) of float32; valid until the next call."""
        shape = tuple(batch.shape)
        if shape not in self._requests:
            self._requests[shape] = self._compile(batch)
        request = self._requests[shape]
        request.infer({0: np.ascontiguousarray(batch.numpy())}, share_inputs=True, share_outputs=True)
        return torch.from_numpy(request.get_output_tensor(0).data)

    def _compile(self, batch: torch.Tensor) -> Any:
        import openvino

        if self._model is None:
            with warnings.catch_warnings():
                # Tracing remarks on every comparison of sizes; sizes are what `reshape` fixes.
                warnings.simplefilter("ignore", torch.jit.TracerWarning)
                self._model = openvino.convert_model(self._network, example_input=torch.zeros_like(batch))
        self._model.reshape({0: list(batch.shape)})
        return self._core.compile_model(self._model, "CPU", self._settings).create_infer_request()
