"""Segmentation with two further tasks on one encoder: reconstructing the image, and telling what is in the patch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bts_auto import registry
from bts_auto.data.labels import Labels
from bts_auto.data.partial import told
from bts_auto.errors import PlanError
from bts_auto.losses.across import HERE, Across
from bts_auto.networks.auxiliary import PresenceClassifier, Reconstruction
from bts_auto.plan.schema import Plan
from bts_auto.train.objectives.base import LABELLED, UNLABELLED, At, Phase
from bts_auto.train.objectives.segmentation import Segmentation
from bts_auto.train.options import MultiTaskOptions


class MultiTask(Segmentation):
    """The objective named ``multitask``.

    Each step takes a batch of annotated scans, which earns all losses, and one of scans without annotation, which
    earns those of the reconstruction. What is shipped is the segmenting network.

    References
    ----------
    Weninger, Liu, Merhof, Multi-task Learning for Brain Tumor Segmentation, BrainLes 2019 (LNCS 11992).
    """

    streams = (LABELLED, UNLABELLED)

    def __init__(
        self,
        options: MultiTaskOptions,
        *,
        plan: Plan,
        configuration_name: str,
        labels: Labels,
        device: torch.device | str = "cpu",
        across: Across = HERE,
    ) -> None:
        super().__init__(
            options, plan=plan, configuration_name=configuration_name, labels=labels, device=device, across=across
        )
        configuration = plan.configuration(configuration_name)
        if configuration.previous_stage is not None or not hasattr(self._network, "encode"):
            raise PlanError(
                "needs a single stage and a network whose encoder can be asked alone, such as plain_unet",
                where="objective 'multitask'",
            )
        trunk: Any = self._network
        self._encode, self._decode = trunk.encode, trunk.decode
        self._weights = options
        self._labels, self._looked_for = labels, options.presence
        self._present = torch.tensor(_members(labels, options.presence))
        features, strides = configuration.features_per_stage, configuration.strides
        self._stage = len(features) - 2
        channels = next(p for p in self._network.parameters() if p.ndim > 2).shape[1]
        reached = slice(0, self._stage + 1)
        self._reconstruction = Reconstruction(
            configuration.dims,
            features[reached],
            strides[reached],
            channels,
            hidden=options.hidden,
            latent=options.latent,
        )
        grid = [edge // step for edge, step in zip(configuration.patch_size, configuration.divisors, strict=True)]
        self._classifier = PresenceClassifier(features[-1], grid)
        generator = torch.Generator().manual_seed(configuration.training.seed)
        for name, module in (("reconstruction", self._reconstruction), ("presence", self._classifier)):
            module.initialise(generator)
            self.modules[name] = module.to(device)
        optimizer = configuration.training.optimizer
        parameters = [parameter for module in self.modules.values() for parameter in module.parameters()]
        self.optimizers["network"] = registry.component("optimizer", optimizer.name)(
            registry.options("optimizer", optimizer.name, optimizer.options), parameters
        )

    def compile(self, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Call encoder and decoder, which the phases use one by one, through what `wrap` makes of them."""
        super().compile(wrap)
        self._encode, self._decode = wrap(self._encode), wrap(self._decode)

    def phases(self, batch: Mapping[str, Any], at: At) -> Iterator[Phase]:
        """One phase: the weighted sum of all tasks."""
        labelled, truths = self._mixed(batch[LABELLED], at)
        unlabelled, weights = batch[UNLABELLED].image, self._weights
        features = self._encode(labelled.image)
        outputs = self._decode(list(features))
        _, loss, parts, _ = self._supervise(outputs["logits"], truths)
        with torch.autocast(unlabelled.device.type, enabled=False):
            told_presence = self._classifier(features[-1].float())
            presence = sum(weight * self._presence_loss(told_presence, one) for weight, one in truths)
        others = self._encode(unlabelled, self._stage + 1)
        pairs = (features[self._stage], labelled.image), (others[self._stage], unlabelled)
        errors, divergences = zip(*(self._reconstruct(*pair) for pair in pairs), strict=True)
        added = {
            "reconstruction": weights.reconstruction * sum(errors) / len(errors),
            "divergence": weights.divergence * sum(divergences) / len(divergences),
            "presence": weights.classification * presence,
        }
        terms = dict(zip(self._term_names, parts, strict=True))
        yield Phase("network", loss + sum(added.values()), terms | {k: v.detach() for k, v in added.items()})

    def _reconstruct(self, features: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Mean squared error, and the mean divergence of the latent's distribution from a standard normal."""
        with torch.autocast(image.device.type, enabled=False):
            made, mean, log_variance = self._reconstruction(features.float(), image.shape[2:])
            divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
            return functional.mse_loss(made, image), divergence

    def _presence_loss(self, logits: Tensor, batch: Any) -> Tensor:
        """Mean cross entropy over the samples whose annotation tells whether what is looked for is there; else 0."""
        present = self._is_present(batch.mask)
        if not any(batch.annotated):
            return functional.cross_entropy(logits, present)
        known = torch.tensor([self._looked_for in told(self._labels, names) for names in batch.annotated])
        losses = functional.cross_entropy(logits, present, reduction="none") * known.to(logits.device)
        return losses.sum() / known.sum().clamp_min(1)

    def _is_present(self, mask: Tensor) -> Tensor:
        """Whether each mask of (b, 1, \\*s) holds one of the integers that are looked for: int64 of shape (b,)."""
        return torch.isin(mask, self._present.to(mask.device)).flatten(1).any(1).long()


def _members(labels: Labels, region: str) -> tuple[int, ...]:
    known = labels.scoring()
    if region not in known:
        raise PlanError(
            f"the dataset has no label or region '{region}'",
            where="objective 'multitask'",
            mend=f"set training.objective.options.presence to one of {', '.join(known)}",
        )
    return known[region]
