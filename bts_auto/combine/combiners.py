"""The registered combiners: what each takes, and how it is called with its options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bts_auto import registry
from bts_auto.combine import probabilities as pool
from bts_auto.combine.simple import simple_regions
from bts_auto.combine.staple import staple_labels, staple_regions
from bts_auto.combine.vote import vote
from bts_auto.data.labels import Labels
from bts_auto.errors import PlanError


@dataclass(frozen=True)
class Combiner:
    """One way of joining members.

    Attributes
    ----------
    uses : {"probabilities", "masks"}
        What it takes of each member, and what it returns.
    combine : callable
        ``(members, labels, options) -> array``. Probabilities have shape (k, z, y, x), label maps (z, y, x).
    """

    uses: Literal["probabilities", "masks"]
    combine: Callable[[Sequence[np.ndarray], Labels, Any], np.ndarray]


def combine(
    name: str, members: Sequence[np.ndarray], labels: Labels, options: dict[str, Any] | None = None
) -> np.ndarray:
    """Combine `members` by a registered combiner into a label map.

    Parameters
    ----------
    members : sequence of ndarray
        What the combiner uses: probabilities (k, z, y, x), in the order of ``labels.outputs``, or label maps (z, y, x).

    Raises
    ------
    PlanError
        For an unknown combiner or option.
    DataError
        When the members do not fit together.
    """
    chosen: Combiner = registry.component("combiner", name)
    found = chosen.combine(members, labels, registry.options("combiner", name, options))
    return labels.decode(found) if chosen.uses == "probabilities" else found


def painting(labels: Labels) -> tuple[list[tuple[int, ...]], list[int]]:
    """The integers of each foreground label or region, and the integer painted for it, in painting order."""
    values = [labels.values[name] for name in labels.foreground]
    return values, list(labels.regions_class_order) if labels.has_regions else [value[0] for value in values]


def _staple(members: Sequence[np.ndarray], labels: Labels, options: Any) -> np.ndarray:
    limits = {"iterations": options.iterations, "tolerance": options.tolerance}
    if options.mode == "labels":
        return staple_labels(members, **limits)
    return staple_regions(members, *painting(labels), **limits)


def _simple(members: Sequence[np.ndarray], labels: Labels, options: Any) -> np.ndarray:
    return simple_regions(members, *painting(labels), iterations=options.iterations, alpha=options.alpha)


def _by_region(members: Sequence[np.ndarray], labels: Labels, options: Any) -> np.ndarray:
    values, painted = painting(labels)
    unknown = set(options.members) ^ set(labels.foreground)
    if unknown:
        raise PlanError(f"combiner 'by_region' needs one member for each of {', '.join(labels.foreground)}")
    out = np.zeros_like(members[0])
    for name, value, paint in zip(labels.foreground, values, painted, strict=True):
        position = options.members[name]
        if not 0 <= position < len(members):
            raise PlanError(f"combiner 'by_region' takes '{name}' from member {position} of {len(members)}")
        out[np.isin(members[position], value)] = paint
    return out


mean = Combiner("probabilities", lambda members, labels, options: pool.mean(members))
weighted = Combiner("probabilities", lambda members, labels, options: pool.weighted(members, options.weights))
geometric = Combiner(
    "probabilities",
    lambda members, labels, options: pool.geometric_mean(members, options.weights, exclusive=not labels.has_regions),
)
majority = Combiner("masks", lambda members, labels, options: vote(members, options.weights, ties=options.ties))
staple = Combiner("masks", _staple)
simple = Combiner("masks", _simple)
by_region = Combiner("masks", _by_region)
