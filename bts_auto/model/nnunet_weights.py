"""The names of weights in nnU-Net v2's U-Nets, and in ours.

nnU-Net registers every layer of a convolution block twice (by name, and in a sequence), and its encoder once more below
the decoder; a state of its network has all of these names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from bts_auto.errors import ModelError

_WRAPPERS = ("module.", "_orig_mod.")  # DataParallel's and torch.compile's
_REPEATED = re.compile(r"^decoder\.encoder\.|\.all_modules\.")
_SIMPLE = (
    (re.compile(r"^encoder\.stages\.(\d+)\.(?:0\.)?convs\.(\d+)\."), r"encoder.\1.\2."),
    (re.compile(r"^encoder\.stem\.convs\.0\."), r"encoder.0.0."),
    (re.compile(r"^decoder\.stages\.(\d+)\.convs\.(\d+)\."), r"decoder.\1.convs.\2."),
    (re.compile(r"^decoder\.transpconvs\.(\d+)\."), r"decoder.\1.up."),
    (re.compile(r"^decoder\.seg_layers\.(\d+)\."), r"heads.\1."),
)
_RESIDUAL = re.compile(r"^encoder\.stages\.(\d+)\.blocks\.(\d+)\.(conv1|conv2|skip\.\d+)\.")
_RESIDUAL_PARTS = {"conv1": "first", "conv2": "second"}
_OURS_RESIDUAL = re.compile(r"^encoder\.(\d+)\.(\d+)\.(first|second|project)\.")


def weights_from_nnunet(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under our names, each once.

    Raises
    ------
    ModelError
        For a name that nnU-Net's U-Nets do not have.
    """
    renamed = {}
    for name, tensor in state.items():
        for wrapper in _WRAPPERS:
            name = name.removeprefix(wrapper)
        if not _REPEATED.search(name):
            renamed[_from_nnunet(name)] = tensor
    return renamed


def _from_nnunet(name: str) -> str:
    if match := _RESIDUAL.match(name):
        stage, block, part = match.groups()
        index = int(block) + (stage == "0")  # our first stage begins with the stem
        return f"encoder.{stage}.{index}.{_RESIDUAL_PARTS.get(part, 'project')}.{name[match.end() :]}"
    for pattern, replacement in _SIMPLE:
        if pattern.match(name):
            return pattern.sub(replacement, name)
    raise ModelError(f"the weights have an entry '{name}', which nnU-Net's U-Nets have not")


def weights_to_nnunet(
    state: Mapping[str, Tensor], *, residual: bool, dropout: bool, strides: tuple[tuple[int, ...], ...]
) -> dict[str, Tensor]:
    """The weights under all names that nnU-Net's network has for them.

    Parameters
    ----------
    state : mapping of str to Tensor
    residual : bool
        Whether the encoder is residual; it then begins with a stem.
    dropout : bool
        Whether the blocks have a dropout layer, which moves the layers behind it.
    strides : tuple
        Of the stages; a strided shortcut has its projection behind a pooling layer.
    """
    renamed = {}
    for name, tensor in state.items():
        for alias in _aliases(_to_nnunet(name, residual, strides), dropout):
            renamed[alias] = tensor
    return renamed


def _to_nnunet(name: str, residual: bool, strides: tuple[tuple[int, ...], ...]) -> str:
    if match := _OURS_RESIDUAL.match(name):
        stage, index, part = match.groups()
        block = int(index) - (stage == "0")
        pooled = block == 0 and max(strides[int(stage)]) > 1
        theirs = {"first": "conv1", "second": "conv2", "project": f"skip.{int(pooled)}"}[part]
        return f"encoder.stages.{stage}.blocks.{block}.{theirs}.{name[match.end() :]}"
    if residual and name.startswith("encoder.0.0."):
        return name.replace("encoder.0.0.", "encoder.stem.convs.0.", 1)
    rules = (
        (r"^encoder\.(\d+)\.(\d+)\.", r"encoder.stages.\1.0.convs.\2."),
        (r"^decoder\.(\d+)\.convs\.(\d+)\.", r"decoder.stages.\1.convs.\2."),
        (r"^decoder\.(\d+)\.up\.", r"decoder.transpconvs.\1."),
        (r"^heads\.(\d+)\.", r"decoder.seg_layers.\1."),
    )
    for pattern, replacement in rules:
        if re.match(pattern, name):
            return re.sub(pattern, replacement, name)
    raise ModelError(f"the weights have an entry '{name}', which nnU-Net's U-Nets have not")


def _aliases(name: str, dropout: bool) -> list[str]:
    names = [name]
    if ".conv." in name:
        names.append(name.replace(".conv.", ".all_modules.0."))
    elif ".norm." in name:
        behind_dropout = dropout and ".conv2." not in name and ".skip." not in name
        names.append(name.replace(".norm.", f".all_modules.{1 + behind_dropout}."))
    return names + [f"decoder.{alias}" for alias in names if alias.startswith("encoder.")]
