"""One training in several processes, on one machine or many, as torchrun starts them.

The first process leads: it runs the command, and calls the others when there is something to train. Each then takes
its share of every batch, whose samples are functions of (seed, step, index) alone; gradients are averaged and what a
loss sums over a batch is summed over the processes, so that the steps are those of one process with the whole batch.
Whatever depends on a clock, a file or a signal is decided by the leader, or by any, and told to all.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from bts_auto.errors import BtsError, PlanError
from bts_auto.losses.across import HERE, Across
from bts_auto.predict.engine import choose_device
from bts_auto.train.launch import Launch
from bts_auto.train.stopping import TrainingInterrupted

T = TypeVar("T")
Order = Mapping[str, Any]
# The others wait so long for the leader, who validates between two trainings. One that has died is noticed at once.
_PATIENCE = timedelta(days=7)
# torchrun passes on to each process the signals that it gets, which a terminal sends to all by itself.
ECHO_S = 5.0
FINISHED, INTERRUPTED = 0, 130


class LostProcess(BtsError):
    """Another process of the training is gone."""


class Processes(Protocol):
    """All processes of a training, as one sees them: its number, how many there are in all and on its machine."""

    rank: int
    size: int
    local_size: int

    def device(self, wanted: str) -> torch.device:
        """Where this process computes."""

    def share(self, batch_size: int) -> Sequence[int]:
        """The samples of a batch that are this process's."""

    def across(self, batch_size: int) -> Across:
        """Reaches the other samples of the batch."""

    def calling(self, order: Callable[[], Order]) -> contextlib.AbstractContextManager[None]:
        """Let the other processes work on `order` while the block does the same here."""

    def average(self, gradients: Sequence[Tensor], numbers: Tensor) -> Tensor:
        """Average `gradients` over the processes, in place; gives back the mean of `numbers`."""

    def sum(self, numbers: Tensor) -> Tensor:
        """The sum of numbers on the CPU over the processes."""

    def any(self, flag: bool) -> bool:
        """Whether `flag` is set in one of the processes."""

    def gather(self, value: Any) -> list[Any]:
        """The values, as JSON, of all processes in their order; none goes on before all are here."""

    def by_first(self, work: Callable[[], T]) -> T:
        """Do `work` in the first process only; all get the result, which has to be JSON."""

    def together(self, work: Callable[[], T]) -> T:
        """Do `work` in each process; where it fails in one, it has failed in all."""


class _Alone:
    """The only process there is."""

    rank, size, local_size = 0, 1, 1

    def device(self, wanted: str) -> torch.device:
        return choose_device(wanted)

    def share(self, batch_size: int) -> Sequence[int]:
        return range(batch_size)

    def across(self, batch_size: int) -> Across:
        return HERE

    def calling(self, order: Callable[[], Order]) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def average(self, gradients: Sequence[Tensor], numbers: Tensor) -> Tensor:
        return numbers

    def sum(self, numbers: Tensor) -> Tensor:
        return numbers

    def any(self, flag: bool) -> bool:
        return flag

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def by_first(self, work: Callable[[], T]) -> T:
        return work()

    def together(self, work: Callable[[], T]) -> T:
        return work()


ALONE: Processes = _Alone()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Say in one line that another process is gone."""
    try:
        yield
    except RuntimeError as error:
        raise LostProcess(
            f"another process of this training is gone ({str(error).splitlines()[0]})",
            mend="its own message says why; the same command goes on from the last saved state",
        ) from None


class _Sum(torch.autograd.Function):
    """The sum over all processes, and on the way back that of their gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        with _told():
            dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        with _told():
            dist.all_reduce(total)
        return total


class _Share:
    """A part of a batch."""

    def __init__(self, share: float) -> None:
        self.share = share

    def sum(self, values: Tensor) -> Tensor:
        return _Sum.apply(values)


class Crew:
    """The processes of a joined group; see :class:`Processes`."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self.rank, self.size, self.local_size = launch.rank, launch.size, launch.local_size
        self._in_step = True

    def device(self, wanted: str) -> torch.device:
        """The device wanted; each process of a machine has a GPU of its own.

        Raises
        ------
        BtsError
            When there are too few.
        """
        device, number = choose_device(wanted.partition(":")[0]), self._launch.local_rank
        if device.type != "cuda":
            return device
        if number >= torch.cuda.device_count():
            raise BtsError(
                f"{self._launch.local_size} processes for {torch.cuda.device_count()} GPUs",
                mend="start one for each GPU: torchrun --nproc_per_node gpu",
            )
        torch.cuda.set_device(number)
        return torch.device("cuda", number)

    def share(self, batch_size: int) -> Sequence[int]:
        """Every `size`-th sample, so that forced ones are spread.

        Raises
        ------
        PlanError
            When there are fewer samples than processes.
        """
        if batch_size < self.size:
            raise PlanError(
                f"a batch of {batch_size} cannot be shared by {self.size} processes",
                where="batch_size",
                mend=f"start at most {batch_size}, or plan larger batches (--set batch_size={self.size})",
            )
        return range(self.rank, batch_size, self.size)

    def across(self, batch_size: int) -> Across:
        """Sums over the processes."""
        return _Share(len(self.share(batch_size)) / batch_size)

    @contextlib.contextmanager
    def calling(self, order: Callable[[], Order]) -> Iterator[None]:
        """The other processes' :func:`follow` gets the order. They stay in step when all leave the block alike."""
        self.by_first(order)
        self._in_step = False
        try:
            yield
        except LostProcess:
            raise
        except (BtsError, TrainingInterrupted):
            self._in_step = True
            raise
        self._in_step = True

    def dismiss(self, status: int) -> None:
        """Let the other processes end, where they can still hear."""
        if self._in_step:
            with contextlib.suppress(LostProcess):
                self.by_first(lambda: {"end": status})

    def average(self, gradients: Sequence[Tensor], numbers: Tensor) -> Tensor:
        """One exchange for all of it."""
        flat = torch.cat([numbers.view(-1), *(gradient.view(-1) for gradient in gradients)])
        with _told():
            dist.all_reduce(flat)
        parts = flat.div_(self.size).split([numbers.numel(), *(gradient.numel() for gradient in gradients)])
        for gradient, part in zip(gradients, parts[1:], strict=True):
            gradient.copy_(part.view_as(gradient))
        return parts[0].view_as(numbers)

    def sum(self, numbers: Tensor) -> Tensor:
        """On the CPU."""
        total = numbers.clone()
        with _told():
            dist.all_reduce(total)
        return total

    def any(self, flag: bool) -> bool:
        """Whether one says yes."""
        return bool(self.sum(torch.tensor([int(flag)])))

    def gather(self, value: Any) -> list[Any]:
        """Each process's value in turn."""
        return [self._told_by(rank, value) for rank in range(self.size)]

    def by_first(self, work: Callable[[], T]) -> T:
        """The first process's result."""
        return self._told_by(0, work() if self.rank == 0 else None)

    def together(self, work: Callable[[], T]) -> T:
        """A failure is raised here as it is, in the others with its words."""
        problem: Exception | None = None
        try:
            result = work()
        except Exception as error:
            problem = error
        words = None if problem is None else str(problem)
        if problem is not None and not isinstance(problem, BtsError):
            words = f"{type(problem).__name__}: {problem}"
        if not self.any(words is not None):
            return result
        rank, said = next((rank, said) for rank, said in enumerate(self.gather(words)) if said is not None)
        raise problem if isinstance(problem, BtsError) else BtsError(said, where=f"process {rank}") from problem

    def _told_by(self, rank: int, value: Any) -> Any:
        """The value, as JSON, of one process."""
        content = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        length = torch.tensor([len(content)])
        with _told():
            dist.broadcast(length, rank)
            if self.rank != rank:
                content = torch.empty(int(length), dtype=torch.uint8)
            dist.broadcast(content, rank)
        return json.loads(bytes(content.numpy()))


@contextlib.contextmanager
def joined(launch: Launch) -> Iterator[Crew]:
    """Wait until all processes are there, and leave them at the end."""
    # Small things that decide travel between CPUs, gradients between GPUs.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with _told():
        dist.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield Crew(launch)
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def lead(launch: Launch) -> Iterator[Crew]:
    """The processes, of which this is the first; they end with the block."""
    status = FINISHED
    with joined(launch) as crew:
        try:
            yield crew
        except KeyboardInterrupt:
            status = INTERRUPTED
            raise
        finally:
            crew.dismiss(status)


def follow(launch: Launch, work: Callable[[Order, Crew], object]) -> int:
    """Do what the first process orders until it ends; gives back the exit status that it wants."""
    with joined(launch) as crew:
        while True:
            order: Order = crew.by_first(dict)
            if "end" in order:
                return order["end"]
            try:
                work(order, crew)
            except LostProcess:
                raise
            except (BtsError, TrainingInterrupted):  # the first process has the same, and tells it
                pass
