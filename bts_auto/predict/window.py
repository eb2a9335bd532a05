"""The sliding window: tiles of an image go through the networks, and their answers are joined."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as functional

from bts_auto.errors import PlanError
from bts_auto.events import Task
from bts_auto.plan.schema import SegmentationConfiguration
from bts_auto.predict.engine import Engine
from bts_auto.predict.members import with_entropy
from bts_auto.predict.tiles import PEAK, Grid, Tile, divisors, gaussian_weights, tile_size

Averaging = Literal["probabilities", "logits"]
# Voxels of one batch. A CPU is busy with one 3D tile; a GPU needs several small ones.
_BATCH_VOXELS = {"cpu": 128**2, "cuda": 4 * 128**3}
# The joined answers stay on the GPU while they take no more than this share of its free memory.
_SCORES_SHARE = 0.4


def predict_array(
    engine: Engine | Sequence[Engine],
    image: np.ndarray | torch.Tensor,
    configuration: SegmentationConfiguration,
    *,
    tile: Tile | None = None,
    step_size: float | None = None,
    mirror_axes: Sequence[int] = (),
    regions: bool = False,
    averaging: Averaging | None = None,
    member_entropy: bool = False,
    task: Task | None = None,
) -> torch.Tensor:
    """Segment one prepared image.

    The answers of all members (engines and mirrored inputs) to a tile are averaged; tiles are then averaged with
    Gaussian weights. All of this is linear, so that one array holds the result however many members there are. A tile
    whose input is constant is computed once, and its answer used wherever the same constant comes again.

    Logits of tiles of the planned size are averaged with nnU-Net's arithmetic, engine after engine in half precision,
    so that a model that comes from there gives the same mask: near ties are decided by the rounding.

    Parameters
    ----------
    engine : Engine or sequence of Engine
        One for each fold.
    image : ndarray or Tensor of float32, shape (c, z, y, x)
        In the network's grid.
    configuration : SegmentationConfiguration
        Gives the patch, the strides and the defaults of the following. Two-dimensional ones visit each slice (y, x).
    tile : "patch", "whole", int or sequence of int, optional
        See :func:`bts_auto.predict.tiles.tile_size`.
    step_size : float, optional
        Distance of tiles as a share of the tile.
    mirror_axes : sequence of int
        Axes of the network's input (0-based) all combinations of which are mirrored.
    regions : bool
        Whether the channels are overlapping regions (sigmoid) or exclusive labels (softmax).
    averaging : str, optional
        What is averaged: ``"probabilities"`` or ``"logits"`` (nnU-Net's).
    member_entropy : bool
        Whether a last channel holds the mean of the members' entropies (:mod:`bts_auto.predict.members`).
    task : Task, optional
        Advanced by 1 for each tile; see :func:`count_tiles`. Logits: once more for each further engine.

    Returns
    -------
    Tensor of float32, shape (k, z, y, x)
        Probabilities or logits, on the CPU or on the engine's device.
    """
    engines = list(engine) if isinstance(engine, Sequence) else [engine]
    device = engines[0].device
    averaging = averaging or configuration.inference.averaging
    grid = _grid(image.shape[1:], configuration, tile, step_size)
    flips = _flips(mirror_axes, configuration.dims)
    activation = _activation(averaging, regions)
    if member_entropy:
        activation = with_entropy(activation, regions=regions)
    padded = _padded(torch.as_tensor(image).to(device), grid)
    # A slice thick tile loses its first axis on the way into a two-dimensional network.
    squeeze = configuration.dims == 2
    as_peer = averaging == "logits" and grid.tile[-configuration.dims :] == tuple(configuration.patch_size)

    def joined(members: Sequence[Engine]) -> torch.Tensor:
        whole = _Joined(grid, torch.float16 if as_peer else torch.float32)
        answers: dict[tuple[float, ...], torch.Tensor] = {}
        for regions_of_batch, batch, constant in _batches(padded, grid, device, squeeze):
            if constant is None or constant not in answers:
                answer = _answer(members, batch, flips, activation)
                if constant is not None:
                    answers[constant] = answer
            else:
                answer = answers[constant]
            whole.add(regions_of_batch, answer.unsqueeze(2) if squeeze else answer)
            if task is not None:
                task.advance(len(regions_of_batch))
        return whole.result()

    with torch.inference_mode():
        if averaging == "probabilities":
            return joined(engines)
        total = joined(engines[:1])
        for one in engines[1:]:
            total += joined([one])
        return total.div_(len(engines)).float()


def count_tiles(
    size: Sequence[int],
    configuration: SegmentationConfiguration,
    tile: Tile | None = None,
    step_size: float | None = None,
) -> int:
    """How many tiles :func:`predict_array` visits in an image of `size` (z, y, x)."""
    return len(_grid(size, configuration, tile, step_size))


def _grid(
    size: Sequence[int], configuration: SegmentationConfiguration, tile: Tile | None, step_size: float | None
) -> Grid:
    step_size = configuration.inference.step_size if step_size is None else step_size
    if not 0 < step_size <= 1:
        raise PlanError(f"step size {step_size} is not between 0 and 1")
    wanted = configuration.inference.tile if tile is None else tile
    extent = tile_size(
        "patch" if wanted == "auto" else wanted,
        size[-configuration.dims :],
        configuration.patch_size,
        divisors(configuration),
    )
    return Grid.over(size, extent, step_size)


def _flips(mirror_axes: Sequence[int], dims: int) -> list[tuple[int, ...]]:
    """All combinations of mirrored axes of a batch, the empty one first."""
    if any(not 0 <= axis < dims for axis in mirror_axes):
        raise PlanError(f"cannot mirror axes {tuple(mirror_axes)} of a network with {dims} spatial axes")
    axes = [axis + 2 for axis in sorted(set(mirror_axes))]
    return [chosen for n in range(len(axes) + 1) for chosen in itertools.combinations(axes, n)]


def _activation(averaging: Averaging, regions: bool) -> Callable[[torch.Tensor], torch.Tensor] | None:
    if averaging == "logits":
        return None
    return torch.sigmoid if regions else lambda logits: torch.softmax(logits, dim=1)


def _padded(image: torch.Tensor, grid: Grid) -> torch.Tensor:
    """The image with zeros around it where it is smaller than a tile."""
    if not any(below or above for below, above in grid.padding):
        return image
    return functional.pad(image, [n for pair in reversed(grid.padding) for n in pair])


def _batches(
    image: torch.Tensor, grid: Grid, device: torch.device, squeeze: bool
) -> Iterator[tuple[list[tuple[slice, ...]], torch.Tensor, tuple[float, ...] | None]]:
    """Regions, their batch (b, c, *tile) on the device, and the constant if it is one of constant tiles."""
    most = max(1, _BATCH_VOXELS.get(device.type, 0) // math.prod(grid.tile))
    waiting: list[tuple[slice, ...]] = []

    def stack(regions: Sequence[tuple[slice, ...]]) -> torch.Tensor:
        tiles = torch.stack([image[(slice(None), *region)] for region in regions])
        return (tiles.squeeze(2) if squeeze else tiles).to(device, torch.float32)

    for region in grid:
        constant = _constant(image[(slice(None), *region)])
        if constant is None:
            waiting.append(region)
        if waiting and (constant is not None or len(waiting) == most):
            yield waiting, stack(waiting), None
            waiting = []
        if constant is not None:
            yield [region], stack([region]), constant
    if waiting:
        yield waiting, stack(waiting), None


def _constant(tile: torch.Tensor) -> tuple[float, ...] | None:
    """The value of each channel, if each is the same everywhere in the tile."""
    first = tile[:, :1, :1, :1]
    # Nearly every tile already differs somewhere in its middle plane, which is quick to look at.
    if not bool((tile[:, tile.shape[1] // 2] == first[:, 0]).all()) or not bool((tile == first).all()):
        return None
    return tuple(first.flatten().tolist())


def _answer(
    engines: Sequence[Engine],
    batch: torch.Tensor,
    flips: Sequence[tuple[int, ...]],
    activation: Callable[[torch.Tensor], torch.Tensor] | None,
) -> torch.Tensor:
    """The mean over engines and mirrored inputs, (b, k, *tile)."""
    total: torch.Tensor | None = None
    for engine in engines:
        for axes in flips:
            answer = engine.logits(torch.flip(batch, axes) if axes else batch)
            answer = answer if activation is None else activation(answer)
            answer = torch.flip(answer, axes) if axes else answer
            total = answer.clone() if total is None else total.add_(answer)
    assert total is not None
    return total.div_(len(engines) * len(flips))


class _Joined:
    """The weighted mean of the answers to all tiles, summed up in `precision`."""

    def __init__(self, grid: Grid, precision: torch.dtype) -> None:
        self._grid = grid
        self._precision = precision
        self._scores: torch.Tensor | None = None
        self._weights = self._totals = torch.empty(0)

    def add(self, regions: Sequence[tuple[slice, ...]], answers: torch.Tensor) -> None:
        """Take in the answers (b, k, *tile) to the tiles at `regions`."""
        if len(self._grid) == 1 and self._precision == torch.float32:
            self._scores = answers[0]
            return
        if self._scores is None:
            self._allocate(answers.shape[1], answers.device)
        assert self._scores is not None
        for region, answer in zip(regions, answers.to(self._scores.device), strict=True):
            if self._precision == torch.float32:
                self._scores[(slice(None), *region)].addcmul_(answer, self._weights)
            else:  # products in single precision, sums in half
                self._scores[(slice(None), *region)] += answer * self._weights
                self._totals[region] += self._weights

    def _allocate(self, channels: int, device: torch.device) -> None:
        shape = (channels, *(totals.size for totals in self._grid.axis_totals()))
        if device.type == "cuda" and 4 * math.prod(shape) > _SCORES_SHARE * torch.cuda.mem_get_info(device)[0]:
            device = torch.device("cpu")
        self._scores = torch.zeros(shape, dtype=self._precision, device=device)
        self._weights = torch.from_numpy(gaussian_weights(self._grid.tile)).to(device, self._precision)
        if self._precision != torch.float32:
            self._weights[self._weights == 0] = self._weights[self._weights > 0].min()
            self._totals = torch.zeros(shape[1:], dtype=self._precision, device=device)

    def result(self) -> torch.Tensor:
        """The mean, cut to the image."""
        assert self._scores is not None
        scores = self._scores
        if self._precision != torch.float32:
            scores /= self._totals
        elif len(self._grid) > 1:
            # Tiles lie on a grid, so that the sum of their weights in space is a product of sums along the axes.
            for axis, totals in enumerate(self._grid.axis_totals(), start=1):
                shape = [1] * 4
                shape[axis] = -1
                scores /= torch.from_numpy(totals).float().to(scores.device).reshape(shape)
            scores /= PEAK
        return scores[(slice(None), *self._grid.inside)]
