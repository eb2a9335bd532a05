"""The auxiliary maps that a plan's losses ask for, worked out where batches are made."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from bts_auto import registry
from bts_auto.data.labels import Labels
from bts_auto.data.partial import Annotated
from bts_auto.losses.maps import MAPS
from bts_auto.plan.schema import SegmentationConfiguration, Training
from bts_auto.train.objectives.targets import TargetMaker


def wanted_maps(training: Training) -> tuple[str, ...]:
    """The names of the maps that the losses ask for, each once."""
    terms = (registry.options("loss", term.name, term.options) for term in training.loss)
    return tuple(dict.fromkeys(name for options in terms for name in options.maps))


class MapMaker:
    """Makes the maps that a configuration's losses ask for; none for most."""

    def __init__(self, configuration: SegmentationConfiguration, labels: Labels) -> None:
        self._names = wanted_maps(configuration.training)
        self._spacing, self._channels = configuration.spacing, len(labels.outputs)
        self._target = TargetMaker(labels)

    def __call__(self, mask: Tensor, annotated: Sequence[Annotated] = ()) -> dict[str, Tensor]:
        """By name the maps (b, m, \\*s) of masks (b, 1, \\*s)."""
        if not self._names:
            return {}
        target = self._target(mask, annotated)
        return {name: MAPS[name](target, self._spacing, self._channels) for name in self._names}
