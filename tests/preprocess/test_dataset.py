"""Preprocessing a dataset and doing it again."""

from __future__ import annotations

import json
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest

from bts_auto.data.raw import RawDataset
from bts_auto.errors import CaseFailure
from bts_auto.events import Observer, Task
from bts_auto.plan.schema import Plan
from bts_auto.preprocess import dataset, jobs
from bts_auto.preprocess.dataset import preprocess_dataset, store_folder
from bts_auto.preprocess.store import IMAGE, PROPERTIES, CaseStore
from tests.make_data import make_case, write_image
from tests.preprocess.helpers import STATISTICS, make_configuration, make_plan

NAMES = ["2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres"]
PLAN = make_plan()


def preprocess(raw: Path, plan: Plan = PLAN, **options: object) -> list[CaseFailure]:
    return preprocess_dataset(RawDataset.open(raw), plan, NAMES, raw.parents[1] / "out", **options)  # type: ignore[arg-type]


def store(raw: Path, name: str = "3d_fullres", plan: Plan = PLAN) -> CaseStore:
    return CaseStore(store_folder(raw.parents[1] / "out", plan, name))


def written(raw: Path) -> dict[str, int]:
    """When each stored case was made, by configuration and case."""
    return {
        f"{name}/{case}": (store(raw, name).folder / case / PROPERTIES).stat().st_mtime_ns
        for name in NAMES
        for case in store(raw, name).cases()
    }


@pytest.fixture
def aged(raw_dataset: Path) -> Path:
    """A dataset whose files are older than the time in which they might change unseen."""
    for path in raw_dataset.rglob("*.nii.gz"):
        os.utime(path, (1_600_000_000, 1_600_000_000))
    return raw_dataset


@pytest.fixture
def done(aged: Path) -> Path:
    """It, preprocessed."""
    assert preprocess(aged) == []
    return aged


@pytest.fixture
def no_work(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a case is read."""

    def unexpected(*args: object) -> None:
        raise AssertionError("a case was read again")

    monkeypatch.setattr(jobs, "_read", unexpected)


def test_every_configuration_has_every_case(done: Path) -> None:
    for name in NAMES:
        assert store(done, name).cases() == ["case_000", "case_001", "case_002", "case_003"]
    lowres = store(done, "3d_lowres").open("case_000")
    assert lowres.properties["spacing"] == [1.5, 1.5, 1.5]
    assert set(lowres.foreground) <= {1, 2, 3}


def test_equal_preprocessing_shares_a_folder_and_equal_arrays_share_files(done: Path) -> None:
    assert store(done, "3d_cascade_fullres").folder == store(done, "3d_fullres").folder
    assert len({store(done, name).folder for name in NAMES}) == 3
    files = [store(done, name).folder / "case_000" / IMAGE for name in ("2d", "3d_fullres")]
    assert files[0].samefile(files[1])


def test_other_orientations_and_recipes_are_kept_apart() -> None:
    folders = {
        store_folder("out", make_plan(**more), "3d_fullres")
        for more in ({}, {"orientation": "as_stored"}, {"transpose_forward": (1, 0, 2)})
    }
    assert len(folders) == 3
    other_patch = make_plan({"3d_fullres": make_configuration(patch_size=(4, 4, 4))})
    key = store_folder("out", PLAN, "3d_fullres").name.split("-")[-1]
    assert store_folder("out", other_patch, "3d_fullres").name == f"3d_fullres-{key}"


@pytest.mark.usefixtures("no_work")
def test_a_second_run_reads_nothing(done: Path) -> None:
    before = written(done)
    assert preprocess(done) == []
    assert written(done) == before


@pytest.mark.usefixtures("no_work")
def test_a_copy_with_new_time_stamps_is_hashed_not_read(done: Path) -> None:
    for path in done.rglob("*.nii.gz"):
        os.utime(path)
    (done.parents[1] / "out" / dataset.HASHES).unlink()
    assert preprocess(done) == []


def test_only_the_changed_case_is_redone(done: Path) -> None:
    before = written(done)
    image, mask = make_case(seed=77)
    write_image(done / "labelsTr" / "case_001.nii.gz", mask)
    write_image(done / "imagesTr" / "case_001_0000.nii.gz", image[0])
    assert preprocess(done) == []
    changed = {name for name, time in written(done).items() if before.get(name) != time}
    assert changed == {f"{name}/case_001" for name in NAMES}


def test_a_case_that_turns_out_to_be_annotated_in_part_is_redone(done: Path) -> None:
    before, declared = written(done), json.loads((done / "dataset.json").read_text())
    more = {"partial_labels": {"case_001": ["necrosis", "edema", "enhancing"]}}
    (done / "dataset.json").write_text(json.dumps(declared | more))
    assert preprocess(done) == []
    assert {name for name, time in written(done).items() if before[name] != time} == {f"{n}/case_001" for n in NAMES}
    assert store(done).open("case_001").annotated_labels == ("necrosis", "edema", "enhancing")
    assert store(done).open("case_000").annotated_labels is None


def test_a_new_case_is_added_and_a_missing_one_removed(done: Path) -> None:
    before = written(done)
    image, mask = make_case(seed=5)
    for number, channel in enumerate(image):
        write_image(done / "imagesTr" / f"fresh_{number:04d}.nii.gz", channel)
    write_image(done / "labelsTr" / "fresh.nii.gz", mask)
    for path in done.rglob("case_003*"):
        path.unlink()
    assert preprocess(done) == []
    after = written(done)
    assert {name.split("/")[1] for name in after} == {"case_000", "case_001", "case_002", "fresh"}
    assert all(before[name] == time for name, time in after.items() if name in before)


def test_a_bad_case_is_named_leaves_nothing_and_the_others_complete(done: Path) -> None:
    (done / "imagesTr" / "case_002_0001.nii.gz").write_bytes(b"not an image")
    (done / "imagesTr" / "case_000_0000.nii.gz").unlink()
    failures = preprocess(done)
    assert [failure.case for failure in failures] == ["case_000", "case_002"]
    assert "case_000_0000.nii.gz" in failures[0].reason
    assert "case_002_0001.nii.gz" in failures[1].reason
    assert all(store(done, name).cases() == ["case_001", "case_003"] for name in NAMES)


def test_unknown_labels_and_other_grids_are_refused(raw_dataset: Path) -> None:
    _, mask = make_case()
    write_image(raw_dataset / "labelsTr" / "case_000.nii.gz", np.where(mask == 1, 9, mask).astype(np.uint8))
    write_image(raw_dataset / "labelsTr" / "case_001.nii.gz", mask, spacing=(2, 1, 1))
    reasons = {failure.case: failure.reason for failure in preprocess(raw_dataset)}
    assert "label value 9" in reasons["case_000"]
    assert "spacing" in reasons["case_001"]


def test_nan_is_refused_or_zeroed_and_remembered(raw_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, _ = make_case()
    spoilt = image[0].astype(np.float32)
    spoilt[10, 10, 10] = np.nan
    write_image(raw_dataset / "imagesTr" / "case_000_0000.nii.gz", spoilt)
    assert [failure.case for failure in preprocess(raw_dataset)] == ["case_000"]
    others = {name: time for name, time in written(raw_dataset).items() if "case_000" not in name}
    assert preprocess(raw_dataset, nan_to_zero=True) == []
    assert np.isfinite(store(raw_dataset).open("case_000").image[:]).all()
    assert others.items() <= written(raw_dataset).items()
    # Without the option the zeroed case is not taken for a good one.
    assert [failure.case for failure in preprocess(raw_dataset)] == ["case_000"]


def test_a_run_that_was_killed_goes_on(done: Path) -> None:
    before = written(done)
    shutil.rmtree(store(done).folder / "case_001")
    (store(done).folder / "case_002" / "properties.json").write_text("{")
    (store(done).folder / ".writing-case_003").mkdir()
    assert preprocess(done) == []
    changed = {name for name, time in written(done).items() if before.get(name) != time}
    full = ("3d_fullres", "3d_cascade_fullres")
    assert changed == {f"{name}/{case}" for name in full for case in ("case_001", "case_002")}
    assert not list(store(done).folder.glob(".*"))


@pytest.mark.parametrize(("scheme", "redone"), [("ZScoreNormalization", False), ("CTNormalization", True)])
def test_the_datasets_statistics_count_where_they_are_used(raw_dataset: Path, scheme: str, redone: bool) -> None:
    configurations = {name: make_configuration(normalization_schemes=[scheme] * 2) for name in NAMES}
    preprocess(raw_dataset, make_plan(configurations))
    before = store(raw_dataset, plan=make_plan(configurations)).record("case_000")["key"]
    statistics = {str(index): STATISTICS | {"mean": 360.0} for index in range(2)}
    plan = make_plan(configurations, foreground_intensity_properties_per_channel=statistics)
    preprocess(raw_dataset, plan)
    assert (store(raw_dataset, plan=plan).record("case_000")["key"] != before) is redone


def test_worker_counts_and_pools_give_the_same_bytes(raw_dataset: Path, tmp_path: Path) -> None:
    raw = RawDataset.open(raw_dataset)
    with ThreadPoolExecutor(2) as pool:
        for name, options in {"one": {"workers": 1}, "two": {"workers": 2}, "pool": {"executor": pool}}.items():
            assert preprocess_dataset(raw, PLAN, NAMES, tmp_path / name, **options) == []  # type: ignore[arg-type]
    for path in (tmp_path / "one").rglob("*.b2nd"):
        for other in ("two", "pool"):
            assert (tmp_path / other / path.relative_to(tmp_path / "one")).read_bytes() == path.read_bytes()


def test_single_precision_on_request(raw_dataset: Path) -> None:
    preprocess(raw_dataset, dtype="float32")
    assert store(raw_dataset).open("case_000").image.dtype == np.float32
    preprocess(raw_dataset)
    assert store(raw_dataset).open("case_000").image.dtype == np.float16


class Recorder(Observer):
    """Remembers notes and counts parts."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.parts = 0

    def note(self, message: str) -> None:
        self.notes.append(message)

    def task(self, title: str, total: int | None = None, unit: str = "case") -> Task:
        recorder = self

        class Counting(Task):
            def advance(self, parts: int = 1, **fields: object) -> None:
                recorder.parts += parts

        return Counting()


def test_progress_is_told(aged: Path) -> None:
    first, second = Recorder(), Recorder()
    preprocess(aged, observer=first)
    preprocess(aged, observer=second)
    assert (first.parts, first.notes) == (4, [])
    assert (second.parts, second.notes) == (0, ["preprocessed: 4 cases are up to date"])


def die_on_case_001(job: jobs.Job) -> jobs.Outcome:
    if job.files.case == "case_001":
        os.kill(os.getpid(), signal.SIGKILL)
    return jobs.run(job)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_dead_worker_is_reported_with_its_case(raw_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "_WORTH_PROCESSES", 0)
    monkeypatch.setattr(dataset, "run", die_on_case_001)
    (failure,) = preprocess(raw_dataset, workers=2)
    assert failure == CaseFailure("case_001", "its worker process died (killed, or out of memory)")
    assert store(raw_dataset).cases() == ["case_000", "case_002", "case_003"]


def test_a_lost_pool_is_told_as_a_dead_worker(raw_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(function: object, work: list[jobs.Job], **options: object) -> list:
        return [(job, BrokenProcessPool() if job.files.case == "case_001" else jobs.run(job)) for job in work]

    monkeypatch.setattr(dataset, "run_each", lose)
    (failure,) = preprocess(raw_dataset)
    assert failure == CaseFailure("case_001", "its worker process died (killed, or out of memory)")
    assert store(raw_dataset).cases() == ["case_000", "case_002", "case_003"]


def test_a_case_with_a_wrong_spacing_fails_and_the_others_complete(
    raw_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, mask = make_case()
    for number, channel in enumerate(image):
        write_image(raw_dataset / "imagesTr" / f"case_001_{number:04d}.nii.gz", channel, spacing=(40, 40, 40))
    write_image(raw_dataset / "labelsTr" / "case_001.nii.gz", mask, spacing=(40, 40, 40))
    monkeypatch.setattr(dataset.machine, "free_memory", lambda: 100 << 20)
    (failure,) = preprocess(raw_dataset)
    assert failure.case == "case_001"
    assert "check the spacing" in failure.reason


def test_few_workers_where_memory_is_short(raw_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []

    def record(function: object, work: list, *, workers: int, **options: object) -> list:
        counts.append(workers)
        return []

    monkeypatch.setattr(dataset, "run_each", record)
    monkeypatch.setattr(dataset.machine, "cores", lambda: 8)
    for free in (1 << 40, 1 << 10):
        monkeypatch.setattr(dataset.machine, "free_memory", lambda free=free: free)
        preprocess(raw_dataset)
    assert counts == [2, 1]
