"""One optimiser step: forward, backward, accumulation, clipping."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from bts_auto.train.distributed import ALONE, Processes
from bts_auto.train.objectives.base import At, Objective, Phase
from bts_auto.train.precision import Precision


class NotFinite(Exception):
    """The loss or the gradient of a step is NaN or infinite."""


@dataclass(frozen=True)
class StepLosses:
    """The summed loss of all phases of a step and its terms, as numbers."""

    loss: float
    terms: dict[str, float]


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Make the network's own draws (dropout, latent samples) in `step` a function of (seed, step, process)."""
    state = np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0]) >> 1)


class Stepper:
    """Runs all phases of one step of an objective.

    Parameters
    ----------
    gradient_clip : float or None
        Largest norm of the gradient of one phase; longer ones are shortened to it.
    processes : Processes
        Those that step together.
    weight : float
        Of this process's part of the batch in the mean over the processes; 1 where all parts are alike.
    """

    def __init__(
        self,
        objective: Objective,
        precision: Precision,
        gradient_clip: float | None,
        *,
        processes: Processes = ALONE,
        weight: float = 1.0,
    ) -> None:
        self._objective, self._precision, self._clip = objective, precision, gradient_clip
        self._processes, self._weight = processes, weight
        self._parameters = {
            name: [p for group in optimizer.param_groups for p in group["params"]]
            for name, optimizer in objective.optimizers.items()
        }

    def run(self, batches: Sequence[Mapping[str, Any]], at: At) -> StepLosses:
        """Step on the mean gradient over `batches` (several: accumulated), phase by phase.

        Raises
        ------
        NotFinite
            Before any weight has been changed by the phase concerned.
        """
        micro = [self._objective.phases(batch, at) for batch in batches]
        total, terms = 0.0, {}
        while (phases := self._backward_all(micro)) is not None:
            loss, values = self._finish(phases)
            total += loss
            terms.update(values)
        return StepLosses(total, terms)

    def _backward_all(self, micro: Sequence[Iterator[Phase]]) -> list[Phase] | None:
        """Forward and backward of the next phase over all batches; None when there is no further phase."""
        done: list[Phase] = []
        for phases in micro:
            with self._precision.autocast():
                phase = next(phases, None)
            if phase is None:
                return None
            if not done:
                self._objective.optimizers[phase.optimizer].zero_grad(set_to_none=True)
            loss = phase.loss * (self._weight / len(micro))
            (loss if self._precision.scaler is None else self._precision.scaler.scale(loss)).backward()
            done.append(Phase(phase.optimizer, phase.loss.detach(), phase.terms))
        return done

    def _finish(self, phases: Sequence[Phase]) -> tuple[float, dict[str, float]]:
        """Check, clip and step; the mean loss and terms over the batches."""
        optimizer = self._objective.optimizers[phases[0].optimizer]
        scaler = self._precision.scaler
        parameters = self._parameters[phases[0].optimizer]
        gradients = [p.grad for p in parameters if p.grad is not None]
        means = self._processes.average(gradients, self._weight * _means(phases))
        if scaler is not None:
            scaler.unscale_(optimizer)
        norm = get_total_norm(gradients)
        # All numbers come from the device in one go.
        loss, gradient, *terms = torch.cat([means[:1], norm.detach().float().view(1), means[1:]]).tolist()
        if not math.isfinite(loss):
            raise NotFinite(f"the loss is {loss}")
        if scaler is None and not math.isfinite(gradient):
            raise NotFinite(f"the gradient's norm is {gradient}")
        if self._clip is not None and gradient > self._clip:
            clip_grads_with_norm_(parameters, self._clip, norm)
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
        return loss, dict(zip(phases[0].terms, terms, strict=True))


def _means(phases: Sequence[Phase]) -> Tensor:
    """The mean of the loss and of each of its terms over the batches, shape (1 + terms,)."""
    names = phases[0].terms
    columns = [torch.stack([phase.loss, *(phase.terms[name] for name in names)]).float() for phase in phases]
    return torch.stack(columns).mean(0)
