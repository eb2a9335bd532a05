"""Finding what is trained: every recipe and configuration with the cross-validated masks that its folds have left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bts_auto.combine.cache import CACHE_ENDING
from bts_auto.data.splits import Split
from bts_auto.ensemble.best import Member
from bts_auto.errors import DataError


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
    """

    member: Member
    masks: dict[str, Path]
    caches: dict[str, Path]

    @property
    def has_probabilities(self) -> bool:
        """Whether every case's probabilities are cached."""
        return self.caches.keys() >= self.masks.keys()

    def fold_of(self, case: str) -> int:
        """The fold that held a case out."""
        return int(self.masks[case].parent.parent.name.removeprefix("fold_"))


def discover(
    results: Path | str, file_ending: str, splits: Sequence[Split] | None = None
) -> tuple[list[Trained], list[str]]:
    """Find what is trained in a dataset's results folder.

    Only predictions of cases that a fold did not train on count: with `splits` those that the split holds out.

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
        trained = _trained(folder, file_ending, splits)
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


def _trained(folder: Path, file_ending: str, splits: Sequence[Split] | None) -> Trained:
    recipe, configuration = folder.name.split("__", 1)
    masks: dict[str, Path] = {}
    caches: dict[str, Path] = {}
    folds = []
    for number, validation in _fold_folders(folder):
        held_out = None if splits is None or number >= len(splits) else set(splits[number].validation)
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
    return Trained(member, dict(sorted(masks.items())), caches)


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
