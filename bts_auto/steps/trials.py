"""The process in which real training steps are tried, one configuration after another."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bts_auto import machine
from bts_auto.errors import BtsError

if TYPE_CHECKING:
    from bts_auto.plan.rate import Rate
    from bts_auto.plan.schema import Plan

# What a kernel kills a process with when memory is gone.
_KILLED = -9
# The option of the process that makes it return what it frees.
RETURN_MEMORY = "--return-memory"


class OutOfMemory(BtsError):
    """A step does not fit the memory of the device.

    Parameters
    ----------
    most_gb : float
        Nothing that is foretold to take more than this fits either.
    share : float or None
        Share of what the step took that there is room for; None: the step failed.
    """

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        mend: str | None = None,
        most_gb: float = math.inf,
        share: float | None = None,
    ) -> None:
        super().__init__(what, where=where, mend=mend)
        self.most_gb, self.share = most_gb, share


@dataclass(frozen=True)
class Tried:
    """One configuration's real steps.

    Attributes
    ----------
    step_seconds : float
        Mean of an optimiser step.
    precision : str
        The number format that was chosen.
    peak_bytes : int
        Peak memory above what the process held before.
    others : float
        Share of the processors' time that other programs took meanwhile.
    """

    step_seconds: float
    precision: str
    peak_bytes: int
    others: float = 0.0


class Trials:
    """A process of its own that takes steps; it is started with the first question, and ends with the block.

    Starting takes longer than the steps of a small network, so that it is kept for further questions.

    Parameters
    ----------
    device : str
        auto, cpu, cuda, cuda:1, mps.
    keep_freed : bool
        Whether the process keeps freed memory, as a training does: steps on a CPU are faster, and take more of it.

    Attributes
    ----------
    taken : list of Rate
        What was measured so far; it is not measured again by the same process, however busy the machine is.
    """

    def __init__(self, device: str = "auto", *, keep_freed: bool = True) -> None:
        self.device = device
        self.taken: list[Rate] = []
        self._arguments = [] if keep_freed else [RETURN_MEMORY]
        self._process: subprocess.Popen[str] | None = None
        self._complaints: IO[str] | None = None

    @cached_property
    def hardware(self) -> str:
        """What the steps run on, as rates name it."""
        return machine.hardware(self.device)

    def __enter__(self) -> Trials:
        return self

    def __exit__(self, *exc: object) -> None:
        """End the process, also in the middle of a step."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._forget()

    def run(
        self, plan: Plan, name: str, *, store: Path | None = None, cases: Sequence[str] = (), quick: bool = False
    ) -> Tried:
        """Run a few real training steps of a configuration.

        Parameters
        ----------
        store : Path, optional
            Preprocessed cases, of which `cases` are drawn and augmented; None: the steps run on noise.
        quick : bool
            Whether some seconds must do; a step that takes longer is run once.

        Raises
        ------
        OutOfMemory
            When the device's memory does not suffice.
        BtsError
            When the steps fail for another reason.
        """
        question = {
            "plan": plan.model_dump(mode="json"),
            "configuration": name,
            "device": self.device,
            "store": None if store is None else str(store.absolute()),
            "cases": list(cases),
            "quick": quick,
        }
        answer = self._ask(question)
        if answer is None:
            raise self._end(name)
        if "out_of_memory" in answer:
            raise OutOfMemory(answer["out_of_memory"], where=name)
        self._check_device(answer.pop("on_gpu", None), name)
        return Tried(**answer)

    def _check_device(self, on_gpu: bool | None, name: str) -> None:
        """Refuse steps of another device than the driver names, whose speed would be remembered as that one's."""
        if self.device != "auto" or on_gpu is None or on_gpu == self._expects_gpu:
            return
        found = "torch computes on a GPU that nvidia-smi does not name" if on_gpu else "torch cannot use the GPU here"
        raise BtsError(found, where=name, mend="say what will train: --device cpu or --device cuda")

    @cached_property
    def _expects_gpu(self) -> bool:
        return machine.gpu(self.device) is not None

    def _ask(self, question: dict[str, Any]) -> dict[str, Any] | None:
        """The answer; None where the process has ended instead."""
        if self._process is None:
            command = [sys.executable, "-m", "bts_auto.train.trial", *self._arguments]
            self._complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115 (a pipe that nobody reads would fill up)
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._complaints, text=True
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps(question), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            return None
        line = self._process.stdout.readline()
        return json.loads(line) if line else None

    def _end(self, name: str) -> BtsError:
        """What the process has died of; the next question starts another one."""
        assert self._process is not None
        assert self._complaints is not None
        self._process.communicate()
        status = self._process.returncode
        self._complaints.seek(0)
        reason = (self._complaints.read().strip().splitlines() or ["no reason given"])[-1]
        self._forget()
        if status == _KILLED:
            return OutOfMemory("the trial was killed for want of memory", where=name)
        return BtsError(f"a trial step failed: {reason}", where=name)

    def _forget(self) -> None:
        if self._complaints is not None:
            self._complaints.close()
        self._process = self._complaints = None
