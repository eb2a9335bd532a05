"""Held-out cases predicted as whole volumes and scored in their original grid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bts_auto.combine.cache import CACHE_ENDING
from bts_auto.data.labels import Labels
from bts_auto.data.partial import told
from bts_auto.data.raters import read_reference
from bts_auto.data.raw import CaseFiles
from bts_auto.data.readers import read_mask, write_mask
from bts_auto.errors import BtsError, CaseFailure
from bts_auto.evaluate.case import CaseScores, score_case
from bts_auto.evaluate.scores import Scores
from bts_auto.events import SILENT, Observer
from bts_auto.files import hash_json, read_json, write_json
from bts_auto.model.build import previous_stage_labels
from bts_auto.model.fold import TrainedFold
from bts_auto.predict.predictor import CasePredictor, guided
from bts_auto.predict.probabilities import write_probabilities
from bts_auto.preprocess.masks import MaskStore
from bts_auto.preprocess.store import CaseStore

VALIDATION = "validation"
SCORES = "scores.json"
_MADE_BY = "made_by.json"


def validate_fold(
    fold: TrainedFold,
    cases: Sequence[str],
    *,
    store: CaseStore,
    references: Mapping[str, CaseFiles],
    previous: MaskStore | None = None,
    device: str = "auto",
    tta: bool = True,
    step_size: float | None = None,
    observer: Observer = SILENT,
) -> Scores:
    """Predict and score `cases`; writes ``validation/CASE.*`` and ``validation/scores.json`` in the fold's folder.

    A case that fails is named and the others go on. Masks that these weights have written before are scored again, not
    predicted again, unless their cached probabilities are gone.

    Parameters
    ----------
    references : mapping of str to CaseFiles
        The raw dataset's training cases.
    previous : MaskStore, optional
        For a configuration with a previous stage: that stage's masks, made by folds that held the cases out.
    tta : bool
        Whether to average over mirrored copies.
    step_size : float, optional
        Distance of tiles as a share of the tile; None: the plan's.
    """
    folder = fold.folder / VALIDATION
    folder.mkdir(parents=True, exist_ok=True)
    made_by = {"weights": fold.content_hash, "tta": tta, "step_size": step_size}
    if previous is not None:
        made_by["previous"] = [previous.record(case) for case in cases]
    _drop_others(folder, hash_json(made_by))
    predictor = CasePredictor([fold], device=device, tta=tta, step_size=step_size, given_previous=previous is not None)
    scores: dict[str, CaseScores] = {}
    failures: list[CaseFailure] = []
    for case in observer.track(cases, "Validating"):
        try:
            scores[case] = _validate_case(case, fold, predictor, store, references, previous, folder)
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


def _validate_case(
    case: str,
    fold: TrainedFold,
    predictor: CasePredictor,
    store: CaseStore,
    references: Mapping[str, CaseFiles],
    previous: MaskStore | None,
    folder: Path,
) -> CaseScores:
    reference_path = references[case].mask if case in references else None
    if reference_path is None:
        raise BtsError("has no reference mask in the raw dataset", where=case)
    steps = store.open(case).steps
    path = folder / f"{case}{fold.plan.file_ending}"
    cache = folder / f"{case}{CACHE_ENDING}"
    if path.exists() and cache.exists():
        mask, _ = read_mask(path)
    else:
        image = np.asarray(store.open(case).image[:], np.float32)
        if previous is not None:
            image = guided(image, previous.whole(case), previous_stage_labels(fold.plan, fold.configuration))
        scores = predictor.predict_prepared(image)
        mask = predictor.export(scores, steps)
        # For choosing among ensembles; the mask is written last and says that both are there.
        write_probabilities(
            cache,
            scores,
            steps,
            fold.labels,
            fold.configuration.resampling,
            logits=predictor.averages_logits,
        )
        write_mask(path, mask, steps.geometry)
    reference, _ = read_reference(reference_path)
    return score_case(
        mask,
        reference,
        steps.geometry.spacing,
        fold.labels.scoring(),
        ignore=fold.labels.ignore,
        told=told(fold.labels, references[case].annotated),
    )


def mean_dice(scores: Scores, labels: Labels) -> dict[str, float]:
    """Mean Dice over cases for each scored label and region; NaN where no case has one."""
    summary = {}
    for region in labels.scoring():
        values = scores.values(region, "dice") if scores.cases else np.array([])
        summary[region] = float(np.nanmean(values)) if not np.isnan(values).all() else math.nan
    return summary
