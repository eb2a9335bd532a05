"""Searching: which combination of members, and which post-processing on top of it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bts_auto.ensemble.best import TriedRule
from bts_auto.ensemble.ranking import RankingRule, case_dice, compare
from bts_auto.ensemble.scorer import Candidate, Rules, Scorer
from bts_auto.evaluate.statistics import bootstrap_interval
from bts_auto.plan.schema import Component

# Members of a greedy selection, counted with repetition (which is how it finds weights).
_GREEDY_PICKS = 6
# Values that agree in so many digits are a tie.
_DIGITS = 9
_COMPONENT_VOXELS = (10, 50, 100, 200, 500)
# BraTS 2021 entries used 200, 500 and 750 voxels of 1 mm3 for enhancing tumour; these are they and their neighbours.
_SMALL_REGION_VOXELS = (50, 100, 200, 500, 750, 1000)
# Likewise, for what becomes the next likely label, which needs probabilities.
_NEXT_VOXELS = (200, 500)
_MOST_RULES = 4


@dataclass(frozen=True)
class Ranked:
    """Candidates with their scores on the cases in question and their values, the best first."""

    candidates: list[Candidate]
    scores: np.ndarray
    values: np.ndarray


def search_members(
    scorer: Scorer, cases: Sequence[str], rule: RankingRule, published: Sequence[Candidate] = ()
) -> Ranked:
    """Score singles, pairs, a greedy larger selection and `published` on `cases`; best first, the smaller in a tie.

    Members without cached probabilities compete alone. Where fewer than two have them, members can only vote, and a
    vote of two is the first of them: then threes take the place of pairs.
    """
    n_members = len(scorer.trained)
    pooled = [i for i, one in enumerate(scorer.trained) if one.has_probabilities]
    candidates = [Candidate((i,)) for i in range(n_members)]
    if len(pooled) > 1:
        candidates += [Candidate(pair) for pair in itertools.combinations(pooled, 2)]
        if len(pooled) > 2:
            candidates += [c for c in _greedy(scorer, cases, pooled) if c not in candidates]
    elif n_members > 2:
        candidates += [Candidate(three, "vote") for three in itertools.combinations(range(n_members), 3)]
    candidates += published
    scores = np.stack([scorer.scores(one, (), cases) for one in candidates])
    values = compare(scores, scorer.metrics, rule)
    order = sorted(
        range(len(candidates)), key=lambda i: (-round(float(values[i]), _DIGITS), len(candidates[i].members), i)
    )
    return Ranked([candidates[i] for i in order], scores[order], values[order])


def _greedy(scorer: Scorer, cases: Sequence[str], pooled: Sequence[int]) -> list[Candidate]:
    """Selections of `pooled` that grow, as long as it helps, by the member that helps mean Dice most, be it again.

    References
    ----------
    Caruana et al., Ensemble selection from libraries of models, ICML 2004.
    """
    picks: list[int] = []
    grown = []
    reached = -np.inf
    for _ in range(_GREEDY_PICKS):
        options = [_weighted([*picks, i]) for i in pooled]
        values = [case_dice(scorer.scores(one, (), cases), scorer.metrics).mean() for one in options]
        best = int(np.argmax(values))
        if values[best] <= reached:
            break
        reached = values[best]
        picks.append(pooled[best])
        grown.append(options[best])
    return [one for one in dict.fromkeys(grown) if len(one.members) > 1]


def _weighted(picks: list[int]) -> Candidate:
    counts = Counter(picks)
    members = tuple(sorted(counts))
    if len(set(counts.values())) == 1:
        return Candidate(members)
    return Candidate(members, "weighted", tuple(counts[i] / len(picks) for i in members))


def candidate_rules(scorer: Scorer, candidate: Candidate) -> list[Component]:
    """The post-processing rules that are tried, made for the labels of the dataset and what is there of its cases."""
    regions: list[str | None] = [None, *scorer.regions]
    rules = [Component(name="keep_largest", options={"region": region} if region else {}) for region in regions]
    rules += [
        Component(name="minimum_size", options={"region": region, "voxels": voxels} if region else {"voxels": voxels})
        for region in regions
        for voxels in _COMPONENT_VOXELS
    ]
    rules += [Component(name="fill_holes", options={"region": region} if region else {}) for region in regions]
    rules.append(Component(name="smoothing"))
    rules += [Component(name="morphology", options={"operation": operation}) for operation in ("open", "close")]
    if "ET" in scorer.regions:
        rules += [
            Component(name="small_region", options={"region": "ET", "voxels": voxels})
            for voxels in _SMALL_REGION_VOXELS
        ]
    if scorer.has_brains:
        rules.append(Component(name="outside_brain"))
    asking = [Component(name="nesting")]
    if "ET" in scorer.regions:
        size = {"region": "ET", "becomes": "next"}
        asking += [Component(name="small_region", options=size | {"voxels": n}) for n in _NEXT_VOXELS]
    if scorer.can_score(replace(candidate, rules=(*candidate.rules, *asking))):
        rules += asking
    return rules


def search_rules(
    scorer: Scorer,
    candidate: Candidate,
    cases: Sequence[str],
    on_round: Callable[[int], None] | None = None,
) -> tuple[Rules, list[TriedRule]]:
    """Add rules one after the other as long as one helps beyond its noise over cases.

    In each round the rule with the best mean Dice is accepted if the 95 % bootstrap interval of its improvement over
    `cases` lies above 0.

    Returns
    -------
    rules : tuple of Component
        Those accepted, in order.
    tried : list of TriedRule
        Every rule of the last round in which it was tried, with what it changed.
    """
    accepted: Rules = ()
    remaining = candidate_rules(scorer, candidate)
    fitted = (scorer.fitted_thresholds(candidate, cases), scorer.fitted_gate(candidate, cases))
    remaining += [rule for rule in fitted if rule is not None]
    tried: dict[str, TriedRule] = {}
    for number in range(_MOST_RULES):
        chains = [(*accepted, rule) for rule in remaining]
        scores = scorer.many(candidate, [accepted, *chains], cases)
        per_case = np.stack([case_dice(one, scorer.metrics) for one in scores])
        results = [_tried(rule, gain) for rule, gain in zip(remaining, per_case[1:] - per_case[0], strict=True)]
        tried |= {result.rule.model_dump_json(): result for result in results}
        best = max(results, key=lambda result: result.difference)
        if on_round is not None:
            on_round(number)
        if best.low is None or best.low <= 0:
            break
        tried[best.rule.model_dump_json()] = best.model_copy(update={"accepted": True})
        accepted = (*accepted, best.rule)
        remaining = [rule for rule in remaining if rule != best.rule]
    return accepted, list(tried.values())


def _tried(rule: Component, gain: np.ndarray) -> TriedRule:
    low, high = bootstrap_interval(gain)
    bounds = (None, None) if np.isnan(low) else (low, high)
    return TriedRule(rule=rule, difference=float(gain.mean()), low=bounds[0], high=bounds[1], accepted=False)
