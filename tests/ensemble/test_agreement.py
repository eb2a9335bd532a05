"""Dice predicted from agreement: what it means, how it is judged, and what is said of a case."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import pearsonr, spearmanr

from bts_auto.combine.cache import CACHE_ENDING, write_cache
from bts_auto.data.labels import Labels
from bts_auto.data.likeness import CaseLook, TrainingLook
from bts_auto.ensemble.agreement import Agreement, expected_dice, predicted_dice, summarise_agreement
from bts_auto.ensemble.best import Best, Member
from bts_auto.ensemble.choose import choose
from bts_auto.ensemble.evidence import count_levels
from bts_auto.ensemble.predictor import JointPredictor
from bts_auto.events import Observer
from bts_auto.files import read_json
from bts_auto.predict.predictor import CasePredictor
from tests.ensemble.make_results import SHAPE, Results, predictions, truth
from tests.predict.models import MemoryFold, make_configuration, make_plan, make_volume, predict_folder
from tests.predict.test_folder import write_case

LABELS = Labels({"background": (0,), "edema": (1,), "core": (2,)})
REGIONS = Labels({"background": (0,), "WT": (1, 2), "TC": (2,)}, (1, 2))
SCORED = {"WT": (1, 2), "TC": (2,)}
PLAN = make_plan(make_configuration((8, 8, 8)))


def _random(k: int) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.full(k, 0.3), (12, 12, 12)).transpose(3, 0, 1, 2)


def test_it_is_the_dice_with_truths_drawn_from_the_calibrated_probabilities() -> None:
    random = np.random.default_rng(1)
    p = np.rint(random.beta(0.4, 2.0, (30, 30, 30)) * 255) / 255
    mask = p > 0.5
    warm = np.where((p > 0) & (p < 1), expit(logit(np.clip(p, 1e-9, 1 - 1e-9)) / 1.8), p)
    drawn = [random.random(p.shape) < warm for _ in range(20)]
    dice = [2 * (mask & truth).sum() / (mask.sum() + truth.sum()) for truth in drawn]
    assert expected_dice(count_levels(p, mask), 1.8) == pytest.approx(np.mean(dice), abs=0.005)


def test_votes_give_the_dice_with_an_average_voter() -> None:
    random = np.random.default_rng(2)
    votes = random.random((5, 10, 10, 10)) < 0.3
    mask = votes.sum(axis=0) >= 3
    overlap = np.mean([(mask & one).sum() for one in votes])
    expected = 2 * overlap / (mask.sum() + votes.sum() / 5)
    assert expected_dice(count_levels(votes.mean(axis=0), mask), 1.0) == pytest.approx(expected, rel=1e-3)


def test_an_empty_mask_has_no_predicted_dice() -> None:
    assert expected_dice(count_levels(np.full((3, 3, 3), 0.2), np.zeros((3, 3, 3), bool)), 1.0) is None


def test_regions_of_labels_and_of_networks_that_know_regions_agree() -> None:
    labels = np.rint(_random(3) * 85) / 85  # sums of thirds stay on the 8-bit grid
    regions = np.stack([labels[1] + labels[2], labels[2]])
    mask = REGIONS.decode(regions)
    found = predicted_dice(iter(labels), mask, LABELS, SCORED, {"WT": 1.5})
    assert found.keys() == SCORED.keys()
    other = predicted_dice(iter(regions), mask, REGIONS, SCORED, {"WT": 1.5})
    assert found == pytest.approx(other)


def test_predictions_are_judged_case_by_case() -> None:
    said, true = [0.9, 0.7, 0.8, 0.7, 0.95], [0.8, 0.5, 0.75, 0.8, 0.7]
    found = summarise_agreement(dict(zip("abcdex", [*said, 0.1], strict=True)), dict(zip("abcde", true, strict=True)))
    assert found is not None
    assert found.cases == 5
    assert found.error == pytest.approx(np.mean([0.1, 0.2, 0.05, 0.1, 0.25]))
    assert found.correlation == pytest.approx(pearsonr(said, true).statistic)
    assert found.rank_correlation == pytest.approx(spearmanr(said, true).statistic)
    assert 0.5 <= found.low < 0.7


def _summary(said: list[float], true: list[float]) -> Agreement:
    cases = [f"case_{n}" for n in range(len(said))]
    found = summarise_agreement(dict(zip(cases, said, strict=True)), dict(zip(cases, true, strict=True)))
    assert found is not None
    return found


def test_where_all_predictions_are_low_a_case_is_named_that_is_lower_than_they() -> None:
    found = _summary([0.3, 0.35, 0.4, 0.45], [0.5, 0.6, 0.6, 0.7])
    assert not any(found.is_low(value) for value in found.predicted.values())
    assert found.is_low(0.2)


def test_a_low_prediction_in_good_company_is_named_below_one_half() -> None:
    found = _summary([0.3, 0.85, 0.9, 0.9, 0.95], [0.4, 0.8, 0.85, 0.9, 0.9])
    assert (found.is_low(0.49), found.is_low(0.51)) == (True, False)


def test_predictions_that_go_against_the_truth_name_nobody() -> None:
    found = _summary([0.3, 0.2, 0.16, 0.33], [0.6, 0.7, 0.76, 0.56])
    assert found.correlation is not None
    assert found.correlation < 0
    assert not found.is_low(0.01)
    assert not found.model_copy(update={"low": 0.5}).is_low(0.01)  # as an earlier version wrote it


def test_choosing_says_that_predictions_go_against_the_truth(tmp_path: Path) -> None:
    results = Results.make(tmp_path, 4)
    results.add("a__3d_fullres", predictions(results, lambda mask, number: np.roll(mask, number, 0)), certainty=0.9)
    for number, case in enumerate(results.cases):  # the surer, the further off
        certainty, mask = 0.6 + 0.1 * number, np.roll(truth(number), number, 0)
        path = results.folder / "a__3d_fullres" / f"fold_{number % 2}" / "validation" / f"{case}{CACHE_ENDING}"
        channels = [np.where(mask == value, certainty, (1 - certainty) / 3) for value in range(4)]
        box = tuple(slice(0, n) for n in SHAPE)
        write_cache(path, channels, outputs=results.raw.labels.outputs, box=box, shape=SHAPE)
    best = choose(results.folder, results.raw).best
    assert best.agreement is not None
    assert best.agreement.low == 0
    assert any("does not tell good masks from bad" in note for note in best.notes)


def test_two_cases_have_no_correlation() -> None:
    found = summarise_agreement({"a": 0.9, "b": 0.7}, {"a": 0.8, "b": 0.5})
    assert found is not None
    assert found.correlation is None


def test_choosing_remembers_how_predicted_and_true_dice_go_together(tmp_path: Path) -> None:
    results = Results.make(tmp_path, 4)
    results.add("a__3d_fullres", predictions(results, lambda mask, number: np.roll(mask, number, 0)), certainty=0.9)
    agreement = choose(results.folder, results.raw).best.agreement
    assert agreement is not None
    assert agreement.predicted.keys() == agreement.true.keys() == set(results.cases)
    assert agreement.true["case_00"] == 1
    assert agreement.true["case_03"] < 0.8


def _joint(*, low: float, training: TrainingLook | None = None, correlation: float = 0.9) -> JointPredictor:
    agreement = Agreement(
        cases=4,
        correlation=correlation,
        rank_correlation=0.8,
        error=0.1,
        low=low,
        predicted={"a": 0.8},
        true={"a": 0.7},
    )
    best = Best(
        dataset_name="Dataset001_Test",
        members=(Member(recipe="r", configuration="3d_fullres", folds=(0,)),),
        agreement=agreement,
        training=training,
    )
    return JointPredictor(best, [CasePredictor([MemoryFold(PLAN)], device="cpu", engine="torch", tta=False)])


def test_a_low_predicted_dice_is_named_in_the_record_and_to_the_observer(tmp_path: Path) -> None:
    class Listening(Observer):
        def __init__(self) -> None:
            self.warnings: list[str] = []

        def warn(self, message: str) -> None:
            self.warnings.append(message)

    (tmp_path / "in").mkdir()
    write_case(tmp_path / "in", "anna")
    listening = Listening()
    for low, correlation, named in ((0.99, 0.9, True), (0.01, 0.9, False), (0.99, -0.2, False)):
        listening.warnings.clear()
        output = tmp_path / f"{low}_{correlation}"
        predict_folder(_joint(low=low, correlation=correlation), tmp_path / "in", output, observer=listening)
        record = read_json(output / "anna.prediction.json")
        assert 0 < record["predicted_dice"]["core"] < 0.99
        assert record["predicted_dice_error"] == 0.1
        assert any("predicted Dice is low" in line for line in record["remarks"]) is named
        assert any("anna: predicted Dice is low" in line for line in listening.warnings) is named


def test_a_scan_unlike_the_training_cases_is_named(tmp_path: Path) -> None:
    volumes = [make_volume(seed=seed) for seed in range(4)]
    training = TrainingLook.of([CaseLook.of(one) for one in volumes], volumes[0].channels)
    joint = _joint(low=0.0, training=training)
    assert joint.predict(volumes[0]).remarks == ()
    far = replace(volumes[0].geometry, spacing=(1.0, 1.0, 3.0))
    (remark,) = joint.predict(replace(volumes[0], geometry=far)).remarks
    assert remark.startswith("unlike the training cases: voxels 3 mm")
