"""Batches for training, prepared ahead by threads; the same numbers with any number of them.

Each sample is a pure function of (seed, step, index), so that workers need no order, no state and no seeds of their
own, and a resumed run simply starts at a later step. Workers are threads: all heavy work happens inside torch and
blosc2, which let go of Python's lock; no array is copied between processes, and nothing is lost with a dead one.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch

from bts_auto.data.labels import Labels
from bts_auto.data.partial import Annotated
from bts_auto.errors import BtsError, DataError
from bts_auto.events import SILENT, Observer
from bts_auto.plan.schema import SegmentationConfiguration
from bts_auto.preprocess.store import CaseStore, StoredCase
from bts_auto.train.augment.defaults import default_augmentation
from bts_auto.train.augment.intensities import CaseIntensities
from bts_auto.train.augment.pipeline import Augmentation, Draw
from bts_auto.train.maps import MapMaker
from bts_auto.train.sampler import CaseInfo, Position, draw_sample

_OPEN_CASES = 16  # kept open by each worker: a file handle and the voxel lists (about 1 MB) each
_STALLED_S = 120.0  # a worker that has been reading for so long is reported


@dataclass(frozen=True)
class Batch:
    """One step's samples.

    Attributes
    ----------
    image : Tensor of float32, shape (b, c, \\*s)
        With a previous stage its labels follow the image channels, one-hot.
    mask : Tensor of int16, shape (b, 1, \\*s)
        Labels; the ignore label where there is no annotation, 0 outside the volume.
    cases : tuple of str
        The case of each sample.
    step : int
        Which batch of the run this is.
    annotated : tuple
        The labels and regions that each sample is annotated for, None for all of them; empty: all samples in full.
    maps : mapping of str to Tensor, shape (b, m, \\*s)
        Maps of the truth that the plan's losses ask for (:mod:`bts_auto.losses.maps`).
    """

    image: torch.Tensor
    mask: torch.Tensor
    cases: tuple[str, ...]
    step: int
    annotated: tuple[Annotated, ...] = ()
    maps: Mapping[str, torch.Tensor] = field(default_factory=dict)


class PreviousMasks(Protocol):
    """Masks of an earlier stage on the grid of the stored cases."""

    def read(self, case: str, box: Sequence[tuple[int, int]]) -> np.ndarray:
        """Part of a case's mask, int16; -1 outside the volume."""


@dataclass(frozen=True)
class _Planned:
    """Everything about a sample that is known before its case is read."""

    position: Position
    draw: Draw | None
    box: list[tuple[int, int]]
    offset: tuple[int, ...]
    annotated: Annotated


class _OpenCases(threading.local):
    """The cases last used by a thread; arrays that are read lazily are not shared between threads."""

    def __init__(self, store: CaseStore) -> None:
        self.store = store
        self.opened: OrderedDict[str, StoredCase] = OrderedDict()

    def __call__(self, case: str) -> StoredCase:
        if case not in self.opened:
            self.opened[case] = self.store.open(case)
            if len(self.opened) > _OPEN_CASES:
                self.opened.popitem(last=False)
        self.opened.move_to_end(case)
        return self.opened[case]


class _Cases(Sequence[CaseInfo]):
    """The sampler's view of the cases; opens a case when it is drawn."""

    def __init__(self, names: Sequence[str], opened: _OpenCases) -> None:
        self.names, self.opened = tuple(names), opened

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index):
        stored = self.opened(self.names[index])
        return CaseInfo(self.names[index], stored.shape[1:], stored.foreground)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread here: sums over many voxels depend on how they are split among threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class BatchLoader(Iterator[Batch]):
    """An endless iterator of batches.

    Parameters
    ----------
    store : CaseStore
        Where the prepared cases lie.
    cases : sequence of str
        Those to draw from; their order matters.
    configuration : SegmentationConfiguration
        Patch, batch, oversampling and augmentation.
    labels : Labels
        The dataset's labels.
    seed : int
        Not negative.
    workers : int
        Threads that prepare samples ahead; 0: each batch is prepared when it is asked for.
    augment : bool
        Whether samples are augmented, by ``configuration.training.augmentation`` or else the default list.
    share : sequence of int, optional
        Which samples of each batch are prepared, where other processes take the others.
    start_step : int
        The first batch.
    device : torch.device, optional
        Augment there instead of in the workers, which then only read; the batches lie on that device.
    previous : PreviousMasks, optional
        Masks of the previous stage; they become one-hot channels.
    weights : sequence of float, optional
        How often each case is drawn, relative to the others.
    memory_gb : float
        Bounds what is prepared ahead.
    pin_memory : bool
        Put batches into page-locked memory, from which a GPU can copy on its own.
    observer : Observer
        Hears of a worker that does not come back.

    Attributes
    ----------
    waited : float
        Seconds that the caller has waited for batches in all.

    Raises
    ------
    DataError
        In construction, without cases; in iteration, when a sample cannot be prepared (with its case and the cause).
    """

    def __init__(
        self,
        store: CaseStore,
        cases: Sequence[str],
        configuration: SegmentationConfiguration,
        labels: Labels,
        seed: int,
        *,
        workers: int = 0,
        augment: bool = True,
        share: Sequence[int] | None = None,
        start_step: int = 0,
        device: torch.device | None = None,
        previous: PreviousMasks | None = None,
        weights: Sequence[float] | None = None,
        memory_gb: float = 2.0,
        pin_memory: bool = False,
        observer: Observer = SILENT,
    ) -> None:
        if not cases:
            raise DataError("there are no cases to draw from", where=store.folder)
        self.waited = 0.0
        self._store, self._configuration, self._seed = store, configuration, seed
        self._labels, self._previous, self._weights = labels, previous, weights
        self._previous_labels = tuple(v for v in labels.known_values if v) if previous is not None else ()
        self._share = range(configuration.batch_size) if share is None else share
        self._opened = _OpenCases(store)
        self._cases = _Cases(cases, self._opened)
        self._channels = self._cases.opened(cases[0]).shape[0]
        self._augmentation = self._build_augmentation() if augment else None
        self._make_maps = MapMaker(configuration, labels)
        self._device, self._pin_memory, self._observer = device, pin_memory, observer
        self._step = start_step
        self._pool = ThreadPoolExecutor(workers, "loader", lambda: torch.set_num_threads(1)) if workers else None
        self._ahead = self._batches_ahead(workers, memory_gb)
        self._waiting: deque[tuple[int, list[Future]]] = deque()

    def __next__(self) -> Batch:
        start = time.perf_counter()
        try:
            samples = self._collect() if self._pool is not None else self._prepare_all(self._step)
            batch = self._assemble(self._step, samples)
        finally:
            self.waited += time.perf_counter() - start
        self._step += 1
        return batch

    def close(self) -> None:
        """Stop the workers; samples that they have begun are finished and dropped."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._waiting.clear()

    def __enter__(self) -> BatchLoader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- before the first batch

    def _build_augmentation(self) -> Augmentation:
        configuration = self._configuration
        components = configuration.training.augmentation
        if components is None:
            components = default_augmentation(
                configuration.patch_size,
                configuration.dims,
                configuration.inference.mirror_axes,
                mask_channels=[channel for channel, used in enumerate(configuration.use_mask_for_norm) if used],
                previous_labels=self._previous_labels,
            )
        components = (*components, *configuration.training.more_augmentation)
        intensities = CaseIntensities(self._cases.names, self._opened)
        return Augmentation(components, configuration.patch_size, channels=self._channels, intensities=intensities)

    def _batches_ahead(self, workers: int, memory_gb: float) -> int:
        configuration = self._configuration
        voxels = int(np.prod(configuration.patch_size)) * len(self._share)
        # A warped sample is read from a box of about 3 times its size.
        size = voxels * (4 * self._channels + 2) * (3 if self._device is not None else 1)
        return max(1, min(workers + 1, int(memory_gb * 1e9 / size)))

    # -- one sample, in whichever thread

    def _plan(self, step: int, index: int) -> _Planned:
        configuration = self._configuration
        position = draw_sample(
            self._seed,
            step,
            index,
            self._cases,
            configuration.batch_size,
            configuration.training.oversample_foreground,
            configuration.patch_size,
            has_ignore=self._labels.ignore is not None,
            weights=self._weights,
        )
        annotated = self._opened(position.case).annotated_labels
        if self._augmentation is None:
            return _Planned(position, None, position.box, (0,) * configuration.dims, annotated)
        draw = self._augmentation.draw(self._seed, step, index, position.case)
        lead = 3 - configuration.dims
        box = draw.read_box(position.lower[lead:], self._opened(position.case).shape[1 + lead :])
        offset = tuple(first - at for (first, _), at in zip(box, position.lower[lead:], strict=True))
        return _Planned(position, draw, position.box[:lead] + box, offset, annotated)

    def _read(self, planned: _Planned) -> tuple[torch.Tensor, torch.Tensor]:
        """Image (c, \\*box) and masks (m, \\*box), the second being the previous stage's."""
        case = planned.position.case
        image, mask = self._opened(case).read(planned.box)
        masks = [mask] if self._previous is None else [mask, self._previous.read(case, planned.box)]
        both = torch.from_numpy(np.ascontiguousarray(image)), torch.from_numpy(np.stack(masks))
        if self._configuration.dims == 2:
            return both[0][:, 0], both[1][:, 0]
        return both

    def _prepare(self, step: int, index: int) -> _Sample:
        case = "unknown case"
        try:
            planned = self._plan(step, index)
            case = planned.position.case
            image, mask = self._read(planned)
            if self._device is not None:
                return self._sent(_Sample(planned, image, mask, {}))
            if self._augmentation is not None and planned.draw is not None:
                image, mask = self._augmentation.apply(planned.draw, image, mask, planned.offset)
            return self._finish(_Sample(planned, image, mask, {}))
        except BtsError:
            raise
        except Exception as error:
            raise DataError(
                f"sample {index} of step {step} could not be prepared ({type(error).__name__}: {error})", where=case
            ) from error

    def _finish(self, sample: _Sample) -> _Sample:
        """After augmentation: outside the volume is background, the previous mask becomes channels, maps are made."""
        planned, image, mask = sample.planned, sample.image, sample.mask
        mask = mask.clamp_(min=0)
        if self._previous is not None:
            one_hot = [(mask[1] == label).to(image.dtype) for label in self._previous_labels]
            image, mask = torch.cat([image, torch.stack(one_hot)]), mask[:1]
        maps = self._make_maps(mask[None].cpu(), (planned.annotated,))
        return _Sample(planned, image, mask, {name: made[0].to(mask.device) for name, made in maps.items()})

    def _sent(self, sample: _Sample) -> _Sample:
        """Ready to be copied to the device while it computes."""
        if not self._pin_memory:
            return sample
        return replace(sample, image=sample.image.pin_memory(), mask=sample.mask.pin_memory())

    # -- one batch, in the caller's thread

    def _augmented(self, samples: list[_Sample]) -> list[_Sample]:
        """All samples, augmented together on the device."""
        images = [sample.image.to(self._device, non_blocking=True) for sample in samples]
        masks = [sample.mask.to(self._device, non_blocking=True) for sample in samples]
        draws = [sample.planned.draw for sample in samples if sample.planned.draw is not None]
        if self._augmentation is not None and draws:
            offsets = [sample.planned.offset for sample in samples]
            made = self._augmentation.apply_batch(draws, images, masks, offsets)
            images, masks = list(made[0]), list(made[1])
        return [replace(s, image=i, mask=m) for s, i, m in zip(samples, images, masks, strict=True)]

    def _prepare_all(self, step: int) -> list[_Sample]:
        with one_thread():
            return [self._prepare(step, index) for index in self._share]

    def _collect(self) -> list[_Sample]:
        assert self._pool is not None
        while len(self._waiting) < self._ahead:
            step = self._step + len(self._waiting)
            self._waiting.append((step, [self._pool.submit(self._prepare, step, index) for index in self._share]))
        step, futures = self._waiting.popleft()
        try:
            return [self._result(future, step) for future in futures]
        except BaseException:
            self.close()
            raise

    def _result(self, future: Future, step: int) -> _Sample:
        waited = 0.0
        while True:
            try:
                return future.result(timeout=_STALLED_S)
            except FutureTimeout:
                if future.done():  # the sample itself timed out, not the waiting for it
                    raise
                waited += _STALLED_S
                self._observer.warn(f"step {step}: a sample is being read for {waited:.0f} s; is the disk reachable?")

    def _assemble(self, step: int, samples: list[_Sample]) -> Batch:
        cases = tuple(sample.planned.position.case for sample in samples)
        if self._device is not None:
            samples = [self._finish(sample) for sample in self._augmented(samples)]
        image, mask = torch.stack([s.image for s in samples]), torch.stack([s.mask for s in samples])
        maps = {name: torch.stack([s.maps[name] for s in samples]) for name in samples[0].maps}
        if self._pin_memory and self._device is None:
            image, mask = image.pin_memory(), mask.pin_memory()
            maps = {name: one.pin_memory() for name, one in maps.items()}
        annotated = tuple(sample.planned.annotated for sample in samples)
        return Batch(image, mask, cases, step, annotated if any(annotated) else (), maps)


@dataclass(frozen=True)
class _Sample:
    planned: _Planned
    image: torch.Tensor
    mask: torch.Tensor
    maps: Mapping[str, torch.Tensor]
