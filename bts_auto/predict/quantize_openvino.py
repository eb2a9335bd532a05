"""Convolutions of an OpenVINO model in 8-bit integers.

What is quantised is marked in the model by `FakeQuantize` operations on the input (one scale for the tensor, zero
exact) and on the weights (a scale for each output channel, symmetric) of a convolution; OpenVINO computes what stands
between marks in integers. The rest stays in the precision of the model: norms, transposed convolutions, and what
:mod:`bts_auto.predict.ranges` leaves out.

References
----------
B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR
2018: affine quantisation with an exact zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bts_auto.errors import PlanError
from bts_auto.plan.schema import Ranges

_LEVELS, _WEIGHT_LEVELS = 256, 255
# How tracing names the operations of a module (:class:`bts_auto.predict.engine_openvino.FinestLogits`).
_PREFIX = "__module.network."


def quantized(model: Any, ranges: Ranges) -> Any:
    """A copy of the model whose convolutions with known ranges are marked for 8-bit arithmetic.

    Raises
    ------
    PlanError
        When the model has no convolution of a name in `ranges`: what was asked for would not be computed.
    """
    made = model.clone()
    missing = set(ranges)
    for operation in list(made.get_ordered_ops()):
        name = operation.get_friendly_name().removeprefix(_PREFIX).partition("/")[0]
        if operation.get_type_name() != "Convolution" or name not in ranges:
            continue
        missing.discard(name)
        marked = _marked(operation.input(0).get_source_output(), *_with_exact_zero(*ranges[name]), _LEVELS)
        operation.input(0).replace_source_output(marked)
        operation.input(1).replace_source_output(_marked_weights(_weights(operation)))
    if missing:
        raise PlanError(
            f"{len(missing)} layers that int8 is for, such as '{min(missing)}', are not found in OpenVINO's model",
            mend="use --precision bf16 or fp32",
        )
    made.validate_nodes_and_infer_types()
    return made


def _weights(convolution: Any) -> np.ndarray:
    """The weights (out, in, *kernel), which may stand behind a conversion of their type."""
    node = convolution.input(1).get_source_output().get_node()
    if node.get_type_name() == "Convert":
        node = node.input(0).get_source_output().get_node()
    return node.data.astype(np.float32)


def _with_exact_zero(low: float, high: float) -> tuple[float, float]:
    """The range moved by less than a step, so that 0 is one of its levels."""
    step = max(high - low, 1e-6) / (_LEVELS - 1)
    below = round(-low / step)
    return -below * step, (_LEVELS - 1 - below) * step


def _marked(source: Any, low: float | np.ndarray, high: float | np.ndarray, levels: int) -> Any:
    from openvino import opset13 as opset

    limits = [opset.constant(np.asarray(value, np.float32)) for value in (low, high)]
    return opset.fake_quantize(source, *limits, *limits, levels).output(0)


def _marked_weights(weights: np.ndarray) -> Any:
    from openvino import opset13 as opset

    largest = np.abs(weights).max(axis=tuple(range(1, weights.ndim)), keepdims=True)
    largest = np.maximum(largest, np.finfo(np.float32).tiny)
    return _marked(opset.constant(weights), -largest, largest, _WEIGHT_LEVELS)
