"""Several predictors as one: what `best.json` chose, applied to new cases."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bts_auto.combine.cache import CACHE_ENDING, CachedProbabilities
from bts_auto.combine.saved import CacheSource, Source
from bts_auto.data.volume import Volume
from bts_auto.ensemble.apply import combine_members
from bts_auto.ensemble.best import Best
from bts_auto.ensemble.join import uses_probabilities
from bts_auto.predict.predictor import CasePredictor, Prediction
from bts_auto.predict.probabilities import write_probabilities


class JointPredictor:
    """The members of a chosen pipeline, combined and corrected as the choice says.

    Members run one after the other. Where their probabilities are combined, each member's are kept on disk in the form
    in which the choice was made, so that memory does not grow with members and classes.

    Parameters
    ----------
    best : Best
        The choice.
    members : sequence of CasePredictor
        In the order of ``best.members``.
    """

    def __init__(self, best: Best, members: Sequence[CasePredictor]) -> None:
        self.best, self.members = best, tuple(members)
        self.plan, self.labels = members[0].plan, members[0].labels

    def predict(self, volume: Volume) -> Prediction:
        """Segment a scan.

        Raises
        ------
        DataError
            When the scan does not fit the plan of a member.
        """
        by_probabilities = len(self.members) > 1 and uses_probabilities(self.best.combiner.name)
        timings: dict[str, float] = {}
        masks: list[np.ndarray] = []
        sources: list[Source] = []
        with tempfile.TemporaryDirectory(prefix="bts_predict_") as folder:
            for number, member in enumerate(self.members):
                found = member.predict(volume, keep_scores=by_probabilities)
                masks.append(found.mask)
                for stage, seconds in found.timings.items():
                    timings[stage] = timings.get(stage, 0.0) + seconds
                if by_probabilities:
                    sources.append(self._keep(Path(folder) / f"{number}{CACHE_ENDING}", member, found))
            mask = combine_members(
                self.best,
                self.labels,
                volume.geometry.spacing,
                masks=masks,
                sources=sources,
                brain=(volume.array != 0).any(axis=0),
            )
        return Prediction(mask, volume.geometry, self.labels, timings=timings)

    def _keep(self, path: Path, member: CasePredictor, found: Prediction) -> Source:
        assert found.scores is not None
        assert found.prepared is not None
        steps, resampling = found.prepared.steps, member.configuration.resampling
        write_probabilities(path, found.scores, steps, member.labels, resampling, logits=found.logits)
        return CacheSource(CachedProbabilities(path), self.labels)
