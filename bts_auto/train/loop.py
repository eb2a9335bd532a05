"""The loop: steps, epochs, learning rates, the journal, saving and stopping. What is learnt is an objective's."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bts_auto.errors import BtsError
from bts_auto.events import SILENT, Observer, Task
from bts_auto.machine import ProcessorWatch
from bts_auto.plan.reserve import FORWARD_SHARE
from bts_auto.plan.schema import Training
from bts_auto.train import checkpoint
from bts_auto.train.average import WeightAverage
from bts_auto.train.distributed import ALONE, Processes
from bts_auto.train.feed import Feed
from bts_auto.train.machine import memory_mb
from bts_auto.train.objectives.base import At
from bts_auto.train.pace import Pace
from bts_auto.train.parts import Limits, Parts
from bts_auto.train.precision import Precision
from bts_auto.train.progress import EpochSums, Progress
from bts_auto.train.pseudo_dice import PseudoDice, running_mean
from bts_auto.train.records import Records
from bts_auto.train.step import NotFinite, StepLosses, Stepper, seed_step
from bts_auto.train.stopping import Interruption, Stopwatch, TrainingInterrupted

# A stop file leaves the learning rate this share of the steps done so far to anneal.
_COOL_DOWN = 0.1
# After a plateau was seen, the learning rate anneals in this share of its epochs.
_PLATEAU_COOL_DOWN = 0.5
# The first steps of a process are slower (allocation, choice of kernels) and tell nothing about the pace.
_UNTYPICAL_STEPS = 2
_RETRIES = 1


class Loop:
    """Trains one objective to the end of its pace."""

    def __init__(
        self,
        parts: Parts,
        training: Training,
        folder: Path,
        *,
        device: torch.device,
        precision: Precision,
        limits: Limits | None = None,
        observer: Observer = SILENT,
        title: str = "train",
        interruption: Interruption | None = None,
        processes: Processes = ALONE,
        share: float = 1.0,
        records: Records | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parts, self._training, self._folder = parts, training, folder
        self._records = records or Records(folder)
        self._processes, self._share = processes, share
        self._device, self._precision = device, precision
        self._limits = limits or Limits()
        self._observer, self._title = observer, title
        self._interruption = interruption or Interruption()
        self._clock = clock
        self.seconds_per_patch: float | None = None
        self._watch: Stopwatch | None = None
        self._best: dict[str, Tensor] | None = None
        self._chosen: dict[str, Tensor] | None = None

    def run(self) -> Progress:
        """Train to the end, from the saved state if there is one.

        Raises
        ------
        TrainingInterrupted
            When a signal asked for a stop; the state is saved.
        BtsError
            When the loss was not finite, and again after a retry at half the learning rate.
        """
        devices = [self._device] if self._device.type == "cuda" else []
        problem: str | None = None
        self._records.tidy()
        with torch.random.fork_rng(devices):
            while True:
                with contextlib.ExitStack() as stack:
                    self._restore(stack)
                    if problem is not None:
                        self._halve_learning_rate(problem)
                    self._open(stack)
                    try:
                        self._train()
                        return self.progress
                    except NotFinite as error:
                        problem = self._name_bad_loss(error)

    def shipped_weights(self) -> Mapping[str, Tensor]:
        """The weights that predictions use: the averaged ones where the plan wants them."""
        return self._average.weights() if self._average else self.objective.modules["network"].state_dict()

    # -------------------------------------------------------------------------------------------------- start and state

    def _restore(self, stack: contextlib.ExitStack) -> None:
        """Put everything at the saved state, or at the beginning."""
        self.objective = self._parts.objective()
        decay = self._training.weight_average
        self._average = WeightAverage(self.objective.modules["network"], decay) if decay is not None else None
        self._stepper = Stepper(
            self.objective,
            self._precision,
            self._training.gradient_clip,
            processes=self._processes,
            weight=self._share * self._processes.size,
        )
        self._base_lr = {
            name: [group["lr"] for group in optimizer.param_groups]
            for name, optimizer in self.objective.optimizers.items()
        }
        self._records.open(self._processes.together(self._load))
        self._check_same_start()
        stack.callback(self._records.close)
        # What came after the saved state is lost in a retry, but its time is spent.
        spent = 0.0 if self._watch is None else self._watch.seconds()
        self._watch = Stopwatch(self._clock, max(spent, self.progress.seconds))
        self._saved_at = self._looked_at = self._pace_from = self._clock()
        self._session_steps = 0
        self._best = self._chosen = None

    def _load(self) -> int:
        """Read the saved state; gives back where the journal stood."""
        state = self._records.load(self._observer)
        if state is None:
            self.progress = Progress(Pace(self._training.epochs * self._training.iterations))
            return 0
        extra = checkpoint.unpack(state, self.objective.modules, self.objective.optimizers)
        if self._average:
            self._average.load(extra)
        self.progress = Progress.from_json(state.record["progress"])
        self._precision.load_state(state.record["scaler"])
        return state.record["journal_offset"]

    def _check_same_start(self) -> None:
        steps = self._processes.gather(self.progress.step)
        if len(set(steps)) > 1:
            raise BtsError(
                f"the processes have read states of different steps ({', '.join(map(str, steps))})",
                where=self._folder,
                mend="let all machines see one results folder",
            )

    def _open(self, stack: contextlib.ExitStack) -> None:
        """Open the streams of batches and the progress bar."""
        streams, parts, progress = self.objective.streams, self._parts, self.progress
        self._feed = Feed(parts.batches, streams, progress.step * self._training.accumulation, self._device)
        stack.callback(self._feed.close)
        self._held_out: Feed | None = None
        if parts.held_out is not None and self._training.validation_iterations > 0:
            start = progress.epoch * self._training.validation_iterations
            self._held_out = Feed(parts.held_out, streams, start, self._device)
            stack.callback(self._held_out.close)
        expected = progress.pace.end if self._limits.budget is None else None
        self._task: Task = stack.enter_context(self._observer.training(self._title, expected))
        if progress.step:
            self._task.advance(progress.step)
        self._records.write("start", step=progress.step, device=str(self._device), precision=self._precision.name)

    def _save(self) -> None:
        """Write the state; the journal and the best weights reach the disk before it."""
        self.progress.seconds = self._seconds()
        if self._best is not None and self.progress.best_epoch is not None:
            self._parts.keep_best(self._best, self.progress.best_epoch)
            self._best = None
        if self._chosen is not None and self.progress.chosen_epoch is not None:
            self._parts.keep_chosen(self._chosen, self.progress.chosen_epoch)
            self._chosen = None
        self._parts.epoch_ended()
        self._records.save(self._state)
        self._saved_at = self._clock()

    def _seconds(self) -> float:
        """Spent on the run, over all its parts."""
        assert self._watch is not None
        return self._watch.seconds()

    def _state(self, journal_offset: int) -> checkpoint.State:
        """Everything that a resumed run needs."""
        record = {
            "progress": asdict(self.progress),
            "scaler": self._precision.state(),
            "journal_offset": journal_offset,
        }
        extra = self._average.tensors() if self._average else {}
        return checkpoint.pack(self.objective.modules, self.objective.optimizers, extra, record)

    def _name_bad_loss(self, problem: NotFinite) -> str:
        """The problem with its step and cases; raised as an error when the retry has been used up."""
        mine = [case for batches in self._last_batches for batch in batches.values() for case in batch.cases]
        cases = sorted({case for drawn in self._processes.gather(mine) for case in drawn})
        named = f"{problem} at step {self.progress.step + 1} with the cases {', '.join(cases)}"
        if self.progress.retries < _RETRIES:
            return named
        raise BtsError(
            f"{named}, also after a retry at half the learning rate",
            where=self._folder,
            mend="look at these cases, or start over (--restart) in fp32 or with a lower learning rate",
        )

    def _halve_learning_rate(self, problem: str) -> None:
        """Note the retry in state and journal."""
        progress = self.progress
        progress.lr_factor /= 2
        progress.retries += 1
        self._observer.warn(f"{problem}; back to step {progress.step} and on at half the learning rate")
        self._records.write("retry", step=progress.step, reason=problem, lr_factor=progress.lr_factor)
        self._save()

    # ------------------------------------------------------------------------------------------------- steps and epochs

    def _train(self) -> None:
        progress, iterations = self.progress, self._training.iterations
        self._processor_watch = ProcessorWatch()
        while True:
            if progress.epoch_is_full(iterations):
                self._end_epoch()
            if progress.ended:
                break
            self._leave_if_asked()
            self._step()
            self._mind_the_end()
            progress.pace = Pace(**self._processes.by_first(progress.pace.to_json))
            if self._clock() - self._saved_at >= self._limits.save_every:
                self._save()
        self._save()

    def _step(self) -> None:
        progress, start = self.progress, self._clock()
        lr = self._set_learning_rate()
        self._last_batches, waited = self._processes.together(self._next_batches)
        for module in self.objective.modules.values():
            module.train()
        seed_step(self._training.seed, progress.step, self._processes.rank)
        at = At(progress.step, progress.pace.fraction(progress.step))
        losses = self._stepper.run(self._last_batches, at)
        if self._average:
            self._average.update()
        progress.step += 1
        self._session_steps += 1
        if self._session_steps == _UNTYPICAL_STEPS:
            self._pace_from = self._clock()
        progress.sums.add(losses.loss, losses.terms, self._clock() - start, waited)
        self._show(losses, lr)

    def _next_batches(self) -> tuple[list[dict[str, Any]], float]:
        """The batches of a step, and the seconds that they were waited for."""
        batches, waited = [], 0.0
        for _ in range(self._training.accumulation):
            batches.append(self._feed.next())
            waited += self._feed.waited
        return batches, waited

    def _show(self, losses: StepLosses, lr: float) -> None:
        progress = self.progress
        shown: dict[str, object] = {"epoch": progress.epoch + 1, "loss": f"{losses.loss:.4f}", "lr": f"{lr:.2g}"}
        if progress.running_dice is not None:
            shown["dice"] = f"{progress.running_dice:.3f}"
        waiting = progress.sums.means()["waiting"]
        self._task.advance(1, **shown, wait=f"{waiting:.0%}")

    def _set_learning_rate(self) -> float:
        """Set every optimiser's learning rate for the step at hand; gives back the first."""
        progress, pace = self.progress, self.progress.pace
        # A run that comes to its end early may have few epochs left: by steps, the rate still reaches its end.
        by_epoch = self._parts.schedule_per == "epoch" and not pace.cooling
        iterations = self._training.iterations
        step = progress.step - progress.step % iterations if by_epoch else progress.step
        factor = self._parts.schedule(pace.fraction(step)) * progress.lr_factor
        rates = []
        for name, optimizer in self.objective.optimizers.items():
            for group, base in zip(optimizer.param_groups, self._base_lr[name], strict=True):
                group["lr"] = base * factor
                rates.append(group["lr"])
        return rates[0]

    def _end_epoch(self) -> None:
        """Measure on held-out patches and write the epoch's line."""
        progress = self.progress
        measured = self._measure() if self._held_out is not None else {}
        lr = next(iter(self.objective.optimizers.values())).param_groups[0]["lr"]
        record: dict[str, Any] = {
            "step": progress.step,
            "lr": lr,
            **progress.sums.means(),
            **measured,
            **self._judge(),
            "memory_mb": memory_mb(self._device),
            "others": round(self._processor_watch.taken_by_others(), 2),
            "fraction": progress.pace.fraction(progress.step),
        }
        self._records.write("epoch", epoch=progress.epoch, **record)
        self._parts.log(record, progress.epoch)
        self._task.report({"epoch": progress.epoch, **record})
        progress.epoch += 1
        progress.sums = EpochSums()
        self._processor_watch = ProcessorWatch()
        self._mind_the_plateau()

    def _measure(self) -> dict[str, Any]:
        """Loss and pseudo Dice on held-out patches; remembers the weights when they are the best so far."""
        assert self._held_out is not None
        progress, dice, total, start = self.progress, PseudoDice(self.objective.measured), 0.0, self._clock()
        for module in self.objective.modules.values():
            module.eval()
        patches = 0
        with torch.no_grad():
            for _ in range(self._training.validation_iterations):
                self._leave_if_asked()
                batch = self._processes.together(self._held_out.next)
                with self._precision.autocast():
                    loss, confusion = self.objective.measure(batch)
                total += float(loss)
                dice.add(confusion)
                patches += len(next(iter(batch.values())).cases)
        seconds = self._clock() - start
        self.seconds_per_patch = seconds / max(patches, 1)
        total = float(self._processes.sum(torch.tensor(self._share * total, dtype=torch.float64)))
        dice.pool(self._processes.sum)
        values = dice.result()
        decisive = {name: values[name] for name in self.objective.decisive}
        progress.running_dice = running_mean(progress.running_dice, decisive)
        best = -math.inf if progress.best_dice is None else progress.best_dice
        if progress.running_dice is not None and progress.running_dice > best:
            progress.best_dice, progress.best_epoch = progress.running_dice, progress.epoch
            self._best = self._copied_weights()
        return {
            "validation_loss": total / self._training.validation_iterations,
            "dice": values,
            "running_dice": progress.running_dice,
            "validation_seconds": round(seconds, 3),
        }

    def _judge(self) -> dict[str, Any]:
        """Judge the weights by whole volumes where that is due; remembers them when they are the best so far."""
        progress, choice, judge = self.progress, self._training.model_choice, self._parts.judge
        if judge is None or choice is None:
            return {}
        if (progress.epoch + 1) % choice.every and not progress.ended:
            return {}
        value = self._processes.by_first(lambda: judge(self.shipped_weights()))
        if value > (-math.inf if progress.chosen_dice is None else progress.chosen_dice):
            progress.chosen_dice, progress.chosen_epoch = value, progress.epoch
            self._chosen = self._copied_weights()
        return {"volume_dice": value}

    def _copied_weights(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.shipped_weights().items()}

    # --------------------------------------------------------------------------------------------------------- stopping

    def _leave_if_asked(self) -> None:
        if self._processes.any(self._interruption.requested):
            self._leave()

    def _leave(self) -> None:
        self._save()
        raise TrainingInterrupted(
            f"stopped after step {self.progress.step} of {self.progress.pace.end} and saved; "
            "the same command goes on from there"
        )

    def _mind_the_end(self) -> None:
        """Move the end of the training where the stop file or the budget wants it."""
        progress, now = self.progress, self._clock()
        if now - self._looked_at >= 1.0:
            self._looked_at = now
            if self._records.asked_to_stop() and not progress.pace.cooling:
                steps = max(1, math.ceil(_COOL_DOWN * progress.step))
                progress.pace.cool_down(progress.step, steps)
                self._observer.note(f"stop file found: coming to the end in {progress.pace.end - progress.step} steps")
                self._save()
        if self._limits.budget is not None and self._session_steps > _UNTYPICAL_STEPS:
            self._fit_budget(self._limits.budget)

    def _mind_the_plateau(self) -> None:
        """Come to the end when the running Dice has not risen for as many epochs as the plan allows."""
        progress, patience = self.progress, self._training.until_plateau
        if patience is None or progress.pace.cooling or progress.ended:
            return
        since = progress.epoch - (0 if progress.best_epoch is None else progress.best_epoch + 1)
        if since < patience:
            return
        steps = max(1, math.ceil(_PLATEAU_COOL_DOWN * patience * self._training.iterations))
        progress.pace.cool_down(progress.step, steps)
        self._observer.note(
            f"no better Dice for {since} epochs: coming to the end in {progress.pace.end - progress.step} steps"
        )

    def _fit_budget(self, budget: float) -> None:
        progress = self.progress
        seconds_per_step = (self._clock() - self._pace_from) / (self._session_steps - _UNTYPICAL_STEPS)
        per_patch = self.seconds_per_patch
        if per_patch is None:  # all patches of a step are counted as one, to be safe
            per_patch = seconds_per_step * FORWARD_SHARE
        left = budget - self._seconds() - self._limits.reserve(per_patch)
        most = self._limits.most_steps or self._training.epochs * self._training.iterations
        progress.pace.fit(progress.step, left, seconds_per_step, most)
