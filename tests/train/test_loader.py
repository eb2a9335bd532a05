"""Batches: the same numbers with any number of workers and from any step, and failures with their case."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from bts_auto.data.labels import Labels
from bts_auto.data.raw import RawDataset
from bts_auto.errors import DataError
from bts_auto.events import Observer
from bts_auto.losses.maps import signed_distance
from bts_auto.losses.target import Target
from bts_auto.preprocess.dataset import preprocess_dataset, store_folder
from bts_auto.preprocess.store import CaseStore
from bts_auto.train import loader as loader_module
from bts_auto.train.loader import Batch, BatchLoader
from tests.preprocess.helpers import make_plan
from tests.train.memory_store import TUMOUR, MemoryCase, MemoryStore, make_configuration, make_store


def batches(n: int, configuration=None, store=None, **options) -> list[Batch]:
    store = store or make_store()
    with BatchLoader(store, store.cases(), configuration or make_configuration(), TUMOUR, 3, **options) as loader:
        return list(itertools.islice(loader, n))


def assert_equal(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert (a.step, a.cases) == (b.step, b.cases)
        assert torch.equal(a.image, b.image)
        assert torch.equal(a.mask, b.mask)


@pytest.mark.parametrize("patch_size", [(16, 16, 16), (16, 20), (4, 20, 20)])
def test_batches_have_the_shapes_that_a_network_takes(patch_size: tuple[int, ...]) -> None:
    batch = batches(1, make_configuration(patch_size))[0]
    assert batch.image.shape == (2, 2, *patch_size)
    assert batch.mask.shape == (2, 1, *patch_size)
    assert (batch.image.dtype, batch.mask.dtype) == (torch.float32, torch.int16)
    assert batch.image.is_contiguous()


@pytest.mark.parametrize("patch_size", [(16, 16, 16), (16, 20)])
@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_no_bit(patch_size: tuple[int, ...], workers: int) -> None:
    configuration = make_configuration(patch_size)
    assert_equal(batches(8, configuration), batches(8, configuration, workers=workers))


def test_number_of_threads_changes_no_bit() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        two = batches(4, make_configuration((24, 24, 24)))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert_equal(two, batches(4, make_configuration((24, 24, 24))))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_later_start_continues_the_same_sequence(workers: int) -> None:
    assert_equal(batches(8)[5:], batches(3, start_step=5, workers=workers))


def test_the_global_generators_are_left_alone() -> None:
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    batches(3)
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002


def test_without_augmentation_patches_are_the_stored_voxels() -> None:
    store = make_store()
    for batch in batches(5, store=store, augment=False):
        for image, case in zip(batch.image, batch.cases, strict=True):
            stored = store.open(case).image
            inside = image[0][image[0] != 0].numpy()
            assert np.isin(inside, stored[0]).all()


def test_outside_of_the_volume_is_background() -> None:
    for batch in batches(4, make_configuration((40, 40, 40))):
        assert batch.mask.min() == 0
        assert set(batch.mask.unique().tolist()) <= {0, 1, 2}


def test_forced_samples_hold_foreground() -> None:
    for batch in batches(6, augment=False):
        if batch.cases[1] != "case_2":
            assert (batch.mask[1] > 0).any()


def test_ignore_label_survives() -> None:
    mask = np.full((20, 20, 20), 3)
    mask[:, :10] = 0
    store = MemoryStore([MemoryCase("partly", np.ones((2, 20, 20, 20)), mask, {"annotated": np.array([[10, 9, 10]])})])
    labels = Labels({"background": (0,), "a": (1,), "b": (2,)}, ignore=3)
    with BatchLoader(store, ["partly"], make_configuration(), labels, 0) as loader:
        assert set(next(loader).mask.unique().tolist()) == {0, 3}


class Previous:
    """The first stage found label 2 everywhere."""

    def read(self, case: str, box: list[tuple[int, int]]) -> np.ndarray:
        return np.full([last - first for first, last in box], 2, dtype=np.int16)


@pytest.mark.parametrize("patch_size", [(16, 16, 16), (16, 20)])
def test_previous_masks_become_channels(patch_size: tuple[int, ...]) -> None:
    batch = batches(1, make_configuration(patch_size), previous=Previous(), augment=False)[0]
    assert batch.image.shape == (2, 4, *patch_size)
    assert (batch.image[:, 2] == 0).all()
    assert (batch.image[:, 3] == 1).all()
    assert batch.mask.shape == (2, 1, *patch_size)


def test_augmentation_of_previous_masks_changes_them() -> None:
    ball = make_store().open("case_0").mask

    class Ball:
        def read(self, case: str, box: list[tuple[int, int]]) -> np.ndarray:
            return MemoryCase(case, ball[None], ball).read(box)[1]

    store = MemoryStore([make_store().open("case_0")])
    spared = [{"name": "mirror", "options": {"axes": (0, 1, 2)}}]
    changed = [*spared, {"name": "previous_morphology", "options": {"labels": (1, 2), "probability": 1}}]
    plain, other = (
        batches(4, make_configuration(training={"augmentation": names}), store, previous=Ball())
        for names in (spared, changed)
    )
    assert all(torch.equal(a.mask, b.mask) for a, b in zip(plain, other, strict=True))
    assert any(not torch.equal(a.image[:, 2:], b.image[:, 2:]) for a, b in zip(plain, other, strict=True))


def test_augmenting_whole_batches_on_the_device_gives_the_same_to_rounding() -> None:
    for mine, theirs in zip(batches(4), batches(4, device=torch.device("cpu"), workers=1), strict=True):
        torch.testing.assert_close(theirs.image, mine.image, rtol=1e-4, atol=2e-4)
        assert torch.equal(theirs.mask, mine.mask)
        assert theirs.cases == mine.cases


@pytest.mark.parametrize("name", ["2d", "3d_fullres"])
def test_batches_of_a_store_on_disk(raw_dataset: Path, tmp_path: Path, name: str) -> None:
    plan = make_plan()
    folder = tmp_path / "preprocessed"
    assert preprocess_dataset(RawDataset.open(raw_dataset), plan, [name], folder, workers=0) == []
    store, configuration = CaseStore(store_folder(folder, plan, name)), plan.configuration(name)

    def run(**options: int) -> list[Batch]:
        with BatchLoader(store, store.cases(), configuration, plan.label_set(), 1, **options) as loader:
            return list(itertools.islice(loader, 3))

    one = run()
    assert_equal(one, run(workers=2))
    assert one[0].image.shape == (2, 2, *configuration.patch_size)
    assert all((batch.mask[1] > 0).any() for batch in one)


class Broken(MemoryCase):
    """A case whose data cannot be read."""

    def read(self, box):  # type: ignore[no-untyped-def]
        raise OSError("input/output error")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sample_that_fails_is_reported_with_case_and_cause(workers: int) -> None:
    store = MemoryStore([Broken("bad_case", np.zeros((2, 20, 20, 20)), np.ones((20, 20, 20)))])
    with pytest.raises(DataError, match=r"bad_case: sample 0 of step 0 .*OSError: input/output error"):
        batches(1, store=store, workers=workers)


def test_no_cases_is_an_error() -> None:
    with pytest.raises(DataError, match="no cases"):
        BatchLoader(make_store(), [], make_configuration(), TUMOUR, 0)


class Slow(MemoryCase):
    """A case on a slow disk."""

    def read(self, box):  # type: ignore[no-untyped-def]
        import time

        time.sleep(0.1)
        return super().read(box)


def test_a_stalled_worker_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_module, "_STALLED_S", 0.02)
    store = MemoryStore([Slow("slow", np.zeros((2, 20, 20, 20)), np.ones((20, 20, 20)))])
    heard: list[str] = []

    class Ear(Observer):
        def warn(self, message: str) -> None:
            heard.append(message)

    batches(1, store=store, workers=1, observer=Ear())
    assert heard
    assert "step 0" in heard[0]


def test_waiting_is_counted() -> None:
    store = make_store()
    with BatchLoader(store, store.cases(), make_configuration(), TUMOUR, 0) as loader:
        next(loader)
        first = loader.waited
        next(loader)
        assert 0 < first < loader.waited


def test_what_is_prepared_ahead_is_bounded_by_memory() -> None:
    store = make_store()
    roomy = BatchLoader(store, store.cases(), make_configuration(), TUMOUR, 0, workers=3)
    tight = BatchLoader(store, store.cases(), make_configuration(), TUMOUR, 0, workers=3, memory_gb=1e-6)
    assert (roomy._ahead, tight._ahead) == (4, 1)
    roomy.close()
    tight.close()


def test_closing_ends_the_workers() -> None:
    import threading

    before = threading.active_count()
    batches(2, workers=3)
    assert threading.active_count() == before


def test_batches_say_what_their_cases_are_annotated_for() -> None:
    store = make_store(1)
    assert batches(1, store=store)[0].annotated == ()
    store.stored["case_0"].annotated_labels = ("edema",)
    assert batches(1, store=store)[0].annotated == (("edema",),) * 2


@pytest.mark.parametrize("device", [None, torch.device("cpu")])
def test_maps_that_losses_ask_for_fit_the_augmented_masks(device: torch.device | None) -> None:
    configuration = make_configuration(training={"loss": [{"name": "dice"}, {"name": "boundary", "weight": 0.01}]})
    (batch,) = batches(1, configuration, device=device)
    truth = Target(classes=batch.mask[:, 0].long())
    assert batch.maps.keys() == {"signed_distance"}
    assert torch.equal(batch.maps["signed_distance"], signed_distance(truth, configuration.spacing, 3))
    assert batches(1)[0].maps == {}


def test_more_augmentation_comes_after_the_usual_list() -> None:
    """All but the tumour is blanked, whatever came before; other draws stay as they are."""
    more = [{"name": "positive_mining", "options": {"probability": 1.0}}]
    usual, mined = batches(6), batches(6, make_configuration(training={"more_augmentation": more}))
    blanked = 0
    for one, other in zip(usual, mined, strict=True):
        assert torch.equal(one.mask, other.mask)
        kept = other.image != 0
        assert torch.equal(other.image[kept], one.image[kept])
        blanked += int((~kept).sum())
    assert blanked > 0


def test_intensities_of_other_cases_are_taken_with_any_number_of_workers() -> None:
    more = [{"name": "histogram_matching", "options": {"probability": 1.0}}]
    configuration = make_configuration(training={"more_augmentation": more})
    plain = batches(4, configuration)
    assert not torch.equal(plain[0].image, batches(1)[0].image)
    assert_equal(plain, batches(4, configuration, workers=3))
