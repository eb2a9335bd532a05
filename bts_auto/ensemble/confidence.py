"""How sure a chosen pipeline may be: temperatures, predicted Dice, and what the cases that it learnt from look like."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from bts_auto.data.likeness import CaseLook, TrainingLook
from bts_auto.data.raw import RawDataset
from bts_auto.data.readers import read_volume
from bts_auto.ensemble.agreement import Agreement, expected_dice, mean_of, summarise_agreement
from bts_auto.ensemble.calibration import LEAST_CASES, Calibration, fit_calibration, held_out_temperatures
from bts_auto.ensemble.evidence import Evidence, count_levels, region_probability
from bts_auto.ensemble.scorer import Candidate, Rules, Scorer
from bts_auto.errors import BtsError

# More cases than these are not looked at: ranges and means hardly move.
_MOST_LOOKED_AT = 40


def assess(
    scorer: Scorer, chosen: Candidate, rules: Rules, note: Callable[[str], None]
) -> tuple[Calibration | None, Agreement | None]:
    """Temperatures and predicted Dice of a chosen pipeline on the cross-validated cases; None with a word why.

    Whatever is said of a case is worked out with temperatures that were fitted without it.
    """
    poor = [scorer.trained[i] for i in chosen.members if not scorer.trained[i].has_probabilities]
    if poor:
        command = poor[0].validation_command
        note(f"confidence is not calibrated: {poor[0].member.name} has not all its probabilities cached; {command}")
        return None, None
    evidence: dict[str, Evidence] = {}
    inside: dict[str, dict[str, np.ndarray]] = {}
    for case in scorer.cases:
        told = scorer.confidence_in(chosen, rules, case)
        names = told.labels.foreground if told.labels.has_regions else ()
        regions = scorer.regions | {name: told.labels.values[name] for name in names}
        found = Evidence.of(told.probabilities, told.reference, told.labels, regions, told.spacing)
        if found is None:
            continue
        evidence[case] = found
        inside[case] = {}
        for name, values in scorer.regions.items():
            probability = region_probability(told.probabilities, told.labels, values)
            if probability is not None:
                inside[case][name] = count_levels(probability, np.isin(told.mask, values))
    calibration = fit_calibration(evidence)
    if calibration is None:
        note(f"confidence is not calibrated: too few cases ({len(evidence)} of {LEAST_CASES} that are needed)")
    for remark in () if calibration is None else calibration.remarks():
        note(remark)
    agreement = _agreement(scorer, chosen, rules, inside, _without_each(evidence, calibration))
    if agreement is not None and not agreement.informs:
        note(
            f"predicted Dice does not tell good masks from bad on cross-validation (correlation "
            f"{agreement.correlation:.2f}): new cases get it with its error, and none is named for it"
        )
    return calibration, agreement


def _without_each(evidence: Mapping[str, Evidence], calibration: Calibration | None) -> dict[str, dict[str, float]]:
    """For each case and region the temperature fitted without the case; 1 where temperatures do not help."""
    found: dict[str, dict[str, float]] = {case: {} for case in evidence}
    for name, one in {} if calibration is None else calibration.regions.items():
        if one.helps:
            fitted = held_out_temperatures([each.region_likelihoods[name] for each in evidence.values()])
            for case, temperature in zip(evidence, fitted, strict=True):
                found[case][name] = temperature
    return found


def _agreement(
    scorer: Scorer,
    chosen: Candidate,
    rules: Rules,
    inside: Mapping[str, Mapping[str, np.ndarray]],
    temperatures: Mapping[str, Mapping[str, float]],
) -> Agreement | None:
    predicted, true = {}, {}
    for case, counts in inside.items():
        said = {name: expected_dice(one, temperatures[case].get(name, 1.0)) for name, one in counts.items()}
        there = {name: dice for name, dice in said.items() if dice is not None}
        dice = scorer.scores(chosen, rules, [case])[0, :, scorer.metrics.index("dice")]
        scored = dict(zip(scorer.regions, dice, strict=True))
        mean = mean_of(list(there.values()))
        if mean is not None:
            predicted[case] = mean
            true[case] = float(np.mean([scored[name] for name in there]))
    return summarise_agreement(predicted, true)


def look_at_training(raw: RawDataset, note: Callable[[str], None]) -> TrainingLook | None:
    """What the training cases look like; None with a word where fewer than two can be read."""
    cases = list(raw.training_cases().values())
    looks = []
    for files in cases[:: -(-len(cases) // _MOST_LOOKED_AT)]:
        try:
            looks.append(CaseLook.of(read_volume(files.images, raw.channels, nan_to_zero=True)))
        except (BtsError, OSError):
            continue
    found = TrainingLook.of(looks, raw.channels)
    if found is None:
        note("new cases are not compared with the training cases: fewer than two of these can be read")
    return found
