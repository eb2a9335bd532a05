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
    from bts_auto.plan.schema import Component

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
    recipe: str | None = None,
    observer: Observer = SILENT,
) -> Outcome:
    """Score every trained configuration and their combinations on cross-validation, and remember the best.

    Parameters
    ----------
    rule : {"mean_dice", "brats_ranking"}
        How combinations are compared.
    search : bool, optional
        Whether post-processing is searched; default: with 10 cases or more.
    recipe : str, optional
        Choose this one: an ensemble as it is written, or what is best of a single one's configurations.
    """
    from bts_auto.ensemble.choose import choose as choose_best

    place = locate(dataset, workspace, observer)
    choice = choose_best(
        place.results,
        place.dataset(),
        place.preprocessed,
        rule=rule,
        search=search,
        recipe=None if recipe is None else recipe.replace(":", "."),
        observer=observer,
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
            used = (
                f"temperature {one.temperature:.2f}, calibration error {one.error_before:.4f} -> {one.error_after:.4f}"
            )
            unused = f"no temperature, none makes left-out cases likelier; calibration error {one.error_before:.4f}"
            lines.append(f"  {name}: {used if one.helps else unused}")
    return lines


def _rule_lines(tried: Sequence[TriedRule], applied: Sequence[Component]) -> list[str]:
    """Which post-processing was accepted, and the most promising of what was turned down, with what each changed."""
    if not tried:
        return []
    order = [rule.model_dump_json() for rule in applied]
    accepted = sorted((one for one in tried if one.accepted), key=lambda one: _place(one, order))
    refused = sorted((one for one in tried if not one.accepted), key=lambda one: -one.difference)
    lines = [f"post-processing, {len(tried)} rules tried, by change of the mean Dice (95 % interval over cases):"]
    lines += [f"  accepted: {_rule_words(one)}" for one in accepted]
    for one in refused[:_REFUSED_SHOWN]:
        lines.append(f"  turned down: {_rule_words(one)}" + _why_not(one, refused[0], len(accepted)))
    if len(refused) > _REFUSED_SHOWN:
        lines.append(f"  turned down: {len(refused) - _REFUSED_SHOWN} others; best.json names them")
    return lines


def _place(one: TriedRule, order: Sequence[str]) -> int:
    """Where a rule stands among those that are applied; at the end where another has taken its place."""
    rule = one.rule.model_dump_json()
    return order.index(rule) if rule in order else len(order)


def _rule_words(one: TriedRule) -> str:
    interval = "" if one.low is None or one.high is None else f" ({one.low:+.4f} to {one.high:+.4f})"
    options = ", ".join(f"{key} {value}" for key, value in one.rule.options.items())
    return f"{one.rule.name} {options}".rstrip() + f": {one.difference:+.4f}{interval}"


def _why_not(one: TriedRule, most_promising: TriedRule, accepted: int) -> str:
    """Why a rule was turned down whose interval lies above 0; nothing where the interval says it."""
    if one.low is None or one.low <= 0:
        return ""
    if most_promising.low is not None and most_promising.low > 0:
        return f"; not after {counted(accepted, 'rule')}, where the search ends"
    return "; another promised as much or more, and not for sure"


def _agreement_line(found: Agreement) -> str:
    """How well a case's Dice can be told without its reference, in words."""
    line = f"predicted Dice of {counted(found.cases, 'case')}: off by {found.error:.3f} on average"
    if found.correlation is not None and found.rank_correlation is not None:
        line += f", correlation with the true one {found.correlation:.2f} (of ranks {found.rank_correlation:.2f})"
    named = f"new cases below {found.low:.2f} are named" if found.informs else "no new case is named for it"
    return f"{line}; {named}"


def _choice_lines(best: Best) -> list[str]:
    """What was tried and what was chosen, in words."""
    ranked = best.rule == "brats_ranking"
    rank = ", mean rank in Dice and HD95 (1 is best)" if ranked else ""
    lines = [f"mean Dice{rank} on {counted(len(best.cases), 'cross-validated case')}:"]
    for one in best.candidates:
        score = "no score" if one.mean_dice is None else f"{one.mean_dice:.4f}"
        if ranked and one.value is not None:
            score += f"  {one.value:.2f}"
        how = _combined(one.members, one.combiner, one.weights)
        lines.append(f"  {score}  {how}" + (f" ({one.recipe})" if one.recipe else ""))
    names = [member.name for member in best.members]
    lines.append("chosen: " + _combined(names, best.combiner.name, best.weights))
    if best.postprocessing:
        lines.append("then: " + ", ".join(rule.name for rule in best.postprocessing))
    lines += _rule_lines(best.tried_rules, best.postprocessing)
    if best.nested_score is not None and best.optimism is not None:
        lines.append(
            f"expected on new cases: {best.nested_score:.4f} (the choice itself flatters by {best.optimism:.4f})"
        )
    return lines


def _combined(members: Sequence[str], combiner: str, weights: Sequence[float] | None) -> str:
    """``A + B by weighted (0.75, 0.25)``."""
    if len(members) == 1:
        return members[0]
    shares = "" if weights is None else f" ({', '.join(f'{weight:.2f}' for weight in weights)})"
    return f"{' + '.join(members)} by {combiner}{shares}"
