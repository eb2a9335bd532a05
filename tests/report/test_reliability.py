"""The picture of calibration."""

from __future__ import annotations

import numpy as np
from PIL import Image

from bts_auto.ensemble.calibration import Calibrated, Calibration, ReliabilityTable
from bts_auto.report.reliability import write_reliability

EMPTY = ReliabilityTable(confidence=(None, 0.7), frequency=(None, 0.5), voxels=(0, 5))
FULL = ReliabilityTable(confidence=(0.2, 0.7), frequency=(0.3, 0.6), voxels=(4, 5))


def _region() -> Calibrated:
    return Calibrated(
        temperature=2, fitted=2, apart=(1.9, 2.1), likelihood_before=1, likelihood_after=0.5, error_before=0.2,
        error_after=0.1, before=EMPTY, after=FULL,
    )  # fmt: skip


def test_each_region_gets_a_diagram(tmp_path) -> None:
    widths = []
    for names in (("WT",), ("WT", "TC", "ET")):
        path = tmp_path / f"{len(names)}.png"
        write_reliability(path, Calibration(regions={name: _region() for name in names}))
        pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
        assert (pixels.max(axis=2) - pixels.min(axis=2) > 40).any()  # curves are coloured
        widths.append(pixels.shape[1])
    assert widths[1] == 3 * widths[0]
