"""Scores of combinations on cross-validated cases, each worked out once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bts_auto.combine.cache import CachedProbabilities
from bts_auto.combine.combiners import combine
from bts_auto.combine.saved import CacheSource
from bts_auto.data.labels import Labels
from bts_auto.data.readers import read_mask
from bts_auto.data.volume import Geometry
from bts_auto.ensemble.discover import Trained
from bts_auto.ensemble.join import combine_sources
from bts_auto.errors import DataError
from bts_auto.evaluate.case import score_case
from bts_auto.evaluate.empty import EMPTY_RULES
from bts_auto.files import hash_json
from bts_auto.plan.schema import Component
from bts_auto.postprocess.context import Context, apply_rules

Rules = tuple[Component, ...]


@dataclass(frozen=True)
class Candidate:
    """A combination: positions of members in the list of what is trained, and how they are joined."""

    members: tuple[int, ...]
    combiner: str = "mean"
    weights: tuple[float, ...] | None = None


class Scorer:
    """Scores candidates with post-processing on the cross-validated cases.

    Parameters
    ----------
    trained : sequence of Trained
        All over the same cases.
    references : mapping of str to Path
        The reference mask of each case.
    labels : Labels
    metrics : sequence of str
        What is scored; undefined scores follow BraTS (both empty: best, one empty: worst).
    """

    def __init__(
        self, trained: Sequence[Trained], references: dict[str, Path], labels: Labels, metrics: Sequence[str]
    ) -> None:
        self.trained, self.labels, self.metrics = trained, labels, tuple(metrics)
        self.cases = tuple(trained[0].masks)
        self._references = references
        self.regions = labels.tumour_regions() or {name: labels.values[name] for name in labels.foreground}
        self._known: dict[tuple[Candidate, str, str], np.ndarray] = {}

    def scores(self, candidate: Candidate, rules: Rules, cases: Sequence[str]) -> np.ndarray:
        """Shape (cases, regions, metrics)."""
        return self.many(candidate, [rules], cases)[0]

    def many(self, candidate: Candidate, chains: Sequence[Rules], cases: Sequence[str]) -> np.ndarray:
        """Scores of several chains of rules on one candidate, shape (chains, cases, regions, metrics).

        Every case is read and combined once for all chains that are not known yet.
        """
        keys = [hash_json([rule.model_dump(mode="json") for rule in chain]) for chain in chains]
        for case in cases:
            missing = [i for i, key in enumerate(keys) if (candidate, key, case) not in self._known]
            if not missing:
                continue
            mask, reference, geometry = self._case(candidate, case)
            context = Context(self.labels, geometry.spacing)
            for i in missing:
                corrected = apply_rules(mask, chains[i], context)
                self._known[candidate, keys[i], case] = self._score(corrected, reference, geometry)
        return np.stack([[self._known[candidate, key, case] for case in cases] for key in keys])

    def _score(self, mask: np.ndarray, reference: np.ndarray, geometry: Geometry) -> np.ndarray:
        found = score_case(
            mask,
            reference,
            geometry.spacing,
            self.regions,
            self.metrics,
            empty=EMPTY_RULES["brats"],
            ignore=self.labels.ignore,
        )
        return np.array([[found[region][metric] for metric in self.metrics] for region in self.regions])

    def _case(self, candidate: Candidate, case: str) -> tuple[np.ndarray, np.ndarray, Geometry]:
        reference, geometry = read_mask(self._references[case])
        chosen = [self.trained[i] for i in candidate.members]
        if len(chosen) > 1 and candidate.combiner != "vote":
            sources = [CacheSource(CachedProbabilities(one.caches[case]), self.labels) for one in chosen]
            options = {} if candidate.weights is None else {"weights": candidate.weights}
            mask = combine_sources(candidate.combiner, sources, self.labels, options)
        else:
            masks = [read_mask(one.masks[case])[0] for one in chosen]
            mask = masks[0] if len(masks) == 1 else combine("vote", masks, self.labels)
        if mask.shape != reference.shape:
            raise DataError(f"predicted on a grid of {mask.shape}, the reference has {reference.shape}", where=case)
        return mask, reference, geometry
