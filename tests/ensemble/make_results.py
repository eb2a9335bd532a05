"""A raw dataset of masks and a results folder as training leaves it, made without training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bts_auto.combine.cache import CACHE_ENDING, write_cache
from bts_auto.data.raw import RawDataset
from bts_auto.data.readers import write_mask
from bts_auto.data.volume import Geometry

SHAPE = (14, 15, 16)
GEOMETRY = Geometry(SHAPE, (1.0, 1.0, 1.0))
DATASET = {
    "channel_names": {"0": "T1c"},
    "labels": {"background": 0, "necrosis": 1, "edema": 2, "enhancing": 3},
    "file_ending": ".nii.gz",
}


def truth(number: int) -> np.ndarray:
    """The reference mask of a case: nested boxes at a place of its own."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:10, 2:10, 2:10] = 2
    mask[3:8, 3:8, 3:8] = 3
    mask[4:6, 4:6, 4:6] = 1
    return np.roll(mask, (number % 3, number % 2, number % 4), axis=(0, 1, 2))


@dataclass(frozen=True)
class Results:
    """A raw dataset with a results folder, to which trained members are added."""

    root: Path
    cases: tuple[str, ...]

    @classmethod
    def make(cls, root: Path, n_cases: int) -> Results:
        """Write the raw dataset: masks, and empty files in place of images (choosing reads none)."""
        raw = root / "raw" / "Dataset007_Boxes"
        (raw / "imagesTr").mkdir(parents=True)
        (raw / "dataset.json").write_text(json.dumps(DATASET | {"numTraining": n_cases}))
        cases = tuple(f"case_{number:02d}" for number in range(n_cases))
        for number, case in enumerate(cases):
            (raw / "imagesTr" / f"{case}_0000.nii.gz").touch()
            write_mask(raw / "labelsTr" / f"{case}.nii.gz", truth(number), GEOMETRY)
        return cls(root, cases)

    @property
    def raw(self) -> RawDataset:
        """The raw dataset."""
        return RawDataset.open(self.root / "raw" / "Dataset007_Boxes")

    @property
    def folder(self) -> Path:
        """The dataset's results folder."""
        return self.root / "results" / "Dataset007_Boxes"

    def add(
        self,
        name: str,
        predictions: Mapping[str, np.ndarray],
        *,
        folds: int = 2,
        only: Sequence[int] | None = None,
        cached: bool = True,
        certainty: float = 1.0,
    ) -> None:
        """Add a member: held-out masks over `folds` folds (or those in `only`), with probabilities where `cached`."""
        for number, case in enumerate(self.cases):
            fold = number % folds
            if case not in predictions or (only is not None and fold not in only):
                continue
            validation = self.folder / name / f"fold_{fold}" / "validation"
            write_mask(validation / f"{case}.nii.gz", predictions[case], GEOMETRY)
            if cached:
                rest = (1 - certainty) / 3
                channels = [np.where(predictions[case] == value, certainty, rest) for value in range(4)]
                outputs = self.raw.labels.outputs
                box = tuple(slice(0, n) for n in SHAPE)
                write_cache(validation / f"{case}{CACHE_ENDING}", channels, outputs=outputs, box=box, shape=SHAPE)


def predictions(results: Results, change) -> dict[str, np.ndarray]:
    """For each case its reference after ``change(mask, number)``."""
    return {case: change(truth(number), number) for number, case in enumerate(results.cases)}
