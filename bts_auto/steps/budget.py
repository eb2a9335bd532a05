"""Planning for a time budget: measure the machine, choose by `plan/budget.py`, and settle the number of steps."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bts_auto.errors import PlanError
from bts_auto.events import Observer

if TYPE_CHECKING:
    from bts_auto.plan.budget import Candidate
    from bts_auto.plan.rate import Rates
    from bts_auto.plan.schema import Plan
    from bts_auto.steps.place import Place
    from bts_auto.steps.planning import Planning, Request
    from bts_auto.steps.trials import Trials

FOLDS = 5
# Each choice that rests on a step which was not timed is followed by timing it.
_MOST_CHOICES = 6
_TERA = 1e12


def plan_for_budget(planning: Planning, preset: str) -> Plan:
    """A plan with one configuration, sized so that its training and validation end within the budget.

    Raises
    ------
    PlanError
        When the budget is too short for any.
    """
    from bts_auto.steps.measure import measure_rates
    from bts_auto.steps.probes import budget_probes
    from bts_auto.steps.trials import OutOfMemory, Trials

    assert planning.request.budget is not None
    base, gb, observer = planning.usual(preset), planning.available_gb(), planning.observer
    source = "3d_fullres" if "3d_fullres" in base.configurations else "2d"
    with Trials(planning.request.device) as trials:
        for probe, name in budget_probes(base, source):
            measure_rates(trials, probe, [name], planning.rates_folder, observer=observer)
        while True:
            try:
                return _plan_within(planning, trials, base, source, gb)
            except OutOfMemory as error:
                gb *= 0.8
                observer.warn(f"a real step does not fit ({error.what}); planning for {gb:.1f} GB")


def _plan_within(planning: Planning, trials: Trials, base: Plan, source: str, gb: float) -> Plan:
    """The plan for so many GB, chosen again until the step that it rests on is a measured one."""
    from bts_auto.plan.budget import candidates, choose
    from bts_auto.plan.measured import Limits
    from bts_auto.plan.presets import find_preset
    from bts_auto.plan.rate import Rates
    from bts_auto.steps.measure import check_steps

    budget = planning.request.budget
    assert budget is not None
    rates, full = Rates.load(planning.rates_folder), base.configuration(source)
    for _ in range(_MOST_CHOICES):
        found = choose(
            candidates(
                full.spacing,
                full.median_image_size_in_voxels,
                find_preset(base.preset),
                Limits(gb, _nearest(planning, rates, base, source, _TERA).precision),
                base.network_channels(source),
                partial(_seconds, planning, rates, base, source),
                budget,
                _held_out(planning, base, source),
            ),
            budget,
        )
        name, made = _as_plan(base, source, found, budget, gb)
        known = rates
        rates = check_steps(trials, made, [name], planning.rates_folder, observer=planning.observer)
        if rates == known:
            break
    seconds = _seconds(planning, rates, made, name, _step_flop(made, name) / _TERA)
    return planning.with_expected(with_steps(made, name, _steps(planning, made, name, seconds)))


def _step_flop(made: Plan, name: str) -> float:
    from bts_auto.plan.compute_model import plan_compute

    return plan_compute(made, name).step


def _nearest(planning: Planning, rates: Rates, made: Plan, name: str, flop: float) -> Any:
    from bts_auto import machine

    configuration = made.configuration(name)
    hardware = machine.hardware(planning.request.device)
    rate = rates.nearest(hardware, configuration.network.name, configuration.dims, flop / _TERA)
    if rate is None:
        raise PlanError(f"the speed of network '{configuration.network.name}' could not be measured here")
    return rate


def _seconds(planning: Planning, rates: Rates, made: Plan, name: str, tflop: float) -> float:
    """Foretold seconds of a step of so many operations in 10^12."""
    return tflop / _nearest(planning, rates, made, name, tflop * _TERA).tflops


def _as_plan(base: Plan, source: str, found: Candidate, budget: float, gb: float) -> tuple[str, Plan]:
    """The plan of a candidate: 3d_fullres at the target spacing, 3d_lowres at a coarser one, 2d for slices."""
    from bts_auto.plan.budget import training_for
    from bts_auto.steps.probes import with_fields

    full = base.configuration(source)
    name = source if found.grid.spacing == full.spacing or source == "2d" else "3d_lowres"
    topology = found.sized.topology
    assert found.sized.features is not None
    values = {
        "spacing": found.grid.spacing,
        "median_image_size_in_voxels": found.grid.median,
        "patch_size": topology.patch_size,
        "n_stages": topology.n_stages,
        "kernel_sizes": topology.kernel_sizes,
        "strides": topology.strides,
        "features_per_stage": found.sized.features,
        "batch_size": found.sized.batch_size,
        "batch_dice": True,
        "previous_stage": None,
        "next_stage": None,
        "training": full.training.model_dump(mode="json") | training_for(found.steps),
    }
    made = with_fields(base, source, values).model_dump(mode="json")
    whole = {
        "planner": "measured",
        "budget_seconds": budget,
        "gpu_memory_gb": gb,
        "configurations": {name: made["configurations"][source]},
        "expected": {},
    }
    return name, type(base).from_values(made | whole)


def with_steps(made: Plan, name: str, steps: int) -> Plan:
    """The plan with another length of its training."""
    from bts_auto.plan.budget import training_for

    if steps < 1:
        raise PlanError(
            f"a budget of {made.budget_seconds:g} s leaves no time for a single step", mend="give more time"
        )
    entry = made.configurations[name]
    training = made.configuration(name).training.model_dump(mode="json") | training_for(steps)
    return made.model_copy(update={"configurations": {name: entry | {"training": training}}})


def _steps(planning: Planning, made: Plan, name: str, seconds: float) -> int:
    shape = [round(n) for n in made.configuration(name).median_image_size_in_voxels]
    return _fitting(made, name, seconds, [shape] * _held_out(planning, made, name))


def _held_out(planning: Planning, made: Plan, name: str) -> int:
    """Volumes that the validation of a fold predicts; in 2d, their slices."""
    cases = math.ceil(len(planning.fingerprint.spacings) / FOLDS)
    slices = made.original_median_shape_after_transp[0] if made.configuration(name).dims == 2 else 1
    return cases * slices


def _fitting(made: Plan, name: str, seconds: float, shapes: list[list[int]]) -> int:
    """Steps of `seconds` that fit the plan's budget beside the validation of cases of these shapes."""
    from bts_auto.plan.budget import steps_within
    from bts_auto.plan.reserve import patches_to_visit

    configuration = made.configuration(name)
    assert made.budget_seconds is not None
    inference = configuration.inference
    tiles = sum(patches_to_visit(shape, configuration.patch_size, inference.step_size) for shape in shapes)
    return steps_within(made.budget_seconds, seconds, configuration.batch_size, tiles, len(inference.mirror_axes))


def settle(
    place: Place, made: Plan, request: Request, recipe: str | Path | None, observer: Observer
) -> tuple[str, ...]:
    """Time real steps on the preprocessed cases and save the number of steps that fit; says how to train.

    A plan that was settled before stays as it is.
    """
    from bts_auto import machine
    from bts_auto.files import write_json
    from bts_auto.plan.expect import duration, expect
    from bts_auto.plan.rate import Rates
    from bts_auto.preprocess.dataset import store_folder
    from bts_auto.preprocess.store import CaseStore
    from bts_auto.steps.measure import as_rate
    from bts_auto.steps.trials import Trials

    assert request.budget is not None
    (name,) = [one for one, entry in made.configurations.items() if not entry.get("inherits_from")]
    store = CaseStore(store_folder(place.preprocessed, made, name))
    record, cases = store.folder / "settled.json", store.cases()
    key = {"plan": made.content_hash()}
    hardware = machine.hardware(request.device)
    if not (record.exists() and _read(record) == key):
        observer.note("timing steps on preprocessed cases")
        with Trials(request.device) as trials:
            tried = trials.run(made, name, store=store.folder, cases=cases)
        rate = as_rate(made, name, tried, hardware)
        Rates.load(place.rates_folder).add(rate).save(place.rates_folder)
        # Found out once, not again by each training.
        made = made.replaced(name, "training", {"precision": tried.precision})
        held_out = sorted((list(store.open(case).shape[1:]) for case in cases), key=math.prod)
        shapes = held_out[-math.ceil(len(cases) / FOLDS) :]
        made = with_steps(made, name, _fitting(made, name, tried.step_seconds, shapes))
        made = made.model_copy(update={"expected": {name: expect(made, name, rate, on_cpu=request.on_cpu)}})
        made.save(place.plan_path(made.recipe))
        write_json(record, {"plan": made.content_hash()})
    training = made.configuration(name).training
    steps = training.epochs * training.iterations
    command = f"bts_train {name} 0 --budget {_spelt(request.budget)}"
    laid = "" if recipe is None else f" --recipe {recipe}"
    return (f"{steps} steps fit {duration(request.budget)}; next: {command}{laid}",)


def _read(path: Path) -> Any:
    from bts_auto.files import read_json

    return read_json(path)


def _spelt(seconds: float) -> str:
    return f"{seconds / 60:g}m" if seconds % 60 == 0 else f"{seconds:g}s"
