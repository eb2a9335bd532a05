"""Plans for this machine, with trials that answer at once."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from bts_auto import machine, steps
from bts_auto.errors import PlanError
from bts_auto.events import Observer
from bts_auto.plan.compute_model import plan_compute
from bts_auto.plan.expect import advice
from bts_auto.plan.explain import explain
from bts_auto.plan.memory_model import plan_memory
from bts_auto.plan.recipes import Recipe, apply_recipe
from bts_auto.plan.schema import Plan
from bts_auto.steps import measure, trials
from bts_auto.steps.planning import Planning, Request
from bts_auto.steps.trials import OutOfMemory, Tried
from tests.make_data import make_raw_dataset
from tests.plan.cases import dataset, fingerprint

TFLOPS = 0.25


class Machine:
    """A processor of `TFLOPS` whose memory holds steps of `most_gb`; counts the trials."""

    def __init__(self, most_gb: float = math.inf) -> None:
        self.most_gb, self.trials, self.others = most_gb, 0, 0.0
        self.large_steps = 1.0

    def __call__(self, plan: Plan, name: str, **options: object) -> Tried:
        self.trials += 1
        peak = plan_memory(plan, name, precision="bf16").peak
        if peak > self.most_gb * 2**30:
            raise OutOfMemory("full", where=name)
        seconds = plan_compute(plan, name).step / 1e12 / TFLOPS
        return Tried(seconds * (self.large_steps if seconds > 5 else 1), "bf16", peak, self.others)


class Heard(Observer):
    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """This machine has no GPU and 64 GB."""
    fake = Machine()
    monkeypatch.setattr(trials.Trials, "run", fake)
    monkeypatch.setattr(machine, "gpu_memory_gb", lambda: None)
    monkeypatch.setattr(machine, "hardware", lambda device="auto": "a machine")
    monkeypatch.setattr(machine, "free_memory", lambda: 64 * 2**30)
    return fake


def planning(folder: Path, observer: Observer | None = None, **request: object) -> Planning:
    asked = Request(**request)  # type: ignore[arg-type]
    return Planning(fingerprint(), dataset(), "Dataset001_Test", asked, folder, observer or Heard())


def test_a_named_memory_is_planned_for_by_rules_without_a_trial(here: Machine, tmp_path: Path):
    made = planning(tmp_path, gpu_memory=2).make("plain")
    assert (made.planner, made.gpu_memory_gb, here.trials) == ("nnunet", 2, 0)
    assert made.expected["3d_fullres"].step_seconds is None


def test_a_gpu_is_planned_for_by_rules(here: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "gpu_memory_gb", lambda: 4.0)
    made = planning(tmp_path).make("plain")
    assert (made.planner, made.gpu_memory_gb) == ("nnunet", 4)


def test_without_a_gpu_sizes_are_measured(here: Machine, tmp_path: Path):
    made = planning(tmp_path, heard := Heard()).make("plain")
    assert made.planner == "measured"
    assert "no GPU here" in heard.notes[0]


def test_a_gpu_that_will_not_train_is_none(here: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "gpu_memory_gb", lambda: 4.0)
    assert planning(tmp_path, device="cpu").make("plain").planner == "measured"


def test_rules_without_a_gpu_are_for_the_usual_memory(here: Machine, tmp_path: Path):
    made = planning(tmp_path, planner="nnunet").make("plain")
    assert (made.planner, made.gpu_memory_gb, here.trials) == ("nnunet", 8, 0)


def test_what_was_measured_is_not_measured_again(here: Machine, tmp_path: Path):
    first = planning(tmp_path).make("plain")
    assert here.trials == 4  # a small network and the chosen one, for 2d and 3d
    assert planning(tmp_path).make("plain") == first
    assert here.trials == 4


def test_steps_that_take_longer_than_foretold_are_planned_anew(here: Machine, tmp_path: Path):
    here.large_steps = 2.0
    made = planning(tmp_path).make("plain")
    assert max(expected.step_seconds for expected in made.expected.values()) < 12.5


def test_a_busy_machine_is_remarked_on_once(here: Machine, tmp_path: Path):
    here.others = 0.5
    planning(tmp_path, heard := Heard()).make("plain")
    assert len(heard.warnings) == 1
    assert "--measure-again" in heard.warnings[0]


def test_a_machine_can_be_measured_again(here: Machine, tmp_path: Path):
    planning(tmp_path).make("plain").save(tmp_path / "plan.json")
    again = planning(tmp_path, measure_again=True)
    assert again.made_before(tmp_path / "plan.json", "plain") is None
    again.make("plain")
    assert here.trials == 8


def test_rules_have_nothing_to_measure_again(here: Machine, tmp_path: Path):
    with pytest.raises(PlanError, match="measure nothing"):
        planning(tmp_path, gpu_memory=1, measure_again=True).make("plain")


def test_measured_sizes_are_explained_by_the_limit_that_held(here: Machine, tmp_path: Path):
    for memory, words in ((64, "10 s at most"), (2, "fits the memory")):
        made = planning(tmp_path, planner="measured", gpu_memory=memory).make("plain")
        (line,) = (line for line in explain(made, fingerprint()) if line.startswith("3d_fullres: patch"))
        assert words in line


def test_a_training_of_many_days_is_advised_against(here: Machine, tmp_path: Path):
    made = planning(tmp_path).make("plain")
    assert "--budget" in str(advice(made))
    assert "--budget" in steps.prepare.plan_lines(made)[-1]
    assert advice(planning(tmp_path, budget=600).make("plain")) is None


def test_measured_sizes_fit_this_machine(here: Machine, tmp_path: Path):
    made = planning(tmp_path, planner="measured").make("plain")
    assert made.planner == "measured"
    assert all(expected.memory_gb <= made.gpu_memory_gb for expected in made.expected.values())
    assert all(expected.step_seconds <= 10.01 for expected in made.expected.values())


def test_what_does_not_fit_is_planned_smaller_with_a_word(here: Machine, tmp_path: Path):
    here.most_gb, heard = 2.0, Heard()
    made = planning(tmp_path, heard, planner="measured", gpu_memory=4).make("plain")
    assert plan_memory(made, "3d_fullres", precision="bf16").peak <= 2 * 2**30
    assert heard.warnings
    assert "does not fit" in heard.warnings[0]


def test_a_known_rate_tells_the_time_of_a_plan_by_rules(here: Machine, tmp_path: Path):
    planning(tmp_path, planner="measured", gpu_memory=2).make("plain")
    made = planning(tmp_path, gpu_memory=1).make("plain")
    step = plan_compute(made, "3d_fullres").step / 1e12
    assert made.expected["3d_fullres"].step_seconds == pytest.approx(step / TFLOPS)


@pytest.mark.parametrize("budget", [300, 1800, 86400])
def test_a_budget_holds_the_planned_steps(here: Machine, tmp_path: Path, budget: float):
    made = planning(tmp_path, budget=budget).make("plain")
    ((name, expected),) = made.expected.items()
    assert 0.4 * budget < made.configuration(name).training.epochs * expected.epoch_seconds < budget
    made.check()


def test_a_budget_is_explained(here: Machine, tmp_path: Path):
    made = planning(tmp_path, budget=1800).make("plain")
    assert any("30 min" in line for line in explain(made, fingerprint()))


def test_measured_choices_stay(here: Machine, tmp_path: Path):
    asked = planning(tmp_path, budget=1800)
    made = asked.make("plain")
    made.save(tmp_path / "plan.json")
    assert asked.made_before(tmp_path / "plan.json", "plain") == made
    assert planning(tmp_path, budget=900).made_before(tmp_path / "plan.json", "plain") is None
    assert planning(tmp_path, gpu_memory=8).made_before(tmp_path / "plan.json", "plain") is None
    assert asked.made_before(tmp_path / "plan.json", "resenc_m") is None


def test_rules_never_take_a_measured_plan(here: Machine, tmp_path: Path):
    planning(tmp_path, planner="measured", gpu_memory=2).make("plain").save(tmp_path / "plan.json")
    assert planning(tmp_path, planner="measured", gpu_memory=2).made_before(tmp_path / "plan.json", "plain")
    assert planning(tmp_path, gpu_memory=2).made_before(tmp_path / "plan.json", "plain") is None


def test_no_memory_cannot_be_planned_for(here: Machine, tmp_path: Path):
    with pytest.raises(PlanError, match="GB of GPU memory"):
        planning(tmp_path, gpu_memory=0).make("plain")


def test_slices_have_a_budget_too(here: Machine, tmp_path: Path):
    asked = Planning(fingerprint((1, 200, 200)), dataset(), "Dataset001_Test", Request(budget=600), tmp_path, Heard())
    assert list(asked.make("plain").configurations) == ["2d"]


def test_rules_know_no_budget(here: Machine, tmp_path: Path):
    with pytest.raises(PlanError, match="no time budget"):
        planning(tmp_path, planner="nnunet", budget=600).make("plain")


def test_a_budget_is_settled_on_prepared_cases_and_kept(here: Machine, tmp_path: Path):
    shutil.move(make_raw_dataset(tmp_path / "made", n_cases=4), tmp_path / "raw" / "Dataset007_Tiny")
    asked = {"dataset": 7, "workspace": tmp_path, "budget": 600.0, "device": "cpu", "workers": 1}
    first = steps.plan_and_preprocess(**asked)
    assert "next: bts_train" in first.lines[-1]
    path = tmp_path / "preprocessed" / "Dataset007_Tiny" / "plan.json"
    plan, trials = path.read_text(), here.trials
    assert steps.plan_and_preprocess(**asked).lines == first.lines
    assert (path.read_text(), here.trials) == (plan, trials)


def test_a_long_training_tells_the_rate(here: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made, folder = planning(tmp_path, gpu_memory=1).make("plain"), tmp_path / "fold_0"
    lines = [{"kind": "epoch", "step": 10, "seconds": 90.0}, {"kind": "epoch", "step": 30, "seconds": 60.0}]
    folder.mkdir()
    (folder / "journal.jsonl").write_text("\n".join(map(json.dumps, lines)))
    fold = SimpleNamespace(
        plan=made.replaced("3d_fullres", "training", {"precision": "bf16"}), configuration_name="3d_fullres"
    )
    fold.configuration = fold.plan.configuration("3d_fullres")
    monkeypatch.setattr("bts_auto.model.fold.TrainedFold", lambda folder: fold)
    measure.remember_training(folder, tmp_path)
    assert measure.known_step_seconds(made, "3d_fullres", tmp_path) == pytest.approx(6.0)
    assert measure.known_step_seconds(made, "2d", tmp_path) is None


def test_a_changed_recipe_is_laid_anew(here: Machine, tmp_path: Path):
    asked, first = planning(tmp_path), Recipe(name="mine", about="", configuration={"training": {"epochs": 5}})
    apply_recipe(asked.make("plain"), first).save(tmp_path / "plan.json")
    assert asked.made_before(tmp_path / "plan.json", "plain", first)
    changed = first.model_copy(update={"configuration": {"training": {"epochs": 6}}})
    assert asked.made_before(tmp_path / "plan.json", "plain", changed) is None
