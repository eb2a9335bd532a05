"""Plans for this machine, with trials that answer at once."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from bts_auto import machine, steps
from bts_auto.data.split_rules import SplitRules
from bts_auto.errors import PlanError
from bts_auto.events import Observer
from bts_auto.plan.compute_model import plan_compute
from bts_auto.plan.expect import advice
from bts_auto.plan.explain import explain
from bts_auto.plan.memory_model import RUNTIME_ON_CPU, plan_memory
from bts_auto.plan.recipes import Recipe, load_recipe
from bts_auto.plan.schema import Plan
from bts_auto.steps import measure, trials
from bts_auto.steps.planning import Planning, Request
from bts_auto.steps.trials import OutOfMemory, Tried
from tests.make_data import make_raw_dataset
from tests.plan.cases import dataset, fingerprint

TFLOPS = 0.25
# What a step of a network takes whose operations nobody has counted.
UNCOUNTED_S = 3.0


class Machine:
    """A processor of `TFLOPS` whose memory holds steps of `most_gb`; counts the trials, and knows the last one.

    `kept`: how much more than foretold steps are seen to take; `stored_gb`: what holds those on preprocessed cases.
    """

    def __init__(self, most_gb: float = math.inf) -> None:
        self.most_gb, self.trials, self.others = most_gb, 0, 0.0
        self.large_steps, self.kept, self.stored_gb = 1.0, 1.0, math.inf
        self.last: Plan | None = None

    def __call__(self, plan: Plan, name: str, **options: object) -> Tried:
        self.trials, self.last = self.trials + 1, plan
        if plan.configuration(name).network.name == "unpooling_unet":
            return Tried(UNCOUNTED_S, "bf16", 0, self.others)
        named = plan.configuration(name).training.precision
        precision = "bf16" if named == "auto" else named
        peak = plan_memory(plan, name, precision=precision).peak
        if peak > (self.most_gb if options.get("store") is None else self.stored_gb) * 2**30:
            raise OutOfMemory("full", where=name)
        seconds = plan_compute(plan, name).step * plan.configuration(name).training.accumulation / 1e12 / TFLOPS
        seconds *= self.large_steps if seconds > 5 else 1
        return Tried(seconds, precision, int(peak * self.kept), self.others)


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
    monkeypatch.setattr(machine, "gpu_memory_gb", lambda device="auto": None)
    monkeypatch.setattr(machine, "hardware", lambda device="auto": "a machine")
    monkeypatch.setattr(machine, "free_memory", lambda: 64 * 2**30)
    return fake


def planning(
    folder: Path, observer: Observer | None = None, recipe: Recipe | None = None, **request: object
) -> Planning:
    asked = Request(**request)  # type: ignore[arg-type]
    return Planning(fingerprint(), dataset(), "Dataset001_Test", asked, folder, observer or Heard(), recipe)


def test_a_named_memory_is_planned_for_by_rules_without_a_trial(here: Machine, tmp_path: Path):
    made = planning(tmp_path, gpu_memory=2).make("plain")
    assert (made.planner, made.gpu_memory_gb, here.trials) == ("nnunet", 2, 0)
    assert made.expected["3d_fullres"].step_seconds is None


def test_a_gpu_is_planned_for_by_rules(here: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "gpu_memory_gb", lambda device: None if device == "cpu" else 4.0)
    made = planning(tmp_path).make("plain")
    assert (made.planner, made.gpu_memory_gb) == ("nnunet", 4)


def test_the_gpu_that_will_train_is_planned_for(here: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "gpu_memory_gb", lambda device: {"auto": 8.0, "cuda:1": 4.0}[device])
    assert planning(tmp_path, device="cuda:1").make("plain").gpu_memory_gb == 4


def test_without_a_gpu_sizes_are_measured(here: Machine, tmp_path: Path):
    made = planning(tmp_path, heard := Heard()).make("plain")
    assert made.planner == "measured"
    assert "no GPU here" in heard.notes[0]


def test_a_gpu_that_will_not_train_is_none(here: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "gpu_memory_gb", lambda device: None if device == "cpu" else 4.0)
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
        made = planning(tmp_path, planner="measured", gpu_memory=memory, device="cpu").make("plain")
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
    made = planning(tmp_path, heard, planner="measured", gpu_memory=4, device="cpu").make("plain")
    assert plan_memory(made, "3d_fullres", precision="bf16").peak <= 2 * 2**30
    assert heard.warnings
    assert "does not fit" in heard.warnings[0]


def test_a_known_rate_tells_the_time_of_a_plan_by_rules(here: Machine, tmp_path: Path):
    planning(tmp_path, planner="measured", gpu_memory=2, device="cpu").make("plain")
    made = planning(tmp_path, gpu_memory=1).make("plain")
    step = plan_compute(made, "3d_fullres").step / 1e12
    assert made.expected["3d_fullres"].step_seconds == pytest.approx(step / TFLOPS)


@pytest.mark.parametrize("budget", [300, 1800, 86400])
def test_a_budget_holds_the_planned_steps(here: Machine, tmp_path: Path, budget: float):
    made = planning(tmp_path, budget=budget).make("plain")
    ((name, expected),) = made.expected.items()
    assert 0.4 * budget < made.configuration(name).training.epochs * expected.epoch_seconds < budget
    made.check()


def test_a_budget_is_explained_with_the_numbers_of_what_was_not_taken(here: Machine, tmp_path: Path):
    made = planning(tmp_path, budget=1800).make("plain")
    reasons = explain(made, fingerprint())
    assert any("30 min" in line for line in reasons)
    (taken,) = (line for line in reasons if line.startswith("Taken:"))
    (entry,) = made.configurations.values()
    assert f"patch {' x '.join(map(str, entry['patch_size']))}" in taken
    others = [line for line in reasons if line.startswith("Not taken:")]
    assert len(others) == len(made.considered) - 1 > 2
    assert any("steps, an expected loss of" in line for line in others)


def test_measured_choices_stay(here: Machine, tmp_path: Path):
    asked = planning(tmp_path, budget=1800)
    made = asked.make("plain")
    made.save(tmp_path / "plan.json")
    assert asked.made_before(tmp_path / "plan.json", "plain") == made
    assert planning(tmp_path, budget=900).made_before(tmp_path / "plan.json", "plain") is None
    assert planning(tmp_path, gpu_memory=8).made_before(tmp_path / "plan.json", "plain") is None
    assert asked.made_before(tmp_path / "plan.json", "resenc_m") is None


def test_a_plan_for_a_named_memory_is_not_taken_where_none_is_named(here: Machine, tmp_path: Path):
    planning(tmp_path, planner="measured", gpu_memory=1, device="cpu").make("plain").save(tmp_path / "plan.json")
    assert planning(tmp_path, device="cpu").made_before(tmp_path / "plan.json", "plain") is None


def test_a_named_memory_that_was_too_much_finds_its_plan(here: Machine, tmp_path: Path):
    here.most_gb, asked = 2.0, planning(tmp_path, planner="measured", gpu_memory=4, device="cpu")
    made = asked.make("plain")
    made.save(tmp_path / "plan.json")
    assert made.gpu_memory_gb < 4
    assert asked.made_before(tmp_path / "plan.json", "plain") == made


def test_a_gpu_elsewhere_is_sized_for_without_a_trial(here: Machine, tmp_path: Path):
    made = planning(tmp_path, heard := Heard(), planner="measured", gpu_memory=6).make("plain")
    assert here.trials == 0
    assert "no such GPU here" in heard.notes[0]
    expected = made.expected["3d_fullres"]
    assert (expected.step_seconds, expected.precision) == (None, "bf16")
    assert 3 < expected.memory_gb <= 6
    assert "not here" in "".join(explain(made, fingerprint()))


@pytest.mark.parametrize(("gb", "elsewhere"), [(None, True), (8.0, True), (22.5, False), (24.0, False)])
def test_a_gpu_may_have_a_little_less_than_is_named(here: Machine, monkeypatch, gb: float | None, elsewhere: bool):
    monkeypatch.setattr(machine, "gpu_memory_gb", lambda device="auto": gb)
    assert Request(gpu_memory=24).elsewhere is elsewhere


@pytest.mark.parametrize("budget", [None, 1800])
def test_a_named_memory_of_this_machine_is_said_beside_what_is_free(here: Machine, tmp_path: Path, budget: float):
    planning(tmp_path, heard := Heard(), planner="measured", gpu_memory=4, device="cpu", budget=budget).make("plain")
    assert "4 GB of its memory (64.0 GB are free)" in heard.notes[0]


def test_a_gpu_elsewhere_has_no_budget(here: Machine):
    with pytest.raises(PlanError, match=r"no GPU of 24 GB is here .*--device cpu"):
        Request(gpu_memory=24, budget=600)


def test_rules_never_take_a_measured_plan(here: Machine, tmp_path: Path):
    planning(tmp_path, planner="measured", gpu_memory=2).make("plain").save(tmp_path / "plan.json")
    assert planning(tmp_path, planner="measured", gpu_memory=2).made_before(tmp_path / "plan.json", "plain")
    assert planning(tmp_path, gpu_memory=2).made_before(tmp_path / "plan.json", "plain") is None


@pytest.mark.parametrize("gb", [0, -3, math.nan, math.inf])
def test_no_memory_cannot_be_planned_for(gb: float):
    with pytest.raises(PlanError, match=r"--gpu-memory: .*positive number of GB"):
        Request(gpu_memory=gb)


@pytest.mark.parametrize("budget", [None, 1800])
@pytest.mark.parametrize(
    ("free", "words"),
    [(0, "are free here"), (RUNTIME_ON_CPU + 2**17, "not even the smallest network fits")],
)
def test_memory_that_is_used_up_is_the_reason(
    here: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, words: str, budget: float | None
):
    monkeypatch.setattr(machine, "free_memory", lambda: free)
    with pytest.raises(PlanError, match=f"{words}.*end other programs"):
        planning(tmp_path, budget=budget).make("plain")


def test_a_named_memory_that_nothing_fits_is_the_reason(here: Machine, tmp_path: Path):
    with pytest.raises(PlanError, match=r"smallest network fits 0\.0001 GB - raise --gpu-memory"):
        planning(tmp_path, gpu_memory=1e-4, device="cpu", budget=1800).make("plain")


def test_cases_too_small_for_a_budget_are_the_reason(here: Machine, tmp_path: Path):
    asked = Planning(fingerprint((6, 6, 6)), dataset(), "Dataset001_Test", Request(budget=600), tmp_path, Heard())
    with pytest.raises(PlanError, match=r"6x6x6 voxels are too small .*leave out --budget"):
        asked.make("plain")


def test_slices_have_a_budget_too(here: Machine, tmp_path: Path):
    asked = Planning(fingerprint((1, 200, 200)), dataset(), "Dataset001_Test", Request(budget=600), tmp_path, Heard())
    assert list(asked.make("plain").configurations) == ["2d"]


def test_rules_know_no_budget(here: Machine, tmp_path: Path):
    with pytest.raises(PlanError, match="no time budget"):
        Request(planner="nnunet", budget=600)


@pytest.fixture
def tiny(tmp_path: Path) -> dict:
    """What a budget is asked with, of a dataset of small cases."""
    shutil.move(make_raw_dataset(tmp_path / "made", n_cases=4), tmp_path / "raw" / "Dataset007_Tiny")
    return {"dataset": 7, "workspace": tmp_path, "budget": 600.0, "device": "cpu", "workers": 1}


def _plan_of(asked: dict, recipe: str | None = None) -> Plan:
    name = "plan.json" if recipe is None else f"plan__{recipe}.json"
    return Plan.load(asked["workspace"] / "preprocessed" / "Dataset007_Tiny" / name)


def test_a_budget_is_settled_on_prepared_cases_and_kept(here: Machine, tiny: dict):
    first = steps.plan_and_preprocess(**tiny)
    assert "next: bts_train" in first.lines[-1]
    plan, trials = _plan_of(tiny), here.trials
    assert plan.settled
    assert steps.plan_and_preprocess(**tiny).lines == first.lines
    assert (_plan_of(tiny), here.trials) == (plan, trials)


def test_other_folds_and_recipes_leave_a_settled_plan_alone(here: Machine, tiny: dict):
    first = steps.plan_and_preprocess(**tiny)
    plan, trials = _plan_of(tiny), here.trials
    steps.plan_and_preprocess(**tiny, splits={"folds": 2})
    assert here.trials == trials
    steps.plan_and_preprocess(**tiny, recipe="brats2020_winner")
    trials = here.trials
    assert steps.plan_and_preprocess(**tiny).lines == first.lines
    assert here.trials == trials
    assert _plan_of(tiny) == plan.model_copy(update={"splits": SplitRules(folds=2)})


def test_a_budget_is_planned_for_the_recipe(here: Machine, tmp_path: Path):
    asked = planning(tmp_path, recipe=load_recipe("brats2020_winner"), budget=7200)
    made = asked.laid(asked.make("plain"))
    ((name, expected),) = made.expected.items()
    assert made.configuration(name).batch_size == 5
    assert made.configuration(name).training.augmentation is not None
    assert made.configuration(name).training.epochs * expected.epoch_seconds < 7200
    assert here.last is not None
    assert here.last.recipe == "brats2020_winner"


def test_a_budget_holds_steps_that_accumulate_batches(here: Machine, tmp_path: Path):
    recipe = Recipe(name="mine", about="", configuration={"training": {"accumulation": 8}})
    asked = planning(tmp_path, recipe=recipe, budget=7200)
    made = asked.laid(asked.make("plain"))
    ((name, expected),) = made.expected.items()
    assert made.configuration(name).training.accumulation == 8
    assert 0.4 * 7200 < made.configuration(name).training.epochs * expected.epoch_seconds < 7200


def test_a_network_that_is_not_counted_has_a_budget_too(here: Machine, tiny: dict):
    done = steps.plan_and_preprocess(**tiny, recipe="nnsegnet:unpooling")
    assert done.lines[-1].endswith("--recipe nnsegnet:unpooling")
    (entry,) = _plan_of(tiny, "nnsegnet.unpooling").configurations.values()
    assert 0.2 < entry["training"]["epochs"] * entry["training"]["iterations"] * UNCOUNTED_S / 600 < 1


def test_members_share_a_budget(here: Machine, tiny: dict):
    done = steps.plan_and_preprocess(**tiny, recipe="region_loss_ensemble")
    assert "steps of each of 2 members fit 10 min" in done.lines[-1]
    assert "--budget 10m" in done.lines[-1]
    assert _plan_of(tiny, "region_loss_ensemble").budget_seconds == 300


def test_a_recipe_that_lies_over_a_settled_plan_leaves_it_alone(here: Machine, tiny: dict):
    first, trials = steps.plan_and_preprocess(**tiny, recipe="region_loss_ensemble"), here.trials
    assert steps.plan_and_preprocess(**tiny, recipe="region_loss_ensemble").lines == first.lines
    assert here.trials == trials


def test_a_recipe_that_names_sizes_has_no_budget(here: Machine, tmp_path: Path):
    fixed = Recipe(name="mine", about="", configurations={"3d_fullres": {"patch_size": [64, 64, 64]}})
    with pytest.raises(PlanError, match=r"recipe 'mine': names 'patch_size'"):
        planning(tmp_path, recipe=fixed, budget=600).make("plain")
    assert here.trials == 0


def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: list[dict]) -> tuple[Plan, Path]:
    """A plan, and the folder of a fold that has trained it, with the given lines of its journal."""
    made, folder = planning(tmp_path, gpu_memory=1).make("plain"), tmp_path / "fold_0"
    folder.mkdir()
    (folder / "journal.jsonl").write_text("\n".join(json.dumps({"kind": "epoch"} | epoch) for epoch in epochs))
    plan = made.replaced("3d_fullres", "training", {"precision": "bf16"})
    fold = SimpleNamespace(plan=plan, configuration_name="3d_fullres", configuration=plan.configuration("3d_fullres"))
    monkeypatch.setattr("bts_auto.model.fold.TrainedFold", lambda folder: fold)
    return made, folder


LONG = [{"step": 10, "seconds": 90.0}, {"step": 30, "seconds": 60.0}]


def test_a_long_training_tells_the_rate(here: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made, folder = trained(tmp_path, monkeypatch, LONG)
    measure.remember_training(folder, tmp_path)
    assert measure.known_step_seconds(made, "3d_fullres", tmp_path) == pytest.approx(6.0)
    assert measure.known_step_seconds(made, "2d", tmp_path) is None


def test_a_training_is_done_where_its_rate_cannot_be_kept(
    here: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _, folder = trained(tmp_path, monkeypatch, LONG)
    (no_folder := tmp_path / "file").touch()
    measure.remember_training(folder, no_folder, observer=(heard := Heard()))
    assert len(heard.warnings) == 1


@pytest.mark.parametrize("budget", [None, 600])
def test_a_changed_recipe_is_laid_anew(here: Machine, tmp_path: Path, budget: float | None):
    first = Recipe(name="mine", about="", configuration={"training": {"seed": 5}})
    asked = planning(tmp_path, recipe=first, budget=budget)
    asked.laid(asked.make("plain")).save(tmp_path / "plan.json")
    assert asked.made_before(tmp_path / "plan.json", "plain")
    changed = first.model_copy(update={"configuration": {"training": {"seed": 6}}})
    assert planning(tmp_path, recipe=changed, budget=budget).made_before(tmp_path / "plan.json", "plain") is None


def test_small_networks_are_timed_only_where_they_fit(here: Machine, tmp_path: Path):
    here.most_gb, heard = 0.6, Heard()
    made = planning(tmp_path, heard, budget=1800, gpu_memory=0.6, device="cpu").make("plain")
    ((name, _),) = made.expected.items()
    assert plan_memory(made, name, precision="bf16").peak <= 0.6 * 2**30
    assert not [warning for warning in heard.warnings if "does not fit" in warning]


def test_a_budget_is_planned_within_memory_that_is_not_what_it_seemed(here: Machine, tmp_path: Path):
    here.most_gb, heard = 0.6, Heard()
    made = planning(tmp_path, heard, budget=1800).make("plain")
    ((name, _),) = made.expected.items()
    assert plan_memory(made, name, precision="bf16").peak <= 0.6 * 2**30
    assert "does not fit" in heard.warnings[0]


@pytest.mark.parametrize("budget", [None, 1800])
def test_without_memory_for_any_step_there_is_no_plan(here: Machine, tmp_path: Path, budget: float | None):
    here.most_gb = 0.0
    with pytest.raises(PlanError, match="no plan fits"):
        planning(tmp_path, budget=budget).make("plain")


@pytest.mark.parametrize(("budget", "kept"), [(None, 3.0), (86400 * 7, 6.0)])
def test_steps_that_take_more_than_foretold_are_planned_smaller(
    here: Machine, tmp_path: Path, budget: float | None, kept: float
):
    here.kept = kept
    asked = {"planner": "measured", "gpu_memory": 2, "device": "cpu", "budget": budget}
    made = planning(tmp_path, heard := Heard(), **asked).make("plain")
    # On a processor there is room for what a training keeps, for what torch takes besides, and for errors of both.
    peaks = [kept * plan_memory(made, name, precision="bf16").peak / 2**30 for name in made.expected]
    assert max(peaks) <= (2 * 1.3 + 0.25) * 1.125
    assert "it takes" in heard.warnings[0]


def test_a_recipe_whose_steps_take_more_is_planned_for_in_a_few_steps(here: Machine, tmp_path: Path):
    here.kept, recipe = (
        6.0,
        Recipe(name="mine", about="", configuration={"training": {"optimizer": {"name": "adam"}, "precision": "fp32"}}),
    )
    asked = {"planner": "measured", "gpu_memory": 2, "device": "cpu", "budget": 86400 * 7}
    planning(tmp_path, heard := Heard(), recipe=recipe, **asked).make("plain")
    assert 1 <= len(heard.warnings) <= 5
    assert here.trials < 12


def test_the_driver_is_asked_a_few_times_whatever_is_looked_at(
    here: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[str] = []
    monkeypatch.setattr(machine, "hardware", lambda device="auto": asked.append(device) or "a machine")
    planning(tmp_path, budget=1800).make("plain")
    assert len(asked) <= 2


def test_steps_that_others_disturbed_settle_nothing(here: Machine, tiny: dict):
    here.others, heard = 0.5, Heard()
    steps.plan_and_preprocess(**tiny, observer=heard)
    (configuration,) = (disturbed := _plan_of(tiny)).configurations
    assert any("fewer steps are planned" in warning for warning in heard.warnings)
    assert not disturbed.settled
    assert disturbed.configuration(configuration).training.precision == "auto"
    here.others, trials = 0.0, here.trials
    steps.plan_and_preprocess(**tiny)
    assert here.trials > trials
    assert _plan_of(tiny).settled


def test_preprocessed_cases_that_do_not_fit_are_named(here: Machine, tiny: dict):
    here.stored_gb = 0.0
    with pytest.raises(PlanError, match=r"on preprocessed cases does not fit.*--gpu-memory"):
        steps.plan_and_preprocess(**tiny)


@pytest.mark.parametrize(
    ("others", "known", "warnings"), [((0.0, 0.5, 0.0), 2.0, 0), ((0.5, 0.0, 0.5), None, 1), ((0.25, 0.0), None, 1)]
)
def test_disturbed_epochs_tell_no_rate(
    here: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: tuple, known: float | None, warnings: int
):
    lines = [
        {"step": 10 * (i + 1), "seconds": 20.0 if share == 0 else 90.0, "others": share}
        for i, share in enumerate(others)
    ]
    made, folder = trained(tmp_path, monkeypatch, lines)
    measure.remember_training(folder, tmp_path, observer=(heard := Heard()))
    assert measure.known_step_seconds(made, "3d_fullres", tmp_path) == pytest.approx(known)
    assert len(heard.warnings) == warnings
