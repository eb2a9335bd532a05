"""How the BraTS challenges of 2012 to 2025 name their files, and which tissue each integer means in which year."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bts_auto.data.labels import Labels

SEQUENCES = ("T1", "T1c", "T2", "FLAIR")
_TOKENS = {
    "T1": ("t1", "t1n", "t1w"),
    "T1c": ("t1c", "t1ce", "t1gd", "t1wce"),
    "T2": ("t2", "t2w"),
    "FLAIR": ("flair", "t2f", "fla"),
    "seg": ("seg", "segm", "truth", "gtv", "ot", "label"),
}
_OF_TOKEN = {token: kind for kind, tokens in _TOKENS.items() for token in tokens}
_ENDINGS = (".nii.gz", ".nii", ".mha")
_SUFFIXED = re.compile(r"(?P<case>.+?)[-_. ](?P<token>[a-z0-9]+)", re.IGNORECASE)
# 2012 to 2015: each file in a folder of its own, "VSD.Brain.XX.O.MR_T1c.35535" or "VSD.Brain_3more.XX.O.OT.42283".
_VSD = re.compile(r"VSD\..*\.(?:MR_)?(?P<token>[A-Za-z0-9]+)\.\d+", re.IGNORECASE)
# The last number says which of a patient's scans it is: "BraTS-GLI-00005-100" (from 2023), "Brats17_TCIA_101_1".
_VISIT = re.compile(r"(?P<patient>BraTS-.+-\d+|Brats1\d_.+)[-_]\d+", re.IGNORECASE)
_GRADES = ("HGG", "LGG", "HG", "LG")


@dataclass
class FoundCase:
    """One subject's files, by sequence name and "seg"."""

    name: str
    folder: Path
    files: dict[str, Path] = field(default_factory=dict)
    twice: list[Path] = field(default_factory=list)

    @property
    def patient(self) -> str:
        """The patient, where the name tells several scans of one patient apart; else the name."""
        match = _VISIT.fullmatch(self.name)
        return match["patient"] if match else self.name

    @property
    def grade(self) -> str:
        """HGG or LGG where a folder above says so."""
        parts = {part.upper() for part in self.folder.parts}
        found = next((grade for grade in _GRADES if grade in parts), "")
        return found and found[:2] + "G"


def find_subjects(source: Path) -> list[FoundCase]:
    """All subjects below `source`, sorted by name; files of other kinds are passed over."""
    found: dict[tuple[Path, str], FoundCase] = {}
    for path in sorted(source.rglob("*")):
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.relative_to(source).parts)
        if hidden or not path.is_file():
            continue
        named = _parse(path)
        if named is None:
            continue
        folder, case, kind = named
        subject = found.setdefault((folder, case), FoundCase(case, folder))
        if kind in subject.files:
            subject.twice.append(path)
        subject.files.setdefault(kind, path)
    return sorted(_with_stray_masks(found.values()), key=lambda subject: (subject.name, subject.folder))


def _parse(path: Path) -> tuple[Path, str, str] | None:
    """The folder, name and sequence (or "seg") that a file belongs to; None for other files."""
    ending = next((known for known in _ENDINGS if path.name.lower().endswith(known)), None)
    if ending is None:
        return None
    stem = path.name[: -len(ending)]
    if vsd := _VSD.fullmatch(stem):
        kind = _OF_TOKEN.get(vsd["token"].lower())
        folder = path.parent.parent if path.parent.name == stem else path.parent
        # Subjects of 2012 and 2013 have bare numbers, which begin anew in each grade.
        name = f"{folder.parent.name}_{folder.name}" if folder.name.isdigit() else folder.name
        return (folder, name, kind) if kind else None
    match = _SUFFIXED.fullmatch(stem)
    kind = _OF_TOKEN.get(match["token"].lower()) if match else None
    return (path.parent, match["case"], kind) if match and kind else None


def _with_stray_masks(subjects: Iterable[FoundCase]) -> list[FoundCase]:
    """Give a mask of another name to the one subject of its folder (2020 has a "W39_1998.09.19_Segm.nii")."""
    subjects = list(subjects)
    stray = [subject for subject in subjects if set(subject.files) == {"seg"}]
    for mask in stray:
        beside = [one for one in subjects if one.folder == mask.folder and one is not mask]
        if len(beside) == 1 and "seg" not in beside[0].files:
            beside[0].files["seg"] = mask.files["seg"]
            subjects.remove(mask)
    return subjects


@dataclass(frozen=True)
class Scheme:
    """What the integers of a source's masks mean.

    Attributes
    ----------
    labels : dict of str to int
        For dataset.json, background included; consecutive.
    own : dict of int to int
        From the source's integer to ours, where they differ.
    """

    labels: dict[str, int]
    own: dict[int, int] = field(default_factory=dict)

    def source_labels(self) -> Labels:
        """The labels as they stand in the source's masks."""
        back = self.submission
        return Labels({name: (back.get(value, value),) for name, value in self.labels.items()})

    @property
    def submission(self) -> dict[int, int]:
        """From our integer to the source's, where they differ."""
        return {ours: theirs for theirs, ours in self.own.items()}


_TISSUES = {"background": 0, "necrosis": 1, "edema": 2, "enhancing": 3}
_ENHANCING_3 = Scheme(_TISSUES)  # from 2023
_ENHANCING_4 = Scheme(_TISSUES, {4: 3})  # 2017 to 2021
_FOUR_TISSUES = Scheme({"background": 0, "necrosis": 1, "edema": 2, "non_enhancing": 3, "enhancing": 4})  # to 2016
_CAVITY = Scheme(_TISSUES | {"resection_cavity": 4})  # after treatment: GLI 2024, MET 2025
_PAEDIATRIC = Scheme({"background": 0, "enhancing": 1, "non_enhancing": 2, "cystic": 3, "edema": 4})  # PED from 2024
_TARGET_VOLUME = Scheme({"background": 0, "gtv": 1})  # MEN-RT 2024


def label_scheme(names: Collection[str], values: Collection[int]) -> Scheme:
    """Find out what the integers mean.

    Parameters
    ----------
    names : collection of str
        The subjects' names: from 2023 on they begin with "BraTS-" and the challenge.
    values : collection of int
        All integers that occur in the masks.
    """
    modern = [name.upper() for name in names if name.upper().startswith("BRATS-")]
    if len(modern) > len(names) / 2:
        if all(name.startswith("BRATS-MEN-RT") for name in modern):
            return _TARGET_VOLUME
        if 4 not in values:
            return _ENHANCING_3
        return _PAEDIATRIC if all(name.startswith("BRATS-PED") for name in modern) else _CAVITY
    if 3 in values:
        return _FOUR_TISSUES if 4 in values else _ENHANCING_3
    return _ENHANCING_4
