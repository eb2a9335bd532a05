"""How fast a machine trains: measured steps, from which the time of other steps is foretold."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from pydantic import Field

from bts_auto.documents import Document, parse
from bts_auto.errors import BtsError
from bts_auto.files import read_json, write_json

RATES_FILE = "machine.json"
_MOST_KEPT = 64
# Two steps whose operations differ by less than this factor are the same step measured again.
_SAME_SIZE = 1.01
# Where others took more than this share of the processors, a measurement says little about the machine itself.
_BUSY = 0.15


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
    """

    hardware: str
    precision: Literal["fp32", "bf16", "fp16"]
    network: str
    dims: int = Field(ge=2, le=3)
    step_tflop: float = Field(gt=0)
    step_seconds: float = Field(gt=0)
    source: Literal["trial", "training"]
    others: float = Field(0.0, ge=0, le=1)

    @property
    def busy(self) -> bool:
        """Whether other programs slowed it down, so that it had better be measured again."""
        return self.others > _BUSY

    @property
    def tflops(self) -> float:
        """10^12 operations a second, with all that a step does besides them."""
        return self.step_tflop / self.step_seconds

    def replaces(self, other: Rate) -> bool:
        """Whether this is the same step measured at least as well, or any step where the other says little."""
        if any(getattr(self, name) != getattr(other, name) for name in ("hardware", "network", "dims", "precision")):
            return False
        if self.busy != other.busy:
            return other.busy
        near = abs(math.log(self.step_tflop / other.step_tflop)) < math.log(_SAME_SIZE)
        return near and (self.source == "training" or other.source == "trial")


class Rates(Document):
    """All measured steps of a workspace, the latest first."""

    rates: tuple[Rate, ...] = ()

    def nearest(self, hardware: str, network: str, dims: int, step_tflop: float) -> Rate | None:
        """The measured step of such a network on that hardware whose size is nearest; None without any.

        A small step spends more of its time on other things than convolutions, so that sizes are not interchangeable.
        """
        fitting = self._of(hardware, network, dims)
        return min(fitting, key=lambda rate: abs(math.log(rate.step_tflop / step_tflop)), default=None)

    def _of(self, hardware: str, network: str, dims: int) -> list[Rate]:
        wanted = (hardware, network, dims)
        return [rate for rate in self.rates if (rate.hardware, rate.network, rate.dims) == wanted]

    def lasting(self, hardware: str, network: str, dims: int, seconds: float) -> Rate | None:
        """The measured step of such a network whose time is nearest to `seconds`; None without any."""
        fitting = self._of(hardware, network, dims)
        return min(fitting, key=lambda rate: abs(math.log(rate.step_seconds / seconds)), default=None)

    def add(self, rate: Rate) -> Rates:
        """With one more; a trial never takes the place of a training's mean, nor a busy machine's of a calm one's."""
        others = [other for other in self.rates if not rate.replaces(other)]
        if any(other.replaces(rate) for other in others):
            return self
        return Rates(rates=(rate, *others)[:_MOST_KEPT])

    def without(self, hardware: str) -> Rates:
        """Without what was measured on some hardware."""
        return Rates(rates=tuple(rate for rate in self.rates if rate.hardware != hardware))

    @classmethod
    def load(cls, folder: Path) -> Rates:
        """What `folder` remembers; nothing where the file is missing or of another version."""
        path = folder / RATES_FILE
        if not path.exists():
            return cls()
        try:
            return parse(cls, read_json(path))
        except BtsError:
            return cls()

    def save(self, folder: Path) -> None:
        """Remember in `folder`."""
        write_json(folder / RATES_FILE, self.model_dump(mode="json"))
