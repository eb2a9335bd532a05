"""Several predictors as one: what `best.json` chose, applied to new cases."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bts_auto.combine.cache import CACHE_ENDING, CachedProbabilities
from bts_auto.combine.combiners import combine_probabilities, combines_by_output
from bts_auto.combine.saved import ArraySource, CacheSource, Source
from bts_auto.data.crop import bounding_box
from bts_auto.data.labels import Labels
from bts_auto.data.likeness import CaseLook, spacing_remarks
from bts_auto.data.volume import Volume
from bts_auto.ensemble.agreement import mean_of, predicted_dice
from bts_auto.ensemble.apply import combine_members
from bts_auto.ensemble.best import Best
from bts_auto.ensemble.calibration import calibrated
from bts_auto.ensemble.join import join_sources, uses_probabilities
from bts_auto.plan.schema import Plan
from bts_auto.postprocess.context import need_probabilities
from bts_auto.predict.entropy import entropy_of
from bts_auto.predict.predictor import CasePredictor
from bts_auto.predict.probabilities import write_probabilities
from bts_auto.predict.segmenter import Prediction, timed
from bts_auto.preprocess.prepare import Prepared


@dataclass(frozen=True)
class _Joint(Prediction):
    """A prediction that keeps its members'."""

    members: tuple[Prediction, ...] = ()


class JointPredictor:
    """The members of a chosen pipeline, combined and corrected as the choice says.

    Members answer one after the other. Where their probabilities are combined, each member's are kept on disk in the
    form in which the choice was made, so that memory does not grow with members and classes.

    Parameters
    ----------
    best : Best
        The choice.
    members : sequence of CasePredictor
        In the order of ``best.members``.
    """

    def __init__(self, best: Best, members: Sequence[CasePredictor]) -> None:
        self.best, self.members = best, tuple(members)
        self.labels = Labels.common([member.labels for member in members])
        pooled = len(members) > 1 and uses_probabilities(best.combiner.name)
        self._by_probabilities = pooled or need_probabilities(best.postprocessing)

    @property
    def plan(self) -> Plan:
        """The first member's; all take the same channels."""
        return self.members[0].plan

    def describe(self) -> dict[str, Any]:
        """What decides about the masks, as JSON."""
        choice = self.best.model_dump(mode="json", include={"combiner", "weights", "postprocessing"})
        calibration = self.best.calibration
        temperatures = {} if calibration is None else calibration.temperatures()
        return {"members": [member.describe() for member in self.members], **choice, "temperatures": temperatures}

    def computed_with(self) -> dict[str, str]:
        """Names of the engines and precisions, where members differ several."""
        every = [member.computed_with() for member in self.members]
        return {key: ", ".join(dict.fromkeys(one[key] for one in every)) for key in every[0]}

    def prepare(self, volume: Volume) -> list[Prepared]:
        """The scan in each member's grid."""
        return [member.prepare(volume) for member in self.members]

    def run(self, volume: Volume, prepared: Sequence[Prepared]) -> list[np.ndarray]:
        """Each member's scores."""
        return [member.run(volume, one) for member, one in zip(self.members, prepared, strict=True)]

    def predict(self, volume: Volume, *, keep_scores: bool = False) -> Prediction:
        """Segment a scan; see :meth:`bts_auto.predict.predictor.CasePredictor.predict`."""
        timings: dict[str, float] = {}
        with timed(timings, "prepare"):
            prepared = self.prepare(volume)
        with timed(timings, "network"):
            answer = self.run(volume, prepared)
        return self.finish(volume, prepared, answer, timings=timings, keep_scores=keep_scores)

    def finish(
        self,
        volume: Volume,
        prepared: Sequence[Prepared],
        answer: Sequence[np.ndarray],
        *,
        timings: dict[str, float],
        keep_scores: bool = False,
    ) -> Prediction:
        """Export each member's answer, combine them and apply the chosen post-processing."""
        parts = []
        for member, one, scores in zip(self.members, prepared, answer, strict=True):
            own: dict[str, float] = {}
            keep = keep_scores or self.best.agreement is not None
            parts.append(member.finish(volume, one, scores, timings=own, keep_scores=keep))
            timings["export"] = timings.get("export", 0.0) + own["export"]
        brain = (volume.array != 0).any(axis=0)
        with timed(timings, "combine"), tempfile.TemporaryDirectory(prefix="bts_predict_") as folder:
            sources: list[Source] = []
            if self._by_probabilities:
                kept = zip(self.members, prepared, answer, strict=True)
                sources = [self._keep(Path(folder) / f"{n}{CACHE_ENDING}", *one) for n, one in enumerate(kept)]
            mask = combine_members(
                self.best,
                self.labels,
                volume.geometry.spacing,
                masks=[part.mask for part in parts],
                sources=sources,
                brain=brain,
            )
        made = _Joint(mask, volume.geometry, self.labels, timings=timings, members=tuple(parts))
        with timed(timings, "confidence"):
            dice = self._predicted_dice(made, brain)
            remarks = (*self._remarks(volume, dice), *self._tile_remarks(prepared))
        error = None if dice is None or self.best.agreement is None else self.best.agreement.error
        made = replace(made, predicted_dice=dice, predicted_dice_error=error, remarks=remarks)
        return made if keep_scores else replace(made, members=())

    def _predicted_dice(self, made: _Joint, brain: np.ndarray) -> dict[str, float] | None:
        if self.best.agreement is None:
            return None
        regions = self.labels.tumour_regions() or {name: self.labels.values[name] for name in self.labels.foreground}
        calibration, box = self.best.calibration, bounding_box(brain)
        temperatures = {} if calibration is None else calibration.temperatures()
        channels = (array[box] for _, array in self._combined(made)())
        return predicted_dice(channels, made.mask[box], self.labels, regions, temperatures)

    def _remarks(self, volume: Volume, dice: dict[str, float] | None) -> tuple[str, ...]:
        """What a reader of the mask should be warned of: a scan unlike the training cases, a low predicted Dice."""
        if self.best.training is None:  # then their median voxel is all that is known of them
            lines = list(spacing_remarks(volume.geometry.spacing, self.plan.original_median_spacing_after_transp))
        else:
            remarks = self.best.training.remarks(CaseLook.of(volume))
            lines = ["unlike the training cases: " + "; ".join(remarks)] if remarks else []
        mean = None if dice is None else mean_of(list(dice.values()))
        agreement = self.best.agreement
        if mean is not None and agreement is not None and agreement.is_low(mean):
            limits = f"below {agreement.low:.2f}, off by {agreement.error:.2f} on average"
            lines.append(f"predicted Dice is low, {mean:.2f} ({limits}): look at the mask")
        return tuple(lines)

    def _tile_remarks(self, prepared: Sequence[Prepared]) -> list[str]:
        """What the members say about their tiles, each line once."""
        said = (member.tile_remarks(one.steps.shape) for member, one in zip(self.members, prepared, strict=True))
        return list(dict.fromkeys(line for lines in said for line in lines))

    def _keep(self, path: Path, member: CasePredictor, prepared: Prepared, scores: np.ndarray) -> Source:
        resampling, logits = member.configuration.resampling, member.averages_logits
        write_probabilities(path, member.split(scores)[0], prepared.steps, member.labels, resampling, logits=logits)
        return CacheSource(CachedProbabilities(path), self.labels)

    def probabilities(self, prediction: Prediction) -> Iterator[tuple[str, np.ndarray]]:
        """The combined probability of each label or region in the scan's grid, calibrated, one at a time."""
        combined = self._combined(prediction)
        return combined() if self.best.calibration is None else calibrated(combined, self.labels, self.best.calibration)

    def _combined(self, prediction: Prediction) -> Callable[[], Iterator[tuple[str, np.ndarray]]]:
        """Yields what the chosen combiner makes of the members' probabilities, as often as it is called.

        That is what the masks come from and what was calibrated; the mean where label maps are combined.
        """
        several = len(self.members) > 1
        combiner, options = (self.best.combiner.name, self.best.combiner_options()) if several else ("mean", {})
        if combines_by_output(combiner):
            return lambda: self._by_output(prediction, combiner, options)
        with tempfile.TemporaryDirectory(prefix="bts_predict_") as folder:
            assert isinstance(prediction, _Joint)
            kept = zip(self.members, prediction.members, strict=True)
            sources = [self._whole(Path(folder) / f"{n}.npy", *one) for n, one in enumerate(kept)]
            joined = join_sources(combiner, sources, self.labels, options)
        return lambda: zip(self.labels.outputs, joined, strict=True)

    def _by_output(
        self, prediction: Prediction, combiner: str, options: dict[str, Any]
    ) -> Iterator[tuple[str, np.ndarray]]:
        """The members' probabilities combined while one output of each is in memory."""
        assert isinstance(prediction, _Joint)
        streams = [self._stream(member, one) for member, one in zip(self.members, prediction.members, strict=True)]
        for together in zip(*streams, strict=True):
            members = [array[None] for _, array in together]
            yield together[0][0], combine_probabilities(combiner, members, self.labels, options)[0]

    def _whole(self, path: Path, member: CasePredictor, prediction: Prediction) -> Source:
        """All outputs of a member, on disk, so that memory does not grow with members."""
        shape = (len(member.labels.outputs), *prediction.geometry.size)
        stored = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        for channel, (_, array) in zip(stored, member.probabilities(prediction), strict=True):
            channel[:] = array
        return ArraySource(stored, path, member.labels, self.labels)

    def _weights(self) -> tuple[float, ...]:
        """How much each member's probabilities count; those that vote count alike."""
        found = self.best.combiner_options().get("weights") if uses_probabilities(self.best.combiner.name) else None
        return tuple(found) if found and len(self.members) > 1 else (1.0,) * len(self.members)

    def _stream(self, member: CasePredictor, prediction: Prediction) -> Iterator[tuple[str, np.ndarray]]:
        """A member's probabilities, one output of the common labels after the other."""
        stream = member.probabilities(prediction)
        if member.labels.outputs == self.labels.outputs:
            return stream
        own = [array for _, array in stream]
        channels = zip(self.labels.outputs, self.labels.channels_of(member.labels.outputs), strict=True)
        return ((name, np.sum([own[i] for i in several], axis=0)) for name, several in channels)

    def uncertainty(self, prediction: Prediction) -> np.ndarray:
        """Entropy of the calibrated combined probability, 0 (sure) to 1."""
        return entropy_of((array for _, array in self.probabilities(prediction)), self.labels)

    def mutual_information(self, prediction: Prediction) -> np.ndarray:
        """How much all folds, mirrored copies and members disagree, on the scale of the entropy.

        Of their mean, whatever combines them, as they answer, not calibrated. A member that was trained on plain labels
        among others that were trained on regions counts as one answer, whose folds agree.
        """
        assert isinstance(prediction, _Joint)
        weights = np.asarray(self._weights(), np.float32)
        mean = self._by_output(prediction, "weighted", {"weights": self._weights()})
        total = entropy_of((array for _, array in mean), self.labels)
        for weight, member, one in zip(weights / weights.sum(), self.members, prediction.members, strict=True):
            if member.labels.outputs == self.labels.outputs:
                own = member.own_entropy(one)
            else:
                own = entropy_of((array for _, array in self._stream(member, one)), self.labels)
            total = total - weight * own
        return np.clip(total, 0, None)
