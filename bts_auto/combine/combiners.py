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
    by_output : bool
        Whether probabilities of one output alone may be given, since no output has a say in another's.
    """

    uses: Literal["probabilities", "masks"]
    combine: Callable[[Sequence[np.ndarray], Labels, Any], np.ndarray]
    by_output: bool = False


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


def combine_probabilities(
    name: str, members: Sequence[np.ndarray], labels: Labels, options: dict[str, Any] | None = None
) -> np.ndarray:
    """Combine probabilities (k, z, y, x) into probabilities; where the combiner takes label maps, into their mean.

    Raises
    ------
    PlanError, DataError
        As :func:`combine`.
    """
    chosen: Combiner = registry.component("combiner", name)
    if chosen.uses != "probabilities":
        return pool.mean(members)
    return chosen.combine(members, labels, registry.options("combiner", name, options))


def combines_by_output(name: str) -> bool:
    """Whether :func:`combine_probabilities` may be given one output (1, z, y, x) after the other."""
    chosen: Combiner = registry.component("combiner", name)
    return chosen.by_output or chosen.uses != "probabilities"


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
    chosen = _chosen(members, labels, options)
    out = np.zeros_like(members[0])
    for mask, value, paint in zip(chosen, values, painted, strict=True):
        out[np.isin(mask, value)] = paint
    return out


def _region_channels(members: Sequence[np.ndarray], labels: Labels, options: Any) -> np.ndarray:
    first = 0 if labels.has_regions else 1  # plain labels: what the chosen channels leave over is background
    chosen = _chosen(members, labels, options)
    channels = [scores[channel] for channel, scores in enumerate(chosen, start=first)]
    rest = [] if labels.has_regions else [np.clip(1 - sum(channels), 0, None)]
    return np.stack([*rest, *channels])


def _chosen(members: Sequence[np.ndarray], labels: Labels, options: Any) -> list[np.ndarray]:
    """For each foreground label or region the member that it is taken from."""
    wanted = {labels.declared(name) or name: position for name, position in options.members.items()}
    if set(wanted) ^ set(labels.foreground):
        raise PlanError(f"needs one member for each of {', '.join(labels.foreground)}", where="combiner by_region")
    for name, position in wanted.items():
        if not 0 <= position < len(members):
            raise PlanError(f"takes '{name}' from member {position} of {len(members)}", where="combiner by_region")
    return [members[wanted[name]] for name in labels.foreground]


mean = Combiner("probabilities", lambda members, labels, options: pool.mean(members), by_output=True)
weighted = Combiner(
    "probabilities", lambda members, labels, options: pool.weighted(members, options.weights), by_output=True
)
geometric = Combiner(
    "probabilities",
    lambda members, labels, options: pool.geometric_mean(members, options.weights, exclusive=not labels.has_regions),
)
majority = Combiner("masks", lambda members, labels, options: vote(members, options.weights, ties=options.ties))
staple = Combiner("masks", _staple)
simple = Combiner("masks", _simple)
by_region = Combiner("masks", _by_region)
region_channels = Combiner("probabilities", _region_channels)
