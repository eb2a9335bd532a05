"""Held-out cases predicted as whole volumes and scored in their original grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bts_auto.combine.cache import CACHE_ENDING
from bts_auto.data.partial import told
from bts_auto.data.raters import RaterMasks, read_reference
from bts_auto.data.raw import CaseFiles
from bts_auto.data.readers import read_mask, read_volume, write_mask
from bts_auto.errors import BtsError, CaseFailure
from bts_auto.evaluate.case import CaseScores, score_case
from bts_auto.evaluate.scores import Scores
from bts_auto.events import SILENT, Observer
from bts_auto.files import hash_json, read_json, write_json
from bts_auto.model.fold import TrainedFold
from bts_auto.predict.predictor import CasePredictor, guided
from bts_auto.predict.probabilities import write_probabilities
from bts_auto.preprocess.masks import MaskStore
from bts_auto.preprocess.spatial import SpatialSteps
from bts_auto.preprocess.store import CaseStore

VALIDATION = "validation"
SCORES = "scores.json"
_MADE_BY = "made_by.json"


@dataclass(frozen=True)
class HeldOut:
    """The cases that a fold has not seen: prepared for its network, with the expert's masks in the original grid.

    Attributes
    ----------
    fold : TrainedFold
    store : CaseStore
    references : mapping of str to CaseFiles
        The raw dataset's training cases.
    previous : MaskStore or None
        For a configuration with a previous stage: that stage's masks, made by folds that held the cases out.
    device : str
    """

    fold: TrainedFold
    store: CaseStore
    references: Mapping[str, CaseFiles]
    previous: MaskStore | None = None
    device: str = "auto"

    def predictor(self, **options: Any) -> CasePredictor:
        """The fold, ready to segment; `options` are those of :class:`bts_auto.predict.predictor.CasePredictor`."""
        given = {"given_previous": self.previous is not None, "converted": TrainedFold.converted_file}
        return CasePredictor([self.fold], device=self.device, **given, **options)  # type: ignore[arg-type]

    def image(self, case: str) -> np.ndarray:
        """What the network takes, float32 of shape (c, z, y, x)."""
        image = np.asarray(self.store.open(case).image[:], np.float32)
        if self.previous is None:
            return image
        values = self.fold.plan.previous_stage_labels(self.fold.configuration_name)
        return guided(image, self.previous.whole(case), values)

    def steps(self, case: str) -> SpatialSteps:
        """The way between the original grid and the network's."""
        return self.store.open(case).steps

    def reference(self, case: str) -> Path | RaterMasks:
        """The expert's mask.

        Raises
        ------
        BtsError
            When the raw dataset has none.
        """
        path = self.references[case].mask if case in self.references else None
        if path is None:
            raise BtsError("has no reference mask in the raw dataset", where=case)
        return path

    def score(self, case: str, mask: np.ndarray, metrics: Sequence[str] | None = None) -> CaseScores:
        """Scores of a mask (z, y, x) in the original grid."""
        reference, _ = read_reference(self.reference(case))
        labels, spacing = self.fold.labels, self.steps(case).geometry.spacing
        known = told(labels, self.references[case].annotated)
        return score_case(mask, reference, spacing, labels.scoring(), metrics, ignore=labels.ignore, told=known)


def validate_fold(
    held_out: HeldOut,
    cases: Sequence[str],
    *,
    tta: bool = True,
    step_size: float | None = None,
    observer: Observer = SILENT,
) -> Scores:
    """Predict and score `cases`; writes ``validation/CASE.*`` and ``validation/scores.json`` in the fold's folder.

    A case that fails is named and the others go on. Masks that these weights have written before are scored again, not
    predicted again, unless their cached probabilities are gone.

    Parameters
    ----------
    tta : bool
        Whether to average over mirrored copies.
    step_size : float, optional
        Distance of tiles as a share of the tile; None: the plan's.
    """
    folder = held_out.fold.folder / VALIDATION
    folder.mkdir(parents=True, exist_ok=True)
    predictor = held_out.predictor(tta=tta, step_size=step_size)
    rules = [rule.model_dump(mode="json") for rule in held_out.fold.configuration.postprocessing]
    made_by = predictor.describe() | {"tta": tta, "postprocessing": rules}
    del made_by["plan"]  # says nothing more, and changes with what validation finds
    if held_out.previous is not None:
        made_by["previous"] = [held_out.previous.record(case) for case in cases]
    _drop_others(folder, hash_json(made_by))
    scores: dict[str, CaseScores] = {}
    failures: list[CaseFailure] = []
    for case in observer.track(cases, "Validating"):
        try:
            scores[case] = held_out.score(case, _mask(case, held_out, predictor, folder))
        except BtsError as error:
            failures.append(CaseFailure(case, str(error)))
        except Exception as error:  # one case must never cost the scores of the others
            failures.append(CaseFailure(case, f"{type(error).__name__}: {error}"))
        if failures and failures[-1].case == case:
            observer.warn(f"{case}: {failures[-1].reason}")
    result = Scores.of(scores, failures=failures)
    result.save(folder / SCORES)
    return result


def _drop_others(folder: Path, made_by: str) -> None:
    """Remove what other weights or settings have left in `folder`."""
    record = folder / _MADE_BY
    if record.exists() and read_json(record) == made_by:
        return
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()
    write_json(record, made_by)


def _mask(case: str, held_out: HeldOut, predictor: CasePredictor, folder: Path) -> np.ndarray:
    """The mask of a case in its original grid: the one that was written before, or a new one, which is written."""
    held_out.reference(case)  # nothing is predicted that cannot be scored
    path = folder / f"{case}{held_out.fold.plan.file_ending}"
    cache = folder / f"{case}{CACHE_ENDING}"
    if path.exists() and cache.exists():
        return read_mask(path)[0]
    steps = held_out.steps(case)
    scores = predictor.predict_prepared(held_out.image(case))
    mask = _corrected(predictor.export(scores, steps), case, held_out, predictor, scores)
    # For choosing among ensembles; the mask is written last and says that both are there.
    write_probabilities(
        cache,
        scores,
        steps,
        held_out.fold.labels,
        held_out.fold.configuration.resampling,
        logits=predictor.averages_logits,
    )
    write_mask(path, mask, steps.geometry)
    return mask


def _corrected(
    mask: np.ndarray, case: str, held_out: HeldOut, predictor: CasePredictor, scores: np.ndarray
) -> np.ndarray:
    """The mask after the configuration's own rules, so that what is scored is what prediction gives."""
    if not held_out.fold.configuration.postprocessing:
        return mask
    volume = read_volume(held_out.references[case].images, held_out.fold.plan.channel_names, nan_to_zero=True)
    return predictor.postprocess(mask, volume, scores, held_out.steps(case))
