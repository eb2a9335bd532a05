"""Choosing among trained members on their cross-validated predictions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bts_auto.combine.cache import CACHE_ENDING, write_cache
from bts_auto.data.raw import RawDataset
from bts_auto.data.readers import write_mask
from bts_auto.data.volume import Geometry
from bts_auto.ensemble.apply import combine_members
from bts_auto.ensemble.best import Best, Member
from bts_auto.ensemble.choose import choose
from bts_auto.ensemble.clean import remove_caches
from bts_auto.ensemble.ranking import mean_ranks
from bts_auto.errors import DataError, ModelError, PlanError
from bts_auto.events import Observer, Task
from tests.ensemble.make_results import SHAPE, Results, predictions, truth


def _half(upper: bool):
    """A prediction that is right in one half of the volume and sees nothing in the other."""

    def change(mask: np.ndarray, number: int) -> np.ndarray:
        out = mask.copy()
        if upper:
            out[:6] = 0
        else:
            out[6:] = 0
        return out

    return change


def _good(mask: np.ndarray, number: int) -> np.ndarray:
    return np.roll(mask, 1, axis=0)


def _poor(mask: np.ndarray, number: int) -> np.ndarray:
    return np.roll(mask, 3, axis=1)


def _with_specks(mask: np.ndarray, number: int) -> np.ndarray:
    out = mask.copy()
    out[13, 13:15, 12:14] = 2
    return out


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results.make(tmp_path, 4)


def test_the_best_single_member_is_chosen_and_remembered(results: Results) -> None:
    results.add("default__2d", predictions(results, _poor))
    results.add("default__3d_fullres", predictions(results, _good))
    choice = choose(results.folder, results.raw)
    assert [member.name for member in choice.best.members] == ["default__3d_fullres"]
    assert choice.best.members[0].folds == (0, 1)
    assert Best.load(results.folder) == choice.best
    assert choice.path == results.folder / "best.json"


def test_a_pair_is_chosen_where_it_is_better_than_both(results: Results) -> None:
    """Each member is unsure where it is wrong, so the mean of their probabilities is right everywhere."""
    for name, upper in (("a__2d", True), ("b__2d", False)):
        sees = predictions(results, _half(upper))
        results.add(name, sees, cached=False)
        _cache_unsure(results, name, upper)
    best = choose(results.folder, results.raw).best
    assert [member.name for member in best.members] == ["a__2d", "b__2d"]
    assert best.combiner.name == "mean"
    assert best.plain_score == 1


def _cache_unsure(results: Results, name: str, upper: bool) -> None:
    outputs = results.raw.labels.outputs
    for number, case in enumerate(results.cases):
        channels = np.stack([truth(number) == value for value in range(4)]).astype(np.float32)
        blind = slice(0, 6) if upper else slice(6, None)
        channels[:, blind] = np.array([0.4, 0.2, 0.2, 0.2])[:, None, None, None]
        path = results.folder / name / f"fold_{number % 2}" / "validation" / f"{case}{CACHE_ENDING}"
        write_cache(path, channels, outputs=outputs, box=tuple(slice(0, n) for n in SHAPE), shape=SHAPE)


def test_members_vote_where_probabilities_are_missing(results: Results) -> None:
    def wrong_in_axis(axis: int):
        return lambda mask, number: np.where(np.indices(mask.shape)[axis] == 5, 0, mask).astype(np.uint8)

    for axis, name in enumerate(("a__2d", "b__2d", "c__2d")):
        results.add(name, predictions(results, wrong_in_axis(axis)), cached=False)
    best = choose(results.folder, results.raw).best
    assert best.combiner.name == "vote"
    assert len(best.members) == 3
    assert any("vote" in note for note in best.notes)


def test_members_with_probabilities_are_pooled_and_the_others_compete_alone(results: Results) -> None:
    for name, by in (("a__2d", 1), ("b__2d", -1), ("pair.c__3d_fullres", 3)):
        results.add(name, predictions(results, lambda mask, number, by=by: np.roll(mask, by, axis=0)))
    _cache_of(results, "pair.c__3d_fullres", "case_01").unlink()
    best = choose(results.folder, results.raw).best
    tried = {one.members for one in best.candidates}
    assert ("a__2d", "b__2d") in tried
    assert ("pair.c__3d_fullres",) in tried
    assert not any("pair.c__3d_fullres" in members for members in tried if len(members) > 1)
    words = "pair.c__3d_fullres competes alone: cached probabilities are missing for 1 of 4 cases; "
    assert words + "bts_train 3d_fullres cv --recipe pair:c --val makes them" in best.notes


def _cache_of(results: Results, name: str, case: str) -> Path:
    return next((results.folder / name).glob(f"fold_*/validation/{case}{CACHE_ENDING}"))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_damaged_mask_counts_as_missing(results: Results) -> None:
    results.add("a__2d", predictions(results, _good))
    results.add("default__2d", predictions(results, _poor))
    _cut(results.folder / "a__2d" / "fold_1" / "validation" / "case_01.nii.gz")
    best = choose(results.folder, results.raw).best
    assert [member.name for member in best.members] == ["default__2d"]
    assert any("a__2d: damaged masks count as missing: case_01 (" in note for note in best.notes)
    assert any("a__2d is left out: it has predicted 3 of 4" in note for note in best.notes)


@pytest.mark.parametrize("how", ["cut", "foreign", "other grid"])
def test_damaged_probabilities_count_as_missing(results: Results, how: str) -> None:
    results.add("a__2d", predictions(results, _good))
    results.add("default__2d", predictions(results, _poor))
    path = _cache_of(results, "a__2d", "case_01")
    if how == "cut":
        _cut(path)
    elif how == "foreign":
        path.write_bytes(b"nonsense")
    else:
        outputs, size = results.raw.labels.outputs, (4, 4, 4)
        box = tuple(slice(0, n) for n in size)
        write_cache(path, [np.zeros(size, np.float32)] * 4, outputs=outputs, box=box, shape=size)
    best = choose(results.folder, results.raw).best
    assert [member.name for member in best.members] == ["a__2d"]
    (word,) = (note for note in best.notes if "damaged cached probabilities count as missing: case_01 (" in note)
    assert word.endswith("remove them, then bts_train 2d cv --recipe a --val")


def test_a_case_whose_reference_cannot_be_used_is_left_out(results: Results) -> None:
    results.add("default__2d", predictions(results, _good))
    labels = results.raw.folder / "labelsTr"
    _cut(labels / "case_01.nii.gz")
    write_mask(labels / "case_02.nii.gz", np.ones((3, 4, 5), np.uint8), Geometry((3, 4, 5), (1.0, 1.0, 1.0)))
    best = choose(results.folder, results.raw).best
    assert best.cases == ("case_00", "case_03")
    assert any("case_01 is left out: its reference mask cannot be used" in note for note in best.notes)
    assert any("case_02 is left out: default__2d predicted it on a grid of (14, 15, 16)" in n for n in best.notes)


def test_losing_the_calibration_of_an_earlier_choice_is_a_warning(results: Results) -> None:
    class Listening(Observer):
        def __init__(self) -> None:
            self.warnings: list[str] = []

        def warn(self, message: str) -> None:
            self.warnings.append(message)

    listening = Listening()
    results.add("default__2d", predictions(results, _good), certainty=0.9)
    choose(results.folder, results.raw, observer=listening)
    assert listening.warnings == []
    remove_caches(results.folder)
    best = choose(results.folder, results.raw, observer=listening).best
    assert best.calibration is None
    assert any("the earlier choice (default__2d, mean Dice" in warning for warning in listening.warnings)


def test_a_fold_beyond_the_splits_has_held_out_nothing(results: Results, tmp_path: Path) -> None:
    results.add("default__2d", predictions(results, _good))
    (tmp_path / "pre").mkdir()
    splits = [{"train": ["case_01"], "val": ["case_00", "case_02"]}]
    (tmp_path / "pre" / "splits_final.json").write_text(json.dumps(splits))
    best = choose(results.folder, results.raw, tmp_path / "pre").best
    assert best.cases == ("case_00", "case_02")
    assert any("default__2d: fold 1 is left out: the dataset is split into 1" in note for note in best.notes)


def test_what_is_not_complete_is_left_out_with_a_word(results: Results) -> None:
    results.add("default__3d_fullres", predictions(results, _good))
    results.add("half__2d", predictions(results, lambda mask, number: mask), only=[0])
    (results.folder / "empty__2d" / "fold_0").mkdir(parents=True)
    (results.folder / "all__2d" / "fold_all" / "validation").mkdir(parents=True)
    best = choose(results.folder, results.raw).best
    assert [member.name for member in best.members] == ["default__3d_fullres"]
    words = " | ".join(best.notes)
    assert "half__2d is left out: it has predicted 2 of 4" in words
    assert "empty__2d is left out" in words
    assert "all__2d is left out" in words


def test_one_fold_is_enough(results: Results) -> None:
    results.add("default__2d", predictions(results, _good), only=[1])
    best = choose(results.folder, results.raw).best
    assert best.members[0].folds == (1,)
    assert best.cases == ("case_01", "case_03")


def test_only_cases_that_a_fold_held_out_count(results: Results, tmp_path: Path) -> None:
    results.add("default__2d", predictions(results, _good))
    splits = [{"train": list(results.cases[1:]), "val": ["case_00"]}, {"train": ["case_00"], "val": ["case_01"]}]
    (tmp_path / "pre").mkdir()
    (tmp_path / "pre" / "splits_final.json").write_text(json.dumps(splits))
    assert choose(results.folder, results.raw, tmp_path / "pre").best.cases == ("case_00", "case_01")


def test_few_cases_are_not_searched_unless_asked(results: Results) -> None:
    results.add("default__2d", predictions(results, _with_specks))
    best = choose(results.folder, results.raw).best
    assert best.tried_rules == ()
    assert any("too few cases (4 of 10" in note for note in best.notes)
    searched = choose(results.folder, results.raw, search=True).best
    assert searched.tried_rules
    assert next(rule.name for rule in searched.postprocessing) in ("keep_largest", "minimum_size")


def test_post_processing_that_helps_is_accepted_and_the_rest_turned_down(tmp_path: Path) -> None:
    results = Results.make(tmp_path, 10)
    results.add("default__2d", predictions(results, _with_specks))
    best = choose(results.folder, results.raw).best
    assert len(best.postprocessing) == 1
    assert best.plain_score == best.nested_score == 1
    accepted = [one for one in best.tried_rules if one.accepted]
    assert [one.rule for one in accepted] == list(best.postprocessing)
    assert accepted[0].low is not None
    assert accepted[0].low > 0
    assert any(one.difference < 0 for one in best.tried_rules)


def test_optimism_is_plain_minus_nested(results: Results) -> None:
    generator = np.random.default_rng(0)

    def noisy(mask: np.ndarray, number: int) -> np.ndarray:
        return np.where(generator.random(mask.shape) < 0.1, 0, mask).astype(np.uint8)

    for name in "abcd":
        results.add(f"{name}__2d", predictions(results, noisy))
    best = choose(results.folder, results.raw).best
    assert best.plain_score is not None
    assert best.nested_score is not None
    assert best.optimism == pytest.approx(best.plain_score - best.nested_score)


def test_members_are_not_compared_on_cases_that_are_annotated_in_part(results: Results) -> None:
    results.add("default__3d_fullres", predictions(results, _good))
    path = results.raw.folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"partial_labels": {"case_01": ["edema"]}}))
    best = choose(results.folder, results.raw).best
    assert best.cases == ("case_00", "case_02", "case_03")
    assert any("case_01 left out: annotated for some labels only" in note for note in best.notes)


def test_ranking_as_brats_does(results: Results) -> None:
    results.add("default__2d", predictions(results, _poor))
    results.add("default__3d_fullres", predictions(results, _good))
    best = choose(results.folder, results.raw, rule="brats_ranking").best
    assert best.members[0].configuration == "3d_fullres"
    values = [candidate.value for candidate in best.candidates]
    assert values == sorted(values)
    assert 1 <= values[0] < 2


class _Heard(Observer, Task):
    """Keeps how much work was announced and done, and which rounds of post-processing it heard of."""

    def __init__(self) -> None:
        self.total, self.done = 0, 0
        self.rounds: list[object] = []

    def task(self, title: str, total: int | None = None, unit: str = "case") -> Task:
        self.total += total or 0
        return self

    def advance(self, parts: int = 1, **fields: object) -> None:
        self.done += parts
        self.rounds += fields.values()


@pytest.mark.parametrize("search", [True, False])
def test_progress_is_told_by_group_of_cases_and_round_of_post_processing(results: Results, search: bool) -> None:
    results.add("default__2d", predictions(results, _with_specks))
    heard = _Heard()
    choose(results.folder, results.raw, search=search, observer=heard)
    assert (heard.total, heard.done) == (3 + len(results.cases), 3 + len(results.cases))
    assert heard.rounds[:2] == ([1, 2] if search else [])


def test_ranks_by_hand() -> None:
    dice, hd95 = [0.9, 0.8, 0.8], [5.0, 2.0, 9.0]
    scores = np.array([[[[d, h]]] for d, h in zip(dice, hd95, strict=True)])
    assert mean_ranks(scores, ("dice", "hd95")).tolist() == [1.5, 1.75, 2.75]


def test_choosing_again_gives_the_same(results: Results) -> None:
    results.add("default__2d", predictions(results, _poor))
    results.add("default__3d_fullres", predictions(results, _good))
    assert (
        choose(results.folder, results.raw, search=True).best == choose(results.folder, results.raw, search=True).best
    )


def test_nothing_trained_is_one_clear_line(results: Results) -> None:
    with pytest.raises(DataError, match="bts_train"):
        choose(results.folder, results.raw)


@pytest.mark.parametrize(
    ("content", "words"), [('{"version": 99}', "another version"), ('{"version": 1', "not valid JSON")]
)
def test_a_best_that_cannot_be_used_says_to_choose_again(tmp_path: Path, content: str, words: str) -> None:
    assert Best.load(tmp_path) is None
    (tmp_path / "best.json").write_text(content)
    with pytest.raises(PlanError, match=f"{words}.* - choose again with bts_ensemble"):
        Best.load(tmp_path)


def test_a_member_that_is_gone_says_how_to_train_it_and_to_choose_again(tmp_path: Path) -> None:
    member = Member(recipe="mine.topk", configuration="3d_fullres", folds=(0, 3))
    words = r"best\.json needs it - .*bts_train 3d_fullres 0 --recipe mine:topk; or choose again with bts_ensemble"
    with pytest.raises(ModelError, match=words):
        member.trained(tmp_path)


def test_members_are_combined_and_corrected_as_chosen(results: Results) -> None:
    results.add("default__2d", predictions(results, _with_specks))
    best = choose(results.folder, results.raw, search=True).best
    raw: RawDataset = results.raw
    found = combine_members(best, raw.labels, (1.0, 1.0, 1.0), masks=[_with_specks(truth(1), 1)])
    np.testing.assert_array_equal(found, truth(1))
    with pytest.raises(DataError, match="1 were chosen"):
        combine_members(best, raw.labels, (1.0, 1.0, 1.0), masks=[truth(0), truth(1)])
