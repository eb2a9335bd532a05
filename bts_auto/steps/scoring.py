"""Choose among trained models, combine folders of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bts_auto.errors import DataError
from bts_auto.events import SILENT, Observer
from bts_auto.steps.declared import dataset_beside, declared
from bts_auto.steps.place import Outcome, Place, counted, locate, merged

if TYPE_CHECKING:
    from bts_auto.data.labels import Labels
    from bts_auto.ensemble.agreement import Agreement
    from bts_auto.ensemble.best import Best, TriedRule
    from bts_auto.ensemble.calibration import Calibration
    from bts_auto.ensemble.ranking import RankingRule

RELIABILITY_FILE = "reliability.png"
_REFUSED_SHOWN = 5


def combine(
    inputs: Sequence[Path],
    output: Path,
    *,
    dataset: str | int | None = None,
    workspace: Path | None = None,
    labels: Path | None = None,
    combiner: str | None = None,
    options: dict[str, Any] | None = None,
    observer: Observer = SILENT,
) -> Outcome:
    """Combine folders of predictions: by probabilities where all have them, else by majority vote.

    Parameters
    ----------
    inputs : sequence of Path
        Each with one mask per case, and probabilities beside them where there are any.
    output : Path
    labels : Path, optional
        A dataset.json that says what the integers mean; default: the one beside the masks of a folder, of the first
        that has one, else the dataset's own.
    combiner : str, optional
        A registered combiner, as recipes name them.
    options : dict, optional
        Its options.

    Raises
    ------
    DataError
        As :func:`bts_auto.ensemble.folders.combine_folders`, or when nothing says what the integers mean.
    PlanError
        For an unknown combiner, or options that do not fit it.
    """
    from bts_auto.ensemble.folders import combine_folders

    if len(inputs) < 2:
        raise DataError("one folder is no ensemble", where=inputs[0], mend="give two or more after -i")
    known, place = _what_integers_mean(inputs, labels, dataset, workspace, observer)
    result = combine_folders(inputs, output, known, combiner=combiner, options=options, observer=observer)
    if result.cases and place is not None:
        place.remember_predictions(output)
    line = f"{counted(len(result.cases), 'case')} combined by {result.combiner} ({result.reason}): {output}"
    data = {"combiner": result.combiner, "reason": result.reason, "output": str(output), "cases": result.cases}
    return Outcome(len(result.cases), merged(result.failures), data, (line,))


def _what_integers_mean(
    inputs: Sequence[Path],
    labels: Path | None,
    dataset: str | int | None,
    workspace: Path | None,
    observer: Observer,
) -> tuple[Labels, Place | None]:
    """The labels of masks, and the dataset that they are of; a workspace is looked at only where needed."""
    beside = None
    if labels is None and dataset is None:
        beside = next(filter(None, map(dataset_beside, inputs)), None)
    if beside is not None:
        observer.note(f"labels: {beside}")
    path = labels or beside
    if path is not None and dataset is None:
        return declared(path)[0], None
    try:
        place = locate(dataset, workspace, observer)
    except DataError as error:
        if dataset is not None:
            raise
        mend = "give --labels dataset.json"
        raise DataError(f"nothing says what the integers mean ({error.what})", where=inputs[0], mend=mend) from None
    return place.dataset().labels if path is None else declared(path)[0], place


def choose(
    *,
    dataset: str | int | None = None,
    workspace: Path | None = None,
    rule: RankingRule = "mean_dice",
    search: bool | None = None,
    observer: Observer = SILENT,
) -> Outcome:
    """Score every trained configuration and their combinations on cross-validation, and remember the best.

    Parameters
    ----------
    rule : {"mean_dice", "brats_ranking"}
        How combinations are compared.
    search : bool, optional
        Whether post-processing is searched; default: with 10 cases or more.
    """
    from bts_auto.ensemble.choose import choose as choose_best

    place = locate(dataset, workspace, observer)
    choice = choose_best(
        place.results, place.dataset(), place.preprocessed, rule=rule, search=search, observer=observer
    )
    data = {"best": choice.best.model_dump(mode="json"), "path": str(choice.path)}
    lines = _choice_lines(choice.best)
    if choice.best.calibration is not None:
        from bts_auto.report.reliability import write_reliability

        picture = place.results / RELIABILITY_FILE
        write_reliability(picture, choice.best.calibration)
        data["reliability"] = str(picture)
        lines += [*_calibration_lines(choice.best.calibration), f"  reliability: {picture}"]
    if choice.best.agreement is not None:
        lines.append(_agreement_line(choice.best.agreement))
    lines.append(f"remembered for bts_predict: {choice.path}")
    return Outcome(1, (), data, tuple(lines))


def clean_caches(
    *, dataset: str | int | None = None, workspace: Path | None = None, observer: Observer = SILENT
) -> Outcome:
    """Remove the cached probabilities that validation leaves for `choose`.

    ``bts_train CONFIG FOLD --val`` makes them again.
    """
    from bts_auto.ensemble.clean import remove_caches

    place = locate(dataset, workspace, observer)
    files, size = remove_caches(place.results)
    mend = "; bts_train CONFIG FOLD --val makes them again" if files else ""
    line = f"{files} cached cases removed, {size / 1e6:.1f} MB{mend}"
    return Outcome(1, (), {"removed": files, "bytes": size}, (line,))


def _calibration_lines(calibration: Calibration) -> list[str]:
    """What temperatures do to cases that they were not fitted on, in words."""
    lines = [
        f"confidence within {calibration.zone_mm:g} mm of tumour, each case under temperatures fitted without it:",
    ]
    for name, one in calibration.regions.items():
        if one.error_before is not None and one.error_after is not None:
            used = f"temperature {one.temperature:.2f}" if one.helps else "no temperature, none helps"
            lines.append(f"  {name}: {used}, calibration error {one.error_before:.4f} -> {one.error_after:.4f}")
    return lines


def _rule_lines(tried: Sequence[TriedRule]) -> list[str]:
    """Which post-processing was accepted, and the most promising of what was turned down, with what each changed."""
    if not tried:
        return []
    refused = sorted((one for one in tried if not one.accepted), key=lambda one: -one.difference)
    lines = [f"post-processing, {len(tried)} rules tried, by change of the mean Dice (95 % interval over cases):"]
    shown = [("accepted", one) for one in tried if one.accepted]
    shown += [("turned down", one) for one in refused[:_REFUSED_SHOWN]]
    for word, one in shown:
        interval = "" if one.low is None or one.high is None else f" ({one.low:+.4f} to {one.high:+.4f})"
        options = ", ".join(f"{key} {value}" for key, value in one.rule.options.items())
        lines.append(f"  {word}: {one.rule.name} {options}".rstrip() + f": {one.difference:+.4f}{interval}")
    if len(refused) > _REFUSED_SHOWN:
        lines.append(f"  turned down: {len(refused) - _REFUSED_SHOWN} others; best.json names them")
    return lines


def _agreement_line(found: Agreement) -> str:
    """How well a case's Dice can be told without its reference, in words."""
    line = f"predicted Dice of {found.cases} cases: off by {found.error:.3f} on average"
    if found.correlation is not None and found.rank_correlation is not None:
        line += f", correlation with the true one {found.correlation:.2f} (of ranks {found.rank_correlation:.2f})"
    return line + f"; new cases below {found.low:.2f} are named"


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
    lines += _rule_lines(best.tried_rules)
    if best.nested_score is not None and best.optimism is not None:
        lines.append(
            f"expected on new cases: {best.nested_score:.4f} (the choice itself flatters by {best.optimism:.4f})"
        )
    return lines
