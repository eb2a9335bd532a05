"""What is written for a segmented case, and whether it is all there."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bts_auto.combine.saved import IMAGES_FOLDER, probability_images
from bts_auto.data.raw import CaseFiles
from bts_auto.data.readers import suffix_of, write_map, write_mask
from bts_auto.errors import BtsError, DataError, PlanError
from bts_auto.files import read_json, write_json
from bts_auto.predict.segmenter import Prediction, Segmenter, timed

RECORD_SUFFIX = ".prediction.json"
UNCERTAINTY_FOLDER = "uncertainty"
_MAPS = ("entropy", "mutual_information")
_MAP_ENDING = ".nii.gz"


@dataclass(frozen=True)
class Extras:
    """What is written besides the masks.

    Attributes
    ----------
    probabilities : bool
        One image for each label or region, ``probabilities/CASE/0_background.nii.gz`` and so on; the numbers have half
        precision, which compresses well, and stand in the file as float32, since NIfTI knows nothing shorter.
    uncertainty : bool
        Entropy of the averaged answer, ``uncertainty/CASE_entropy.nii.gz``, and how much the members disagree about it,
        ``uncertainty/CASE_mutual_information.nii.gz``.
    """

    probabilities: bool = False
    uncertainty: bool = False

    @property
    def need_scores(self) -> bool:
        """Whether any of them is made from the scores."""
        return self.probabilities or self.uncertainty


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
    asked : dict of str to str
        Engine and precision where they were asked for.
    """

    folder: Path
    files: CaseFiles
    made_by: dict[str, Any]
    extras: Extras
    asked: dict[str, str] = field(default_factory=dict)

    @property
    def mask(self) -> Path:
        """The label map."""
        return self.folder / f"{self.files.case}{suffix_of(self.files.images[0])}"

    @property
    def record(self) -> Path:
        """What is known about how it was made."""
        return self.folder / f"{self.files.case}{RECORD_SUFFIX}"

    @property
    def picture(self) -> Path:
        """The scan with the mask's outlines."""
        return self.folder / "previews" / f"{self.files.case}.png"

    def is_finished(self) -> bool:
        """Whether all is there, made by the same model and settings from the same files.

        Raises
        ------
        PlanError
            When the mask was made by another model or with other settings.
        DataError
            When the record is damaged, so that nothing is known of the mask.
        """
        if not self.mask.exists():
            return False
        written = self._written()
        before, computed = written.get("made_by", {}), _mapping(written.get("computed_with"))
        different = [key for key, value in self.made_by.items() if before and before.get(key) != value]
        if computed:  # an unfinished record does not say
            different += [key for key, value in self.asked.items() if computed.get(key) != value]
        if before != self.made_by or different:
            what = f"with another {', '.join(different)}" if different else "by something else"
            raise PlanError(f"was made {what}", where=self.mask, mend="choose another output folder, or --overwrite")
        complete = all(self._has(name, written) for name, wanted in vars(self.extras).items() if wanted)
        return written.get("finished") is True and complete and written.get("inputs") == _inputs(self.files)

    def _has(self, extra: str, written: dict[str, Any]) -> bool:
        """Whether the files of an extra that were written are there."""
        names = _mapping(written.get("beside")).get(extra)
        return bool(names) and isinstance(names, list) and all((self.folder / str(name)).is_file() for name in names)

    def _written(self) -> dict[str, Any]:
        """The record; empty where there is none."""
        if not self.record.exists():
            return {}
        try:
            written = _mapping(read_json(self.record))
        except BtsError:
            written = {}
        if not isinstance(written.get("made_by"), dict):
            raise DataError("is damaged", where=self.record, mend="--overwrite, or remove it together with its mask")
        return written

    def write(self, prediction: Prediction, predictor: Segmenter) -> None:
        """Write everything. Each file is whole or not there; only the last one, the record, says that all is there.

        What stands beside an older mask of the case is removed, as it does not belong to this one.
        """
        record: dict[str, Any] = {"case": self.files.case, "finished": False, "made_by": self.made_by}
        write_json(self.record, record)
        beside: dict[str, list[str]] = {}
        with timed(prediction.timings, "write"):
            self._remove_extras()
            write_mask(self.mask, prediction.labels.for_submission(prediction.mask), prediction.geometry)
            if self.extras.probabilities:
                beside["probabilities"] = self._write_probabilities(prediction, predictor)
            if self.extras.uncertainty:
                beside["uncertainty"] = self._write_uncertainty(prediction, predictor)
        error = prediction.predicted_dice_error
        record |= {
            "finished": True,
            "computed_with": predictor.computed_with(),
            "inputs": _inputs(self.files),
            "beside": beside,
            "volumes_ml": {name: round(volume, 3) for name, volume in prediction.volumes().items()},
            "predicted_dice": _rounded(prediction.predicted_dice),
            "predicted_dice_error": error if error is None else round(error, 3),
            "remarks": list(prediction.remarks),
            "seconds": {stage: round(seconds, 3) for stage, seconds in prediction.timings.items()},
            "peak_memory_gb": peak_memory_gb(),
        }
        write_json(self.record, record)

    def _remove_extras(self) -> None:
        images = self.folder / IMAGES_FOLDER / self.files.case
        if images.is_dir():
            shutil.rmtree(images)
        for path in (*self._uncertainty_maps().values(), self.picture):
            path.unlink(missing_ok=True)

    def _uncertainty_maps(self) -> dict[str, Path]:
        folder = self.folder / UNCERTAINTY_FOLDER
        return {name: folder / f"{self.files.case}_{name}{_MAP_ENDING}" for name in _MAPS}

    def _write_uncertainty(self, prediction: Prediction, predictor: Segmenter) -> list[str]:
        arrays = predictor.uncertainty(prediction), predictor.mutual_information(prediction)
        paths = self._uncertainty_maps().values()
        return [self._write_map(*one, prediction) for one in zip(paths, arrays, strict=True)]

    def _write_probabilities(self, prediction: Prediction, predictor: Segmenter) -> list[str]:
        paths = probability_images(self.folder, self.files.case, prediction.labels)
        stream = (array for _, array in predictor.probabilities(prediction))
        return [self._write_map(*one, prediction) for one in zip(paths, stream, strict=True)]

    def _write_map(self, path: Path, array: np.ndarray, prediction: Prediction) -> str:
        """Write numbers rounded to half precision; returns the path as the record names it."""
        write_map(path, array.astype(np.float16).astype(np.float32), prediction.geometry)
        return path.relative_to(self.folder).as_posix()


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


def _mapping(value: Any) -> dict[str, Any]:
    """A JSON object; an empty one for anything else, which a damaged record may hold."""
    return value if isinstance(value, dict) else {}
