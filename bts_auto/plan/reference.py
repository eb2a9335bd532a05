"""A plan that does not depend on anybody's data: that of a BraTS-like dataset, for comparing recipes."""

from __future__ import annotations

from bts_auto.data.fingerprint import Fingerprint
from bts_auto.plan.planner import make_plan
from bts_auto.plan.presets import PresetName
from bts_auto.plan.schema import Plan

# About the median size of a BraTS case after cropping, in voxels of 1 mm.
_SHAPE = (138, 169, 138)
_CASES = 100  # enough not to be taken for a tiny dataset
_INTENSITIES = {
    "max": 1000.0, "mean": 400.0, "median": 400.0, "min": 0.0,
    "percentile_00_5": 50.0, "percentile_99_5": 900.0, "std": 150.0,
}  # fmt: skip
_DATASET = {
    "channel_names": {"0": "T1", "1": "T1c", "2": "T2", "3": "FLAIR"},
    "labels": {"background": 0, "necrosis": 1, "edema": 2, "enhancing": 3},
    "numTraining": _CASES,
    "file_ending": ".nii.gz",
}


def reference_plan(preset: PresetName = "plain") -> Plan:
    """The automatic plan of four sequences at 1 mm with a tumour's three tissues."""
    fingerprint = Fingerprint.model_validate(
        {
            "spacings": [[1.0, 1.0, 1.0]] * _CASES,
            "shapes_after_crop": [list(_SHAPE)] * _CASES,
            "median_relative_size_after_cropping": 0.36,
            "foreground_intensity_properties_per_channel": {str(i): _INTENSITIES for i in range(4)},
        }
    )
    return make_plan(fingerprint, _DATASET, preset=preset, dataset_name="Dataset000_BraTS")
