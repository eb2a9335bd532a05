"""Raw datasets on disk, in nnU-Net v2's format.

``DatasetXXX_Name/`` holds ``dataset.json``, ``imagesTr/CASE_0000.nii.gz`` (one file for each channel),
``labelsTr/CASE.nii.gz`` and optionally ``imagesTs/``, ``labelsTs/``, ``imagesUn/`` (unlabelled training cases) and
``cases.csv``. ``ratersTr/RATER/`` may hold several people's masks (:mod:`bts_auto.data.raters`). Cases that are
annotated for some labels only are named in dataset.json (:mod:`bts_auto.data.partial`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bts_auto.data.labels import Labels
from bts_auto.data.partial import KEY as PARTIAL
from bts_auto.data.partial import Annotated, read_partial_labels
from bts_auto.data.raters import FOLDER as RATERS
from bts_auto.data.raters import Fusion, RaterMasks, Reference, find_raters, read_fusion, reference_files
from bts_auto.errors import DataError
from bts_auto.files import hash_file, hash_json

NAME = re.compile(r"Dataset(\d{3})_(.+)")
NUMBERED = re.compile(r"(.+)_(\d{4})")
# Formats whose files may hold all channels of a case (colours).
COLOURED = (".png", ".tif", ".tiff")
KNOWN = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".gipl.gz", ".gipl", *COLOURED)


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case: an image for each channel, in order, and the label map where there is one.

    `annotated` are the labels and regions that the label map was made for; None: all of them.
    """

    case: str
    images: tuple[Path, ...]
    mask: Reference | None = None
    annotated: Annotated = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them."""
        return self.images if self.mask is None else (*self.images, *reference_files(self.mask))

    @property
    def made_of(self) -> list[Any]:
        """How the label map is made of more than one file; empty where it is a file."""
        return [self.mask.fusion.to_json()] if isinstance(self.mask, RaterMasks) else []

    def stamps(self) -> list[list[Any]]:
        """Size and time of change of each file: unchanged stamps mean unchanged content, at no reading."""
        of_files = [[status.st_size, status.st_mtime_ns] for status in (path.stat() for path in self.files)]
        return [*of_files, *([self.made_of] if self.made_of else [])]

    def content_hash(self) -> str:
        """SHA-256 over the bytes of all files, as hexadecimal."""
        return hash_json([*(hash_file(path) for path in self.files), *self.made_of])


@dataclass(frozen=True)
class RawDataset:
    """A raw dataset; :meth:`open` reads its dataset.json and looks at no image.

    `partial` are the labels and regions that cases are annotated for which are not annotated in full, `raters` how
    several people's masks are read as one.
    """

    folder: Path
    document: dict[str, Any]
    channels: tuple[str, ...]
    labels: Labels
    file_ending: str
    partial: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    raters: Fusion | None = None

    @classmethod
    def open(cls, folder: Path | str) -> RawDataset:
        """Read the dataset.json of a dataset folder.

        Unknown keys are tolerated (other programs keep theirs there; ``overwrite_image_reader_writer`` is one).

        Raises
        ------
        DataError
            When the folder or dataset.json is missing, or a declaration in it is wrong.
        """
        folder = Path(folder)
        path = folder / "dataset.json"
        if not folder.is_dir():
            raise DataError("no such dataset folder", where=folder)
        if not path.is_file():
            raise DataError("has no dataset.json", where=folder)
        document = _read_document(path)
        channels = _channels(document, path)
        ending = document.get("file_ending", ".nii.gz")
        if not isinstance(ending, str) or ending.lower() not in KNOWN:
            raise DataError(f"file_ending {ending!r} is not known", where=path, mend=f"known are {' '.join(KNOWN)}")
        try:
            labels = Labels.from_dataset(document)
        except DataError as error:
            raise DataError(error.what, where=path, mend=error.mend) from None
        partial, raters = read_partial_labels(document, labels, path), read_fusion(document, path)
        return cls(folder, document, channels, labels, ending, partial, raters)

    @property
    def name(self) -> str:
        """The folder's name, ``DatasetXXX_Name``."""
        return self.folder.name

    @property
    def id(self) -> int | None:
        """The number in the name; None where the folder is called otherwise."""
        match = NAME.fullmatch(self.name)
        return int(match[1]) if match else None

    def training_cases(self) -> dict[str, CaseFiles]:
        """The labelled training cases by name, sorted.

        A case with a missing file is among them with the path where that file should be, and one with superfluous files
        with all of them, so that reading names what is wrong.

        Raises
        ------
        DataError
            When there is no case at all, or ``partial_labels`` names one that is not there.
        """
        found = self._fused(self._found_cases())
        unknown = sorted(self.partial.keys() - found.keys())
        if unknown:
            raise DataError(
                f"'{PARTIAL}' names {', '.join(unknown[:5])}, which is no training case",
                where=self.folder / "dataset.json",
            )
        return {case: replace(files, annotated=self.partial.get(case)) for case, files in found.items()}

    def _fused(self, found: Mapping[str, CaseFiles]) -> dict[str, CaseFiles]:
        """The cases, those without a mask of their own with the raters' masks."""
        folder = self.folder / RATERS
        if not folder.is_dir():
            return dict(found)
        rated = find_raters(folder, self.file_ending)
        if self.raters is None:
            mend = 'add "raters": {"name": "staple"}, "majority" or "agreement"'
            raise DataError(
                f"{RATERS} holds several raters' masks, and dataset.json does not say how to read them",
                where=self.folder,
                mend=mend,
            )
        lacking = [case for case, files in found.items() if files.mask is None or not files.mask.is_file()]
        masks = {case: RaterMasks(rated[case], self.raters, self.labels) for case in lacking if case in rated}
        return {case: replace(files, mask=masks.get(case, files.mask)) for case, files in found.items()}

    def _found_cases(self) -> dict[str, CaseFiles]:
        if "dataset" in self.document:
            return self._mapped_cases()
        found = self._numbered("imagesTr", "labelsTr", required_mask=True)
        masks = _by_name(self.folder / "labelsTr", self.file_ending)
        for case in sorted(masks.keys() - found.keys()):
            found[case] = CaseFiles(case, self._expected(self.folder / "imagesTr", case), masks[case])
        if not found:
            raise DataError(nothing_there(self.folder / "imagesTr", self.file_ending), where=self.folder / "imagesTr")
        return dict(sorted(found.items()))

    def test_cases(self) -> dict[str, CaseFiles]:
        """The cases of ``imagesTs``, with their label maps where ``labelsTs`` has them."""
        return self._numbered("imagesTs", "labelsTs")

    def unlabelled_cases(self) -> dict[str, CaseFiles]:
        """The cases of ``imagesUn``."""
        return self._numbered("imagesUn", None)

    def remarks(self, n_cases: int | None = None) -> list[str]:
        """What is odd but no hindrance, as lines: unused images, ``numTraining`` that is not the number of cases."""
        found = [] if "dataset" in self.document else self._unused()
        declared = self.document.get("numTraining")
        n_cases = len(self.training_cases()) if n_cases is None else n_cases
        if declared is not None and declared != n_cases:
            where = self.folder / "dataset.json"
            found.append(f"{where}: numTraining is {declared}, the dataset has {n_cases} training cases")
        return found

    def _unused(self) -> list[str]:
        """Images of another format than the declared one, which belong to no case."""
        found = []
        for name in ("imagesTr", "labelsTr"):
            folder = self.folder / name
            twins = {path for paths in _twins(folder, self.file_ending).values() for path in paths}
            others = [
                path for path in visible_files(folder)
                if ending_of(path) and not path.name.endswith(self.file_ending) and path not in twins
            ]  # fmt: skip
            if others:
                count = f"{len(others)} image{'s do' if len(others) > 1 else ' does'}"
                found.append(
                    f"{folder}: {count} not end in {self.file_ending} as dataset.json says, and are not used "
                    f"({others[0].name}{', ...' if len(others) > 1 else ''})"
                )
        return found

    def _expected(self, folder: Path, case: str) -> tuple[Path, ...]:
        return tuple(folder / f"{case}_{number:04d}{self.file_ending}" for number in range(len(self.channels)))

    def _numbered(self, images: str, masks: str | None, required_mask: bool = False) -> dict[str, CaseFiles]:
        grouped, _ = _group(self.folder / images, self.file_ending)
        twins = _twins(self.folder / images, self.file_ending)
        found = {}
        for case, numbered in sorted(grouped.items()):
            paths = self._expected(self.folder / images, case)
            if one_for_all(numbered, len(self.channels), self.file_ending):
                paths = paths[:1]
            extra = [path for number, path in numbered.items() if number >= len(self.channels)]
            mask = self.folder / masks / f"{case}{self.file_ending}" if masks else None
            if mask is not None and not required_mask and not mask.is_file():
                mask = None
            found[case] = CaseFiles(case, (*paths, *extra, *twins.get(case, ())), mask)
        return found

    def _mapped_cases(self) -> dict[str, CaseFiles]:
        """Cases from dataset.json's ``dataset``; variables are expanded, relative paths start at the dataset folder."""
        mapping = self.document["dataset"]
        where = self.folder / "dataset.json"
        if not isinstance(mapping, Mapping) or not mapping:
            raise DataError("'dataset' must map each case to its images and label", where=where)
        found = {}
        for case, entry in sorted(mapping.items()):
            if not case or case.startswith(".") or case != Path(case).name:
                raise DataError(f"'{case}' under 'dataset' is no name for a case", where=where, mend="use no slashes")
            try:
                images, label = entry["images"], entry["label"]
            except (TypeError, KeyError):
                raise DataError(f"case '{case}' under 'dataset' needs 'images' and 'label'", where=where) from None
            paths = [images] if isinstance(images, str) else list(images)
            found[case] = CaseFiles(case, tuple(self._locate(path) for path in paths), self._locate(label))
        return found

    def _locate(self, path: str) -> Path:
        expanded = Path(os.path.expandvars(path)).expanduser()
        return expanded if expanded.is_absolute() else (self.folder / expanded).resolve()


def one_for_all(numbered: Mapping[int, Path], n_channels: int, file_ending: str) -> bool:
    """Whether one file may hold every channel of the case."""
    return n_channels > 1 and set(numbered) == {0} and file_ending.lower() in COLOURED


def visible_files(folder: Path) -> Iterable[Path]:
    """Files of a folder but hidden ones (the "._" files of a Mac among them)."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())


def ending_of(path: Path) -> str:
    """The image ending of a file's name, in lower case; empty where it has none."""
    return next((known for known in KNOWN if path.name.lower().endswith(known)), "")


def _by_name(folder: Path, file_ending: str) -> dict[str, Path]:
    """Files by their name without the ending."""
    return {path.name[: -len(file_ending)]: path for path in visible_files(folder) if path.name.endswith(file_ending)}


def _twins(folder: Path, file_ending: str) -> dict[str, list[Path]]:
    """For each case the files that bear the name of one of its own but another image ending."""
    own = _by_name(folder, file_ending)
    found: dict[str, list[Path]] = {}
    for path in visible_files(folder):
        ending = ending_of(path)
        name = path.name[: -len(ending)] if ending else ""
        if name in own and own[name] != path:
            match = NUMBERED.fullmatch(name)
            found.setdefault(match[1] if match else name, []).append(path)
    return found


def _group(folder: Path, file_ending: str) -> tuple[dict[str, dict[int, Path]], dict[str, Path]]:
    """Files by case and channel number, and those without a number by name."""
    grouped: dict[str, dict[int, Path]] = {}
    plain = {}
    for name, path in _by_name(folder, file_ending).items():
        match = NUMBERED.fullmatch(name)
        if match:
            grouped.setdefault(match[1], {})[int(match[2])] = path
        else:
            plain[name] = path
    return grouped, plain


def nothing_there(folder: Path, file_ending: str) -> str:
    """That a folder has no images of an ending, and what it has."""
    return f"no image ends in {file_ending}{what_is_there(folder)}"


def what_is_there(folder: Path) -> str:
    """Some of a folder's files, as the end of a sentence; empty where it has none."""
    others = [path.name for path in visible_files(folder)]
    return f"; it holds {', '.join(others[:3])}{' ...' if len(others) > 3 else ''}" if others else ""


def _read_document(path: Path) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(f"'{twice}' stands there twice", where=path, mend="give each case and each key once")
        return content

    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=once)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"is not valid JSON ({error})", where=path) from None
    if not isinstance(document, dict):
        raise DataError("must hold a JSON object", where=path)
    return document


def _channels(document: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """Channel names in the order of their numbers; "modality" is what nnU-Net v1 called them."""
    named = document.get("channel_names", document.get("modality"))
    if isinstance(named, list):
        named = dict(enumerate(named))
    if not isinstance(named, Mapping) or not named:
        raise DataError("needs 'channel_names', such as {'0': 'T1'}", where=path)
    try:
        ordered = {int(number): str(name) for number, name in named.items()}
    except ValueError:
        raise DataError("'channel_names' must map numbers to names, such as {'0': 'T1'}", where=path) from None
    if sorted(ordered) != list(range(len(ordered))):
        raise DataError(f"'channel_names' must count from 0, not {', '.join(map(str, named))}", where=path)
    return tuple(ordered[number] for number in sorted(ordered))
