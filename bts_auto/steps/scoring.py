"""Evaluate masks, choose among trained models, combine folders of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bts_auto.errors import DataError
from bts_auto.events import SILENT, Observer
from bts_auto.files import read_json
from bts_auto.steps.place import Outcome, locate, merged

if TYPE_CHECKING:
    from bts_auto.ensemble.best import Best
    from bts_auto.evaluate.scores import Scores

SCORES_FILE = "scores.json"


def score_table(scores: Scores, metrics: Sequence[str]) -> tuple[str, ...]:
    """Mean scores per label and region as an aligned text table."""
    summary = scores.summary()
    rows = [("", *metrics)]
    rows += [(region, *(f"{summary[region][m].mean:.4f}" for m in metrics)) for region in scores.regions]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return tuple(
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )


def evaluate(
    predictions: Path | None = None,
    references: Path | None = None,
    *,
    dataset: str | int | None = None,
    workspace: Path | None = None,
    labels: Path | None = None,
    output: Path | None = None,
    observer: Observer = SILENT,
) -> Outcome:
    """Score a folder of masks against references.

    Parameters
    ----------
    predictions : Path, optional
        Default: where the dataset's last masks went.
    references : Path, optional
        Default: the dataset's own masks; those of cases that were not predicted do not matter then.
    labels : Path, optional
        A dataset.json that says what the integers mean; default: the dataset's own.
    output : Path, optional
        Folder for ``scores.json`` and ``scores.csv``; default: `predictions`.
    """
    from bts_auto.data.labels import Labels
    from bts_auto.evaluate.folder import evaluate_folder

    if labels is None or predictions is None or references is None:
        place = locate(dataset, workspace, observer)
        known = place.dataset().labels if labels is None else Labels.from_dataset(read_json(labels))
        predictions = predictions or place.last_predictions()
        truth: Path | dict[str, Path] = references or place.references()
        observer.note(f"predictions: {predictions}")
    else:
        known, truth = Labels.from_dataset(read_json(labels)), references
    scores = evaluate_folder(predictions, truth, known, observer=observer)
    path = (output or predictions) / SCORES_FILE
    scores.save(path)
    content = scores.to_json()
    mean = {region: {m: v["mean"] for m, v in per.items()} for region, per in content["summary"].items()}
    lines = (*score_table(scores, scores.metrics), f"{len(scores.cases)} cases: {path}")
    return Outcome(len(scores.cases), merged(scores.failures), {"mean": mean, "scores": str(path)}, lines)


def combine(
    inputs: Sequence[Path],
    output: Path,
    *,
    dataset: str | int | None = None,
    workspace: Path | None = None,
    observer: Observer = SILENT,
) -> Outcome:
    """Combine folders of predictions: by probabilities where all have them, else by majority vote."""
    from bts_auto.ensemble.folders import combine_folders

    if len(inputs) < 2:
        raise DataError("one folder is no ensemble", where=inputs[0], mend="give two or more after -i")
    place = locate(dataset, workspace, observer)
    result = combine_folders(inputs, output, place.dataset().labels, observer=observer)
    place.remember_predictions(output)
    line = f"{len(result.cases)} cases combined by {result.combiner} ({result.reason}): {output}"
    data = {"combiner": result.combiner, "reason": result.reason, "output": str(output), "cases": result.cases}
    return Outcome(len(result.cases), merged(result.failures), data, (line,))


def choose(
    *,
    dataset: str | int | None = None,
    workspace: Path | None = None,
    search: bool = False,
    observer: Observer = SILENT,
) -> Outcome:
    """Score every trained configuration and their combinations on cross-validation, and remember the best."""
    from bts_auto.ensemble.choose import choose as choose_best

    place = locate(dataset, workspace, observer)
    choice = choose_best(
        place.results, place.dataset(), place.preprocessed, search=True if search else None, observer=observer
    )
    lines = (*_choice_lines(choice.best), f"remembered for bts_predict: {choice.path}")
    return Outcome(1, (), {"best": choice.best.model_dump(mode="json"), "path": str(choice.path)}, lines)


def _choice_lines(best: Best) -> list[str]:
    """What was tried and what was chosen, in words."""
    lines = [f"mean Dice on {len(best.cases)} cross-validated cases:"]
    for one in best.candidates:
        score = "no score" if one.mean_dice is None else f"{one.mean_dice:.4f}"
        how = f" by {one.combiner}" if len(one.members) > 1 else ""
        lines.append(f"  {score}  {' + '.join(one.members)}{how}" + (f" ({one.recipe})" if one.recipe else ""))
    lines.append("chosen: " + " + ".join(member.name for member in best.members))
    if best.postprocessing:
        lines.append("then: " + ", ".join(rule.name for rule in best.postprocessing))
    if best.nested_score is not None and best.optimism is not None:
        lines.append(
            f"expected on new cases: {best.nested_score:.4f} (the choice itself flatters by {best.optimism:.4f})"
        )
    return lines
