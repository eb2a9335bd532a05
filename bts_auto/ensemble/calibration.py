"""Temperatures fitted on cross-validation, and how well confidence then keeps its word on cases they did not see."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from pydantic import Field

from bts_auto.combine.temperature import (
    SMALLEST,
    TEMPERATURES,
    at_temperature,
    best_temperature,
    exclusive_weight,
    scale,
)
from bts_auto.data.labels import Labels
from bts_auto.documents import Document
from bts_auto.ensemble.evidence import LEVELS, ZONE_MM, Evidence
from bts_auto.evaluate.probability import Reliability, reliability_of_counts

# A temperature that is fitted on one case has no other to be checked on.
LEAST_CASES = 2


class ReliabilityTable(Document):
    """How often what is said with a certain probability is true, in equally wide bins; None in an empty one."""

    confidence: tuple[float | None, ...]
    frequency: tuple[float | None, ...]
    voxels: tuple[int, ...]

    @classmethod
    def of(cls, found: Reliability) -> ReliabilityTable:
        """The same as JSON can hold it."""
        plain = [
            tuple(None if np.isnan(v) else round(float(v), 6) for v in x) for x in (found.confidence, found.frequency)
        ]
        return cls(confidence=plain[0], frequency=plain[1], voxels=tuple(int(n) for n in found.counts))


class Calibrated(Document):
    """The temperature of a region, or of all labels together, and what it does to cases that it was not fitted on.

    Attributes
    ----------
    temperature : float
        Fitted on all cases; 1 where one that is fitted without a case does not help that case on average.
    fitted : float
        What the likelihood asks for.
    apart : tuple of float
        Smallest and largest of the temperatures that were fitted each without one case.
    likelihood_before, likelihood_after : float
        Mean negative log-likelihood over cases; after: each case under the temperature fitted without it.
    error_before, error_after : float or None
        Expected calibration error over the voxels of all cases, likewise; None for labels.
    before, after : ReliabilityTable or None
    """

    temperature: float
    fitted: float
    apart: tuple[float, float]
    likelihood_before: float
    likelihood_after: float
    error_before: float | None = None
    error_after: float | None = None
    before: ReliabilityTable | None = None
    after: ReliabilityTable | None = None

    @property
    def helps(self) -> bool:
        """Whether held-out cases are told more truly with a temperature than without."""
        return self.likelihood_after < self.likelihood_before

    @property
    def at_edge(self) -> bool:
        """Whether the likelihood asks for a temperature at the edge of those that are tried, or beyond."""
        return not TEMPERATURES[0] < self.fitted < TEMPERATURES[-1]

    @property
    def trades_error(self) -> bool:
        """Whether its temperature is used although it makes the calibration error of held-out cases larger."""
        if self.error_before is None or self.error_after is None:
            return False
        return self.helps and self.error_after > self.error_before


class Calibration(Document):
    """The temperatures of a chosen pipeline.

    Attributes
    ----------
    regions : dict of str to Calibrated
        For each region that is scored.
    labels : Calibrated or None
        For members that predict labels which exclude one another: the temperature that these share.
    cases : tuple of str
        Those with anything to count.
    zone_mm : float
        How far from what is predicted or true a voxel may lie to be counted.
    """

    regions: dict[str, Calibrated]
    labels: Calibrated | None = None
    cases: tuple[str, ...] = ()
    zone_mm: float = Field(ZONE_MM, gt=0)

    def temperature(self, region: str) -> float:
        """The temperature of a region; 1 where none is known."""
        found = self.regions.get(region)
        return 1.0 if found is None else found.temperature

    @property
    def shared(self) -> float:
        """The temperature of labels that exclude one another."""
        return 1.0 if self.labels is None else self.labels.temperature

    def temperatures(self) -> dict[str, float]:
        """Every temperature by its name, that of labels as ``labels``."""
        shared = {} if self.labels is None else {"labels": self.labels.temperature}
        return {name: one.temperature for name, one in self.regions.items()} | shared

    def remarks(self) -> list[str]:
        """What should be known before these temperatures are relied on."""
        everything = self.regions | ({} if self.labels is None else {"labels": self.labels})
        lines = [
            f"the temperature of {name} is {one.fitted:g}, at the edge of those that are tried: its confidence may be "
            "further off than that corrects"
            for name, one in everything.items()
            if one.at_edge and one.helps
        ]
        lines += [
            f"the temperature of {name} makes held-out voxels likelier, yet its calibration error larger "
            f"({one.error_before:.4f} -> {one.error_after:.4f})"
            for name, one in everything.items()
            if one.trades_error
        ]
        return lines


def fit_calibration(evidence: Mapping[str, Evidence]) -> Calibration | None:
    """Fit temperatures on cross-validated cases; None with fewer than two of them.

    Every case counts the same, whatever the size of its tumour. What is stated about them is worked out with
    temperatures that were fitted without the case in question.
    """
    if len(evidence) < LEAST_CASES:
        return None
    several = list(evidence.values())
    regions = {name: _of_region(name, several) for name in several[0].regions}
    likelihoods = [one.label_likelihoods for one in several if one.label_likelihoods is not None]
    labels = _fit(likelihoods)[0] if len(likelihoods) == len(several) else None
    return Calibration(regions=regions, labels=labels, cases=tuple(evidence))


def held_out_temperatures(likelihoods: list[np.ndarray]) -> list[float]:
    """For each case the temperature fitted on the others."""
    return [best_temperature(likelihoods[:i] + likelihoods[i + 1 :]) for i in range(len(likelihoods))]


def _fit(likelihoods: list[np.ndarray]) -> tuple[Calibrated, list[float]]:
    without = held_out_temperatures(likelihoods)
    before = float(np.mean([at_temperature(one, 1.0) for one in likelihoods]))
    after = float(np.mean([at_temperature(one, t) for one, t in zip(likelihoods, without, strict=True)]))
    fitted = round(best_temperature(likelihoods), 4)
    made = Calibrated(
        temperature=fitted if after < before else 1.0,
        fitted=fitted,
        apart=(round(min(without), 4), round(max(without), 4)),
        likelihood_before=before,
        likelihood_after=after,
    )
    return made, without


def _of_region(name: str, evidence: list[Evidence]) -> Calibrated:
    made, without = _fit([one.region_likelihoods[name] for one in evidence])
    counts = [one.regions[name] for one in evidence]
    said = np.clip(LEVELS, SMALLEST, 1 - SMALLEST)
    before = reliability_of_counts([(said, one) for one in counts])
    after = reliability_of_counts([(scale(said, t), one) for one, t in zip(counts, without, strict=True)])
    return made.model_copy(
        update={
            "error_before": before.error,
            "error_after": after.error,
            "before": ReliabilityTable.of(before),
            "after": ReliabilityTable.of(after),
        }
    )


def calibrated(
    mean: Callable[[], Iterator[tuple[str, np.ndarray]]], labels: Labels, calibration: Calibration
) -> Iterator[tuple[str, np.ndarray]]:
    """Probabilities under their temperatures, one output at a time.

    Parameters
    ----------
    mean : callable
        Yields name and averaged probability (z, y, x) of each of ``labels.outputs``. For labels that exclude one
        another it is called twice: what they have to be divided by is known only after the last of them.
    """
    if labels.has_regions:
        for name, array in mean():
            yield name, scale(array, calibration.temperature(name))
        return
    total: np.ndarray | float = 0.0
    for _, array in mean():
        total = total + exclusive_weight(array, calibration.shared)
    for name, array in mean():
        yield name, exclusive_weight(array, calibration.shared) / total
