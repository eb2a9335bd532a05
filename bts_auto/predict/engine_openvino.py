"""Inference with OpenVINO on a CPU (extra ``openvino``): the same network, several times as fast as torch."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bts_auto.plan.schema import Ranges
from bts_auto.predict.quantize_openvino import quantized

# OpenVINO's converter reports its use to its maker over the network, in processes of its own, unless this package is
# missing. Nothing that works on patients' images does that.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "bf16"}
# A compiled shape holds its own working memory: small ones are kept, of larger ones (a series of whole images brings a
# new one each) only the last.
_VOXELS_KEPT = 2 * 64**3
_PIECE = 1 << 20  # bytes that are read at once


class FinestLogits(torch.nn.Module):
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
    network : callable
        Returns the network, which answers ``{"logits": [tensor, ...]}``, on the CPU, in evaluation mode, without deep
        supervision. Not called when the converted model is found in `converted`.
    device : torch.device
        The CPU.
    precision : str
        ``"fp32"``, ``"bf16"``, or ``"int8"``: most convolutions in 8-bit integers, the rest in bfloat16.
    example : sequence of int, optional
        The smallest batch (b, c, *tile) that the network takes: tracing a larger one takes as much longer as the
        network does. None: the first batch.
    converted : Path, optional
        Where the converted model is kept (``.xml`` and ``.bin``), so that the next start neither builds nor traces the
        network. A folder that cannot be written to is no error.
    ranges : mapping, optional
        For int8: see :func:`bts_auto.predict.ranges.measure_ranges`.
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
        import openvino

        self.device = device
        self._network = network
        self._ranges = ranges if precision == "int8" else None
        self._converted = None if converted is None else _named(converted, openvino.get_version())
        self._core = openvino.Core()
        self._settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "PERFORMANCE_HINT": "LATENCY",
            # Threads that are tied to cores wait for whatever else runs there; free ones were 2 % faster alone too.
            "ENABLE_CPU_PINNING": False,
        }
        self._requests: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        self._model = self._load()
        if self._model is None and example is not None:
            self._model = self._convert(example)
        if self._model is not None:
            self._model = self._quantized(self._model)

    def logits(self, batch: torch.Tensor) -> torch.Tensor:
        """Logits (b, k, *tile) in float32 of a batch (b, c, *tile) of float32; valid until the next call."""
        shape = tuple(batch.shape)
        if shape not in self._requests:
            while self._requests and math.prod(shape) + sum(map(math.prod, self._requests)) > _VOXELS_KEPT * shape[1]:
                self._requests.popitem(last=False)
            self._requests[shape] = self._compile(shape)
        self._requests.move_to_end(shape)
        request = self._requests[shape]
        request.infer({0: np.ascontiguousarray(batch.numpy())}, share_inputs=True, share_outputs=True)
        return torch.from_numpy(request.get_output_tensor(0).data)

    def _compile(self, shape: Sequence[int]) -> Any:
        if self._model is None:
            self._model = self._quantized(self._convert(shape))
        self._model.reshape({0: list(shape)})
        return self._core.compile_model(self._model, "CPU", self._settings).create_infer_request()

    def _quantized(self, model: Any) -> Any:
        return model if self._ranges is None else quantized(model, self._ranges)

    def _load(self) -> Any:
        """The model as it was converted before; None where there is none that can be read."""
        if self._converted is None or not self._converted.is_file():
            return None
        try:
            if _checksum(self._converted) != self._converted.with_suffix(".crc").read_text():
                return None
            return self._core.read_model(self._converted)
        except (OSError, RuntimeError):  # damaged: it is made again
            return None

    def _convert(self, shape: Sequence[int]) -> Any:
        import openvino

        network = FinestLogits(self._network().cpu().eval())
        with warnings.catch_warnings():
            # Tracing remarks on every comparison of sizes; sizes are what `reshape` fixes.
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
            model = openvino.convert_model(network, example_input=torch.zeros(tuple(shape)))
        if self._converted is not None:
            with contextlib.suppress(OSError, RuntimeError):
                _save(model, self._converted)
        return model


def _named(path: Path, version: str) -> Path:
    """The file's name with the version in it, which another version could not read."""
    return path.with_name(f"{path.name}-{version.split('-')[0]}.xml")


def _checksum(path: Path) -> str:
    """Of a model's two files."""
    value = 0
    for file in (path, path.with_suffix(".bin")):
        with file.open("rb") as opened:
            while piece := opened.read(_PIECE):
                value = zlib.crc32(piece, value)
    return f"{value:08x}"


def _save(model: Any, path: Path) -> None:
    """Write a model: the weights first, the file that says that both are there last, neither half-written."""
    import openvino

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.{os.getpid()}.part.xml")
    try:
        # Stored in full precision: the precision of inference is chosen when it is compiled.
        openvino.save_model(model, part, compress_to_fp16=False)
        part.with_suffix(".crc").write_text(_checksum(part))
        for ending in (".bin", ".crc", ".xml"):
            part.with_suffix(ending).replace(path.with_suffix(ending))
    finally:
        for ending in (".bin", ".crc", ".xml"):
            part.with_suffix(ending).unlink(missing_ok=True)
