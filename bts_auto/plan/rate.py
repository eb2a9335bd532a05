"""How fast a machine trains: measured steps, from which the time of other steps is foretold."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from bts_auto.documents import Document, parse
from bts_auto.errors import BtsError
from bts_auto.files import read_json, write_json

if TYPE_CHECKING:
    from bts_auto.plan.schema import Plan

RATES_FILE = "machine.json"
_MOST_KEPT = 64
# Two steps whose operations differ by less than this factor are the same step measured again.
_SAME_SIZE = 1.01
# Convolutions of few channels are slower: twice the channels are as unlike as four times the operations.
_WEIGHT_OF_WIDTH = 2.0
# Another optimiser or another objective is as unlike as four times the operations, too.
_ANOTHER_KIND = math.log(4.0)
# Where others took more than this share of the processors, a measurement says little about the machine itself.
_BUSY = 0.15


def is_busy(others: float) -> bool:
    """Whether others took so much of the processors that times tell more of them than of the machine."""
    return others > _BUSY


class Sizes(Document):
    """What a training step was taken of: steps of the same sizes take the same memory.

    Attributes
    ----------
    patch_size, batch_size
    features : tuple of int
        Channels of each stage.
    channels : tuple of int
        Of the images and of the logits.
    optimizer, objective : str
        Their names.
    """

    patch_size: tuple[int, ...]
    batch_size: int
    features: tuple[int, ...]
    channels: tuple[int, int]
    optimizer: str
    objective: str

    @classmethod
    def of(cls, plan: Plan, name: str) -> Sizes:
        """Those of a step of a plan's configuration."""
        configuration = plan.configuration(name)
        return cls(
            patch_size=configuration.patch_size,
            batch_size=configuration.batch_size,
            features=configuration.features_per_stage,
            channels=plan.network_channels(name),
            optimizer=configuration.training.optimizer.name,
            objective=configuration.training.objective.name,
        )

    def has_kind_of(self, other: Sizes) -> bool:
        """Whether a step does the same besides convolutions, so that as many operations take as long."""
        return (self.optimizer, self.objective) == (other.optimizer, other.objective)

    def unlike(self, other: Sizes) -> float:
        """How much another step tells less of this one, as the logarithm of a factor of operations."""
        wider = abs(math.log(self.features[0] / other.features[0]))
        others = (self.optimizer != other.optimizer) + (self.objective != other.objective)
        return _WEIGHT_OF_WIDTH * wider + others * _ANOTHER_KIND


class Rate(Document):
    """One measured training step.

    Attributes
    ----------
    hardware : str
        See :func:`bts_auto.machine.hardware`.
    precision : str
        The number format of the step.
    network, dims
        The component that was trained, and its number of spatial axes.
    step_tflop, step_seconds : float
        Counted operations of the step in 10^12, and what it took.
    source : str
        ``trial`` (a few steps) or ``training`` (the mean of a training).
    others : float
        Share of the processors' time that other programs took meanwhile.
    chosen : bool
        Whether the number format was found to be the best here; else the plan had named it.
    sizes : Sizes or None
        None: measured by a version that did not keep them.
    peak_gb : float or None
        The most memory that the step took, in 1024^3 bytes; None: not known.
    """

    hardware: str
    precision: Literal["fp32", "bf16", "fp16"]
    network: str
    dims: int = Field(ge=2, le=3)
    step_tflop: float = Field(gt=0)
    step_seconds: float = Field(gt=0)
    source: Literal["trial", "training"]
    others: float = Field(0.0, ge=0, le=1)
    chosen: bool = False
    sizes: Sizes | None = None
    peak_gb: float | None = Field(None, ge=0)

    @property
    def busy(self) -> bool:
        """Whether other programs slowed it down, so that it had better be measured again."""
        return is_busy(self.others)

    @property
    def tflops(self) -> float:
        """10^12 operations a second, with all that a step does besides them."""
        return self.step_tflop / self.step_seconds

    def replaces(self, other: Rate) -> bool:
        """Whether this is the same step measured at least as well, or any step where the other says little."""
        if not self._is_comparable(other):
            return False
        if self.busy != other.busy:
            return other.busy
        if None not in (self.sizes, other.sizes) and self.sizes != other.sizes:
            return False
        return self._is_as_large(other) and (self.source == "training" or other.source == "trial")

    def completed_by(self, measured: Iterable[Rate]) -> Rate:
        """With what other measurements of the very same step tell besides its time, where this one does not.

        That is the peak of memory, and that its number format was found to be the best here.
        """
        if self.sizes is None:
            return self
        comparable = (other for other in measured if self._is_comparable(other) and self.sizes == other.sizes)
        same = [other for other in comparable if self._is_as_large(other)]
        peak = next((one.peak_gb for one in (self, *same) if one.peak_gb is not None), None)
        chosen = self.chosen or any(other.chosen for other in same)
        return self.model_copy(update={"peak_gb": peak, "chosen": chosen})

    def _is_comparable(self, other: Rate) -> bool:
        return all(getattr(self, name) == getattr(other, name) for name in ("hardware", "network", "dims", "precision"))

    def _is_as_large(self, other: Rate) -> bool:
        return abs(math.log(self.step_tflop / other.step_tflop)) < math.log(_SAME_SIZE)


class Rates(Document):
    """All measured steps of a workspace, the latest first."""

    rates: tuple[Rate, ...] = ()

    def nearest(
        self,
        hardware: str,
        network: str,
        dims: int,
        step_tflop: float,
        precision: str = "auto",
        sizes: Sizes | None = None,
    ) -> Rate | None:
        """The measured step of such a network on that hardware that is most alike; None without any.

        The very same step tells most. A small step spends more of its time on other things than convolutions, and
        convolutions of few channels are slower, so that sizes are not interchangeable. Nor are number formats: see
        :meth:`of`.

        Parameters
        ----------
        step_tflop : float
            Operations of the step in 10^12.
        sizes : Sizes, optional
            What the step would be taken of; None: any.
        """

        def unlike(rate: Rate) -> tuple[bool, float]:
            operations = abs(math.log(rate.step_tflop / step_tflop))
            same = rate.sizes == sizes and operations < math.log(_SAME_SIZE)
            return not same, operations + (0.0 if sizes is None or rate.sizes is None else sizes.unlike(rate.sizes))

        return min(self.of(hardware, network, dims, precision), key=unlike, default=None)

    def of(self, hardware: str, network: str, dims: int, precision: str = "auto") -> list[Rate]:
        """What is known of a network in a number format; ``auto``: the best one, in all where that is not known."""
        wanted = (hardware, network, dims)
        found = [rate for rate in self.rates if (rate.hardware, rate.network, rate.dims) == wanted]
        if precision == "auto":
            precision = self.best_format(hardware, network, dims) or "auto"
        return [rate for rate in found if precision in ("auto", rate.precision)]

    def best_format(self, hardware: str, network: str, dims: int) -> str | None:
        """The number format that was last found to be the best for a network; None where only named ones are known."""
        wanted = (hardware, network, dims)
        found = (rate for rate in self.rates if (rate.hardware, rate.network, rate.dims) == wanted)
        return next((rate.precision for rate in found if rate.chosen), None)

    def lasting(self, hardware: str, network: str, dims: int, seconds: float, precision: str = "auto") -> Rate | None:
        """The measured step of such a network whose time is nearest to `seconds`; None without any."""
        fitting = self.of(hardware, network, dims, precision)
        return min(fitting, key=lambda rate: abs(math.log(rate.step_seconds / seconds)), default=None)

    def add(self, rate: Rate) -> Rates:
        """With one more; a trial never takes the place of a training's mean, nor a busy machine's of a calm one's."""
        if any(other.replaces(rate) and not rate.replaces(other) for other in self.rates):
            return Rates(rates=tuple(other.completed_by([rate]) for other in self.rates))
        others = [other for other in self.rates if not rate.replaces(other)]
        return Rates(rates=(rate.completed_by(self.rates), *others)[:_MOST_KEPT])

    def without(self, hardware: str) -> Rates:
        """Without what was measured on some hardware."""
        return Rates(rates=tuple(rate for rate in self.rates if rate.hardware != hardware))

    @classmethod
    def load(cls, folder: Path) -> Rates:
        """What `folder` remembers; nothing where the file is missing, of another version or not to be read."""
        path = folder / RATES_FILE
        if not path.exists():
            return cls()
        try:
            return parse(cls, read_json(path))
        except (BtsError, OSError):
            return cls()

    def save(self, folder: Path) -> None:
        """Remember in `folder`."""
        write_json(folder / RATES_FILE, self.model_dump(mode="json"))
