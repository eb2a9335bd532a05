"""A trained model that stays loaded, for programs that segment one scan after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bts_auto.errors import DataError
from bts_auto.events import SILENT, Observer
from bts_auto.steps.workers import LoadModel, find_place

if TYPE_CHECKING:
    from bts_auto.data.volume import Geometry, Volume


@dataclass(frozen=True)
class Segmentation:
    """A segmented scan.

    Attributes
    ----------
    mask : ndarray of uint8 or uint16, shape (z, y, x)
        On the scan's grid, with the integers that `bts_predict` writes.
    geometry : Geometry
        The scan's grid.
    volumes_ml : dict of str to float
        Volume of each label and region in ml.
    seconds : dict of str to float
        How long each stage took.
    probabilities : dict of str to ndarray of float32, shape (z, y, x), or None
        Of each label or region on the scan's grid, where asked for.
    uncertainty : ndarray of float32, shape (z, y, x), or None
        Entropy of the averaged answer, 0 (sure) to 1, where asked for.
    predicted_dice : dict of str to float, or None
        Of each region, where `bts_ensemble` has fitted it.
    remarks : tuple of str
        What a reader of the mask should be warned of.
    """

    mask: np.ndarray
    geometry: Geometry
    volumes_ml: dict[str, float]
    seconds: dict[str, float] = field(default_factory=dict)
    probabilities: dict[str, np.ndarray] | None = None
    uncertainty: np.ndarray | None = None
    predicted_dice: dict[str, float] | None = None
    remarks: tuple[str, ...] = ()

    def save(self, path: str | Path) -> None:
        """Write the mask, in the format of the suffix."""
        from bts_auto.data.readers import write_mask

        write_mask(path, self.mask, self.geometry)


class Predictor:
    """A trained model, loaded once, that segments scan after scan. One call at a time.

    Parameters
    ----------
    model : str or Path, optional
        A model package, or the folder of a trained fold. None: what `dataset` has trained, as `bts_predict` chooses.
    dataset, workspace, configuration, folds, recipe : optional
        See :func:`bts_auto.steps.predict`.
    device, engine, precision, tta, step_size, tile
        See :class:`bts_auto.predict.predictor.CasePredictor`.
    nan_to_zero : bool
        Take NaN and infinite voxels as 0 instead of refusing them.
    observer : Observer
        Hears which model was chosen, and of the tiles.

    Raises
    ------
    BtsError
        When the model is missing, damaged or of another version.

    Examples
    --------
    >>> predictor = bts_auto.Predictor("model.zip")  # doctest: +SKIP
    >>> found = predictor.predict(["anna_0000.nii.gz", "anna_0001.nii.gz"])  # doctest: +SKIP
    >>> found.save("anna.nii.gz")  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        dataset: str | int | None = None,
        workspace: Path | None = None,
        configuration: str | None = None,
        folds: Sequence[str | int] | None = None,
        recipe: str | None = None,
        device: str = "auto",
        nan_to_zero: bool = False,
        observer: Observer = SILENT,
        **how: Any,
    ) -> None:
        path = None if model is None else Path(model)
        place = find_place(path, dataset, workspace, observer)
        load = LoadModel(path, place.results if place else None, recipe, configuration, folds, how, observer)
        self._predictor, notes = load(device)
        self._nan_to_zero = nan_to_zero
        for line in notes:
            observer.note(line)

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that a scan must have, in order."""
        return self._predictor.plan.channel_names

    def predict(
        self,
        scan: str | Path | Sequence[str | Path] | Volume | np.ndarray,
        *,
        spacing: Sequence[float] | None = None,
        probabilities: bool = False,
        uncertainty: bool = False,
    ) -> Segmentation:
        """Segment a scan.

        Parameters
        ----------
        scan
            The files of the channels, in order; one file that holds them all; a `Volume`; or an array (c, z, y, x),
            or (z, y, x) for a model of one channel, whose axes are ITK's (z upwards, y backwards, x to the left).
        spacing : sequence of float
            Of an array: distance of voxels along (z, y, x) in mm.
        probabilities, uncertainty : bool
            Whether the result has them.

        Raises
        ------
        DataError
            When a file is missing or damaged, voxels are NaN or all 0, or the channels are not those of the model.
        """
        from bts_auto.predict.segmenter import timed

        volume = self._volume(scan, spacing)
        keep = probabilities or uncertainty
        seconds: dict[str, float] = {}
        with timed(seconds, "prepare"):
            prepared = self._predictor.prepare(volume)
        with timed(seconds, "network"):
            answer = self._predictor.run(volume, prepared)
        made = self._predictor.finish(volume, prepared, answer, timings=seconds, keep_scores=keep)
        return Segmentation(
            made.labels.for_submission(made.mask),
            made.geometry,
            made.volumes(),
            seconds=made.timings,
            probabilities=dict(self._predictor.probabilities(made)) if probabilities else None,
            uncertainty=self._predictor.uncertainty(made) if uncertainty else None,
            predicted_dice=made.predicted_dice,
            remarks=made.remarks,
        )

    def _volume(self, scan: Any, spacing: Sequence[float] | None) -> Volume:
        from bts_auto.data.readers import read_volume
        from bts_auto.data.volume import Volume

        if isinstance(scan, np.ndarray):
            return self._checked(self._from_array(scan, spacing), "array")
        if spacing is not None:
            raise DataError("a spacing is for an array; files and volumes have their own")
        if isinstance(scan, Volume):
            return self._checked(scan, "volume")
        try:
            paths = [Path(scan)] if isinstance(scan, str | Path) else [Path(path) for path in scan]
        except TypeError:
            raise DataError(f"a {type(scan).__name__} is no scan", mend="give files, a Volume or an array") from None
        if any(path.is_dir() for path in paths):
            raise DataError("is a folder", where=paths[0], mend="name the files of one case, or use bts_predict -i")
        return read_volume(paths, self.channels, nan_to_zero=self._nan_to_zero)

    def _from_array(self, array: np.ndarray, spacing: Sequence[float] | None) -> Volume:
        from bts_auto.data import checks
        from bts_auto.data.volume import Geometry, Volume

        if array.ndim == 3:
            array = array[None]
        if array.ndim != 4 or array.dtype.kind not in "biuf":
            raise DataError(
                f"an array of shape {array.shape} and type {array.dtype} is no scan", mend="give (c, z, y, x)"
            )
        checks.channel_count(len(array), self.channels, "array")
        geometry = Geometry((array.shape[1], array.shape[2], array.shape[3]), _millimetres(spacing))
        with np.errstate(over="ignore"):  # becomes infinite, which is refused
            return Volume(array.astype(np.float32, copy=False), geometry, self.channels)

    def _checked(self, volume: Volume, what: str) -> Volume:
        """A scan in memory with the checks that files get when they are read."""
        from bts_auto.data import checks

        checks.channel_count(len(volume.array), self.channels, what)
        array = checks.voxels(volume.array, what, nan_to_zero=self._nan_to_zero, names=self.channels)
        return replace(volume, array=array)


def _millimetres(spacing: Any) -> tuple[float, float, float]:
    """The spacing of an array, if it is one."""
    try:
        z, y, x = (float(mm) for mm in spacing if not isinstance(spacing, str))
    except (TypeError, ValueError):
        z = y = x = 0.0
    if not all(0 < mm < np.inf for mm in (z, y, x)):
        raise DataError("an array needs its spacing", mend="give three positive numbers, mm along (z, y, x)")
    return z, y, x
