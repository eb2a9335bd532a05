"""Models that worker processes can load."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

from bts_auto.predict.predictor import CasePredictor
from tests.predict.models import MemoryFold, make_configuration, make_plan


class _Slow(CasePredictor):
    seconds = 0.0
    deadly_mean = 0.0

    def predict_prepared(self, image):
        time.sleep(self.seconds)
        return super().predict_prepared(image)

    def run(self, volume, prepared):
        if self.deadly_mean and abs(float(volume.array.mean()) - self.deadly_mean) < 1e-3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(volume, prepared)


@dataclass(frozen=True)
class LoadThreshold:
    """A network that thresholds; it takes `seconds` for a case, and a scan of mean `deadly_mean` kills the process."""

    seconds: float = 0.0
    deadly_mean: float = 0.0

    def __call__(self, device: str) -> tuple[CasePredictor, list[str]]:
        plan = make_plan(make_configuration())
        predictor = _Slow([MemoryFold(plan)], device="cpu", engine="torch", precision="fp32")
        predictor.seconds, predictor.deadly_mean = self.seconds, self.deadly_mean
        return predictor, ["model: a threshold"]
