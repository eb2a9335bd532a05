"""Temperatures of a chosen pipeline: fitted, checked on cases they did not see, remembered and obeyed."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from bts_auto.combine.cache import CACHE_ENDING, CachedProbabilities, write_cache
from bts_auto.combine.probabilities import geometric_mean
from bts_auto.combine.temperature import SMALLEST, scale
from bts_auto.data.labels import Labels
from bts_auto.ensemble.best import Best
from bts_auto.ensemble.calibration import Calibrated, Calibration, calibrated, fit_calibration
from bts_auto.ensemble.choose import choose
from bts_auto.ensemble.clean import remove_caches
from bts_auto.ensemble.discover import discover
from bts_auto.ensemble.evidence import LEVELS, Evidence, near, region_probability
from bts_auto.ensemble.scorer import Candidate, Scorer
from bts_auto.ensemble.search import search_members, search_rules
from bts_auto.evaluate.probability import reliability, reliability_of_counts
from tests.ensemble.make_results import SHAPE, Results, predictions, truth

LABELS = Labels({"background": (0,), "edema": (1,), "core": (2,)})
REGIONS = Labels({"background": (0,), "WT": (1, 2), "TC": (2,)}, (1, 2))
SAID = np.clip(LEVELS, SMALLEST, 1 - SMALLEST)
SCORED = {"WT": (1, 2), "TC": (2,)}


def _case(seed: int, *, sharp: float = 2.0, labels: Labels = REGIONS) -> Evidence:
    """A case of smooth truth whose probabilities are `sharp` times too sure."""
    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 16)] * 3, indexing="ij"))
    fields = [3 - 7 * np.linalg.norm(grid, axis=0), 2 - 8 * np.linalg.norm(grid, axis=0)]
    p = 1 / (1 + np.exp(-np.stack(fields)))
    drawn = random.random(p.shape[1:])  # the same number for both regions nests them
    reference = (drawn < p[0]).astype(int) + (drawn < p[1])
    said = 1 / (1 + np.exp(-sharp * np.stack(fields)))
    if not labels.has_regions:
        said = np.stack([1 - said[0], said[0] * (1 - said[1]), said[0] * said[1]])
    found = Evidence.of(said.astype(np.float32), reference, labels, SCORED, (1.0, 1.0, 1.0))
    assert found is not None
    return found


def test_only_voxels_near_tumour_are_counted() -> None:
    mask = np.zeros((20, 18, 16), bool)
    mask[5:7, 8, 2] = True
    spacing = (2.0, 1.0, 1.5)
    np.testing.assert_array_equal(near(mask, spacing, 4.0), distance_transform_edt(~mask, sampling=spacing) <= 4.0)


def test_voxels_with_the_ignore_label_are_not_counted() -> None:
    labels = Labels({"background": (0,), "WT": (1, 2), "TC": (2,)}, (1, 2), ignore=3)
    probabilities = np.full((2, 4, 4, 4), 0.9, np.float32)
    reference = np.ones((4, 4, 4), int)
    reference[0] = 3
    found = Evidence.of(probabilities, reference, labels, SCORED, (1.0, 1.0, 1.0))
    assert found is not None
    assert found.regions["WT"].sum() == 48


def test_a_case_without_anything_tells_nothing() -> None:
    assert Evidence.of(np.zeros((2, 4, 4, 4)), np.zeros((4, 4, 4), int), REGIONS, SCORED, (1.0,) * 3) is None


def test_a_region_of_plain_labels_is_their_sum() -> None:
    p = np.array([0.2, 0.5, 0.3])
    assert region_probability(p, LABELS, (1, 2)) == pytest.approx(0.8)
    assert region_probability(p[1:], REGIONS, (2,)) == pytest.approx(0.3)
    assert region_probability(p[1:], REGIONS, (1,)) is None


def test_overconfidence_is_found_and_cured_on_cases_that_were_held_out() -> None:
    found = fit_calibration({str(seed): _case(seed) for seed in range(4)})
    assert found is not None
    for one in found.regions.values():
        assert one.temperature == pytest.approx(2, rel=0.15)
        assert one.error_after < one.error_before / 2
        assert one.likelihood_after < one.likelihood_before


def test_a_temperature_at_the_edge_of_those_tried_is_remarked_on() -> None:
    found = fit_calibration({str(seed): _case(seed, sharp=0.1) for seed in range(3)})
    assert found is not None
    assert found.regions["WT"].fitted == 0.25
    assert any(line.startswith("the temperature of WT is 0.25, at the edge") for line in found.remarks())


def test_a_temperature_within_is_not_remarked_on() -> None:
    found = fit_calibration({str(seed): _case(seed) for seed in range(4)})
    assert found is not None
    assert found.remarks() == []


def test_a_likelier_answer_with_a_larger_calibration_error_is_remarked_on() -> None:
    better = {"likelihood_before": 0.2, "likelihood_after": 0.1, "error_before": 0.01, "error_after": 0.0234}
    one = Calibrated(temperature=2.0, fitted=2.0, apart=(1.9, 2.1), **better)
    (line,) = Calibration(regions={"ET": one}).remarks()
    assert "ET" in line
    assert line.endswith("(0.0100 -> 0.0234)")
    unused = one.model_copy(update={"likelihood_after": 0.3})
    assert Calibration(regions={"ET": unused}).remarks() == []


def test_choosing_notes_what_is_remarked_on(tmp_path: Path) -> None:
    results = Results.make(tmp_path, 3)
    results.add("a__2d", predictions(results, lambda mask, number: mask), certainty=0.6)
    assert any("at the edge of those that are tried" in note for note in choose(results.folder, results.raw).best.notes)


def test_labels_share_one_temperature() -> None:
    found = fit_calibration({str(seed): _case(seed, labels=LABELS) for seed in range(3)})
    assert found is not None
    assert found.labels is not None
    assert 1.3 < found.shared < 3
    assert found.temperatures().keys() == {"WT", "TC", "labels"}


def test_one_case_is_too_few() -> None:
    assert fit_calibration({"a": _case(0)}) is None


def test_a_case_does_not_decide_about_the_temperature_that_it_is_judged_by() -> None:
    """With the last case made wholly different, only what it says about itself may change."""
    same = [_case(seed) for seed in range(3)]
    one = fit_calibration(dict(zip("abcd", [*same, _case(3)], strict=True)))
    assert one is not None
    turned = _case(3, sharp=0.2)
    other = fit_calibration(dict(zip("abcd", [*same, turned], strict=True)))
    without = fit_calibration(dict(zip("abc", same, strict=True)))
    assert other is not None
    assert without is not None
    # The temperature for the last case is that of the three others, in both.
    rest = [same[:i] + same[i + 1 :] + [turned] for i in range(3)]
    temperatures = [fit_calibration(dict(zip("xyz", few, strict=True))) for few in rest]
    tables = [(scale(SAID, t.regions["WT"].fitted), c.regions["WT"]) for t, c in zip(temperatures, same, strict=True)]
    expected = reliability_of_counts([*tables, (scale(SAID, without.regions["WT"].fitted), turned.regions["WT"])])
    assert other.regions["WT"].error_after == pytest.approx(expected.error, abs=1e-4)


def test_counted_voxels_give_the_table_of_the_voxels() -> None:
    random = np.random.default_rng(0)
    p = random.integers(0, 256, 5000) / 255
    y = random.random(5000) < p
    counts = np.stack([np.bincount(np.rint(p * 4080).astype(int)[y == side], minlength=4081) for side in (0, 1)])
    expected, found = reliability(p, y), reliability_of_counts([(LEVELS, counts)])
    np.testing.assert_allclose(found.confidence, expected.confidence)
    np.testing.assert_allclose(found.frequency, expected.frequency)
    assert found.error == pytest.approx(expected.error)


def _add_unsure(results: Results, name: str, wrong: float) -> None:
    """A member that says 0.98 for its label everywhere and is wrong about a share of the voxels near the tumour."""
    random = np.random.default_rng(0)

    def change(mask: np.ndarray, number: int) -> np.ndarray:
        swapped = near(mask > 0, (1.0, 1.0, 1.0), 2.0) & (random.random(mask.shape) < wrong)
        return np.where(swapped, (mask + 1) % 4, mask).astype(mask.dtype)

    results.add(name, predictions(results, change), certainty=0.98)


def test_the_choice_holds_temperatures_and_remembers_them(tmp_path: Path) -> None:
    results = Results.make(tmp_path, 4)
    _add_unsure(results, "a__3d_fullres", 0.25)
    best = choose(results.folder, results.raw).best
    assert best.calibration is not None
    assert best.calibration.regions.keys() == {"WT", "TC", "ET"}
    assert best.calibration.regions["WT"].temperature > 1
    assert best.calibration.shared > 1
    assert Best.load(results.folder) == best


@pytest.mark.parametrize(
    ("combiner", "weights", "expected"),
    [
        ("weighted", (1.0, 0.0), lambda a, b: a),
        ("geometric_mean", None, lambda a, b: geometric_mean([a, b])),
        ("vote", None, lambda a, b: (a + b) / 2),
    ],
)
def test_what_is_calibrated_is_what_the_combiner_makes(tmp_path: Path, combiner, weights, expected) -> None:
    results = Results.make(tmp_path, 2)
    results.add("a__2d", predictions(results, lambda mask, number: mask), certainty=0.9)
    results.add("b__2d", predictions(results, lambda mask, number: np.roll(mask, 2, axis=0)), certainty=0.7)
    trained, _ = discover(results.folder, ".nii.gz")
    references = {case: files.mask for case, files in results.raw.training_cases().items()}
    scorer = Scorer(trained, references, results.raw.labels, ("dice",))
    told = scorer.confidence_in(Candidate((0, 1), combiner, weights), (), "case_00")
    whole = tuple(slice(0, n) for n in SHAPE)
    own = [CachedProbabilities(one.caches["case_00"]).read_box(whole) for one in trained]
    np.testing.assert_allclose(told.probabilities, expected(*own), atol=1e-5)


def test_without_probabilities_there_is_a_word_instead(tmp_path: Path) -> None:
    results = Results.make(tmp_path, 4)
    results.add("a__3d_fullres", predictions(results, lambda mask, number: mask), cached=False)
    best = choose(results.folder, results.raw).best
    assert best.calibration is None
    assert any("not calibrated" in note for note in best.notes)


@pytest.mark.parametrize("labels", [LABELS, REGIONS], ids=["labels", "regions"])
def test_streamed_probabilities_are_those_of_whole_arrays(labels: Labels) -> None:
    evidence = {str(seed): _case(seed, labels=labels) for seed in range(3)}
    calibration = fit_calibration(evidence)
    assert calibration is not None
    p = np.random.default_rng(0).dirichlet(np.ones(len(labels.outputs)), (3, 4, 5)).transpose(3, 0, 1, 2)
    found = dict(calibrated(lambda: zip(labels.outputs, p, strict=True), labels, calibration))
    assert tuple(found) == labels.outputs
    together = np.stack(list(found.values()))
    np.testing.assert_array_equal(labels.decode(together), labels.decode(p))
    if not labels.has_regions:
        np.testing.assert_allclose(together.sum(axis=0), 1, rtol=1e-5)


def test_a_calibration_survives_json(tmp_path: Path) -> None:
    found = fit_calibration({str(seed): _case(seed) for seed in range(2)})
    assert found is not None
    assert Calibration.model_validate_json(found.model_dump_json()) == found


def test_cleaning_removes_caches_and_nothing_else(tmp_path: Path) -> None:
    results = Results.make(tmp_path, 2)
    results.add("a__3d_fullres", predictions(results, lambda mask, number: mask))
    box = tuple(slice(0, n) for n in SHAPE)
    elsewhere = tmp_path / "masks" / f"case{CACHE_ENDING}"
    elsewhere.parent.mkdir()
    write_cache(elsewhere, [truth(0) == v for v in range(4)], outputs=(*LABELS.outputs, "x"), box=box, shape=SHAPE)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    files, size = remove_caches(results.folder)
    gone = before - {path for path in tmp_path.rglob("*") if path.is_file()}
    assert files == len(gone) == 2
    assert all(path.name.endswith(CACHE_ENDING) and results.folder in path.parents for path in gone)
    assert size > 0


def test_a_nested_choice_never_looks_at_the_cases_that_it_is_scored_on(tmp_path: Path) -> None:
    class Watched(Scorer):
        seen: ClassVar[set[str]] = set()

        def _case(self, candidate, case, probabilities):
            self.seen.add(case)
            return super()._case(candidate, case, probabilities)

    results = Results.make(tmp_path, 5)
    for name in ("a__2d", "b__3d_fullres"):
        _add_unsure(results, name, 0.2)
    trained, _ = discover(results.folder, ".nii.gz")
    references = {case: files.mask for case, files in results.raw.training_cases().items() if files.mask}
    scorer = Watched(trained, references, results.raw.labels, ("dice",))
    others = results.cases[1:]
    ranked = search_members(scorer, others, "mean_dice")
    search_rules(scorer, ranked.candidates[0], others)
    assert Watched.seen == set(others)
