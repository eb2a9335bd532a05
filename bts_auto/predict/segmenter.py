"""What segments a folder of cases, and what it makes of each."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from bts_auto.data.labels import Labels
from bts_auto.data.volume import Geometry, Volume
from bts_auto.plan.schema import Plan
from bts_auto.preprocess.spatial import SpatialSteps


@dataclass(frozen=True)
class Prediction:
    """One segmented case.

    Attributes
    ----------
    mask : ndarray of uint8 or uint16, shape (z, y, x)
        In the scan's grid, with the dataset's own integers.
    geometry : Geometry
        The scan's grid.
    labels : Labels
        What the integers mean.
    scores : ndarray of float32, shape (k, z, y, x), or None
        Probabilities (logits where `logits`) in the network's grid, if they were asked for.
    steps : SpatialSteps or None
        The way from the scan's grid to the network's, if scores were asked for.
    member_entropy : ndarray of float32, shape (z, y, x), or None
        The mean of the members' own entropies in the network's grid, if it was asked for.
    predicted_dice : dict of str to float, or None
        For each region in the mask the Dice that is expected of it, where the model can tell.
    predicted_dice_error : float or None
        How far that was off on cross-validation, on average over cases.
    remarks : tuple of str
        What a reader of the mask should be warned of.
    timings : dict
        Seconds by stage: prepare, network, export.
    """

    mask: np.ndarray
    geometry: Geometry
    labels: Labels
    logits: bool = False
    scores: np.ndarray | None = None
    steps: SpatialSteps | None = None
    member_entropy: np.ndarray | None = None
    predicted_dice: dict[str, float] | None = None
    predicted_dice_error: float | None = None
    remarks: tuple[str, ...] = ()
    timings: dict[str, float] = field(default_factory=dict)

    def kept(self) -> tuple[np.ndarray, SpatialSteps]:
        """The scores and the steps."""
        if self.scores is None or self.steps is None:
            raise ValueError("the prediction did not keep its scores")
        return self.scores, self.steps

    def volumes(self) -> dict[str, float]:
        """Volume of each label and region in ml; empty for an image without thickness."""
        if self.geometry.planar:
            return {}
        voxel = math.prod(self.geometry.spacing) / 1000
        counts = np.bincount(self.mask.ravel(), minlength=max(self.labels.known_values) + 1)
        return {name: float(sum(counts[v] for v in values)) * voxel for name, values in self.labels.scoring().items()}


class Segmenter(Protocol):
    """What a folder of cases goes through: a scan is prepared, answered and finished, each stage beside the others'.

    What `prepare` and `run` return is the segmenter's own affair.
    """

    @property
    def plan(self) -> Plan:
        """Says which channels a scan has."""
        ...

    def describe(self) -> dict[str, Any]:
        """What decides about the masks, as JSON."""
        ...

    def computed_with(self) -> dict[str, str]:
        """Engine and precision of the networks: what may differ from machine to machine."""
        ...

    def prepare(self, volume: Volume) -> Any:
        """Bring a scan to the networks' grids."""
        ...

    def run(self, volume: Volume, prepared: Any) -> Any:
        """The networks' answers."""
        ...

    def finish(
        self, volume: Volume, prepared: Any, answer: Any, *, timings: dict[str, float], keep_scores: bool
    ) -> Prediction:
        """From the answers to the mask in the scan's grid."""
        ...

    def probabilities(self, prediction: Prediction) -> Iterator[tuple[str, np.ndarray]]:
        """Name and probability (z, y, x) of each label or region, of a prediction that kept its scores."""
        ...

    def uncertainty(self, prediction: Prediction) -> np.ndarray:
        """Entropy (z, y, x) of the averaged answer, 0 to 1, of a prediction that kept its scores."""
        ...

    def mutual_information(self, prediction: Prediction) -> np.ndarray:
        """How much the members disagree (z, y, x), on the scale of the entropy, of such a prediction."""
        ...


@contextmanager
def timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    """Add the seconds that the block takes to `timings`."""
    start = time.perf_counter()
    yield
    timings[stage] = time.perf_counter() - start
