"""The seam between the sliding window and whatever computes the network."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, Protocol

import torch

from bts_auto import machine, registry
from bts_auto.errors import PlanError
from bts_auto.plan.schema import Ranges

# The rest is for the answers, for cases that are read ahead and written, and for other programs.
_MEMORY_SHARE = 0.5
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]


class Engine(Protocol):
    """One trained network, ready to answer.

    Attributes
    ----------
    device : torch.device
        Where batches are wanted and answers lie.
    """

    device: torch.device

    def logits(self, batch: torch.Tensor) -> torch.Tensor:
        """Logits (b, k, *tile) in float32 of a batch (b, c, *tile) of float32 on `device`."""
        ...


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """The device of that name; ``"auto"``: the GPU that is there (CUDA, then Apple's), else the CPU.

    Raises
    ------
    PlanError
        For a device that torch does not know or that this machine does not have.
    """
    if device == "auto":
        there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        return torch.device(next((name for name, found in there.items() if found), "cpu"))
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise PlanError(f"no device is called '{device}'", mend="give auto, cpu, cuda or cuda:N") from None
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise PlanError(
            f"this machine has {torch.cuda.device_count()} CUDA devices, not '{device}'", mend="try --device cpu"
        )
    return chosen


def working_memory(device: torch.device) -> int:
    """Bytes that a network may take on the device while it answers: a share of what is free."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else machine.free_memory()
    return int(_MEMORY_SHARE * free)


def choose_engine(engine: str, device: torch.device) -> str:
    """The engine of that name; ``"auto"``: OpenVINO on a CPU where it is installed, else torch.

    Raises
    ------
    PlanError
        For an unknown engine, or one that is not installed or does not run on `device`.
    """
    if engine == "auto":
        return "openvino" if device.type == "cpu" and has_openvino() else "torch"
    registry.component("engine", engine)
    if engine == "openvino" and not has_openvino():
        raise PlanError("the engine openvino is not installed", mend="pip install 'bts_auto[openvino]'")
    if engine == "openvino" and device.type != "cpu":
        raise PlanError(f"the engine openvino runs on CPUs, not on '{device}'", mend="use --engine torch")
    return engine


@lru_cache(maxsize=1)
def has_openvino() -> bool:
    """Whether OpenVINO can be imported."""
    return importlib.util.find_spec("openvino") is not None


@lru_cache(maxsize=1)
def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AVX512-BF16 or AMX); elsewhere it is slower than float32."""
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(check is not None and check() for check in checks)


@lru_cache(maxsize=1)
def cpu_has_int8() -> bool:
    """Whether this CPU sums products of 8-bit integers in hardware (VNNI)."""
    check = getattr(torch.cpu, "_is_vnni_supported", None)
    return check is not None and check()


def choose_precision(precision: Precision, device: torch.device, engine: str = "torch") -> Precision:
    """The precision of that name; ``"auto"``: the one that is as good as float32 and fastest on the device.

    On trained networks, bfloat16 on a CPU leaves every region's Dice against the expert within 0.002 of float32's, and
    the masks agree with a Dice of at least 0.995 (`tests/predict/test_precision.py`, which asks the same of float16
    where there is a GPU; nnU-Net predicts in it too).

    Raises
    ------
    PlanError
        For float16 on a CPU, which torch computes slowly and OpenVINO not at all; for int8 in torch.
    """
    if precision == "int8" and engine != "openvino":
        raise PlanError("int8 is for the engine openvino, on a CPU", mend="use bf16, fp16 or fp32")
    if precision == "fp16" and device.type == "cpu":
        raise PlanError("fp16 is for GPUs", mend="use bf16 or fp32 on a CPU")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "fp16"
    return "bf16" if cpu_has_bfloat16() else "fp32"


def build_engine(
    network: torch.nn.Module | Callable[[], torch.nn.Module],
    *,
    engine: str = "auto",
    device: torch.device | str = "auto",
    precision: Precision = "auto",
    example: Sequence[int] | None = None,
    converted: Path | None = None,
    ranges: Ranges | None = None,
) -> Engine:
    """Make a network ready for inference.

    Parameters
    ----------
    network : torch.nn.Module or callable
        Answers ``{"logits": [tensor, ...]}``; or what returns such a network, asked only when it is needed.
    engine, device, precision : str
        See :func:`choose_engine`, :func:`choose_device`, :func:`choose_precision`.
    example : sequence of int, optional
        Shape (b, c, *tile) of the smallest batch that the network takes.
    converted : Path, optional
        Where an engine may keep what it made of the network; its name must change with the weights.
    ranges : mapping, optional
        For int8: between which values the inputs of convolutions lie.

    Raises
    ------
    PlanError
        Also for int8 without ranges.
    """
    device = choose_device(device)
    engine = choose_engine(engine, device)
    component = registry.component("engine", engine)
    given = (lambda: network) if isinstance(network, torch.nn.Module) else network
    chosen = choose_precision(precision, device, engine)
    if chosen == "int8" and not ranges:
        raise PlanError(
            "of this model it is not known between which values its layers work, which int8 needs",
            mend="validate it once more (bts_train ... --val) or import it with --images; batch norms go without int8",
        )
    return component(given, device=device, precision=chosen, example=example, converted=converted, ranges=ranges)
