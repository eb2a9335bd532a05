"""Scores of combinations on cross-validated cases, each worked out once."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bts_auto import machine, registry
from bts_auto.combine.cache import CachedProbabilities
from bts_auto.combine.combiners import combine, combine_probabilities
from bts_auto.combine.saved import CacheSource
from bts_auto.data.crop import bounding_box
from bts_auto.data.labels import Labels
from bts_auto.data.raters import Reference, read_reference
from bts_auto.data.readers import read_mask
from bts_auto.data.volume import Geometry
from bts_auto.ensemble.discover import Trained, readers
from bts_auto.ensemble.evidence import ZONE_MM
from bts_auto.ensemble.gate import fit_gate
from bts_auto.ensemble.join import combine_sources, join_sources, uses_probabilities
from bts_auto.ensemble.thresholds import MOST_REGIONS
from bts_auto.errors import BtsError, DataError
from bts_auto.evaluate.case import score_case
from bts_auto.evaluate.empty import EMPTY_RULES
from bts_auto.files import hash_json
from bts_auto.plan.schema import Component
from bts_auto.pool import in_order
from bts_auto.postprocess.context import Context, apply_rules, arrange, need_probabilities

Rules = tuple[Component, ...]
# Bytes that scoring a case takes for each voxel: 62 were measured of two members with four outputs, combined by their
# mean, under rules of every kind, those that need probabilities among them.
_MEMORY_PER_VOXEL = 80


@dataclass(frozen=True)
class Candidate:
    """A combination: positions of members in the list of what is trained, and how they are joined.

    Attributes
    ----------
    members : tuple of int
    combiner : str
    weights : tuple of float, optional
    recipe : str, optional
        The ensemble recipe that it comes from, and that decides `options` and `rules`.
    options : str
        The combiner's options as JSON.
    rules : tuple of Component
        Post-processing that belongs to it.
    picks : tuple of (int, int)
        For an ensemble of the best folds: each fold with the member that it is taken from.
    """

    members: tuple[int, ...]
    combiner: str = "mean"
    weights: tuple[float, ...] | None = None
    recipe: str | None = None
    options: str = "{}"
    rules: Rules = field(default=(), compare=False)
    picks: tuple[tuple[int, int], ...] = ()

    def combiner_options(self) -> dict[str, Any]:
        """The combiner's options with the weights."""
        return json.loads(self.options) | ({} if self.weights is None else {"weights": self.weights})


@dataclass(frozen=True)
class Told:
    """A case in a box around all foreground: `mask`, `reference` (z, y, x), combined `probabilities` (k, z, y, x)."""

    mask: np.ndarray
    probabilities: np.ndarray
    reference: np.ndarray
    labels: Labels
    spacing: tuple[float, ...]


class Scorer:
    """Scores candidates with post-processing on the cross-validated cases.

    Parameters
    ----------
    trained : sequence of Trained
        All over the same cases.
    references : mapping of str to Path or RaterMasks
        The reference mask of each case.
    labels : Labels
    metrics : sequence of str
        What is scored; undefined scores follow BraTS (both empty: best, one empty: worst).
    workers : int, optional
        Cases scored side by side; default: the number of cores, at most 8 and as many as fit the free memory. Scores do
        not depend on it.
    brain_of : callable, optional
        Gives the brain mask (z, y, x) of a case, for rules that ask for it.
    """

    def __init__(
        self,
        trained: Sequence[Trained],
        references: Mapping[str, Reference],
        labels: Labels,
        metrics: Sequence[str],
        *,
        workers: int | None = None,
        brain_of: Callable[[str], np.ndarray] | None = None,
    ) -> None:
        self.trained, self.labels, self.metrics = trained, labels, tuple(metrics)
        self.cases = tuple(trained[0].masks)
        self._references = references
        self._workers = workers or _affordable(trained)
        self._brain_of = brain_of
        self.regions = labels.tumour_regions() or {name: labels.values[name] for name in labels.foreground}
        self._known: dict[tuple[Candidate, str, str], np.ndarray] = {}
        self._searches: dict[tuple[Candidate, str], Any] = {}
        self._tables: dict[tuple[Any, str], Any] = {}
        self._predicted_ml: dict[tuple[Candidate, str, tuple[str, ...]], tuple[float, ...]] = {}

    def scores(self, candidate: Candidate, rules: Rules, cases: Sequence[str]) -> np.ndarray:
        """Shape (cases, regions, metrics)."""
        return self.many(candidate, [rules], cases)[0]

    def many(self, candidate: Candidate, chains: Sequence[Rules], cases: Sequence[str]) -> np.ndarray:
        """Scores of several chains of rules on one candidate, shape (chains, cases, regions, metrics).

        Every case is read and combined once for all chains that are not known yet.
        """
        keys = [hash_json([rule.model_dump(mode="json") for rule in chain]) for chain in chains]
        missing = {
            case: {
                key: arrange((*candidate.rules, *chain))
                for key, chain in zip(keys, chains, strict=True)
                if (candidate, key, case) not in self._known
            }
            for case in cases
        }
        self._each(
            lambda case: self._score_case(candidate, case, missing[case]), [case for case in cases if missing[case]]
        )
        return np.stack([[self._known[candidate, key, case] for case in cases] for key in keys])

    def _each(self, work: Callable[[str], Any], cases: Sequence[str]) -> list[Any]:
        """What `work` makes of each case, in their order; reading and the array work release Python's lock."""
        return in_order(work, cases, self._workers)

    def _score_case(self, candidate: Candidate, case: str, chains: Mapping[str, Rules]) -> None:
        """Work out and remember the scores of chains of rules, each under its key."""
        mask, reference, geometry, context = self._case(candidate, case, any(map(need_probabilities, chains.values())))
        for key, rules in chains.items():
            corrected = apply_rules(mask, rules, context)
            self._known[candidate, key, case] = self._score(corrected, reference, geometry)

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

    def fitted_thresholds(self, candidate: Candidate, cases: Sequence[str]) -> Component | None:
        """The rule of thresholds that are best on `cases`, searched as the candidate's own rule says.

        Without such a rule they are searched on a grid where members know regions; None where nothing can be searched.
        """
        if not cases or not all(self.trained[i].has_probabilities for i in candidate.members):
            return None
        labels = Labels.common([self._outputs_of(i, cases[0]) for i in candidate.members])
        wanted = _threshold_search(candidate.rules)
        if wanted is None:
            if not labels.has_regions or len(labels.outputs) > MOST_REGIONS:
                return None
            wanted = Component(name="grid")
        search = self._search(candidate, wanted, labels)
        fold_of = self.trained[candidate.members[0]].fold_of
        by_fold: dict[int, list[Any]] = {}
        found = self._each(lambda case: self._evidence(candidate, case, search), cases)
        for case, evidence in zip(cases, found, strict=True):
            by_fold.setdefault(fold_of(case), []).append(evidence)
        how = {"search": search.component.model_dump(mode="json")} if search.component.name != "grid" else {}
        return Component(name="thresholds", options={"values": search.best(by_fold)} | how)

    def _search(self, candidate: Candidate, wanted: Component, labels: Labels) -> Any:
        """A candidate's search for thresholds, the same one every time: it remembers what it has found."""
        key = wanted.model_dump_json()
        if (candidate, key) not in self._searches:
            options = registry.options("threshold_search", wanted.name, wanted.options)
            search = registry.component("threshold_search", wanted.name)(labels, self.regions, options)
            self._searches[candidate, key] = search
        return self._searches[candidate, key]

    def _evidence(self, candidate: Candidate, case: str, search: Any) -> Any:
        """What a search for thresholds keeps of a case, worked out once."""
        if (search, case) not in self._tables:
            _, reference, _, context = self._case(candidate, case, True)
            self._tables[search, case] = search.of(context.probabilities, reference)
        return self._tables[search, case]

    def fitted_gate(self, candidate: Candidate, cases: Sequence[str]) -> Component | None:
        """The rule that gives up enhancing tumour by two volumes, fitted on `cases`; None where it gains nothing."""
        inner = self.labels.tumour_regions()
        core = [value for value in inner.get("TC", ()) if value not in inner["ET"]]
        if not cases or not core:
            return None
        other = next(name for name, members in self.labels.values.items() if members == (core[0],))
        pooled = all(self.trained[i].has_probabilities for i in candidate.members)
        options = {"region": "ET", "other": other, "becomes": "next" if pooled else other}
        always = Component(name="volume_gate", options=options | {"at_most_ml": 1e9, "above_ml": 0.0})
        kept, given_up = self.many(candidate, [(), (always,)], cases)
        dice = self.metrics.index("dice")
        gain = (given_up[:, :, dice] - kept[:, :, dice]).mean(axis=1)
        volumes = np.array(self._each(lambda case: self._volumes(candidate, case, ("ET", other)), cases))
        bounds = fit_gate(volumes[:, 0], volumes[:, 1], gain)
        if bounds is None:
            return None
        return Component(name="volume_gate", options=options | {"at_most_ml": bounds[0], "above_ml": bounds[1]})

    def _volumes(self, candidate: Candidate, case: str, names: tuple[str, ...]) -> tuple[float, ...]:
        """Predicted volumes in ml, worked out once."""
        if (candidate, case, names) not in self._predicted_ml:
            mask, _, geometry, context = self._case(candidate, case, need_probabilities(candidate.rules))
            mask = apply_rules(mask, arrange(candidate.rules), context)
            voxel_ml = float(np.prod(geometry.spacing)) / 1000
            found = tuple(np.count_nonzero(context.mask(mask, name)) * voxel_ml for name in names)
            self._predicted_ml[candidate, case, names] = found
        return self._predicted_ml[candidate, case, names]

    def _outputs_of(self, member: int, case: str) -> Labels:
        return self._labels_of(CachedProbabilities(self.trained[member].caches[case]).outputs)

    @functools.cached_property
    def has_brains(self) -> bool:
        """Whether images are there that tell where the brain is, as far as one case tells."""
        try:
            return self._brain_of is not None and bool(self._brain_of(self.cases[0]).any())
        except (BtsError, OSError):
            return False

    def can_score(self, candidate: Candidate) -> bool:
        """Whether the members of a candidate left behind what it needs."""
        pooled = len(candidate.members) > 1 and not candidate.picks and uses_probabilities(candidate.combiner)
        if not pooled and not need_probabilities(candidate.rules):
            return True
        return all(self.trained[i].has_probabilities for i in candidate.members)

    def _case(
        self, candidate: Candidate, case: str, probabilities: bool
    ) -> tuple[np.ndarray, np.ndarray, Geometry, Context]:
        """The combined mask of a case, its reference, their grid, and what rules may know."""
        reference, geometry = read_reference(self._references[case])
        chosen = self._chosen(candidate, case)
        pooled = len(chosen) > 1 and uses_probabilities(candidate.combiner)
        combiner, options = _combiner(candidate, chosen)
        labels, sources = self._sources(chosen, case) if pooled or probabilities else (self.labels, [])
        if pooled:
            mask = combine_sources(combiner, sources, labels, options)
        else:
            masks = [read_mask(one.masks[case])[0] for one in chosen]
            mask = masks[0] if len(masks) == 1 else combine(combiner, masks, self._trained_on(chosen, case), options)
        if mask.shape != reference.shape:
            raise DataError(f"predicted on a grid of {mask.shape}, the reference has {reference.shape}", where=case)
        joined = join_sources(combiner, sources, labels, options) if probabilities else None
        # Read once for all rules, and only where one asks for it.
        brain = None if self._brain_of is None else functools.cache(functools.partial(self._brain_of, case))
        return mask, reference, geometry, Context(labels, geometry.spacing, probabilities=joined, brain=brain)

    def _chosen(self, candidate: Candidate, case: str) -> list[Trained]:
        """The members that answer for a case."""
        if not candidate.picks:
            return [self.trained[i] for i in candidate.members]
        fold = self.trained[candidate.members[0]].fold_of(case)
        return [self.trained[dict(candidate.picks)[fold]]]

    def _sources(self, chosen: Sequence[Trained], case: str) -> tuple[Labels, list[CacheSource]]:
        caches = [CachedProbabilities(one.caches[case]) for one in chosen]
        labels = Labels.common([self._labels_of(cached.outputs) for cached in caches])
        return labels, [CacheSource(cached, labels) for cached in caches]

    def confidence_in(self, candidate: Candidate, rules: Rules, case: str) -> Told:
        """What a candidate says of a case and how sure it is: its mask after `rules`, and its combined probability.

        Members whose label maps are combined have no combined probability but their mean.
        """
        full = arrange((*candidate.rules, *rules))
        mask, reference, geometry, context = self._case(candidate, case, need_probabilities(full))
        mask = apply_rules(mask, full, context)
        chosen = self._chosen(candidate, case)
        labels, sources = self._sources(chosen, case)
        box = _around(
            [*(source.active for source in sources), bounding_box((reference != 0) | (mask != 0))], geometry, ZONE_MM
        )
        combiner, options = _combiner(candidate, chosen)
        combined = combine_probabilities(combiner, [source.read(box) for source in sources], labels, options)
        return Told(mask[box], combined, reference[box], labels, geometry.spacing)

    def _labels_of(self, outputs: tuple[str, ...]) -> Labels:
        return self.labels if outputs == self.labels.outputs else self.labels.as_regions()

    def _trained_on(self, chosen: Sequence[Trained], case: str) -> Labels:
        """The common labels of members whose masks are combined; the dataset's own where nothing tells."""
        if not all(case in one.caches for one in chosen):
            return self.labels
        return Labels.common([self._labels_of(CachedProbabilities(one.caches[case]).outputs) for one in chosen])


def _affordable(trained: Sequence[Trained]) -> int:
    """How many cases may be scored side by side."""
    voxels = max((math.prod(size) for one in trained for size in one.sizes.values()), default=1)
    by_memory = machine.free_memory() // (voxels * _MEMORY_PER_VOXEL)
    return max(1, min(readers(), by_memory))


def _combiner(candidate: Candidate, chosen: Sequence[Trained]) -> tuple[str, dict[str, Any]]:
    """How the members that answer for a case are combined; one that answers alone is taken as it is."""
    return (candidate.combiner, candidate.combiner_options()) if len(chosen) > 1 else ("mean", {})


def _threshold_search(rules: Rules) -> Component | None:
    """The search that the last of the rules `thresholds` among `rules` names."""
    named = [registry.options("postprocessing", rule.name, rule.options) for rule in rules if rule.name == "thresholds"]
    return named[-1].search if named else None


def _around(boxes: Sequence[Sequence[slice]], geometry: Geometry, margin: float) -> tuple[slice, ...]:
    """The smallest box that holds all `boxes` and `margin` mm around them, as far as the grid goes."""
    out = []
    for axis, step, size in zip(zip(*boxes, strict=True), geometry.spacing, geometry.size, strict=True):
        voxels = math.ceil(margin / step)
        low, high = min(one.start for one in axis), max(one.stop for one in axis)
        out.append(slice(max(0, low - voxels), min(size, high + voxels)))
    return tuple(out)
