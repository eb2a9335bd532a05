"""Planning for a time budget: measure the machine, choose by `plan/budget.py`, and settle the number of steps."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import TYPE_CHECKING

from bts_auto.errors import PlanError
from bts_auto.events import Observer

if TYPE_CHECKING:
    from bts_auto.plan.budget import Candidate
    from bts_auto.plan.rate import Rates
    from bts_auto.plan.recipes import Recipe
    from bts_auto.plan.schema import Considered, Plan
    from bts_auto.steps.place import Place
    from bts_auto.steps.planning import Planning, Request
    from bts_auto.steps.trials import OutOfMemory, Trials

FOLDS = 5
# Each choice that rests on a step which was not timed is followed by timing it.
_MOST_CHOICES = 6
# A recipe's network that is so much slower than it was taken for calls for another choice.
_SLOWER = 1.25


def plan_for_budget(planning: Planning, preset: str) -> Plan:
    """A plan with one configuration, sized so that its training and validation end within the budget.

    Raises
    ------
    PlanError
        When the budget is too short for any, or the memory, the cases are too small, or a recipe names sizes.
    """
    from bts_auto.steps.fitting import fitting
    from bts_auto.steps.probes import budget_probes
    from bts_auto.steps.trials import Trials

    base, gb = planning.usual(preset), planning.available_gb()
    source = "3d_fullres" if "3d_fullres" in base.configurations else "2d"
    for part in planning.parts:
        part.check_budget(source)
    if not list(budget_probes(base, source, gb)):
        median = "x".join(f"{edge:g}" for edge in base.configuration(source).median_image_size_in_voxels)
        raise PlanError(f"cases of {median} voxels are too small to plan for a time budget", mend="leave out --budget")
    planning.say_what_for(gb)
    room = planning.room_gb(gb)
    with Trials(planning.request.device) as trials:
        return fitting(gb, lambda gb: _plan_within(planning, trials, base, source, gb, room), planning.observer)


def _plan_within(planning: Planning, trials: Trials, base: Plan, source: str, gb: float, room_gb: float) -> Plan:
    """The plan for so many GB, chosen again until its steps are measured ones, which may take `room_gb`."""
    from bts_auto.plan.rate import Rates
    from bts_auto.steps.measure import measure_rates
    from bts_auto.steps.probes import budget_probes

    for probe, name in budget_probes(base, source, gb):
        measure_rates(trials, probe, [name], planning.rates_folder, observer=planning.observer)
    slower = float(_accumulation(planning, base, source))
    for _ in range(_MOST_CHOICES):
        known, before = Rates.load(planning.rates_folder), slower
        made = _foretold(planning, base, source, gb, slower)
        (name,) = made.configurations
        trained = planning.trained(made)
        seconds = [_real_step(planning, trials, one, name, room_gb) for one in trained]
        rates = Rates.load(planning.rates_folder)
        slower = max(seconds) / _seconds(planning, made, name, rates)
        if rates == known and slower <= _SLOWER * before:
            break
    steps = min(_steps(planning, one, name, took) for one, took in zip(trained, seconds, strict=True))
    return planning.with_expected(with_steps(made, name, steps))


def _foretold(planning: Planning, base: Plan, source: str, gb: float, slower: float) -> Plan:
    """The plan that is best by foretold times, where steps take so many times those of the preset's network."""
    from bts_auto.plan.budget import candidates, choose, compared
    from bts_auto.plan.expect import nearest_rate
    from bts_auto.plan.measured import Limits
    from bts_auto.plan.presets import MIN_BATCH, find_preset
    from bts_auto.plan.rate import Rates

    budget = planning.budget
    assert budget is not None
    rates, full = Rates.load(planning.rates_folder), base.configuration(source)
    trained = planning.trained(base)
    rate = nearest_rate(base, source, rates, planning.request.hardware, step_tflop=1.0)
    if rate is None:
        raise _not_measured(base, source)
    with planning.sizing(gb):
        every = list(
            candidates(
                full.spacing,
                full.median_image_size_in_voxels,
                find_preset(base.preset),
                Limits(gb, rate.precision),
                max(one.network_channels(source) for one in trained),
                lambda tflop, width: slower * _seconds(planning, base, source, rates, step_tflop=tflop, width=width),
                budget,
                _held_out(planning, base, source),
                max((one.said_of(source).get("batch_size", MIN_BATCH) for one in planning.parts), default=MIN_BATCH),
                _accumulation(planning, base, source),
            )
        )
        found = choose(every, budget)
    made = _as_plan(base, source, found, budget, gb)
    return made.model_copy(update={"considered": tuple(map(_considered, compared(every, found)))})


def _considered(one: Candidate) -> Considered:
    from bts_auto.plan.schema import Considered

    return Considered(
        spacing=one.grid.spacing,
        patch_size=one.sized.topology.patch_size,
        channels=one.width,
        steps=one.steps,
        price=round(one.price, 3),
    )


def _real_step(planning: Planning, trials: Trials, made: Plan, name: str, room_gb: float) -> float:
    """Seconds of a step that was really taken, now or before, and took at most `room_gb`."""
    from bts_auto.plan.expect import step_operations
    from bts_auto.steps.fitting import check_peak
    from bts_auto.steps.measure import check_steps

    rates = check_steps(trials, made, [name], planning.rates_folder, room_gb=room_gb, observer=planning.observer)
    if step_operations(made, name) is None:  # a network whose operations are not counted is not remembered either
        planning.observer.note(f"trying a training step: {name}, network {made.configuration(name).network.name}")
        tried = trials.run(made, name, quick=True)
        check_peak(name, tried.peak_bytes / 2**30, room_gb, made.gpu_memory_gb)
        return tried.step_seconds
    return _seconds(planning, made, name, rates)


def _seconds(
    planning: Planning,
    made: Plan,
    name: str,
    rates: Rates,
    *,
    step_tflop: float | None = None,
    width: int | None = None,
) -> float:
    """Foretold seconds of a plan's step, or of one of so many operations in 10^12 of a network of so many channels."""
    from bts_auto.steps.measure import foretold_seconds

    hardware = planning.request.hardware
    found = foretold_seconds(made, name, rates, hardware, step_tflop=step_tflop, width=width)
    if found is None:
        raise _not_measured(made, name)
    return found


def _not_measured(made: Plan, name: str) -> PlanError:
    return PlanError(f"the speed of network '{made.configuration(name).network.name}' could not be measured here")


def _accumulation(planning: Planning, base: Plan, source: str) -> int:
    """Batches of an optimiser step, by the recipe that has the most."""
    return max(one.configuration(source).training.accumulation for one in planning.trained(base))


def _as_plan(base: Plan, source: str, found: Candidate, budget: float, gb: float) -> Plan:
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
    return type(base).from_values(made | whole)


def with_steps(made: Plan, name: str, steps: int) -> Plan:
    """The plan with another length of its training."""
    from bts_auto.plan.budget import no_time, training_for

    if steps < 1:
        assert made.budget_seconds is not None
        raise no_time(made.budget_seconds)
    # The schedule stands there already, and may be a recipe's.
    length = {key: value for key, value in training_for(steps).items() if key != "schedule"}
    return made.replaced(name, "training", length)


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
    patches = configuration.batch_size * configuration.training.accumulation
    return steps_within(made.budget_seconds, seconds, patches, tiles, len(inference.mirror_axes))


def settle(
    place: Place, made: Plan, request: Request, recipe: str | Path | None, observer: Observer
) -> tuple[str, ...]:
    """Time real steps on the preprocessed cases and save the number of steps that fit; says how to train.

    A plan that was settled before stays as it is; times that other programs disturbed do not settle it.
    """
    from bts_auto.plan.expect import duration
    from bts_auto.plan.recipes import load_recipe

    assert request.budget is not None
    (name,) = made.configurations
    chosen = None if recipe is None else load_recipe(recipe)
    if not made.settled:
        observer.note("timing steps on preprocessed cases")
        made = _settled(place, made, name, request, chosen, observer)
        made.save(place.plan_path(made.recipe))
    training = made.configuration(name).training
    each = f" of each of {len(chosen.members)} members" if chosen is not None and chosen.members else ""
    fit = f"{training.epochs * training.iterations} steps{each} fit {duration(request.budget)}"
    command = f"bts_train {name} 0 --budget {_spelt(request.budget)}"
    laid = "" if recipe is None else f" --recipe {recipe}"
    return (f"{fit}; next: {command}{laid}",)


def _settled(place: Place, made: Plan, name: str, request: Request, recipe: Recipe | None, observer: Observer) -> Plan:
    """The plan with the steps that fit by a trial on prepared cases, of an ensemble by that of the slowest member."""
    from bts_auto.plan.expect import with_expected
    from bts_auto.plan.rate import Rates, is_busy
    from bts_auto.plan.recipes import apply_recipe
    from bts_auto.preprocess.dataset import store_folder
    from bts_auto.preprocess.store import CaseStore
    from bts_auto.steps.measure import as_rate
    from bts_auto.steps.trials import OutOfMemory, Trials

    store = CaseStore(store_folder(place.preprocessed, made, name))
    cases = store.cases()
    trained = [made] if recipe is None else [apply_recipe(made, one) for one in recipe.parts().values()]
    try:
        with Trials(request.device) as trials:
            tried = [trials.run(one, name, store=store.folder, cases=cases) for one in trained]
    except OutOfMemory as error:
        raise _too_large(made, request, error) from error
    others, formats = max(one.others for one in tried), {one.precision for one in tried}
    if len(formats) == 1 and not is_busy(others):  # found out once, not again by each training
        made = made.replaced(name, "training", {"precision": formats.pop()})
    held_out = sorted((list(store.open(case).shape[1:]) for case in cases), key=math.prod)
    shapes = held_out[-math.ceil(len(cases) / FOLDS) :]
    steps = min(_fitting(one, name, took.step_seconds, shapes) for one, took in zip(trained, tried, strict=True))
    made = with_steps(made, name, steps)
    told, hardware = Rates(), request.hardware
    for one, took in zip(trained, tried, strict=True):
        with contextlib.suppress(PlanError):  # a network whose operations are not counted tells no rate
            rate = as_rate(one, name, took, hardware)
            Rates.load(place.rates_folder).add(rate).save(place.rates_folder)
            told = told.add(rate)
    made = with_expected(made, told, hardware, on_cpu=request.on_cpu)
    if is_busy(others):
        observer.warn(
            f"other programs took {others:.0%} of the processors while steps were timed: fewer steps are planned than "
            "would fit; the same command times them again when the machine is idle, and folds that were trained "
            "before then want bts_train --restart"
        )
    return made.model_copy(update={"settled": not is_busy(others)})


def _too_large(made: Plan, request: Request, error: OutOfMemory) -> PlanError:
    device = "--device cpu " if request.on_cpu else ""
    return PlanError(
        f"a real step on preprocessed cases does not fit ({error.what})",
        where=error.where,
        mend=f"free memory, or plan for less of it: {device}--gpu-memory {made.gpu_memory_gb / 2:.2g}",
    )


def _spelt(seconds: float) -> str:
    return f"{seconds / 60:g}m" if seconds % 60 == 0 else f"{seconds:g}s"
