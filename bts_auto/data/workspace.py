"""Where datasets, preprocessed cases and results lie, and which dataset is meant."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bts_auto.data.raw import NAME
from bts_auto.errors import DataError
from bts_auto.files import write_text

DEFAULT = Path("bts_workspace")
_NNUNET_RAW = "nnUNet_raw"
_LAST = ".last_planned"


@dataclass(frozen=True)
class Workspace:
    """Three folders, each of which may not exist yet."""

    raw: Path
    preprocessed: Path
    results: Path

    @classmethod
    def locate(cls, folder: Path | str | None = None) -> Workspace:
        """Find the workspace: `folder`, else ``$BTS_WORKSPACE``, else ``./bts_workspace``.

        ``$BTS_RAW``, ``$BTS_PREPROCESSED`` and ``$BTS_RESULTS`` each move one of its folders. Where ``$BTS_RAW`` is
        unset and the workspace has no raw folder of its own, an existing ``$nnUNet_raw`` takes its place.
        """
        base = Path(folder or os.environ.get("BTS_WORKSPACE") or DEFAULT).expanduser().absolute()

        def place(name: str, variable: str) -> Path:
            moved = os.environ.get(variable)
            return Path(moved).expanduser().absolute() if moved else base / name

        raw = place("raw", "BTS_RAW")
        theirs = os.environ.get(_NNUNET_RAW)
        if theirs and not os.environ.get("BTS_RAW") and not raw.is_dir() and Path(theirs).is_dir():
            raw = Path(theirs).absolute()
        return cls(raw, place("preprocessed", "BTS_PREPROCESSED"), place("results", "BTS_RESULTS"))

    def datasets(self) -> list[str]:
        """Names of all datasets that are there raw, preprocessed or as results, sorted."""
        found = set()
        for folder in (self.raw, self.preprocessed, self.results):
            if folder.is_dir():
                found |= {path.name for path in folder.iterdir() if NAME.fullmatch(path.name) and path.is_dir()}
        return sorted(found)

    def dataset(self, id_or_name: str | int | None = None) -> str:
        """The folder name of a dataset.

        Parameters
        ----------
        id_or_name : str, int or None
            ``21``, ``"021"``, ``"BraTS"`` or ``"Dataset021_BraTS"``. None: ``$BTS_DATASET``, else the only dataset,
            else the one last planned.

        Raises
        ------
        DataError
            When there is none, or it is not clear which; the line says which exist.
        """
        known = self.datasets()
        wanted = os.environ.get("BTS_DATASET") or None if id_or_name is None else str(id_or_name)
        if wanted is not None:
            return self._named(wanted, known)
        if len(known) == 1:
            return known[0]
        if not known:
            raise DataError("no dataset there", where=self.raw, mend="put one there as DatasetXXX_Name")
        last = self.preprocessed / _LAST
        name = last.read_text(encoding="utf-8").strip() if last.is_file() else ""
        if name in known:
            return name
        raise DataError(f"{len(known)} datasets, none of them named", where=self.raw, mend=f"give -d: {_list(known)}")

    def _named(self, wanted: str, known: list[str]) -> str:
        if wanted in known:
            return wanted
        if wanted.isdigit():
            found = [name for name in known if int(NAME.fullmatch(name)[1]) == int(wanted)]  # type: ignore[index]
        else:
            found = [name for name in known if NAME.fullmatch(name)[2].lower() == wanted.lower()]  # type: ignore[index]
        if len(found) == 1:
            return found[0]
        if found:
            raise DataError(f"several datasets are '{wanted}'", where=self.raw, mend=f"name it fully: {_list(found)}")
        exist = f"there are {_list(known)}" if known else "there is none yet; put one there as DatasetXXX_Name"
        raise DataError(f"no dataset '{wanted}'", where=self.raw, mend=exist)

    def remember(self, name: str) -> None:
        """Note that `name` was planned last."""
        write_text(self.preprocessed / _LAST, name + "\n")


def _list(names: list[str]) -> str:
    return ", ".join(names)
