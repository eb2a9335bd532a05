"""Combining folders of predictions, ours or another program's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bts_auto import registry
from bts_auto.combine.combiners import combine
from bts_auto.combine.saved import find_of_members, probabilities_exist
from bts_auto.data.labels import Labels
from bts_auto.data.readers import read_mask, write_mask
from bts_auto.data.volume import Geometry
from bts_auto.ensemble.join import combine_sources, uses_probabilities
from bts_auto.errors import BtsError, CaseFailure, DataError
from bts_auto.evaluate.folder import find_masks
from bts_auto.events import SILENT, Observer
from bts_auto.plan.recipes import check_count

_WITHOUT_PROBABILITIES = "combine the masks, by vote or staple"


@dataclass(frozen=True)
class Combined:
    """What was done: by which combiner and why, and which cases could not be."""

    combiner: str
    reason: str
    cases: list[str] = field(default_factory=list)
    failures: list[CaseFailure] = field(default_factory=list)


def combine_folders(
    folders: Sequence[Path | str],
    out: Path | str,
    labels: Labels,
    *,
    combiner: str | None = None,
    options: dict[str, Any] | None = None,
    file_ending: str | None = None,
    observer: Observer = SILENT,
) -> Combined:
    """Combine the predictions of two or more folders, case by case.

    Without a `combiner` the mean of the probabilities is taken if every folder has them for every common case (see
    :mod:`bts_auto.combine.saved`), be they of the dataset's labels or of the regions made of them. Else the majority of
    the masks is taken; in a tie the label stands that the earliest folder has. Which of the two it was is noted, and
    returned.

    Parameters
    ----------
    folders : sequence of Path
        Each with one mask per case.
    out : Path
        Where the combined masks go, named as in the first folder.
    labels : Labels
        The dataset's labels; masks are written with the integers that a submission wants.
    combiner : str, optional
        A registered combiner.
    options : dict, optional
        Its options.

    Returns
    -------
    Combined
        Its failures name the cases that are not in every folder, on different grids, with unknown labels or unreadable.

    Raises
    ------
    DataError
        With fewer than two folders, one of them twice, a folder without masks, no common case, or an asked-for mean
        without probabilities.
    PlanError
        For an unknown combiner, or options that do not fit it.
    """
    places = [Path(folder) for folder in folders]
    if len(places) < 2:
        raise DataError("there are fewer than two folders to combine")
    real = [place.resolve() for place in places]
    twice = [place for place, one in zip(places, real, strict=True) if real.count(one) > 1]
    if twice:
        raise DataError("the same folder twice", where=twice[0], mend="name different folders, or give it a weight")
    if Path(out).resolve() in real:
        raise DataError("is one of the folders that are combined", where=out, mend="choose another output folder")
    found = [find_masks(place, file_ending) for place in places]
    common = [case for case in found[0] if all(case in masks for masks in found)]
    if not common:
        raise DataError(f"no case is in all of {', '.join(map(str, places))}", mend="name masks of a case alike")
    failures = _missing(places, found)
    if combiner is not None:
        checked = registry.options("combiner", combiner, options)
        check_count(checked, len(places), where=f"options of combiner '{combiner}'")
    chosen, reason = _choose(places, common, labels, combiner)
    observer.note(f"Combining {len(places)} folders by {chosen}: {reason}")
    done = []
    for case in observer.track(common, "Combining"):
        try:
            paths = [masks[case] for masks in found]
            mask, geometry = _combine_case(case, places, paths, chosen, options, labels)
            write_mask(Path(out) / paths[0].name, labels.for_submission(mask), geometry)
            done.append(case)
        except BtsError as error:
            failures.append(CaseFailure(case, str(error)))
            observer.warn(f"{case}: {error}")
    return Combined(chosen, reason, done, sorted(failures, key=lambda failure: failure.case))


def _missing(places: list[Path], found: list[dict[str, Path]]) -> list[CaseFailure]:
    failures = []
    for case in sorted(set().union(*found)):
        absent = [str(place) for place, masks in zip(places, found, strict=True) if case not in masks]
        if absent:
            failures.append(CaseFailure(case, f"is not in {', '.join(absent)}"))
    return failures


def _choose(places: list[Path], common: list[str], labels: Labels, asked: str | None) -> tuple[str, str]:
    """The combiner, and why it."""
    if asked is not None and not uses_probabilities(asked):
        return asked, "as asked for"
    for place in places:
        for case in common:
            if not probabilities_exist(place, case, labels):
                reason = f"{place} has no probabilities of {case}"
                if asked is not None:
                    raise DataError(f"'{asked}' needs probabilities, and {reason}", mend=_WITHOUT_PROBABILITIES)
                return "vote", f"{reason}; in a tie the earliest folder decides"
    return (asked, "as asked for") if asked else ("mean", "every folder has probabilities")


def _combine_case(
    case: str,
    places: list[Path],
    paths: list[Path],
    chosen: str,
    options: dict[str, Any] | None,
    labels: Labels,
) -> tuple[np.ndarray, Geometry]:
    masks, geometry = _read_masks(paths, labels)
    if not uses_probabilities(chosen):
        return combine(chosen, masks, labels, options), geometry
    try:
        joined, sources = find_of_members(places, case, labels)
    except DataError as error:
        raise DataError(error.what, where=error.where, mend=error.mend or _WITHOUT_PROBABILITIES) from None
    for place, source in zip(places, sources, strict=True):
        if source.shape != geometry.size:
            what = f"its probabilities do not lie on the grid of the mask, {geometry.size}"
            raise DataError(what, where=place, mend=_WITHOUT_PROBABILITIES)
    return combine_sources(chosen, sources, joined, options), geometry


def _read_masks(paths: Sequence[Path], labels: Labels) -> tuple[list[np.ndarray], Geometry]:
    """One case's mask of each folder in the dataset's own integers, and the grid that they share."""
    masks = []
    shared: Geometry | None = None
    for path in paths:
        mask, geometry = read_mask(path)
        shared = shared or geometry
        differences = shared.differences(geometry)
        if differences:
            raise DataError(f"{paths[0]} and {path} lie on different grids: {'; '.join(differences)}")
        masks.append(labels.from_submission(mask))
        labels.check_known(masks[-1], path)
    assert shared is not None
    return masks, shared
