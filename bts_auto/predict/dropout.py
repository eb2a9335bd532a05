"""Monte Carlo dropout: a network that drops channels at random while it answers is a member with every draw.

References
----------
Gal and Ghahramani, Dropout as a Bayesian approximation: representing model uncertainty in deep learning, ICML 2016.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from bts_auto.errors import PlanError
from bts_auto.predict.engine import Engine

_SEED_RANGE = 2**63


class DropoutSample:
    """An engine whose network drops channels, as one member: the same draws for the same image.

    Parameters
    ----------
    engine : Engine
        Its network's dropout is switched on, see :func:`switch_on`.
    seed, sample : int
        What the draws are made from, besides the number of the batch.
    """

    def __init__(self, engine: Engine, seed: int, sample: int) -> None:
        self.device = engine.device
        self._engine, self._seed, self._sample = engine, seed, sample
        self._batches = 0

    def restart(self) -> None:
        """Draw from the start again: what a case gets does not depend on the cases before it."""
        self._batches = 0

    def logits(self, batch: torch.Tensor) -> torch.Tensor:
        """Logits (b, k, *tile) in float32 under draws of their own."""
        draw = hash((self._seed, self._sample, self._batches)) % _SEED_RANGE
        self._batches += 1
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(draw)
            return self._engine.logits(batch)


def switch_on(network: nn.Module) -> None:
    """Let a network that is in evaluation mode drop channels.

    Raises
    ------
    PlanError
        When it has no dropout.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, _DropoutNd) and layer.p > 0]
    if not layers:
        raise PlanError(
            "Monte Carlo dropout needs a network that was trained with dropout, and this one has none",
            mend="leave out --mc-dropout, or train with --set network.options.dropout=0.1",
        )
    for layer in layers:
        layer.train()


def engine_for_dropout(engine: str) -> str:
    """The name of the engine that can drop channels, for the one that was asked for.

    Raises
    ------
    PlanError
        When another one was asked for.
    """
    if engine not in ("auto", "torch"):
        raise PlanError(f"the engine {engine} cannot drop channels", mend="use --engine torch with --mc-dropout")
    return "torch"


def dropout_samples(
    engines: Sequence[Engine], networks: Sequence[nn.Module], number: int, seed: int = 0
) -> list[Engine]:
    """`number` members for each engine, whose network is the one of `networks`.

    Raises
    ------
    PlanError
        When a network has no dropout, or `number` is none.
    """
    if number < 1:
        raise PlanError(f"{number} dropout samples are no answer", mend="give --mc-dropout 1 or more")
    for network in networks:
        switch_on(network)
    return [
        DropoutSample(engine, seed, fold * number + sample)
        for fold, engine in enumerate(engines)
        for sample in range(number)
    ]
