"""The cases of a folder that is to be predicted."""

from __future__ import annotations

from pathlib import Path

from bts_auto.data.raw import (
    COLOURED,
    KNOWN,
    NUMBERED,
    CaseFiles,
    ending_of,
    one_for_all,
    visible_files,
    what_is_there,
)
from bts_auto.errors import CaseFailure, DataError


def find_cases(folder: Path | str, n_channels: int, file_ending: str) -> tuple[dict[str, CaseFiles], list[CaseFailure]]:
    """The cases in a folder of images.

    Files are ``CASE_0000.nii.gz``, ``CASE_0001.nii.gz``, ...; ``CASE.nii.gz`` will do for a single channel, or where
    the file has as many channels as the model (a 4D image). An RGB image holds three channels in one file.

    Parameters
    ----------
    folder : Path
    n_channels : int
        Of the model.
    file_ending : str
        Of the training data. Any other format of scans will do as well; pictures (PNG, TIFF) only where the training
        data are pictures, or where there is nothing else.

    Returns
    -------
    cases : dict of str to CaseFiles
        Complete ones, sorted.
    failures : list of CaseFailure
        Cases with a missing or superfluous channel, or with one name in two formats.

    Raises
    ------
    DataError
        When the folder is missing or holds no case at all.
    """
    folder = Path(folder)
    check_folder(folder)
    used, _ = _split(folder, file_ending)
    if not used:
        mend = f"give {' '.join(KNOWN)}"
        raise DataError(f"no image is there{what_is_there(folder)}", where=folder, mend=mend)
    cases: dict[str, dict[int | None, list[Path]]] = {}
    for path in used:
        stem = path.name[: -len(ending_of(path))]
        match = NUMBERED.fullmatch(stem)
        case, number = (match[1], int(match[2])) if match else (stem, None)
        cases.setdefault(case, {}).setdefault(number, []).append(path)
    found, failures = {}, []
    for case, files in sorted(cases.items()):
        wrong = _what_is_wrong(case, files, n_channels, file_ending)
        if wrong is None:
            found[case] = CaseFiles(case, tuple(files[number][0] for number in sorted(files, key=lambda n: n or 0)))
        else:
            failures.append(CaseFailure(case, f"{folder}: {wrong}"))
    return found, failures


def check_folder(folder: Path, mend: str | None = None) -> None:
    """Refuse what is no folder of images; `mend` says what to do about one that is missing.

    Raises
    ------
    DataError
        When it is missing, or a file.
    """
    if folder.is_dir():
        return
    if folder.exists():
        raise DataError("is a file, not a folder", where=folder, mend=f"give its folder, {folder.parent}")
    raise DataError("no such folder", where=folder, mend=mend)


def several_cases(folder: Path) -> bool:
    """Whether a folder has images of more than one case, going by their names."""
    stems = (path.name[: -len(ending_of(path))] for path in visible_files(folder) if ending_of(path))
    return len({match[1] if (match := NUMBERED.fullmatch(stem)) else stem for stem in stems}) > 1


def unused_images(folder: Path, file_ending: str) -> list[Path]:
    """Image files of a folder that :func:`find_cases` does not look at."""
    return _split(folder, file_ending)[1]


def _split(folder: Path, file_ending: str) -> tuple[list[Path], list[Path]]:
    """Image files that are taken for channels, and other image files."""
    images = [path for path in visible_files(folder) if ending_of(path)]
    pictures = [path for path in images if ending_of(path) in COLOURED]
    scans = [path for path in images if ending_of(path) not in COLOURED]
    first, second = (pictures, scans) if file_ending.lower() in COLOURED else (scans, pictures)
    return (first, second) if first else (second, [])


def _what_is_wrong(case: str, files: dict[int | None, list[Path]], n_channels: int, file_ending: str) -> str | None:
    """Why files are not the channels of a case, as a phrase."""
    twice = next((paths for paths in files.values() if len(paths) > 1), None)
    if twice is not None:
        return f"duplicate case: {twice[0].name} stands beside {twice[1].name}"
    ending = ending_of(next(iter(files.values()))[0])
    if None in files:
        if len(files) == 1 and n_channels in (1, _channels_in(files[None][0])):
            return None
        return f"no channel number in {files[None][0].name}; {n_channels} files {case}_0000{ending} ... are expected"
    numbered = {number: paths[0] for number, paths in files.items() if number is not None}
    expected = 1 if one_for_all(numbered, n_channels, ending) else n_channels
    if missing := [number for number in range(expected) if number not in numbered]:
        return "missing channel file " + ", ".join(f"{case}_{number:04d}{ending}" for number in missing)
    if extra := [path.name for number, path in sorted(numbered.items()) if number >= expected]:
        return f"{', '.join(extra)} is more than the {n_channels} channels of the model"
    return None


def _channels_in(path: Path) -> int:
    from bts_auto.data.readers import count_channels

    return count_channels(path)
