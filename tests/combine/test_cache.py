"""The 8-bit cache of probabilities, and finding probabilities beside masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bts_auto.combine.cache import CACHE_ENDING, CachedProbabilities, write_cache
from bts_auto.combine.saved import find_probabilities, probabilities_exist, probability_images
from bts_auto.data.labels import Labels
from bts_auto.data.readers import write_map
from bts_auto.data.volume import Geometry
from bts_auto.errors import DataError

SHAPE = (21, 12, 14)
BOX = (slice(2, 20), slice(1, 11), slice(3, 13))
PLAIN = Labels.from_dataset({"labels": {"background": 0, "edema": 2, "necrosis": 1}})
REGIONS = Labels.from_dataset(
    {"labels": {"background": 0, "whole": [1, 2], "core": [2]}, "regions_class_order": [1, 2]}
)


def _probabilities(labels: Labels) -> np.ndarray:
    generator = np.random.default_rng(0)
    raw = generator.random((len(labels.outputs), *(s.stop - s.start for s in BOX))) ** 4
    raw[:, :3] = 0
    if labels.has_regions:
        return raw.astype(np.float32)
    raw[0, :3] = 1
    return (raw / raw.sum(axis=0)).astype(np.float32)


def _write(path: Path, labels: Labels) -> np.ndarray:
    probabilities = _probabilities(labels)
    write_cache(path, iter(probabilities), outputs=labels.outputs, box=BOX, shape=SHAPE)
    return probabilities


@pytest.mark.parametrize("labels", [PLAIN, REGIONS], ids=["labels", "regions"])
def test_the_error_of_a_probability_is_at_most_half_a_step(tmp_path: Path, labels: Labels) -> None:
    written = _write(tmp_path / "case.b2nd", labels)
    found = CachedProbabilities(tmp_path / "case.b2nd").read()
    assert np.abs(found - written).max() <= 1 / 510 + 1e-6


def test_few_voxels_change_their_label(tmp_path: Path) -> None:
    written = _write(tmp_path / "case.b2nd", PLAIN)
    found = CachedProbabilities(tmp_path / "case.b2nd").read()
    close = np.sort(written, axis=0)
    changed = PLAIN.decode(found) != PLAIN.decode(written)
    assert (close[-1] - close[-2])[changed].max(initial=0) <= 2 / 510 + 1e-6


@pytest.mark.parametrize("labels", [PLAIN, REGIONS], ids=["labels", "regions"])
def test_any_box_is_read_with_background_outside(tmp_path: Path, labels: Labels) -> None:
    _write(tmp_path / "case.b2nd", labels)
    cached = CachedProbabilities(tmp_path / "case.b2nd")
    whole = np.zeros((len(labels.outputs), *SHAPE), np.float32)
    if not labels.has_regions:
        whole[0] = 1
    whole[(slice(None), *BOX)] = cached.read()
    for box in [tuple(slice(0, n) for n in SHAPE), (slice(0, 5), slice(3, 4), slice(8, 14)), (slice(0, 1),) * 3]:
        np.testing.assert_array_equal(cached.read_box(box), whole[(slice(None), *box)])


def test_the_active_box_holds_all_foreground(tmp_path: Path) -> None:
    _write(tmp_path / "case.b2nd", PLAIN)
    cached = CachedProbabilities(tmp_path / "case.b2nd")
    assert cached.active[0] == slice(5, 20)  # the first three planes of the box are certain background
    outside = cached.read_box(tuple(slice(0, n) for n in SHAPE))[1:]
    outside[(slice(None), *cached.active)] = 0
    assert not outside.any()


def test_a_wrong_number_of_channels_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="zip"):
        write_cache(tmp_path / "c.b2nd", iter(_probabilities(PLAIN)[:2]), outputs=PLAIN.outputs, box=BOX, shape=SHAPE)
    assert not list(tmp_path.iterdir())


def test_a_damaged_cache_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "case.b2nd").write_bytes(b"nonsense")
    with pytest.raises(DataError, match="cannot be read as cached probabilities"):
        CachedProbabilities(tmp_path / "case.b2nd")


def test_a_damaged_block_is_one_clear_line_that_names_the_mend(tmp_path: Path) -> None:
    path = tmp_path / "case.b2nd"
    noise = np.random.default_rng(0).random((3, *SHAPE)).round()
    write_cache(path, noise, outputs=PLAIN.outputs, box=tuple(slice(0, n) for n in SHAPE), shape=SHAPE)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle - 200 : middle + 200] = b"\xff" * 400
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"is damaged .* bts_train CONFIG FOLD --val"):
        CachedProbabilities(path).check()


def test_a_cache_of_other_labels_is_refused(tmp_path: Path) -> None:
    _write(tmp_path / f"case{CACHE_ENDING}", REGIONS)
    with pytest.raises(DataError, match="whole, core"):
        find_probabilities(tmp_path, "case", PLAIN)


def test_nothing_there_is_none(tmp_path: Path) -> None:
    assert find_probabilities(tmp_path, "case", PLAIN) is None
    assert not probabilities_exist(tmp_path, "case", PLAIN)


@pytest.mark.parametrize("labels", [PLAIN, REGIONS], ids=["labels", "regions"])
def test_images_of_each_output_are_found(tmp_path: Path, labels: Labels) -> None:
    probabilities = _probabilities(labels)
    size = probabilities.shape[1:]
    for path, channel in zip(probability_images(tmp_path, "case", labels), probabilities, strict=True):
        write_map(path, channel, Geometry(size, (1.0, 1.0, 1.0)))
    source = find_probabilities(tmp_path, "case", labels)
    assert source is not None
    found = source.read([slice(0, n) for n in size])
    np.testing.assert_allclose(found, probabilities, atol=1e-3)


def test_nnunet_arrays_are_sorted_by_label(tmp_path: Path) -> None:
    by_value = np.stack([np.full((2, 3, 4), p, np.float32) for p in (0.5, 0.125, 0.375)])  # labels 0, 1, 2
    np.savez_compressed(tmp_path / "case.npz", probabilities=by_value)
    source = find_probabilities(tmp_path, "case", PLAIN)
    assert source is not None
    found = source.read([slice(0, 2), slice(0, 3), slice(0, 4)])[:, 0, 0, 0]
    assert dict(zip(PLAIN.outputs, found.tolist(), strict=True)) == {
        "background": 0.5,
        "necrosis": 0.125,
        "edema": 0.375,
    }


def test_an_npz_without_probabilities_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "case.npz", softmax=np.zeros(3))
    with pytest.raises(DataError, match="probabilities"):
        find_probabilities(tmp_path, "case", PLAIN)


def _like_a_network(size: tuple[int, int, int]) -> list[np.ndarray]:
    """Four labels and background of a glioma: soft borders, and faint doubt in blobs all over the head."""
    random = np.random.default_rng(0)

    def doubt() -> np.ndarray:
        coarse = random.standard_normal([n // 6 + 2 for n in size]).astype(np.float32)
        grids = [np.arange(n, dtype=np.float32) / 6 for n in size]
        for axis, at in enumerate(grids):
            low = np.floor(at).astype(int)
            share = (at - low).reshape([-1 if a == axis else 1 for a in range(3)])
            coarse = coarse.take(low, axis) * (1 - share) + coarse.take(low + 1, axis) * share
        return coarse * 3  # half of what interpolation leaves is above or below 1.5 in the logit

    centre = [0.55 * n for n in size]
    distance = np.sqrt(sum((g - c) ** 2 for g, c in zip(np.ogrid[tuple(map(slice, size))], centre, strict=True)))
    inside = [1 / (1 + np.exp(np.clip(0.8 * (distance.astype(np.float32) - r), -9, 7) + doubt())) for r in (36, 24, 16)]
    whole, core, centre_of_core = inside[0], inside[0] * inside[1], inside[0] * inside[1] * inside[2]
    ring = core - centre_of_core
    return [1 - whole, centre_of_core, whole - core, 0.2 * ring, 0.8 * ring]


def test_a_case_of_brats_size_takes_less_than_6_mb(tmp_path: Path) -> None:
    size = (140, 172, 138)  # the non-zero box of a patient at 1 mm
    box = tuple(slice(8, 8 + n) for n in size)
    outputs = ("background", "necrosis", "edema", "non-enhancing", "enhancing")
    path = tmp_path / f"case{CACHE_ENDING}"
    channels = _like_a_network(size)
    write_cache(path, channels, outputs=outputs, box=box, shape=(155, 240, 240))
    assert path.stat().st_size < 6e6
    slab = CachedProbabilities(path).read_box((slice(68, 78), *box[1:]))
    np.testing.assert_allclose(slab, [one[60:70] for one in channels], atol=1 / 510 + 1e-6)
