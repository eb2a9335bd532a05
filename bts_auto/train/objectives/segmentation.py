"""Supervised segmentation: one network, one loss per step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bts_auto import registry
from bts_auto.data.labels import Labels
from bts_auto.errors import PlanError
from bts_auto.losses.across import HERE, Across
from bts_auto.losses.deep_supervision import DeepSupervision, downsample_target
from bts_auto.losses.target import Target
from bts_auto.model.build import build_network
from bts_auto.plan.schema import Plan, Training
from bts_auto.train.mixing import MixUp, Truths
from bts_auto.train.objectives.base import LABELLED, At, Confusion, Phase
from bts_auto.train.objectives.counting import VoxelCounter
from bts_auto.train.objectives.targets import TargetMaker
from bts_auto.train.options import SegmentationOptions


class Segmentation:
    """The objective named ``segmentation``; see :class:`bts_auto.train.objectives.base.Objective`."""

    streams: tuple[str, ...] = (LABELLED,)

    def __init__(
        self,
        options: SegmentationOptions,
        *,
        plan: Plan,
        configuration_name: str,
        labels: Labels,
        device: torch.device | str = "cpu",
        across: Across = HERE,
    ) -> None:
        configuration = plan.configuration(configuration_name)
        training = configuration.training
        self._network = build_network(plan, configuration_name).to(device)
        self._forward: Callable[..., Any] = self._network
        self._network.deep_supervision = training.deep_supervision  # type: ignore[assignment]
        self._terms = [
            (
                term.weight,
                registry.component("loss", term.name)(
                    registry.options("loss", term.name, term.options), batch_dice=configuration.batch_dice
                ),
            )
            for term in training.loss
        ]
        self._term_names = _distinct([term.name for term in training.loss])
        self._supervision: DeepSupervision | None = None
        self._scale_weights = training.deep_supervision_weights if training.deep_supervision else None
        self._target = TargetMaker(labels, across)
        self._mixing = _mixing(training)
        self._count = VoxelCounter(labels)
        self.measured, self.decisive = self._count.names, labels.foreground
        self.modules: dict[str, nn.Module] = {"network": self._network}
        optimizer = training.optimizer
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "network": registry.component("optimizer", optimizer.name)(
                registry.options("optimizer", optimizer.name, optimizer.options), self._network.parameters()
            )
        }

    def compile(self, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Call the network through what `wrap` makes of it."""
        self._forward = wrap(self._network)

    def phases(self, batch: Mapping[str, Any], at: At) -> Iterator[Phase]:
        """One phase: the summed loss terms over all scales."""
        labelled, truths = self._mixed(batch[LABELLED], at)
        _, loss, parts, _ = self._supervise(self._forward(labelled.image)["logits"], truths)
        yield Phase("network", loss, dict(zip(self._term_names, parts, strict=True)))

    def measure(self, batch: Mapping[str, Any]) -> tuple[Tensor, Confusion]:
        """Loss and counts over the batch; voxels that are not valid count nowhere."""
        labelled = batch[LABELLED]
        logits, loss, _, target = self._supervise(self._forward(labelled.image)["logits"], [(1.0, labelled)])
        return loss, self._count(logits[0], target)

    def _mixed(self, batch: Any, at: At) -> tuple[Any, Truths]:
        """The batch as the network sees it, and what its answers are held against."""
        return (batch, [(1.0, batch)]) if self._mixing is None else self._mixing(batch, at.step)

    def _supervise(
        self, outputs: list[Tensor], truths: Truths
    ) -> tuple[list[Tensor], Tensor, tuple[Tensor, ...], Target]:
        """Logits, loss, its terms and the (first) target at full resolution.

        The loss is computed in float32 whatever the network's precision.
        """
        with torch.autocast(outputs[0].device.type, enabled=False):
            logits = [scale.float() for scale in outputs]
            if self._supervision is None:
                self._supervision = self._make_supervision(len(logits))
            targets = [self._target(batch.mask, batch.annotated, batch.maps) for _, batch in truths]
            sizes = [scale.shape[2:] for scale in logits]
            losses = [self._supervision.detailed({"logits": logits}, downsample_target(one, sizes)) for one in targets]
            if len(losses) == 1:
                return logits, *losses[0], targets[0]
            weights = [weight for weight, _ in truths]
            loss = torch.stack([weight * one for weight, (one, _) in zip(weights, losses, strict=True)]).sum()
            parts = [
                torch.stack([weight * part for weight, part in zip(weights, each, strict=True)]).sum()
                for each in zip(*(parts for _, parts in losses), strict=True)
            ]
        return logits, loss, tuple(parts), targets[0]

    def _make_supervision(self, n_scales: int) -> DeepSupervision:
        weights = self._scale_weights
        if weights is not None and len(weights) != n_scales:
            raise PlanError(
                f"{len(weights)} weights for a network that answers at {n_scales} resolutions",
                where="training.deep_supervision_weights",
            )
        return DeepSupervision(self._terms, n_scales, weights=weights)


def _mixing(training: Training) -> MixUp | None:
    chosen = training.mixing
    if chosen is None:
        return None
    options = registry.options("mixing", chosen.name, chosen.options)
    return registry.component("mixing", chosen.name)(options, training.seed)


def _distinct(names: list[str]) -> list[str]:
    """The names, numbered where one comes again."""
    return [name if name not in names[:i] else f"{name}_{names[:i].count(name) + 1}" for i, name in enumerate(names)]
