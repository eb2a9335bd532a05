"""The seam between work that can be spread and whatever spreads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from bts_auto import registry
from bts_auto.errors import BtsError

S = TypeVar("S")
J = TypeVar("J")
R = TypeVar("R")
State = TypeVar("State")
Job = TypeVar("Job", contravariant=True)
Result = TypeVar("Result", covariant=True)


class Task(Protocol[State, Job, Result]):
    """What is done to every job. It travels to the workers by pickle, jobs and results too."""

    def prepare(self, device: str) -> State:
        """Load once for each worker what every job needs; it stays with the worker.

        `device` is the one that the executor gives to the worker.
        """
        ...

    def do(self, state: State, job: Job) -> Iterable[Result]:
        """The results of a job. A worker may die at any point, and the job is then done again, perhaps elsewhere."""
        ...


class WorkerDied(BtsError):
    """Stands for the result of a job whose worker has died, and that nobody else took over."""


class Executor(AbstractContextManager, Protocol):
    """Spreads jobs over workers, each of which prepares once. Leaving the context lets go of the workers."""

    @property
    def workers(self) -> int:
        """How many jobs are worth handing out at once; a cluster may grow."""
        ...

    def waits_for(self) -> str | None:
        """What must come before a job can begin, as a line; None where one can begin now."""
        ...

    def run(self, task: Task[S, J, R], jobs: Sequence[J]) -> Iterator[tuple[J, R | WorkerDied]]:
        """Do every job and give its results as they come, in any order of the jobs.

        Called again with the same task, workers use what they have prepared.

        Raises
        ------
        BtsError
            When a worker cannot prepare, or cannot be reached; what `do` raises passes through.
        """
        ...


def open_executor(name: str, **options: Any) -> Executor:
    """The executor of that name with its options.

    Raises
    ------
    PlanError
        For an unknown name, options that do not fit, or what is not installed.
    """
    return registry.component("executor", name)(registry.options("executor", name, options))
