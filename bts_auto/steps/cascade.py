"""The masks that a later stage of a cascade is trained with: each case's by a fold that has not trained on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bts_auto.errors import BtsError, DataError
from bts_auto.files import hash_json, read_json
from bts_auto.steps.stage import Stage

if TYPE_CHECKING:
    from bts_auto.data.splits import Split
    from bts_auto.model.layout import FoldName
    from bts_auto.preprocess.masks import MaskStore

_FOLDER = "previous_masks"


def stages_before(stage: Stage) -> list[tuple[Stage, int]]:
    """Every fold of every earlier stage, in the order in which they are needed."""
    before = stage.before()
    if before is None:
        return []
    return [*stages_before(before), *((before, fold) for fold in range(len(before.splits())))]


def previous_masks(
    stage: Stage, cases: Sequence[str], options: Mapping[Path, Mapping[str, Any]] | None
) -> MaskStore | None:
    """The masks of the previous stage on the grid of this one's prepared cases; None without a previous stage.

    A case gets the mask that was made by the fold that held it out. Masks that are there already are kept.

    Parameters
    ----------
    cases : sequence of str
        Those that will be trained or validated with.
    options : mapping of Path to mapping, or None
        How a fold of an earlier stage is trained where it is not, by its folder; None: nothing is trained.

    Raises
    ------
    DataError
        When a case has no such mask; the fold that should have made it is named, with the reason.
    """
    from bts_auto.preprocess.masks import MaskStore

    before = stage.before()
    if before is None:
        return None
    held_out = _held_out(before, cases)
    splits = before.splits()
    missing = [fold for fold, names in held_out.items() if not _has_masks(before, fold, names)]
    if missing and options is not None:
        _make(stage, before, missing, splits, options)
    for fold, names in held_out.items():
        _check(stage, before, fold, names)
    masks = MaskStore(stage.folder(0).parent / _FOLDER)
    for fold, names in held_out.items():
        _bring(stage, before, fold, names, masks)
    return masks


def _held_out(before: Stage, cases: Sequence[str]) -> dict[int, list[str]]:
    """Which fold has held out which of the cases; the first of several."""
    held_out: dict[int, list[str]] = {}
    splits = before.splits()
    for case in cases:
        folds = [fold for fold, split in enumerate(splits) if case in split.validation]
        if not folds:
            raise DataError(
                f"no fold of {before.configuration} holds {case} out, so that no mask of it is free of its annotation",
                where=before.place.name,
                mend="give splits in which every case is held out once",
            )
        held_out.setdefault(folds[0], []).append(case)
    return dict(sorted(held_out.items()))


def _mask_path(before: Stage, fold: FoldName, case: str) -> Path:
    return before.folder(fold) / "validation" / f"{case}{before.plan.file_ending}"


def _has_masks(before: Stage, fold: FoldName, cases: Sequence[str]) -> bool:
    from bts_auto.model.layout import WEIGHTS_FILE

    weights = before.folder(fold) / WEIGHTS_FILE
    return weights.exists() and all(_mask_path(before, fold, case).exists() for case in cases)


def _make(
    stage: Stage,
    before: Stage,
    folds: Sequence[int],
    splits: Sequence[Split],
    options: Mapping[Path, Mapping[str, Any]],
) -> None:
    """Train and validate folds of the stage before, one after another; one that fails does not stop the others."""
    from bts_auto.train.run import is_finished

    cases = {case for fold in folds for case in (*splits[fold].train, *splits[fold].validation)}
    earlier = previous_masks(before, before.prepared(cases), options)
    failed: dict[int, str] = {}
    for number, fold in enumerate(folds, start=1):
        folder = before.folder(fold)
        stage.observer.note(
            f"{stage.configuration} needs the masks of {before.configuration}: fold {fold} ({number} of {len(folds)})"
        )
        how = dict(options[folder])
        try:
            if is_finished(folder):
                before.validate(fold, splits[fold].validation, earlier, device=how.get("device", "auto"))
            else:
                before.train(fold, splits[fold], earlier, **how)
        except BtsError as error:
            failed[fold] = str(error)
            stage.observer.warn(f"fold {fold} of {before.configuration}: {error}")
    if failed:
        reasons = "; ".join(f"fold {fold}: {reason}" for fold, reason in failed.items())
        raise DataError(f"{stage.configuration} needs every fold of {before.configuration} ({reasons})")


def _check(stage: Stage, before: Stage, fold: int, cases: Sequence[str]) -> None:
    lacking = [case for case in cases if not _mask_path(before, fold, case).exists()]
    if lacking or not _has_masks(before, fold, cases):
        raise DataError(
            f"{stage.configuration} needs the masks of {before.configuration}, whose fold {fold} has made none of "
            f"{', '.join(lacking[:5]) or 'its held-out cases'}",
            where=before.folder(fold),
            mend=f"run bts_train {before.configuration} {fold}",
        )


def _bring(stage: Stage, before: Stage, fold: int, cases: Sequence[str], masks: MaskStore) -> None:
    """Resample the masks of a fold to the grid of the stage, unless that is done."""
    from bts_auto.data.readers import read_mask
    from bts_auto.preprocess.prepare import prepare_mask

    configuration = stage.plan.configuration(stage.configuration)
    made_by = read_json(before.folder(fold) / "validation" / "made_by.json")
    rules = configuration.resampling.model_dump(mode="json")
    for case in cases:
        steps = stage.store.open(case).steps
        grid = hash_json([steps.to_json(), rules])
        record = {"stage": before.configuration, "fold": fold, "made_by": made_by, "grid": grid}
        if masks.record(case) == record:
            continue
        mask, _ = read_mask(_mask_path(before, fold, case))
        on_grid = prepare_mask(mask, steps, configuration)
        masks.write(case, on_grid, patch_size=configuration.patch_size, record=record)
