"""Finding what is trained: every recipe and configuration with the cross-validated masks that its folds have left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bts_auto import machine
from bts_auto.combine.cache import CACHE_ENDING, CachedProbabilities
from bts_auto.data.readers import read_mask
from bts_auto.data.splits import Split
from bts_auto.ensemble.best import Member
from bts_auto.errors import BtsError, DataError
from bts_auto.model.layout import recipe_option
from bts_auto.pool import in_order

_MOST_READERS = 8
# Damaged files that are named one by one.
_MOST_NAMED = 3


@dataclass(frozen=True)
class Trained:
    """A recipe and configuration with its held-out predictions.

    Attributes
    ----------
    member : Member
        Its name and the folds that were found.
    masks : dict of str to Path
        For each held-out case the label map by the fold that did not train on it.
    caches : dict of str to Path
        Likewise the cached probabilities, of those cases that have them.
    sizes : dict of str to tuple of int
        Size (z, y, x) of each mask.
    """

    member: Member
    masks: dict[str, Path]
    caches: dict[str, Path]
    sizes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def has_probabilities(self) -> bool:
        """Whether every case's probabilities are cached."""
        return self.caches.keys() >= self.masks.keys()

    @property
    def validation_command(self) -> str:
        """What makes missing masks and probabilities."""
        return f"bts_train {self.member.configuration} cv{recipe_option(self.member.recipe)} --val"

    def fold_of(self, case: str) -> int:
        """The fold that held a case out."""
        return _fold_of(self.masks[case])


def discover(
    results: Path | str, file_ending: str, splits: Sequence[Split] | None = None
) -> tuple[list[Trained], list[str]]:
    """Find what is trained in a dataset's results folder.

    Only predictions of cases that a fold did not train on count: with `splits` those that the split holds out. What
    cannot be read counts as missing.

    Returns
    -------
    members : list of Trained
        All over the same cases, those that the best-covered ones share.
    notes : list of str
        What was left out, and why.

    Raises
    ------
    DataError
        When nothing is there to choose from.
    """
    results = Path(results)
    found, notes = [], []
    folders = [p for p in results.iterdir() if p.is_dir() and "__" in p.name] if results.is_dir() else []
    for folder in sorted(folders):
        trained, remarks = _trained(folder, file_ending, splits)
        notes += remarks
        if trained.masks:
            found.append(trained)
            missing = len(splits or ()) - len(trained.member.folds)
            if missing > 0:
                notes.append(f"{folder.name} has {len(trained.member.folds)} of {len(splits or ())} folds")
        else:
            notes.append(f"{folder.name} is left out: no fold of it has predicted its held-out cases")
    if not found:
        raise DataError(
            "nothing is trained and validated here", where=results, mend="train first: bts_train 3d_fullres 0"
        )
    kept, left_out = _same_cases(found)
    return kept, notes + left_out


def _trained(folder: Path, file_ending: str, splits: Sequence[Split] | None) -> tuple[Trained, list[str]]:
    recipe, configuration = folder.name.split("__", 1)
    masks: dict[str, Path] = {}
    caches: dict[str, Path] = {}
    folds, notes = [], []
    for number, validation in _fold_folders(folder):
        if splits is not None and number >= len(splits):
            notes.append(f"{folder.name}: fold {number} is left out: the dataset is split into {len(splits)} folds")
            continue
        held_out = None if splits is None else set(splits[number].validation)
        mine = {
            path.name[: -len(file_ending)]: path
            for path in sorted(validation.glob(f"*{file_ending}"))
            if not path.name.startswith(".")
        }
        mine = {case: path for case, path in mine.items() if held_out is None or case in held_out}
        if mine:
            folds.append(number)
            masks |= mine
            cached = {case: validation / f"{case}{CACHE_ENDING}" for case in mine}
            caches |= {case: path for case, path in cached.items() if path.is_file()}
    member = Member(recipe=recipe, configuration=configuration, folds=tuple(folds))
    trained, damaged = _readable(Trained(member, dict(sorted(masks.items())), caches))
    return trained, notes + damaged


def _readable(trained: Trained) -> tuple[Trained, list[str]]:
    """A member without the masks and cached probabilities that cannot be read, and notes about them."""
    masks, caches, sizes = {}, {}, {}
    broken: dict[str, list[str]] = {"masks": [], "cached probabilities": []}
    found = in_order(lambda case: _read(trained.masks[case], trained.caches.get(case)), list(trained.masks), readers())
    for (case, mask), (size, problem) in zip(trained.masks.items(), found, strict=True):
        if size is None:
            broken["masks"].append(f"{case} ({problem})")
            continue
        masks[case], sizes[case] = mask, size
        if problem is not None:
            broken["cached probabilities"].append(f"{case} ({problem})")
        elif case in trained.caches:
            caches[case] = trained.caches[case]
    folds = tuple(dict.fromkeys(_fold_of(mask) for mask in masks.values()))
    member = trained.member.model_copy(update={"folds": tuple(sorted(folds))})
    notes = [
        f"{member.name}: damaged {what} count as missing: {_listed(several)}; remove them, then "
        f"{trained.validation_command}"
        for what, several in broken.items()
        if several
    ]
    return Trained(member, masks, caches, sizes), notes


def readers() -> int:
    """Cases that are read side by side."""
    return min(machine.cores(), _MOST_READERS)


def _read(mask: Path, cache: Path | None) -> tuple[tuple[int, ...] | None, str | None]:
    """The size of a mask, None where it cannot be read, and what is wrong with it or with its probabilities."""
    size = None
    try:
        size = read_mask(mask)[0].shape
        if cache is None:
            return size, None
        cached = CachedProbabilities(cache)
        cached.check()
    except (BtsError, OSError) as error:
        return size, error.what if isinstance(error, BtsError) else str(error)
    return size, None if cached.shape == size else f"of size {cached.shape}, the mask {size}"


def _listed(several: Sequence[str]) -> str:
    more = len(several) - _MOST_NAMED
    return ", ".join(several[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _fold_of(mask: Path) -> int:
    return int(mask.parent.parent.name.removeprefix("fold_"))


def _fold_folders(folder: Path) -> list[tuple[int, Path]]:
    """Number and validation folder of each fold; ``fold_all`` trained on its own validation cases and is none."""
    numbered = []
    for path in folder.glob("fold_*"):
        name = path.name.removeprefix("fold_")
        if name.isdigit() and (path / "validation").is_dir():
            numbered.append((int(name), path / "validation"))
    return sorted(numbered)


def _same_cases(found: list[Trained]) -> tuple[list[Trained], list[str]]:
    """Members can be compared on common cases only: those that cover fewer than the best-covered one are left out."""
    most = max(len(one.masks) for one in found)
    full = [one for one in found if len(one.masks) == most]
    # Among equally large sets of cases the one that most members share, the first of several.
    reference = max(full, key=lambda one: sum(other.masks.keys() >= one.masks.keys() for other in full)).masks.keys()
    kept = [one for one in full if one.masks.keys() == reference]
    notes = [
        f"{one.member.name} is left out: it has predicted {len(one.masks.keys() & reference)} of {len(reference)} "
        "cross-validated cases"
        for one in found
        if one not in kept
    ]
    return kept, notes
