"""What is written for a segmented case, and whether it is all there."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bts_auto.combine.saved import probability_images
from bts_auto.data.labels import Labels
from bts_auto.data.raw import CaseFiles
from bts_auto.data.readers import suffix_of, write_map, write_mask
from bts_auto.errors import BtsError, PlanError
from bts_auto.files import atomic_path, read_json, write_json
from bts_auto.predict.segmenter import Prediction, Segmenter, timed

RECORD_SUFFIX = ".prediction.json"
UNCERTAINTY_FOLDER = "uncertainty"
_MAP_ENDING = ".nii.gz"


@dataclass(frozen=True)
class Extras:
    """What is written besides the masks.

    Attributes
    ----------
    probabilities : bool
        One image for each label or region, ``probabilities/CASE/0_background.nii.gz`` and so on; the numbers have half
        precision, which compresses well, and stand in the file as float32, since NIfTI knows nothing shorter.
    npz : bool
        The same as one float16 array (k, z, y, x), ``CASE.npz``, with the channels in nnU-Net's order.
    uncertainty : bool
        Entropy of the averaged answer, ``uncertainty/CASE_entropy.nii.gz``, and how much the members disagree about it,
        ``uncertainty/CASE_mutual_information.nii.gz``.
    """

    probabilities: bool = False
    npz: bool = False
    uncertainty: bool = False

    @property
    def need_scores(self) -> bool:
        """Whether any of them is made from the scores."""
        return self.probabilities or self.npz or self.uncertainty


@dataclass(frozen=True)
class CaseOutput:
    """Where the files of one case go.

    Attributes
    ----------
    folder : Path
    files : CaseFiles
        The case's images; the mask gets their file type.
    made_by : dict
        What decides about the mask, as JSON.
    extras : Extras
    """

    folder: Path
    files: CaseFiles
    made_by: dict[str, Any]
    extras: Extras

    @property
    def mask(self) -> Path:
        """The label map."""
        return self.folder / f"{self.files.case}{suffix_of(self.files.images[0])}"

    @property
    def record(self) -> Path:
        """What is known about how it was made."""
        return self.folder / f"{self.files.case}{RECORD_SUFFIX}"

    def is_finished(self) -> bool:
        """Whether all is there, made by the same model and settings from the same files.

        Raises
        ------
        PlanError
            When the mask was made by another model or with other settings.
        """
        if not self.mask.exists():
            return False
        written = self._written()
        before = written.get("made_by")
        if before != self.made_by:
            different = [key for key, value in self.made_by.items() if before and before.get(key) != value]
            what = f"with another {', '.join(different)}" if different else "by something else"
            raise PlanError(f"was made {what}", where=self.mask, mend="choose another output folder, or --overwrite")
        beside = written.get("beside", {})
        complete = all(beside.get(name) for name, wanted in vars(self.extras).items() if wanted)
        return written["finished"] and complete and written.get("inputs") == _inputs(self.files)

    def _written(self) -> dict[str, Any]:
        try:
            return read_json(self.record)
        except BtsError:
            return {}

    def write(self, prediction: Prediction, predictor: Segmenter) -> None:
        """Write everything. Each file is whole or not there; only the last one, the record, says that all is there."""
        record: dict[str, Any] = {"case": self.files.case, "finished": False, "made_by": self.made_by}
        write_json(self.record, record)
        with timed(prediction.timings, "write"):
            write_mask(self.mask, prediction.labels.for_submission(prediction.mask), prediction.geometry)
            if self.extras.probabilities or self.extras.npz:
                self._write_probabilities(prediction, predictor)
            if self.extras.uncertainty:
                self._write_uncertainty(prediction, predictor)
        record |= {
            "finished": True,
            "inputs": _inputs(self.files),
            "beside": dict(vars(self.extras)),
            "volumes_ml": {name: round(volume, 3) for name, volume in prediction.volumes().items()},
            "predicted_dice": _rounded(prediction.predicted_dice),
            "remarks": list(prediction.remarks),
            "seconds": {stage: round(seconds, 3) for stage, seconds in prediction.timings.items()},
            "peak_memory_gb": peak_memory_gb(),
        }
        write_json(self.record, record)

    def _write_uncertainty(self, prediction: Prediction, predictor: Segmenter) -> None:
        maps = {
            "entropy": predictor.uncertainty(prediction),
            "mutual_information": predictor.mutual_information(prediction),
        }
        for name, array in maps.items():
            path = self.folder / UNCERTAINTY_FOLDER / f"{self.files.case}_{name}{_MAP_ENDING}"
            write_map(path, _half(array), prediction.geometry)

    def _write_probabilities(self, prediction: Prediction, predictor: Segmenter) -> None:
        labels, case = prediction.labels, self.files.case
        paths = probability_images(self.folder, case, labels)
        stacked = []
        for path, (_, array) in zip(paths, predictor.probabilities(prediction), strict=True):
            if self.extras.probabilities:
                write_map(path, _half(array), prediction.geometry)
            if self.extras.npz:
                stacked.append(array.astype(np.float16))
        if self.extras.npz:
            with atomic_path(self.folder / f"{case}.npz") as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, probabilities=np.stack([stacked[n] for n in _peer_order(labels)]))


def peak_memory_gb() -> float | None:
    """The largest resident size of this process so far, in GB; None where the system does not count it (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1024**3, 3)


def _inputs(files: CaseFiles) -> list[dict[str, Any]]:
    return [
        {"name": path.name, "bytes": path.stat().st_size, "modified": path.stat().st_mtime_ns} for path in files.images
    ]


def _rounded(values: dict[str, float] | None) -> dict[str, float] | None:
    return None if values is None else {name: round(value, 3) for name, value in values.items()}


def _half(array: np.ndarray) -> np.ndarray:
    """The numbers rounded to half precision."""
    return array.astype(np.float16).astype(np.float32)


def _peer_order(labels: Labels) -> list[int]:
    """nnU-Net sorts the channels of plain labels by their integers; regions stand as declared."""
    if labels.has_regions:
        return list(range(len(labels.outputs)))
    return [int(n) for n in np.argsort([value[0] for value in labels.members()])]
