"""From masks to targets."""

from __future__ import annotations

import torch

from bts_auto.data.labels import Labels
from bts_auto.train.objectives.targets import TargetMaker


def mask(*values: int) -> torch.Tensor:
    """(1, 1, 1, 1, n)."""
    return torch.tensor(values, dtype=torch.int16).view(1, 1, 1, 1, -1)


def test_labels_become_channel_indices() -> None:
    target = TargetMaker(Labels({"background": (0,), "a": (1,), "b": (2,)}))(mask(-1, 0, 1, 2))
    assert target.classes is not None
    assert target.classes.flatten().tolist() == [0, 0, 1, 2]
    assert target.valid is None


def test_integers_with_gaps_become_channel_indices() -> None:
    target = TargetMaker(Labels({"background": (0,), "a": (1,), "enhancing": (4,)}))(mask(-1, 0, 4, 1))
    assert target.classes is not None
    assert target.classes.flatten().tolist() == [0, 0, 2, 1]


def test_regions_overlap() -> None:
    labels = Labels({"background": (0,), "WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}, regions_class_order=(2, 1, 3))
    target = TargetMaker(labels)(mask(-1, 0, 1, 2, 3))
    assert target.regions is not None
    assert target.regions.flatten(2)[0].int().tolist() == [[0, 0, 1, 1, 1], [0, 0, 1, 0, 1], [0, 0, 0, 0, 1]]


def test_ignored_voxels_are_background_and_not_valid() -> None:
    for values in ({"background": (0,), "a": (1,)}, {"background": (0,), "a": (1, 2), "b": (2,)}):
        labels = Labels(values, regions_class_order=(1, 2) if len(values) > 2 else (), ignore=3)
        target = TargetMaker(labels)(mask(-1, 0, 1, 3))
        assert target.valid is not None
        assert target.valid.flatten().tolist() == [True, True, True, False]
        truth = target.classes if target.regions is None else target.regions[:, :1]
        assert truth is not None
        assert truth.flatten().int().tolist() == [0, 0, 1, 0]


def test_what_was_not_looked_for_counts_as_background() -> None:
    labels = Labels({"background": (0,), "necrosis": (1,), "edema": (2,), "enhancing": (4,)})
    target = TargetMaker(labels)(mask(0, 2, 2, 0).expand(2, -1, -1, -1, -1), (None, ("edema",)))
    assert target.counts_in == ((0, 1, 2, 3), (0, 0, 2, 0))
    assert target.classes is not None
    assert target.classes[1].flatten().tolist() == [0, 2, 2, 0]


def test_parts_of_an_annotated_region_become_one_class() -> None:
    labels = Labels({"background": (0,), "necrosis": (1,), "edema": (2,), "enhancing": (4,)})
    target = TargetMaker(labels)(mask(0, 1, 2, 4), (("WT",),))
    assert target.classes is not None
    assert target.classes.flatten().tolist() == [0, 1, 1, 1]
    assert target.counted().tolist() == [[True, True, False, False]]


def test_soft_labels_become_shares_beside_the_regions() -> None:
    values = {"background": (0,), "tumour": (2, 3), "core": (3,)}
    labels = Labels(values, regions_class_order=(2, 3), shares={"tumour": {1: 0.25, 2: 0.75}})
    target = TargetMaker(labels)(mask(-1, 0, 1, 2, 3))
    assert target.regions is not None
    assert target.regions.flatten(2)[0].int().tolist() == [[0, 0, 0, 1, 1], [0, 0, 0, 0, 1]]
    assert target.shares is not None
    assert target.shares.flatten(2)[0].tolist() == [[0, 0, 0.25, 0.75, 1], [0, 0, 0, 0, 1]]
