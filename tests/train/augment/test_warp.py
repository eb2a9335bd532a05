"""Image and mask at warped positions, against SciPy and against the arg-max over one-hot maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from bts_auto.train.augment import warp as module
from bts_auto.train.augment.warp import warp


def grid_positions(matrix: np.ndarray, start: np.ndarray, shape: tuple[int, ...]):
    """Positions ``matrix @ o + start`` as arrays, and as the callable that `warp` takes."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"))
    at = np.tensordot(matrix, index, 1) + start.reshape(-1, *[1] * len(shape))

    def positions(first: int, last: int) -> list[torch.Tensor]:
        return [torch.from_numpy(one[first:last]).float() for one in at]

    return at, positions


def turn(angle: float, dims: int) -> np.ndarray:
    matrix = np.eye(dims)
    matrix[-2:, -2:] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    if dims == 3:
        other = np.array([[np.cos(0.2), 0, -np.sin(0.2)], [0, 1, 0], [np.sin(0.2), 0, np.cos(0.2)]])
        matrix = other @ matrix
    return matrix * 0.9


def blobs(shape: tuple[int, ...], labels: int) -> np.ndarray:
    rng = np.random.default_rng(2)
    scores = rng.standard_normal((labels, *shape))
    return np.argmax([ndimage.gaussian_filter(score, 2) for score in scores], 0).astype(np.int16)


CASES = [((30, 32, 34), (16, 18, 20)), ((30, 34), (16, 20))]


@pytest.mark.parametrize(("source", "target"), CASES)
def test_image_equals_linear_interpolation_of_scipy(source: tuple[int, ...], target: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).standard_normal((2, *source)).astype(np.float32)
    start = np.array([6.3, 8.1, 7.7])[-len(source) :]
    at, positions = grid_positions(turn(0.3, len(source)), start, target)
    out, _ = warp(torch.from_numpy(image), torch.zeros((0, *source), dtype=torch.int16), positions, target)
    for channel in range(2):
        expected = ndimage.map_coordinates(image[channel], at, order=1)
        np.testing.assert_allclose(out[channel], expected, atol=5e-5)


@pytest.mark.parametrize("labels", [2, 5, 40])
@pytest.mark.parametrize(("source", "target"), CASES)
def test_mask_is_the_argmax_of_interpolated_one_hot_maps(
    source: tuple[int, ...], target: tuple[int, ...], labels: int
) -> None:
    mask = blobs(source, labels)
    start = np.array([6.3, 8.1, 7.7])[-len(source) :]
    at, positions = grid_positions(turn(0.3, len(source)), start, target)
    _, out = warp(torch.zeros((1, *source)), torch.from_numpy(mask)[None], positions, target)
    present = np.unique(mask)
    scores = np.stack([ndimage.map_coordinates((mask == v).astype(float), at, order=1) for v in present])
    ranked = np.sort(scores, 0)
    clear = ranked[-1] - ranked[-2] > 1e-3  # where two labels tie either is right
    assert clear.mean() > 0.98
    assert np.array_equal(out[0].numpy()[clear], present[scores.argmax(0)][clear])


def test_ties_go_to_the_nearest_voxel() -> None:
    mask = torch.tensor([[[1, 2], [2, 1]]], dtype=torch.int16)

    def positions(first: int, last: int) -> list[torch.Tensor]:
        return [torch.tensor([[0.4]]), torch.tensor([[0.5]])]

    # The rows weigh 0.6 and 0.4, the columns are level: 1 and 2 have half of the weight each.
    _, out = warp(torch.zeros((1, 2, 2)), mask, positions, (1, 1))
    assert out.item() == mask[0, 0, 0].item()


def test_identity_changes_nothing() -> None:
    image, mask = torch.randn((3, 9, 10, 11)), torch.randint(-1, 4, (1, 9, 10, 11), dtype=torch.int16)
    _, positions = grid_positions(np.eye(3), np.zeros(3), (8, 9, 10))
    out, out_mask = warp(image, mask, positions, (8, 9, 10))
    assert torch.equal(out, image[:, :-1, :-1, :-1])
    assert torch.equal(out_mask, mask[:, :-1, :-1, :-1])


def test_slabs_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    image, mask = torch.randn((2, 20, 20, 20)), torch.from_numpy(blobs((20, 20, 20), 4))[None]
    _, positions = grid_positions(turn(0.2, 3), np.array([4.0, 4.0, 4.0]), (12, 12, 12))
    whole = warp(image, mask, positions, (12, 12, 12))
    monkeypatch.setattr(module, "_SLAB", 300)
    in_slabs = warp(image, mask, positions, (12, 12, 12))
    assert torch.equal(whole[0], in_slabs[0])
    assert torch.equal(whole[1], in_slabs[1])


def test_positions_outside_take_the_margin() -> None:
    image, mask = torch.zeros((1, 8, 8)), torch.full((1, 8, 8), -1, dtype=torch.int16)
    image[:, 2:-2, 2:-2], mask[:, 2:-2, 2:-2] = 5.0, 3
    _, positions = grid_positions(np.eye(2), np.array([-20.0, 0.0]), (4, 7))
    out, out_mask = warp(image, mask, positions, (4, 7))
    assert (out == 0).all()
    assert (out_mask == -1).all()
