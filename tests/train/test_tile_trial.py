"""Which tiles are tried after training, and what becomes of those that do not fit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bts_auto.predict.predictor import CasePredictor
from bts_auto.train import tile_trial
from tests.predict.models import MemoryFold, make_configuration, make_plan
from tests.predict.test_folder import Listening


class _Fold(MemoryFold):
    measured: Any = None

    def with_measured(self, measured: Any) -> _Fold:
        self.measured = measured
        return self


@dataclass
class _HeldOut:
    """Cases of given sizes, whose masks nobody looks at."""

    sizes: dict[str, tuple[int, int, int]]
    fold: _Fold = field(
        default_factory=lambda: _Fold(make_plan(make_configuration(median_image_size_in_voxels=[12] * 3)))
    )
    device: str = "cpu"

    @property
    def references(self) -> dict[str, Any]:
        return self.sizes

    def predictor(self, **how: Any) -> CasePredictor:
        one = CasePredictor([self.fold], device="cpu", engine="torch", **(how | {"precision": "fp32"}))
        one.export = lambda *_: None  # type: ignore[method-assign]
        return one

    def image(self, case: str) -> np.ndarray:
        return np.random.default_rng(0).random((2, *self.sizes[case]), np.float32)

    def steps(self, case: str) -> None: ...

    def score(self, *_: Any) -> None: ...


def test_a_tile_too_large_for_a_case_is_left_out(monkeypatch):
    for module in ("train.tile_trial", "predict.predictor"):
        monkeypatch.setattr(f"bts_auto.{module}.working_memory", lambda device: 14**3 * 4 * 24)
    monkeypatch.setattr(tile_trial, "dice_of", lambda scores: {"WT": 0.9})
    listening = Listening()
    tried = tile_trial.try_tiles(_HeldOut({"a": (12, 12, 12), "b": (20, 20, 20)}), ["a", "b"], observer=listening)
    assert {str(one.tile) for one in tried.measured} == {"patch", "(10, 10, 10)"}
    assert [line for line in listening.warnings if "whole" in line] == [
        "tiles whole are left out: MemoryError: b would take more memory than there is"
    ]
