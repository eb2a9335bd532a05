"""What a post-processing rule may know besides the label map, and how a chain of rules is applied."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np

from bts_auto import registry
from bts_auto.data.labels import Labels
from bts_auto.errors import PlanError


@dataclass(frozen=True)
class Context:
    """What is known of the case.

    Attributes
    ----------
    labels : Labels
        The dataset's labels.
    spacing : tuple of float
        Voxel distances (z, y, x) in mm.
    probabilities : ndarray or None, shape (k, z, y, x)
        The network's output, in the order of ``labels.outputs``, where it is at hand.
    brain : ndarray of bool, callable that returns one, or None, shape (z, y, x)
        Where the image is not zero, where it is at hand; a callable where the image must be read for it.
    outputs : mapping of str to float
        Numbers that other models gave for the case (a classifier's score).
    """

    labels: Labels
    spacing: tuple[float, ...]
    probabilities: np.ndarray | None = None
    brain: np.ndarray | Callable[[], np.ndarray] | None = None
    outputs: Mapping[str, float] = field(default_factory=dict)

    def brain_mask(self) -> np.ndarray:
        """Where the image is not zero, shape (z, y, x).

        Raises
        ------
        PlanError
            When the case comes without its image.
        """
        if self.brain is None:
            raise PlanError("the brain mask of the case is not known here")
        return self.brain() if callable(self.brain) else self.brain

    def members(self, name: str) -> tuple[int, ...]:
        """The integers of a label or region by name (:meth:`bts_auto.data.labels.Labels.declared`).

        Raises
        ------
        PlanError
            When the dataset has no such label or region; those that it has are named.
        """
        return self._find(name)[1]

    def _find(self, name: str) -> tuple[str, tuple[int, ...]]:
        known, found = self.labels.nameable(), self.labels.declared(name)
        if found is not None:
            return found, known[found]
        raise PlanError(f"no label or region is called '{name}'", mend=f"the dataset has {', '.join(known)}")

    def painted(self, name: str) -> int:
        """The integer that is written for a label or declared region.

        Raises
        ------
        PlanError
            For an unknown name, or a derived region that stands for several labels.
        """
        found, members = self._find(name)
        if self.labels.has_regions and found in self.labels.foreground:
            return self.labels.regions_class_order[self.labels.foreground.index(found)]
        if len(members) > 1:
            raise PlanError(f"'{name}' stands for labels {members}; name one of them")
        return members[0]

    def mask(self, label_map: np.ndarray, name: str | None) -> np.ndarray:
        """Where `label_map` holds a label or region (None: any foreground); boolean."""
        if name is None:
            return label_map != 0
        return np.isin(label_map, self.members(name))

    def voxels(self, volume_ml: float) -> float:
        """How many voxels make `volume_ml`."""
        return volume_ml * 1000 / float(np.prod(self.spacing))


class Rule(Protocol):
    """A post-processing rule: (label map, context, options) -> label map. The input is not changed."""

    def __call__(self, mask: np.ndarray, context: Context, options: Any) -> np.ndarray: ...


class NamedRule(Protocol):
    """A rule by name with its options, as plans hold it."""

    @property
    def name(self) -> str: ...

    @property
    def options(self) -> dict[str, Any]: ...


R = TypeVar("R", bound=NamedRule)


def need_probabilities(rules: Sequence[NamedRule]) -> bool:
    """Whether one of the rules cannot do without probabilities.

    Raises
    ------
    PlanError
        For an unknown rule or option.
    """
    chosen = [registry.options("postprocessing", rule.name, rule.options) for rule in rules]
    return any(options is not None and options.needs_probabilities for options in chosen)


def arrange(rules: Sequence[R]) -> tuple[R, ...]:
    """Rules in an order in which none undoes another: one that makes the label map anew first, the last of several.

    Raises
    ------
    PlanError
        For an unknown rule or option.
    """
    chosen = [registry.options("postprocessing", rule.name, rule.options) for rule in rules]
    anew = [options is not None and options.starts_anew for options in chosen]
    first = [rule for rule, starts in zip(rules, anew, strict=True) if starts][-1:]
    return (*first, *(rule for rule, starts in zip(rules, anew, strict=True) if not starts))


def apply_rules(mask: np.ndarray, rules: Sequence[NamedRule], context: Context) -> np.ndarray:
    """Apply `rules` in order to a label map (z, y, x).

    Raises
    ------
    PlanError
        For an unknown rule, option, label or region, or a rule that needs what the context does not hold.
    """
    for one in rules:
        rule: Rule = registry.component("postprocessing", one.name)
        mask = rule(mask, context, registry.options("postprocessing", one.name, one.options))
    return mask
