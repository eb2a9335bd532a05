"""What a metric is, and how one is asked for by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from bts_auto import registry
from bts_auto.errors import PlanError
from bts_auto.evaluate.empty import EmptyRule
from bts_auto.evaluate.pair import Pair

Better = Literal["higher", "lower", "neither"]
DEFAULT_METRICS = (
    "dice", "iou", "precision", "recall", "hd95", "volume_ml", "reference_volume_ml", "volume_error_ml",
)  # fmt: skip


@dataclass(frozen=True)
class Metric:
    """One score of a pair of masks.

    Attributes
    ----------
    compute : callable
        ``(pair, empty_rule, parameter) -> float``.
    unit : str
        ``"mm"``, ``"ml"`` or nothing.
    better : {"higher", "lower", "neither"}
        Which way is good; volumes are neither.
    parameter : float, str or None
        The default of its one parameter; None: it has none.
    choices : tuple of str
        What a parameter in words may be.
    of_probabilities : bool
        Whether it scores saved probabilities, not the mask.
    """

    compute: Callable[..., float]
    unit: str
    better: Better
    parameter: float | str | None = None
    choices: tuple[str, ...] = ()
    of_probabilities: bool = False

    @property
    def about(self) -> str:
        """Its definition in one line."""
        return (self.compute.__doc__ or "").strip().splitlines()[0]


@dataclass(frozen=True)
class NamedMetric:
    """A metric with its parameter and the name of its column (``"dice"``, ``"nsd@2"``)."""

    name: str
    metric: Metric
    parameter: float | str | None = None

    def __call__(self, pair: Pair, empty: EmptyRule) -> float:
        arguments = () if self.metric.parameter is None else (self.parameter,)
        return float(self.metric.compute(pair, empty, *arguments))


def metric(
    *,
    unit: str = "",
    better: Better = "higher",
    parameter: float | str | None = None,
    choices: tuple[str, ...] = (),
    of_probabilities: bool = False,
) -> Callable[[Callable[..., float]], Metric]:
    """Decorator that makes a :class:`Metric` of a function whose docstring states its definition and empty cases."""
    return lambda compute: Metric(compute, unit, better, parameter, choices, of_probabilities)


def resolve(names: Iterable[str] | None = None) -> tuple[NamedMetric, ...]:
    """Metrics by name; a parameter follows an ``@`` (``"nsd@2"``: tolerance 2 mm). None: the default list.

    Raises
    ------
    PlanError
        For an unknown name, or a parameter that does not fit.
    """
    return tuple(_resolve_one(name) for name in (DEFAULT_METRICS if names is None else names))


def _resolve_one(text: str) -> NamedMetric:
    name, _, given = text.partition("@")
    found: Metric = registry.component("metric", name)
    if not given:
        return NamedMetric(text, found, found.parameter)
    if found.parameter is None:
        raise PlanError(f"metric '{name}' takes no parameter, got '{given}'")
    if isinstance(found.parameter, str):
        if given.upper() not in found.choices:
            raise PlanError(f"metric '{name}' knows no '{given}'", mend=f"known are {', '.join(found.choices)}")
        return NamedMetric(text, found, given)
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not value >= 0:
        raise PlanError(f"the parameter of metric '{name}' must be a number that is not negative, got '{given}'")
    return NamedMetric(text, found, value)
