"""Trying sizes of tiles on held-out cases, so that prediction can use the best."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

from bts_auto.evaluate.case import CaseScores
from bts_auto.evaluate.scores import Scores
from bts_auto.events import SILENT, Observer, Task
from bts_auto.model.fold import TrainedFold
from bts_auto.plan.schema import MeasuredTile
from bts_auto.predict.engine import choose_device, choose_engine, cpu_has_int8, working_memory
from bts_auto.predict.ranges import CASES, measure_ranges
from bts_auto.predict.tile_choice import Tiling, candidates, fast_tiling
from bts_auto.train.validate import HeldOut, validate_fold

# More cases would hardly change the choice.
MOST_CASES = 8


def validate_trained(
    held_out: HeldOut, cases: Sequence[str], *, tiles: bool = True, tta: bool = True, observer: Observer = SILENT
) -> Scores:
    """Validate a fold with the tile that suits it best, and write what was found about tiles into its plan.

    The ranges of the network's layers, which int8 needs, go there too.

    Parameters
    ----------
    tiles : bool
        Whether to measure ranges where they are not known, and to try sizes where the plan leaves the tile open and
        none was tried yet.
    tta : bool
        Whether the validation averages over mirrored copies.
    """
    inference = held_out.fold.configuration.inference
    if tiles and not inference.ranges:
        held_out = _with_ranges(held_out, _some(held_out, cases), observer)
    if tiles and inference.tile == "auto" and not inference.measured:
        held_out = replace(held_out, fold=try_tiles(held_out, cases, observer=observer))
    scores = validate_fold(held_out, cases, tta=tta, observer=observer)
    if tta and held_out.fold.configuration.inference.measured:
        _note_mirrored(held_out, scores)
    return scores


def try_tiles(held_out: HeldOut, cases: Sequence[str], *, observer: Observer = SILENT) -> TrainedFold:
    """Predict some of `cases` without mirroring with several sizes of tiles; Dice and time go into the fold's plan.

    The fastest tiles of those that lose little are tried in int8 too, where this machine computes it. A size that fails
    (too little memory, say) is named and left out.

    Returns
    -------
    TrainedFold
        The fold with what was found in its plan.
    """
    fold, chosen, int8 = held_out.fold, _some(held_out, cases), _computes_int8(held_out)
    tilings = candidates(fold.configuration, working_memory(choose_device(held_out.device)))
    found: list[MeasuredTile] = []
    with observer.task("Trying tiles", (len(tilings) + int8) * len(chosen), "case") as task:

        def attempt(tiling: Tiling) -> None:
            try:
                found.append(_try(tiling, held_out, chosen, task))
            except Exception as error:  # what is tried for speed must never cost the validation
                observer.warn(f"tiles {tiling} are left out: {type(error).__name__}: {error}")
            else:
                observer.note(_line(found[-1]))

        for tiling in tilings:
            attempt(tiling)
        fastest = fast_tiling(found, lambda tile: True)
        if int8 and fastest is not None:
            attempt(replace(fastest, int8=True))
    return fold.with_measured(found) if chosen and found else fold


def _some(held_out: HeldOut, cases: Sequence[str]) -> list[str]:
    """The first of those cases that can be scored."""
    return sorted(set(cases) & set(held_out.references))[:MOST_CASES]


def _with_ranges(held_out: HeldOut, cases: Sequence[str], observer: Observer) -> HeldOut:
    """The fold with the ranges of its network's layers, measured on the first cases."""
    fold = held_out.fold
    try:
        network = fold.network(choose_device(held_out.device))
        ranges = measure_ranges(network, map(held_out.image, cases[:CASES]), fold.configuration)
    except Exception as error:
        observer.warn(f"no ranges for int8: {type(error).__name__}: {error}")
        return held_out
    return replace(held_out, fold=fold.with_ranges(ranges))


def _computes_int8(held_out: HeldOut) -> bool:
    device = choose_device(held_out.device)
    known = bool(held_out.fold.configuration.inference.ranges)
    return known and choose_engine("auto", device) == "openvino" and cpu_has_int8()


def _try(tiling: Tiling, held_out: HeldOut, cases: Sequence[str], task: Task) -> MeasuredTile:
    precision = "int8" if tiling.int8 else "auto"
    predictor = held_out.predictor(tta=False, tile=tiling.tile, step_size=tiling.step_size, precision=precision)
    dice, seconds = {}, {}
    for case in cases:
        image = held_out.image(case)
        if predictor.tile_remarks(image.shape[1:]):
            raise MemoryError(f"{case} would take more memory than there is")
        start = time.perf_counter()
        scores = predictor.predict_prepared(image)
        seconds[case] = round(time.perf_counter() - start, 3)
        mask = predictor.export(scores, held_out.steps(case))
        dice[case] = dice_of(held_out.score(case, mask, ("dice",)))
        task.advance(tiles=str(tiling))
    return MeasuredTile(tile=tiling.tile, step_size=tiling.step_size, int8=tiling.int8, dice=dice, seconds=seconds)


def _line(one: MeasuredTile) -> str:
    seconds = sum(one.seconds.values()) / len(one.seconds)
    dice = [value for scores in one.dice.values() for value in scores.values()]
    mean = sum(dice) / len(dice) if dice else math.nan
    return f"tiles {Tiling(one.tile, one.step_size, one.int8)}: mean Dice {mean:.3f}, {seconds:.1f} s a case"


def _note_mirrored(held_out: HeldOut, scores: Scores) -> None:
    """Write the Dice of the mirrored validation beside what the tiles reached without mirroring."""
    fold = held_out.fold
    measured = [one for one in fold.configuration.inference.measured if not one.mirrored]
    cases = {case for one in measured for case in one.dice}
    dice = {case: dice_of(scores.cases[case]) for case in sorted(cases & set(scores.cases))}
    used = held_out.predictor()
    fold.with_measured((*measured, MeasuredTile(tile=used.tile, step_size=used.step_size, mirrored=True, dice=dice)))


def dice_of(scores: CaseScores) -> dict[str, float]:
    """The Dice of each label and region that has one."""
    return {region: values["dice"] for region, values in scores.items() if not math.isnan(values["dice"])}
