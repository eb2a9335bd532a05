"""Judging weights by whole volumes, for a training that ships its best ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from bts_auto.data.labels import Labels
from bts_auto.data.partial import told
from bts_auto.evaluate.case import score_case
from bts_auto.evaluate.scores import Scores
from bts_auto.model.build import network_with_weights
from bts_auto.plan.schema import Plan, SegmentationConfiguration
from bts_auto.predict.predictor import CasePredictor, guided
from bts_auto.preprocess.masks import MaskStore
from bts_auto.preprocess.store import CaseStore


class _Candidate:
    """Weights that a predictor can be made of."""

    def __init__(self, plan: Plan, configuration_name: str, weights: Mapping[str, Tensor]) -> None:
        self.plan, self.configuration_name = plan, configuration_name
        self._weights = weights

    @property
    def configuration(self) -> SegmentationConfiguration:
        return self.plan.configuration(self.configuration_name)

    def network(self, device: torch.device | str) -> nn.Module:
        copies = {name: tensor.detach().to(device, copy=True) for name, tensor in self._weights.items()}
        network = network_with_weights(self.plan, self.configuration_name, copies)
        network.deep_supervision = False  # type: ignore[assignment]
        return network.eval().requires_grad_(False)


class VolumeJudge:
    """Mean Dice of weights on whole prepared volumes, without mirrored copies.

    Parameters
    ----------
    plan, configuration_name
        What is trained.
    cases : sequence of str
        Held-out cases of `store`.
    previous : MaskStore, optional
        Masks of a previous stage.
    device : torch.device
    """

    def __init__(
        self,
        plan: Plan,
        configuration_name: str,
        labels: Labels,
        cases: Sequence[str],
        *,
        store: CaseStore,
        previous: MaskStore | None,
        device: torch.device,
    ) -> None:
        self._plan, self._name, self._labels = plan, configuration_name, labels
        self._cases, self._store, self._previous, self._device = tuple(cases), store, previous, device

    def __call__(self, weights: Mapping[str, Tensor]) -> float:
        """The mean over cases, then over labels and regions, on the grid of the prepared cases; NaN without any."""
        fold = _Candidate(self._plan, self._name, weights)
        predictor = CasePredictor(
            [fold], device=self._device, engine="torch", tta=False, given_previous=self._previous is not None
        )
        return Scores.of({case: self._score(case, predictor) for case in self._cases}).mean()

    def _score(self, case: str, predictor: CasePredictor) -> dict[str, dict[str, float]]:
        stored = self._store.open(case)
        image = np.asarray(stored.image[:], np.float32)
        if self._previous is not None:
            values = self._plan.previous_stage_labels(self._name)
            image = guided(image, self._previous.whole(case), values)
        scores = predictor.predict_prepared(image)
        if self._labels.has_regions and predictor.averages_logits:
            scores = scores + 0.5  # a logit of 0 is a probability of 0.5, where regions are cut
        reference = np.maximum(np.asarray(stored.mask[:], np.int16), 0)
        return score_case(
            self._labels.decode(scores),
            reference,
            stored.steps.spacing,
            self._labels.scoring(),
            metrics=("dice",),
            ignore=self._labels.ignore,
            told=told(self._labels, stored.annotated_labels),
        )
