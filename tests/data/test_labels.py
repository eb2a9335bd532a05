"""Labels, regions, the ignore label, submission labels and derived tumour regions."""

from __future__ import annotations

import numpy as np
import pytest

from bts_auto.data.labels import Labels
from bts_auto.errors import DataError

BRATS_REGIONS = {"background": 0, "WT": [1, 2, 3], "TC": [2, 3], "ET": 3}


def labels(**declared) -> Labels:
    return Labels.from_dataset({"labels": {"background": 0, **declared}})


def test_gaps_between_values_are_kept() -> None:
    gapped = labels(necrosis=1, edema=2, enhancing=4)
    assert gapped.known_values == (0, 1, 2, 4)
    scores = np.eye(4)[[3, 0, 1, 2]].T
    np.testing.assert_array_equal(gapped.decode(scores), [4, 0, 1, 2])
    assert gapped.unknown(np.array([0, 1, 3, 3, 4])) == {3: 2}


def test_regions_are_painted_in_their_order() -> None:
    regions = Labels.from_dataset({"labels": BRATS_REGIONS, "regions_class_order": [1, 2, 3]})
    assert regions.outputs == ("WT", "TC", "ET")
    probabilities = np.array([[0.9, 0.9, 0.9, 0.1], [0.1, 0.9, 0.9, 0.1], [0.1, 0.1, 0.9, 0.4]])
    np.testing.assert_array_equal(regions.decode(probabilities), [1, 2, 3, 0])


def test_regions_class_order_is_passed_over_without_regions() -> None:
    plain = Labels.from_dataset({"labels": {"background": 0, "a": 1}, "regions_class_order": [1]})
    assert not plain.has_regions
    assert plain.regions_class_order == ()


def test_ignore_label_is_known_but_no_output() -> None:
    found = labels(tumour=1, ignore=2)
    assert found.ignore == 2
    assert found.outputs == ("background", "tumour")
    assert found.unknown(np.array([0, 1, 2])) == {}


def test_submission_labels_are_restored() -> None:
    found = Labels.from_dataset({"labels": {"background": 0, "ET": 3}, "submission_labels": {"3": 4}})
    np.testing.assert_array_equal(found.for_submission(np.array([0, 3, 3])), [0, 4, 4])


def test_many_labels_need_wider_integers() -> None:
    found = labels(**{f"l{i}": i for i in range(1, 300)})
    assert found.decode(np.zeros((300, 2))).dtype == np.uint16


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({"necrosis": 1, "edema": 2, "non_enhancing": 3, "enhancing": 4}, ((1, 2, 3, 4), (1, 3, 4), (4,))),
        ({"NCR/NET": 1, "ED": 2, "ET": 4}, ((1, 2, 4), (1, 4), (4,))),
        ({"NCR": 1, "ED": 2, "ET": 3}, ((1, 2, 3), (1, 3), (3,))),
        ({"NETC": 1, "SNFH": 2, "ET": 3, "RC": 4}, ((1, 2, 3), (1, 3), (3,))),
        ({"ET": 1, "NET": 2, "CC": 3, "ED": 4}, ((1, 2, 3, 4), (1, 2, 3), (1,))),
        ({"Necrotic core": 1, "Peritumoral oedema": 2, "GD-enhancing tumour": 3}, ((1, 2, 3), (1, 3), (3,))),
    ],
)
def test_tumour_regions_of_every_year(declared, expected) -> None:
    found = labels(**declared).tumour_regions()
    assert (found["WT"], found["TC"], found["ET"]) == expected


def test_no_tumour_regions_for_other_names() -> None:
    assert labels(liver=1, edema=2, enhancing=3).tumour_regions() == {}
    assert labels(edema=1).tumour_regions() == {}


@pytest.mark.parametrize(
    ("dataset", "line"),
    [
        ({}, "needs 'labels'"),
        ({"labels": {"0": "background", "1": "tumour"}}, "wrong way round"),
        ({"labels": {"background": 0}}, "no label but the background"),
        ({"labels": {"background": 1, "a": 2}}, "'background' must be 0"),
        ({"labels": {"a": 1}}, "'background' must be 0"),
        ({"labels": {"background": 0, "a": 1, "b": 1}}, "'a' and 'b' have the same value 1"),
        ({"labels": {"background": 0, "a": 1.5}}, "'a' must be an integer"),
        ({"labels": {"background": 0, "a": "1"}}, "'a' must be an integer"),
        ({"labels": {"background": 0, "a": True}}, "'a' must be an integer"),
        ({"labels": {"background": 0, "a": -1}}, "'a' must be an integer above 0"),
        ({"labels": {"background": 0, "a": []}}, "'a' must be an integer above 0"),
        ({"labels": {"background": 0, "a": 2, "ignore": 1}}, "ignore label 1 must be the highest"),
        ({"labels": BRATS_REGIONS}, "3 regions but 0 values"),
        ({"labels": BRATS_REGIONS, "regions_class_order": [3, 2, 1]}, "paints region 'ET' with 1"),
        ({"labels": {"background": 0, "a": 1}, "submission_labels": {"7": 4}}, "names 7, which is no label"),
        ({"labels": {"background": 0, "a": 1}, "submission_labels": {"x": 4}}, "must map integers"),
    ],
)
def test_wrong_declarations_give_one_line(dataset, line) -> None:
    with pytest.raises(DataError, match=line) as caught:
        Labels.from_dataset(dataset)
    assert "\n" not in str(caught.value)


def test_tissues_become_the_regions_that_are_scored() -> None:
    plain = labels(NCR=1, edema=2, non_enhancing=3, ET=4, resection_cavity=5)
    regions = plain.as_regions()
    assert dict(regions.values) == {
        "background": (0,), "WT": (1, 2, 3, 4), "TC": (1, 3, 4), "ET": (4,), "resection_cavity": (5,)
    }  # fmt: skip
    assert regions.regions_class_order == (2, 1, 4, 5)
    assert regions.known_values == plain.known_values
    probabilities = np.eye(4)[:, [0, 1, 2, 3]]
    probabilities[:2, 2] = 1
    np.testing.assert_array_equal(regions.decode(probabilities), [2, 1, 4, 5])
    assert regions.scoring()["WT"] == plain.scoring()["WT"]
    assert regions.nameable()["NCR"] == (1,)


@pytest.mark.parametrize("declared", [{"liver": 1, "tumour": 2}, {"WT": [1, 2], "ET": 2}])
def test_labels_that_are_no_tumours_tissues_stay(declared: dict) -> None:
    found = Labels.from_dataset({"labels": {"background": 0, **declared}, "regions_class_order": [1, 2]})
    assert found.as_regions() is found


def test_submission_integers_that_merge_two_labels_are_refused():
    document = {"labels": {"background": 0, "necrosis": 1, "edema": 2, "enhancing": 3}, "submission_labels": {"3": 2}}
    with pytest.raises(DataError, match="same integer"):
        Labels.from_dataset(document)


SOFT = {"labels": {"background": 0, "tumour": [2, 3]}, "regions_class_order": [3]}


def test_soft_labels_are_known_and_change_nothing_but_shares() -> None:
    labels = Labels.from_dataset(SOFT | {"soft_labels": {"tumour": {"1": 0.3, "2": 0.7}}})
    assert labels.known_values == (0, 1, 2, 3)
    assert labels.shares == {"tumour": {1: 0.3, 2: 0.7}}
    assert labels.scoring() == {"tumour": (2, 3)}


@pytest.mark.parametrize(
    "soft", [{"edema": {"1": 0.5}}, {"tumour": {"1": 2}}, {"tumour": 0.5}, {"tumour": {"a": 1}}, [1]]
)
def test_wrong_soft_labels_are_refused(soft) -> None:
    with pytest.raises(DataError, match="soft_labels"):
        Labels.from_dataset(SOFT | {"soft_labels": soft})


def test_soft_labels_need_regions() -> None:
    with pytest.raises(DataError, match="no region"):
        Labels.from_dataset({"labels": {"background": 0, "tumour": 1}, "soft_labels": {"tumour": {"1": 0.5}}})


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("ET", "enhancing tumor"),
        ("wt", "whole tumor"),
        ("TC", "Tumour core"),
        ("WHOLE TUMOR", "whole tumor"),
        ("NCR", None),
    ],
)
def test_declared_regions_go_by_their_short_names_too(asked: str, found: str | None) -> None:
    values = {"background": 0, "whole tumor": [1, 2, 3], "Tumour core": [1, 3], "enhancing tumor": [3]}
    assert Labels.from_dataset({"labels": values, "regions_class_order": [2, 1, 3]}).declared(asked) == found
