"""Which convolutions are worth 8-bit arithmetic, and between which values their inputs lie, which it must know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import nn

from bts_auto.plan.schema import Ranges, SegmentationConfiguration
from bts_auto.predict.tiles import Grid

CASES = 2
"""So many scans are enough."""
# Tiles that are looked at in an image: of those that show most of it.
_TILES = 6
_FEWEST_CHANNELS = 8


def measure_ranges(
    network: nn.Module, images: Iterable[np.ndarray], configuration: SegmentationConfiguration
) -> Ranges:
    """Smallest and largest input of the convolutions that are worth 8 bits, over a few tiles of some images.

    That is nearly all of the work. The first convolution (few channels), the last (single voxels) and transposed ones
    cost little, and their rounding would be seen most.

    Parameters
    ----------
    network : Module
        Trained, in evaluation mode; it runs where its weights are.
    images : iterable of ndarray of float32, shape (c, z, y, x)
        As the network takes them.
    configuration : SegmentationConfiguration
        Gives the tiles.

    Returns
    -------
    dict of str to (float, float)
        By the path of the convolution's module in the network. 0, with which images are padded, lies within. Empty for
        a network with batch norms: an engine melts them into the convolutions, which are then no longer these.
    """
    if any(isinstance(one, nn.BatchNorm2d | nn.BatchNorm3d) for one in network.modules()):
        return {}
    found: dict[str, tuple[float, float]] = {}

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def note(module: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            low, high = found.get(name, (0.0, 0.0))
            found[name] = min(low, float(given[0].min())), max(high, float(given[0].max()))

        return module.register_forward_pre_hook(note)

    handles = [watch(name, one) for name, one in network.named_modules() if _worth_8_bits(one)]
    device = next(network.parameters()).device
    try:
        with torch.inference_mode():
            for image in images:
                for tile in _telling_tiles(image, configuration):
                    network(torch.from_numpy(tile)[None].to(device))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _worth_8_bits(module: nn.Module) -> bool:
    """Whether it is a convolution that costs much and bears rounding; of groups, engines gain nothing."""
    return (
        isinstance(module, nn.Conv2d | nn.Conv3d)
        and module.groups == 1
        and module.in_channels >= _FEWEST_CHANNELS
        and set(module.kernel_size) != {1}
    )


def _telling_tiles(image: np.ndarray, configuration: SegmentationConfiguration) -> Iterator[np.ndarray]:
    """Some of the tiles (c, *tile) in which most voxels are not zero, spread over the image."""
    grid = Grid.over(image.shape[1:], configuration.patch_size, configuration.inference.step_size)
    padded = np.pad(image, ((0, 0), *grid.padding))
    regions = list(grid)
    shown = np.array([np.count_nonzero(padded[(slice(None), *region)]) for region in regions])
    telling = [regions[i] for i in sorted(np.argsort(-shown, kind="stable")[: max(1, len(regions) // 2)])]
    for region in _spread(telling, _TILES):
        tile = np.ascontiguousarray(padded[(slice(None), *region)])
        yield tile[:, 0] if configuration.dims == 2 else tile


def _spread(things: Sequence[tuple[slice, ...]], count: int) -> list[tuple[slice, ...]]:
    """`count` of the things, evenly spread."""
    chosen = np.linspace(0, len(things) - 1, min(count, len(things))).round().astype(int)
    return [things[index] for index in chosen]
