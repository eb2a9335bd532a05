"""Which number format the network runs in, and the scaling of gradients that float16 needs."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Format = Literal["fp32", "bf16", "fp16"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
# A lower precision is taken when a step becomes at least this much faster ...
_WORTH = 1.15
# ... and the loss of one and the same batch moves by no more than this share.
_LOSS_TOLERANCE = 0.02
# The trial runs on a patch of at most about this many voxels: large enough to be bound by the convolutions.
_TRIAL_VOXELS = 64**3
_TRIAL_ROUNDS = 3


class Precision:
    """Autocast and gradient scaling for one number format on one device."""

    def __init__(self, name: Format, device: torch.device) -> None:
        self.name = name
        self._device = device
        self.scaler = torch.amp.GradScaler(device.type) if name == "fp16" else None

    def autocast(self) -> contextlib.AbstractContextManager:
        """The context in which forward passes run."""
        if self.name == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, dtype=_DTYPES[self.name])

    def state(self) -> dict:
        """The scaler's state, as JSON."""
        return self.scaler.state_dict() if self.scaler is not None else {}

    def load_state(self, state: dict) -> None:
        """Go on from :meth:`state`."""
        if self.scaler is not None and state:
            self.scaler.load_state_dict(state)


@dataclass(frozen=True)
class Choice:
    """A number format and, in words, why."""

    name: Format
    reason: str


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware (AVX512_BF16 or AMX)."""
    capability = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    amx = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool((capability and capability()) or (amx and amx()))


def trial_patch(patch: tuple[int, ...], strides: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    """A part of the patch, of whole strides: large enough to be bound by convolutions, small enough to be tried."""
    edge = _TRIAL_VOXELS ** (1 / len(patch))
    sizes = []
    for axis, size in enumerate(patch):
        divisor = math.prod(stride[axis] for stride in strides)
        sizes.append(min(size, max(2 * divisor, round(edge / divisor) * divisor)))
    return tuple(sizes)


def choose_precision(
    wanted: Literal["auto", "fp32", "bf16", "fp16"],
    device: torch.device,
    trial: Callable[[Precision], Tensor],
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> Choice:
    """The format for a training: as wanted, or for ``auto`` what the device does fastest with the same loss.

    Parameters
    ----------
    trial : callable
        Runs one pass forth and back in the given precision, always on the same batch and weights, and returns the loss.
    """
    if wanted != "auto":
        return Choice(wanted, "as the plan says")
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Choice("bf16", "the GPU computes in bfloat16")
        return Choice("fp16", "the GPU computes in float16")
    if device.type != "cpu" or not cpu_has_bf16():
        return Choice("fp32", f"no faster format on this {device.type}")
    return _try_bf16(device, trial, clock)


def _try_bf16(device: torch.device, trial: Callable[[Precision], Tensor], clock: Callable[[], float]) -> Choice:
    """Time both formats in turn, so that other work on the machine slows both."""
    seconds: dict[Format, float] = {}
    values: dict[Format, float] = {}
    formats: tuple[Format, ...] = ("fp32", "bf16")
    for _ in range(_TRIAL_ROUNDS):
        for name in formats:
            start = clock()
            values[name] = float(trial(Precision(name, device)))
            seconds[name] = min(seconds.get(name, math.inf), clock() - start)
    gain = seconds["fp32"] / max(seconds["bf16"], 1e-9)
    moved = abs(values["bf16"] - values["fp32"]) / max(abs(values["fp32"]), 1e-9)
    if gain < _WORTH:
        return Choice("fp32", f"bfloat16 is not faster here ({gain:.2f} times)")
    if not moved <= _LOSS_TOLERANCE:
        return Choice("fp32", f"bfloat16 would move the loss by {moved:.1%}")
    return Choice("bf16", f"{gain:.2f} times as fast as float32 here; the loss moves by {moved:.2%}")
