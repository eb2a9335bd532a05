"""Small fingerprints for the planner's tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bts_auto.data.fingerprint import Fingerprint
from bts_auto.plan.planner import make_plan
from bts_auto.plan.schema import Plan

INTENSITIES = {
    "max": 1000.0, "mean": 120.0, "median": 110.0, "min": 0.0,
    "percentile_00_5": 5.0, "percentile_99_5": 800.0, "std": 60.0,
}  # fmt: skip
LABELS = {"background": 0, "a": 1, "b": 2}


def fingerprint(
    shape: Sequence[int] = (140, 160, 145),
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    *,
    cases: int = 10,
    channels: int = 2,
    relative_size: float = 0.5,
) -> Fingerprint:
    """A fingerprint of equal cases."""
    return Fingerprint.model_validate(
        {
            "spacings": [list(spacing)] * cases,
            "shapes_after_crop": [list(shape)] * cases,
            "median_relative_size_after_cropping": relative_size,
            "foreground_intensity_properties_per_channel": {str(i): INTENSITIES for i in range(channels)},
        }
    )


def dataset(channels: int = 2, cases: int = 10, **fields: Any) -> dict[str, Any]:
    """A dataset.json for :func:`fingerprint`."""
    names = {str(i): f"sequence{i}" for i in range(channels)}
    return {"channel_names": names, "labels": LABELS, "numTraining": cases, "file_ending": ".nii.gz"} | fields


def plan(shape: Sequence[int] = (140, 160, 145), spacing: Sequence[float] = (1.0, 1.0, 1.0), **options: Any) -> Plan:
    """A plan of equal cases; `options` go to the planner."""
    return make_plan(fingerprint(shape, spacing), dataset(), dataset_name="Dataset001_Test", **options)
