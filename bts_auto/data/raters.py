"""Cases that several people have annotated.

``ratersTr/RATER/CASE.nii.gz`` holds one mask per rater and case, and dataset.json says how they are read as one::

    "raters": {"name": "staple"}
    "raters": {"name": "majority", "options": {"ties": "background"}}
    "raters": {"name": "agreement"}

A case that has a mask in ``labelsTr`` is read from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bts_auto import registry
from bts_auto.data import checks
from bts_auto.data.labels import Labels
from bts_auto.data.readers import read_mask
from bts_auto.data.volume import Geometry
from bts_auto.errors import BtsError, DataError

KEY = "raters"
FOLDER = "ratersTr"


@dataclass(frozen=True)
class Fusion:
    """How several raters' masks are read as one: a registered ``rater_fusion`` with its options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As it stands in dataset.json."""
        return {"name": self.name, "options": dict(self.options)}


@dataclass(frozen=True)
class RaterMasks:
    """The masks of one case by several raters, in the place of a path to one mask.

    Attributes
    ----------
    paths : tuple of Path
        One file for each rater; some may be missing, which reading refuses.
    fusion : Fusion
    labels : Labels
        What the masks, or the classes made of them, mean.
    """

    paths: tuple[Path, ...]
    fusion: Fusion
    labels: Labels = field(compare=False)

    @property
    def name(self) -> str:
        """What is missing, in words, or the file's name."""
        missing = [path for path in self.paths if not path.is_file()] or self.paths
        return ", ".join(f"{path.parent.name}/{path.name}" for path in missing)

    @property
    def parent(self) -> Path:
        """The folder with a folder for each rater."""
        return self.paths[0].parent.parent

    def is_file(self) -> bool:
        """Whether every rater's mask is there."""
        return all(path.is_file() for path in self.paths)

    def __str__(self) -> str:
        return str(self.parent / "*" / self.paths[0].name)


Reference = Path | RaterMasks
"""Where a case's label map comes from."""


def reference_files(reference: Reference) -> tuple[Path, ...]:
    """The files that a label map is read from."""
    return reference.paths if isinstance(reference, RaterMasks) else (reference,)


def read_fusion(document: Mapping[str, Any], path: Path) -> Fusion | None:
    """What dataset.json says under ``raters``.

    Raises
    ------
    DataError
        For an unknown way of reading, or an option that it does not have.
    """
    declared = document.get(KEY)
    if declared is None:
        return None
    if (
        not isinstance(declared, Mapping)
        or not isinstance(declared.get("name"), str)
        or set(declared)
        - {
            "name",
            "options",
        }
    ):
        raise DataError(f"'{KEY}' must be like {{'name': 'staple', 'options': {{}}}}", where=path)
    fusion = Fusion(declared["name"], declared.get("options") or {})
    try:
        registry.options("rater_fusion", fusion.name, dict(fusion.options))
    except BtsError as error:
        raise DataError(f"'{KEY}': {error.what}", where=path, mend=error.mend) from None
    return fusion


def find_raters(folder: Path, file_ending: str) -> dict[str, tuple[Path, ...]]:
    """For each case the file of every rater, as far as the case was annotated at all; raters are sorted by name."""
    raters = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    named = [{path.name for path in rater.iterdir() if path.name.endswith(file_ending)} for rater in raters]
    files = sorted(name for name in set().union(*named) if not name.startswith("."))
    return {name[: -len(file_ending)]: tuple(rater / name for rater in raters) for name in files}


def read_reference(reference: Reference) -> tuple[np.ndarray, Geometry]:
    """Read a label map, made of several raters' where there are several.

    Returns
    -------
    mask : ndarray of an integer type, shape (z, y, x)
    geometry : Geometry

    Raises
    ------
    DataError
        As :func:`bts_auto.data.readers.read_mask`; when a rater's mask is missing, lies on another grid, or holds a
        label that the dataset does not know.
    """
    if not isinstance(reference, RaterMasks):
        return read_mask(reference)
    if not reference.is_file():
        raise DataError(f"missing {reference.name}", where=reference.parent, mend="every rater annotates every case")
    masks: list[np.ndarray] = []
    geometry: Geometry | None = None
    for path in reference.paths:
        mask, own = read_mask(path)
        geometry = geometry or own
        checks.same_grid(own, path, geometry, reference.paths[0])
        masks.append(mask)
    fusion = reference.fusion
    fuse = registry.component("rater_fusion", fusion.name)
    if fuse.keeps_labels:
        for mask, path in zip(masks, reference.paths, strict=True):
            checks.known_labels(mask, reference.labels, path)
    options = registry.options("rater_fusion", fusion.name, dict(fusion.options))
    assert geometry is not None
    return fuse.fuse(masks, reference.labels, options), geometry
