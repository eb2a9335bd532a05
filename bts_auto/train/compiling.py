"""torch.compile where it pays, and going on without it where it does not work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from bts_auto.plan.expect import duration

Compile = Literal["auto", "on", "off"]
Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]

# Compiling takes from half a minute to a few, also to find out that it does not pay: what is expected to end before
# this is never compiled by itself. The gain is some percent on a CPU.
WORTH_TRYING_S = 1800.0
# Two measurements of one and the same step differ by about this share.
_NOISE = 0.03


@dataclass(frozen=True)
class Trial:
    """What compiling was found to do: seconds that it took, and seconds of a step without and with it."""

    compiling: float
    plain_step: float
    compiled_step: float


class Timing(Protocol):
    """Runs a few steps with weights that are thrown away."""

    def __call__(self, *, compiled: bool) -> tuple[float, float]:
        """Seconds of the first step, and of one of the others."""
        ...


@dataclass(frozen=True)
class Verdict:
    """Whether to compile and, in words, why (empty: not worth a word); seconds of a step, where they were measured."""

    compiled: bool
    reason: str = ""
    step_seconds: float | None = None


def decide(wanted: Compile, steps: int, seconds: float | None, time_steps: Timing) -> Verdict:
    """Whether a training of `steps` steps is compiled.

    ``off``: no. ``on``: when a compiled step runs. ``auto``: when the training is expected to last at least
    `WORTH_TRYING_S` without, a compiled step runs, it is faster beyond the noise, and what all steps save is more than
    what compiling takes.

    Parameters
    ----------
    seconds : float or None
        What the steps are expected to last in all; None: not known, as when steps fail.
    time_steps : Timing
        Asked only where the question is open.
    """
    if wanted == "off" or (wanted == "auto" and (seconds is None or seconds < WORTH_TRYING_S)):
        return Verdict(False)
    try:
        first, later = time_steps(compiled=True)
    except Exception as error:  # a compiler has as many ways to fail as it has parts
        return Verdict(False, f"going on without torch.compile, which does not work here: {_one_line(error)}")
    if wanted == "on":
        return Verdict(True, f"compiled by torch.compile in {duration(first)}", later)
    return weigh(Trial(first - later, time_steps(compiled=False)[1], later), steps)


def weigh(trial: Trial, steps: int) -> Verdict:
    """Whether compiling pays for a training of `steps` steps."""
    saved = steps * (trial.plain_step - trial.compiled_step)
    times = f"{duration(trial.compiled_step)} a step compiled, {duration(trial.plain_step)} without"
    if trial.compiled_step > (1 - _NOISE) * trial.plain_step or saved <= trial.compiling:
        return Verdict(False, f"not compiled: {times}, and {duration(trial.compiling)} to compile", trial.plain_step)
    return Verdict(True, f"compiled: {times}", trial.compiled_step)


def torch_compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """What torch.compile makes of a function or a module; it is compiled when it is called first."""
    import torch

    return torch.compile(function)


def compiled_or_plain(warn: Callable[[str], None]) -> Wrap:
    """A wrapper that compiles; where the compiled call fails, the plain one goes on and `warn` hears why."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        return _Guarded(torch_compiled(function), function, warn)

    return wrap


class _Guarded:
    """A compiled function until it fails, from then on the plain one."""

    def __init__(self, compiled: Callable[..., Any], plain: Callable[..., Any], warn: Callable[[str], None]) -> None:
        self._compiled: Callable[..., Any] | None = compiled
        self._plain, self._warn = plain, warn

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._compiled is None:
            return self._plain(*args, **kwargs)
        try:
            return self._compiled(*args, **kwargs)
        except Exception as error:
            result = self._plain(*args, **kwargs)  # what fails here too was no matter of compiling
            self._compiled = None
            self._warn(f"going on without torch.compile, which has failed: {_one_line(error)}")
            return result


def _one_line(error: BaseException) -> str:
    """The first line of what an error says, without the advice that follows."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    words = lines[0] if lines else type(error).__name__
    return words if len(words) <= 200 else f"{words[:197]}..."
