"""Training a fold from a preprocessed store to scored masks."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bts_auto.combine.cache import CACHE_ENDING, CachedProbabilities
from bts_auto.data.raw import RawDataset
from bts_auto.data.readers import read_mask
from bts_auto.data.splits import Split
from bts_auto.errors import DataError, ModelError, PlanError
from bts_auto.evaluate.scores import Scores
from bts_auto.events import Observer
from bts_auto.model.fold import TrainedFold
from bts_auto.plan.schema import Plan
from bts_auto.preprocess.dataset import preprocess_dataset, store_folder
from bts_auto.preprocess.store import CaseStore
from bts_auto.train import session
from bts_auto.train.augment.pipeline import Augmentation
from bts_auto.train.choice import VolumeJudge
from bts_auto.train.journal import JOURNAL, read_journal
from bts_auto.train.loader import BatchLoader
from bts_auto.train.loggers import LoggedRun
from bts_auto.train.loop import Loop
from bts_auto.train.stopping import TrainingInterrupted
from bts_auto.train.trainer import TrainingResult, train_fold
from bts_auto.train.validate import HeldOut, validate_fold
from tests.make_data import TUMOUR
from tests.train.tiny import NAME, same, tiny_plan

CASES = tuple(f"case_{index:03d}" for index in range(4))
SPLIT = Split(CASES[:3], CASES[3:])


@dataclass(frozen=True)
class Prepared:
    """A preprocessed dataset."""

    raw: RawDataset
    plan: Plan
    store: CaseStore

    def train(self, folder: Path, fold: int | str = 0, **options: Any) -> TrainingResult:
        """Train with this dataset's plan; options go over the defaults."""
        options = {"split": SPLIT, "raw": self.raw, "device": "cpu", "workers": 0} | options
        plan = options.pop("plan", self.plan)
        return train_fold(plan, NAME, fold, store=self.store, folder=folder, labels=plan.label_set(), **options)


@pytest.fixture(scope="module")
def prepared(shared_raw_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    raw = RawDataset.open(shared_raw_dataset)
    plan = tiny_plan(dict(TUMOUR), epochs=2, iterations=2)
    folder = tmp_path_factory.mktemp("preprocessed")
    assert not preprocess_dataset(raw, plan, [NAME], folder, workers=1)
    return Prepared(raw, plan, CaseStore(store_folder(folder, plan, NAME)))


@pytest.fixture(scope="module")
def trained(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished fold; read only."""
    folder = tmp_path_factory.mktemp("results") / "fold_0"
    prepared.train(folder)
    return folder


class Heard(Observer):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def test_a_fold_has_its_files(trained: Path) -> None:
    fold = TrainedFold(trained)
    assert (fold.configuration_name, fold.fold, fold.epoch) == (NAME, 0, 2)
    assert fold.dataset["labels"] == TUMOUR
    assert len(read_journal(trained / JOURNAL, "epoch")) == 2
    assert (trained / "progress.png").stat().st_size > 0
    assert (trained / "validation" / "case_003.nii.gz").exists()
    assert set(Scores.load(trained / "validation" / "scores.json").cases) == {"case_003"}
    assert not list(trained.glob("training_state*"))
    assert not list(trained.glob(".writing-*"))


def test_the_journal_holds_what_a_training_did(trained: Path) -> None:
    (start,) = read_journal(trained / JOURNAL, "start")
    assert (start["step"], start["device"]) == (0, "cpu")
    regions = {"necrosis", "edema", "enhancing", "WT", "TC", "ET"}
    for epoch in read_journal(trained / JOURNAL, "epoch"):
        assert epoch["dice"].keys() == regions
        assert epoch["terms"].keys() == {"dice", "cross_entropy"}
        assert {
            "lr",
            "loss",
            "validation_loss",
            "seconds",
            "validation_seconds",
            "waiting",
            "memory_mb",
        } <= epoch.keys()
    (validation,) = read_journal(trained / JOURNAL, "validation")
    assert validation["cases"] == 1
    assert validation["dice"].keys() == regions


def test_a_finished_fold_is_left_alone(prepared: Prepared, trained: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    result = prepared.train(trained)
    assert result.already_finished
    assert result.steps == 4
    assert result.scores is not None
    assert before == {path: path.stat().st_mtime_ns for path in trained.rglob("*")}


def test_other_settings_than_the_run_s_are_refused_by_name(prepared: Prepared, trained: Path) -> None:
    with pytest.raises(PlanError, match=r"training\.epochs: 2, now 5.*training\.seed: 0, now 7.*--restart"):
        prepared.train(trained, epochs=5, seed=7)


def test_a_run_goes_on_where_there_is_no_compiler(
    prepared: Prepared, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in compiles at first; the weights are those of a run that was never compiled and never stopped."""

    def fail(*arguments: Any) -> Any:
        raise RuntimeError("no compiler here")

    observer = Heard()
    compiled = prepared.plan.replaced(NAME, "training", {"compile": "on"})
    monkeypatch.setattr("bts_auto.train.compiling.torch_compiled", lambda function: function)
    clock = itertools.count(0, 10)
    monkeypatch.setattr(Loop, "_end_epoch", lambda loop: loop._leave())
    with pytest.raises(TrainingInterrupted):
        prepared.train(tmp_path, plan=compiled, raw=None, observer=observer, clock=lambda: next(clock))
    monkeypatch.undo()
    monkeypatch.setattr("bts_auto.train.compiling.torch_compiled", lambda function: fail)
    prepared.train(tmp_path, plan=compiled, raw=None, observer=observer)
    assert any(line.startswith("compiled by torch.compile") for line in observer.notes)
    assert [line for line in observer.warnings if line.endswith("which has failed: no compiler here")]
    assert same(TrainedFold(tmp_path).state(), TrainedFold(trained).state())
    assert prepared.train(tmp_path, raw=None).already_finished  # the plan without the option


def test_restart_trains_anew(prepared: Prepared, tmp_path: Path) -> None:
    prepared.train(tmp_path, epochs=1, raw=None)
    result = prepared.train(tmp_path, epochs=2, raw=None, restart=True)
    assert (result.already_finished, result.steps) == (False, 4)
    assert len(read_journal(tmp_path / JOURNAL, "epoch")) == 2


def test_a_fold_without_scores_is_validated_only(prepared: Prepared, tmp_path: Path) -> None:
    prepared.train(tmp_path, raw=None)
    weights = (tmp_path / "checkpoint.safetensors").stat().st_mtime_ns
    result = prepared.train(tmp_path)
    assert result.scores is not None
    assert (tmp_path / "checkpoint.safetensors").stat().st_mtime_ns == weights


def test_time_that_an_earlier_call_took_counts_in_the_validation(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks, left = itertools.count(), list[float]()
    how = {"budget": 500.0, "step_seconds": 1.0, "clock": lambda: float(next(ticks))}
    prepared.train(tmp_path, raw=None, **how)

    def nothing(seconds: float, *others: Any) -> tuple[bool, bool]:
        left.append(seconds)
        return False, False

    monkeypatch.setattr(session, "affordable", nothing)
    result = prepared.train(tmp_path, **how)
    assert result.seconds > 10
    assert 400 < left[0] < 500 - result.seconds


@pytest.mark.parametrize("lengthen", [False, True])
def test_a_budget_is_filled_where_the_length_is_open(prepared: Prepared, tmp_path: Path, lengthen: bool) -> None:
    ticks = itertools.count()
    how = {"budget": 300.0, "step_seconds": 1.0, "clock": lambda: float(next(ticks))}
    result = prepared.train(tmp_path, raw=None, lengthen=lengthen, **how)
    assert (result.steps > 4) == lengthen
    assert result.seconds < 310  # the step at hand is finished


@pytest.mark.parametrize(("accumulation", "too_long"), [(1, True), (8, False)])
def test_a_validation_that_the_budget_cannot_hold_is_foretold(
    prepared: Prepared, tmp_path: Path, accumulation: int, too_long: bool
) -> None:
    heard, ticks = Heard(), itertools.count()
    plan = prepared.plan.replaced(NAME, "training", {"accumulation": accumulation})
    how = {"budget": 60.0, "step_seconds": 10.0, "clock": lambda: float(next(ticks))}
    prepared.train(tmp_path, plan=plan, observer=heard, **how)
    assert any("held-out cases takes about" in line for line in heard.warnings) == too_long


def test_all_cases_train_and_nothing_is_held_out(prepared: Prepared, tmp_path: Path) -> None:
    result = prepared.train(tmp_path, "all", split=None)
    assert result.scores is None
    assert TrainedFold(tmp_path).fold == "all"


def test_workers_change_no_number(prepared: Prepared, trained: Path, tmp_path: Path) -> None:
    prepared.train(tmp_path, workers=2, raw=None)
    losses = [[record["loss"] for record in read_journal(folder / JOURNAL, "epoch")] for folder in (trained, tmp_path)]
    assert losses[0] == losses[1]


def test_batches_may_be_augmented_where_the_network_is(
    prepared: Prepared, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    together, plan = (
        Augmentation.apply_batch,
        prepared.plan.replaced(NAME, "training", {"augmentation_device": "device"}),
    )
    monkeypatch.setattr(Augmentation, "apply_batch", lambda *given: (seen.append(1), together(*given))[1])
    prepared.train(tmp_path, plan=plan, raw=None)
    losses = [[record["loss"] for record in read_journal(folder / JOURNAL, "epoch")] for folder in (trained, tmp_path)]
    assert seen
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_pretrained_weights_that_fit_are_taken(prepared: Prepared, trained: Path, tmp_path: Path) -> None:
    other = tiny_plan({"background": 0, "tumour": (1, 2, 3), "core": (1, 3)}, epochs=1, iterations=1)
    other = other.model_copy(update={"regions_class_order": (2, 1)})
    observer = Heard()
    prepared.train(tmp_path, plan=other, pretrained=trained, raw=None, observer=observer)
    warning = next(line for line in observer.warnings if line.startswith("not taken"))
    assert "heads" in warning
    assert "encoder" not in warning


def test_pretrained_weights_that_are_missing_are_named(prepared: Prepared, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such package"):
        prepared.train(tmp_path / "fold", pretrained=tmp_path / "nothing.zip")
    assert not (tmp_path / "fold").exists()


def test_a_failing_case_does_not_stop_the_others(prepared: Prepared, trained: Path, tmp_path: Path) -> None:
    references = prepared.raw.training_cases()
    references.pop("case_002")
    prepared.train(tmp_path, raw=None)
    scores = validate_fold(HeldOut(TrainedFold(tmp_path), prepared.store, references, device="cpu"), CASES[2:])
    assert set(scores.cases) == {"case_003"}
    assert [failure.case for failure in scores.failures] == ["case_002"]


def test_validation_tries_tiles_and_the_plan_of_the_fold_keeps_what_it_found(
    prepared: Prepared, tmp_path: Path
) -> None:
    prepared.train(tmp_path)
    inference = TrainedFold(tmp_path).configuration.inference
    plain = [one for one in inference.measured if not one.mirrored and not one.int8]
    assert inference.ranges
    assert (plain[0].tile, plain[-1].tile) == ("patch", "whole")
    assert all(set(one.dice) == set(one.seconds) == set(CASES[3:]) for one in plain)
    assert inference.measured[-1].mirrored


def test_cached_probabilities_that_were_removed_are_made_again(
    prepared: Prepared, trained: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "fold"
    shutil.copytree(trained, folder)
    cache = folder / "validation" / f"case_003{CACHE_ENDING}"
    before = CachedProbabilities(cache).read()
    cache.unlink()
    validate_fold(HeldOut(TrainedFold(folder), prepared.store, prepared.raw.training_cases(), device="cpu"), CASES[3:])
    np.testing.assert_allclose(CachedProbabilities(cache).read(), before, atol=1 / 255)


def test_masks_of_other_weights_are_not_taken_for_these(prepared: Prepared, tmp_path: Path) -> None:
    prepared.train(tmp_path, epochs=1)
    stale = (tmp_path / "validation" / "case_003.nii.gz").stat().st_mtime_ns
    prepared.train(tmp_path, epochs=2, raw=None, restart=True)
    assert not (tmp_path / "validation").exists()
    held_out = HeldOut(TrainedFold(tmp_path), prepared.store, prepared.raw.training_cases(), device="cpu")
    validate_fold(held_out, CASES[3:])
    assert (tmp_path / "validation" / "case_003.nii.gz").stat().st_mtime_ns != stale


def test_cases_that_were_not_preprocessed_are_left_out_aloud(prepared: Prepared, tmp_path: Path) -> None:
    observer = Heard()
    prepared.train(tmp_path, split=Split((*CASES[:3], "lost"), ()), observer=observer)
    assert any("lost" in line for line in observer.warnings)


def test_nothing_to_train_on_is_refused(prepared: Prepared, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no preprocessed case"):
        prepared.train(tmp_path, split=Split(("lost",), ()))


@pytest.mark.parametrize(
    ("option", "message"),
    [({"epochs": 0}, "training.epochs"), ({"budget": 0.0}, "no time"), ({"split": None}, "split")],
)
def test_settings_that_make_no_sense_are_refused(
    prepared: Prepared, tmp_path: Path, option: dict[str, Any], message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        prepared.train(tmp_path / "fold", **option)
    assert not (tmp_path / "fold").exists()


def test_a_finished_fold_says_so_without_loading_torch(prepared: Prepared, trained: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from bts_auto.combine.cache import CACHE_ENDING, CachedProbabilities
from bts_auto.data.raw import RawDataset
from bts_auto.data.splits import Split
from bts_auto.plan.schema import Plan
from bts_auto.preprocess.store import CaseStore
from bts_auto.train.trainer import train_fold
plan = Plan.load({str(trained / "plan.json")!r})
result = train_fold(plan, {NAME!r}, 0, store=CaseStore({str(prepared.store.folder)!r}), split=Split({SPLIT.train},
    {SPLIT.validation}), folder=Path({str(trained)!r}), labels=plan.label_set(), raw=RawDataset.open(
    Path({str(prepared.raw.folder)!r})))
assert result.already_finished and result.scores is not None
assert "torch" not in sys.modules, "torch was loaded"
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_weights_that_are_best_on_whole_volumes_are_shipped(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A judge who likes the second of four epochs best: those are the weights that a training of two would ship."""
    values = iter([0.2, 0.9, 0.5, 0.4])
    monkeypatch.setattr("bts_auto.train.choice.VolumeJudge.__call__", lambda judge, weights: next(values))
    constant = {"name": "constant", "options": {}}
    choosing = prepared.plan.replaced(
        NAME, "training", {"model_choice": {"cases": 1, "every": 1}, "schedule": constant}
    )
    prepared.train(tmp_path / "chosen", plan=choosing, epochs=4, raw=None)
    prepared.train(tmp_path / "two", plan=prepared.plan.replaced(NAME, "training", {"schedule": constant}), raw=None)
    chosen, two = TrainedFold(tmp_path / "chosen"), TrainedFold(tmp_path / "two")
    assert chosen.epoch == 2
    assert same(chosen.state(), two.state())
    assert not list((tmp_path / "chosen").glob("checkpoint_chosen*"))


def test_weights_are_judged_as_the_final_validation_scores_them(prepared: Prepared, trained: Path) -> None:
    """Nothing is resampled or cropped here, so that the prepared grid holds what the scan's grid does."""
    judge = VolumeJudge(
        prepared.plan, NAME, prepared.plan.label_set(), SPLIT.validation,
        store=prepared.store, previous=None, device=torch.device("cpu"),
    )  # fmt: skip
    scores = Scores.load(trained / "validation" / "scores.json")
    assert judge(TrainedFold(trained).state()) == pytest.approx(scores.mean(), abs=0.01)


def test_epochs_are_logged(prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []

    class Ear:
        def __init__(self, run: LoggedRun) -> None:
            heard.append(run.name)

        def log(self, values: dict[str, float], epoch: int) -> None:
            heard.append((epoch, values["loss"]))

        def close(self) -> None:
            heard.append("closed")

    monkeypatch.setattr("bts_auto.train.loggers.TensorBoard", Ear)
    prepared.train(tmp_path, raw=None, loggers=["tensorboard"])
    losses = [record["loss"] for record in read_journal(tmp_path / JOURNAL, "epoch")]
    assert heard == [f"default {NAME}, fold 0", (0, losses[0]), (1, losses[1]), "closed"]


def test_cases_are_drawn_as_often_as_their_table_says(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: set[str] = set()
    seen = BatchLoader._assemble

    def note(loader: BatchLoader, step: int, samples: Any) -> Any:
        made = seen(loader, step, samples)
        if loader._augmentation is not None:
            drawn.update(made.cases)
        return made

    monkeypatch.setattr(BatchLoader, "_assemble", note)
    raw = RawDataset.open(Path(shutil.copytree(prepared.raw.folder, tmp_path / prepared.raw.folder.name)))
    (raw.folder / "cases.csv").write_text("case,weight\ncase_000,0\ncase_001,2.5\ncase_002,0\n")
    plan = prepared.plan.replaced(NAME, "training", {"case_weights": "weight"})
    prepared.train(tmp_path / "fold", plan=plan, raw=raw, validate=False)
    assert drawn == {"case_001"}


def test_validation_applies_the_configurations_own_rules(prepared: Prepared, tmp_path: Path) -> None:
    prepared.train(tmp_path, epochs=1)
    path = tmp_path / "plan.json"
    plan = json.loads(path.read_text())
    rule = {"name": "minimum_size", "options": {"voxels": 10**6}}
    for entry in plan["configurations"].values():
        entry["postprocessing"] = [rule]
    path.write_text(json.dumps(plan))
    held_out = HeldOut(TrainedFold(tmp_path), prepared.store, prepared.raw.training_cases(), device="cpu")
    assert not validate_fold(held_out, CASES[3:]).failures
    assert not read_mask(tmp_path / "validation" / "case_003.nii.gz")[0].any()
