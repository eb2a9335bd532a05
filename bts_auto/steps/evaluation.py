"""Scoring folders of masks against references, and against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bts_auto.errors import CaseFailure, DataError, PlanError
from bts_auto.events import SILENT, Observer
from bts_auto.steps.declared import dataset_beside, declared
from bts_auto.steps.place import Outcome, counted, locate

if TYPE_CHECKING:
    from bts_auto.data.labels import Labels
    from bts_auto.data.raters import Reference
    from bts_auto.evaluate.case import RegionProbability
    from bts_auto.evaluate.scores import Scores

SCORES_FILE = "scores.json"
COMPARISON_FILE = "comparison.json"
_COMPARED = "paired Wilcoxon tests, effect as rank-biserial correlation"


def evaluate(
    predictions: Path | Sequence[Path] | None = None,
    references: Path | None = None,
    *,
    dataset: str | int | None = None,
    workspace: Path | None = None,
    labels: Path | None = None,
    regions: Sequence[str] = (),
    metrics: Sequence[str] = (),
    tolerances_mm: Sequence[float] = (),
    lesions: Sequence[str] = (),
    probabilities: bool = False,
    empty: str | Mapping[str, Any] = "nan",
    workers: int | None = None,
    output: Path | None = None,
    observer: Observer = SILENT,
) -> Outcome:
    """Score folders of masks against references; two or more folders are also compared in pairs.

    Parameters
    ----------
    predictions : Path or sequence of Path, optional
        Default: where the dataset's last masks went.
    references : Path, optional
        Default: the dataset's own masks; those of cases that were not predicted do not matter then.
    labels : Path, optional
        A dataset.json that says what the integers mean; default: the one beside `references` where there is one, else
        the dataset's own.
    regions : sequence of str
        What is scored: names of labels and regions, or regions of one's own as ``"WT=1,2,3"``. Where these alone are
        given, no dataset is needed: their integers are then all that masks may hold.
    metrics : sequence of str
        See :func:`bts_auto.evaluate.metric.resolve`; ``"all"`` is every metric. Default: a short list.
    tolerances_mm : sequence of float
        Adds the normalised surface Dice at each of them.
    lesions : sequence of str
        Adds lesion-wise Dice, HD95 and F1 by the BraTS-2023 rules of each of these tasks (GLI, SSA, PED, MEN, MET).
    probabilities : bool
        Adds average precision, AUROC, expected calibration error and Brier score of the probabilities that lie beside
        the masks (``bts_predict --save-probabilities``, the validation's, or nnU-Net's npz).
    empty : str or mapping
        What undefined scores are (:func:`bts_auto.evaluate.empty.empty_rule`).
    workers : int, optional
        Cases scored side by side; default: the number of cores, at most 8.
    output : Path, optional
        Folder for ``scores.json`` and ``scores.csv``, for several folders in a folder for each, and ``comparison.json``
        and ``comparison.csv``; default: each folder of `predictions`, and the first one for the comparison.

    Raises
    ------
    DataError
        When no case could be scored. No scores are written for a folder without a scored case.
    """
    from bts_auto.evaluate.empty import empty_rule
    from bts_auto.evaluate.folder import evaluate_folder, find_masks
    from bts_auto.evaluate.metric import resolve

    rule, wanted = empty_rule(empty), _metrics(metrics, tolerances_mm, lesions, probabilities)
    judged = any(one.metric.of_probabilities for one in resolve(wanted))
    if workers is not None and workers < 1:
        raise PlanError(f"{workers} workers", where="-np", mend="give 1 or more")
    folders = [predictions] if isinstance(predictions, Path) else list(predictions or ())
    for folder in folders if references is None else [*folders, references]:
        find_masks(folder)
    known, annotated, truth, folders = _subjects(folders, references, labels, regions, dataset, workspace, observer)
    chosen = _regions(known, regions)
    scored: dict[str, tuple[Path, Scores]] = {}
    for name, folder in zip(_names(folders), folders, strict=True):
        scores = evaluate_folder(
            folder,
            truth,
            known,
            metrics=wanted,
            empty=rule,
            regions=chosen,
            partial=annotated,
            workers=workers,
            probabilities=partial(_saved_probabilities, labels=known) if judged else None,
            observer=observer,
        )
        scored[name] = (folder, scores)
    if not any(scores.cases for _, scores in scored.values()):
        raise DataError(_nothing([one for _, scores in scored.values() for one in scores.failures]))
    return _written(scored, output)


def metrics() -> Outcome:
    """Every metric with its definition in one line."""
    from bts_auto import registry
    from bts_auto.evaluate.metric import resolve
    from bts_auto.report.score_tables import aligned

    found = resolve(registry.names("metric"))
    rows = [(one.name, one.metric.unit or "-", one.metric.about) for one in found]
    data = {
        one.name: {"about": one.metric.about, "unit": one.metric.unit, "better": one.metric.better} for one in found
    }
    return Outcome(len(found), (), {"metrics": data}, aligned(rows, left=3))


def _metrics(
    names: Sequence[str], tolerances_mm: Sequence[float], lesions: Sequence[str], probabilities: bool
) -> list[str]:
    from bts_auto import registry
    from bts_auto.evaluate.metric import DEFAULT_METRICS, resolve

    every = {one.name: one.metric for one in resolve(registry.names("metric"))}
    wanted = list(names or DEFAULT_METRICS)
    if "all" in wanted:
        of_masks = (name for name, one in every.items() if not one.of_probabilities)
        wanted = [*(name for name in wanted if name != "all"), *of_masks]
    if probabilities:
        wanted += [name for name, one in every.items() if one.of_probabilities]
    wanted += [f"nsd@{tolerance:g}" for tolerance in tolerances_mm]
    wanted += [f"{kind}@{task.upper()}" for task in lesions for kind in ("lesion_dice", "lesion_hd95", "lesion_f1")]
    return list(dict.fromkeys(wanted))


def _saved_probabilities(mask: Path, labels: Labels) -> RegionProbability:
    """Looks up the probability of a region in what was saved beside a mask.

    Raises
    ------
    DataError
        When nothing was saved.
    """
    from bts_auto.combine.saved import find_of_members, probabilities_exist
    from bts_auto.ensemble.evidence import region_probability
    from bts_auto.evaluate.folder import case_of

    case = case_of(mask) or mask.name
    if not probabilities_exist(mask.parent, case, labels):
        raise DataError("no probabilities beside the mask", mend="make them with bts_predict --save-probabilities")
    own, (source,) = find_of_members([mask.parent], case, labels)
    outputs = source.read([slice(0, size) for size in source.shape])
    return lambda members: region_probability(outputs, own, members)


def _subjects(
    folders: list[Path],
    references: Path | None,
    labels: Path | None,
    regions: Sequence[str],
    dataset: str | int | None,
    workspace: Path | None,
    observer: Observer,
) -> tuple[Labels, Mapping[str, tuple[str, ...]], Path | dict[str, Reference], list[Path]]:
    """What the integers mean, which cases are annotated for some only, the references, and the folders to score.

    A workspace is looked at only where needed.
    """
    from bts_auto.data.labels import Labels

    known: Labels | None = None
    partial: Mapping[str, tuple[str, ...]] = {}
    beside = None if dataset is not None or references is None else dataset_beside(references)
    if labels is not None:
        known, partial = declared(labels)
    elif beside is not None:
        known, partial = declared(beside)
        observer.note(f"labels: {beside}")
    elif references is not None and dataset is None and regions and all("=" in one for one in regions):
        known = Labels.from_regions(_own_regions(regions))
    if known is not None and folders and references is not None:
        return known, partial, references, folders
    try:
        place = locate(dataset, workspace, observer)
    except DataError as error:
        if references is None or dataset is not None or not folders:
            raise
        mend = "give --labels dataset.json, or --regions WT=1,2,3 TC=1,3 ET=3"
        raise DataError(f"nothing says what the integers mean ({error.what})", where=references, mend=mend) from None
    last = folders or [place.last_predictions()]
    if not folders:
        observer.note(f"predictions: {last[0]}")
    if known is None:
        known, partial = place.dataset().labels, place.dataset().partial
    return known, partial, references or place.references(), last


def _regions(labels: Labels, regions: Sequence[str]) -> dict[str, tuple[int, ...]] | None:
    """What is scored by name; None: all."""
    if not regions:
        return None
    known, own = labels.scoring(), _own_regions(one for one in regions if "=" in one)
    for name in regions:
        if "=" not in name and name not in known:
            raise DataError(f"no label or region is called '{name}'", mend=f"known are {', '.join(known)}")
    strange = sorted({value for members in own.values() for value in members} - set(labels.known_values))
    if strange:
        raise DataError(f"the dataset has no label {strange[0]}", where="--regions")
    return {name: own.get(name) or known[name] for name in (one.partition("=")[0] for one in regions)}


def _own_regions(regions: Any) -> dict[str, tuple[int, ...]]:
    """``["WT=1,2,3"]`` as ``{"WT": (1, 2, 3)}``."""
    found = {}
    for one in regions:
        name, _, members = one.partition("=")
        try:
            found[name] = tuple(int(value) for value in members.split(","))
        except ValueError:
            found[name] = ()
        if not name or not found[name] or min(found[name]) < 1:
            raise PlanError(f"'{one}' is not a region", where="--regions", mend="write WT=1,2,3 with integers above 0")
    return found


def _names(folders: Sequence[Path]) -> list[str]:
    """A name for each folder: its own, with as many of the folders above it as tell them apart."""
    parts = [folder.absolute().parts for folder in folders]
    if len(set(parts)) < len(parts):
        twice = next(folder for folder, own in zip(folders, parts, strict=True) if parts.count(own) > 1)
        raise DataError("the same folder twice", where=twice, mend="name different folders after -p")
    length = next(n for n in range(1, 1 + max(map(len, parts))) if len({own[-n:] for own in parts}) == len(parts))
    return ["_".join(own[-length:]).replace("/", "") for own in parts]


def _nothing(failures: Sequence[CaseFailure]) -> str:
    first = failures[0]
    return f"none of {len(failures)} cases could be scored; the first, {first.case}: {first.reason}"


def _written(scored: Mapping[str, tuple[Path, Scores]], output: Path | None) -> Outcome:
    """Write the scores of each folder, and their comparison where there are several."""
    from bts_auto.evaluate.compare import compare_all, save_comparisons
    from bts_auto.report.score_tables import comparison_table, summary_table

    several, lines = len(scored) > 1, []
    data: dict[str, Any] = {"folders": {}}
    failures: list[CaseFailure] = []
    for name, (folder, scores) in scored.items():
        inner = output / name if output is not None and several else output
        path = (inner or folder) / SCORES_FILE
        if scores.cases:
            scores.save(path)
            data["folders"][name] = {"mean": _means(scores), "cases": len(scores.cases), "scores": str(path)}
            lines += [
                *([f"{name}:"] if several else []),
                *summary_table(scores),
                f"{counted(len(scores.cases), 'case')}: {path}",
            ]
        failures += [
            CaseFailure(one.case, f"{name}: {one.reason}" if several else one.reason) for one in scores.failures
        ]
    if not several:
        return Outcome(len(scores.cases), tuple(failures), next(iter(data["folders"].values())), tuple(lines))
    comparisons = compare_all({name: scores for name, (_, scores) in scored.items()})
    path = (output or next(iter(scored.values()))[0]) / COMPARISON_FILE
    data |= {"comparisons": [one.to_json() for one in comparisons], "comparison": str(path) if comparisons else None}
    for pair in comparisons:
        title = f"{pair.first} minus {pair.second}, {len(pair.cases)} common cases:"
        lines += ["", title, *comparison_table(pair)]
    if comparisons:
        save_comparisons(path, comparisons)
        lines.append(f"{_COMPARED}: {path}")
    failures += _apart(scored, {(one.first, one.second) for one in comparisons})
    return Outcome(sum(len(scores.cases) for _, scores in scored.values()), tuple(failures), data, tuple(lines))


def _apart(scored: Mapping[str, Any], compared: set[tuple[str, str]]) -> list[CaseFailure]:
    """The pairs that could not be compared."""
    names = list(scored)
    missing = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if (a, b) not in compared]
    return [CaseFailure(f"{a} against {b}", "they have no scored case in common") for a, b in missing]


def _means(scores: Scores) -> dict[str, dict[str, float | None]]:
    summary = scores.to_json()["summary"]
    return {region: {metric: one["mean"] for metric, one in per.items()} for region, per in summary.items()}
