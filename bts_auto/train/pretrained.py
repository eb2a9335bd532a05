"""Starting from the weights of another training."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from bts_auto.errors import ModelError
from bts_auto.model.fold import TrainedFold


def pretrained_state(path: Path) -> dict[str, Tensor]:
    """The weights of a trained fold's folder, or of the first fold in a model package.

    Raises
    ------
    ModelError
        When there are none.
    """
    if path.is_dir():
        return TrainedFold(path).state()
    if not path.exists():
        raise ModelError("no such package or folder of a trained fold", where=path)
    from bts_auto.model.package import open_package

    return open_package(path)[0].state()


def take_weights(network: nn.Module, state: dict[str, Tensor]) -> list[str]:
    """Copy the weights whose name and shape fit; gives back what was not taken, in words.

    Other channels change the first convolution, other classes the last ones; they keep their freshly drawn weights.

    Raises
    ------
    ModelError
        When nothing fits.
    """
    own = network.state_dict()
    left_out = [
        f"{name} {tuple(tensor.shape)}, here {tuple(own[name].shape)}"
        if name in own
        else f"{name}, not in this network"
        for name, tensor in state.items()
        if name not in own or own[name].shape != tensor.shape
    ]
    taken = {name: tensor for name, tensor in state.items() if name in own and own[name].shape == tensor.shape}
    if not taken:
        raise ModelError("no weight fits the planned network", mend="the architectures have to be alike")
    with torch.no_grad():
        for name, tensor in taken.items():
            own[name].copy_(tensor)
    return left_out + [f"{name}, missing there" for name in own if name not in state]
