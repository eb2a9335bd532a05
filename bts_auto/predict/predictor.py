"""One or more trained folds, loaded once, that segment case after case."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from bts_auto.data.likeness import spacing_remarks
from bts_auto.data.volume import Volume
from bts_auto.errors import ModelError
from bts_auto.events import SILENT, Observer
from bts_auto.plan.schema import Plan, SegmentationConfiguration
from bts_auto.postprocess.context import Context, apply_rules, need_probabilities
from bts_auto.predict.affordable import affordable_tile, engine_share
from bts_auto.predict.dropout import DropoutSample, dropout_samples, engine_for_dropout
from bts_auto.predict.engine import (
    Engine,
    Precision,
    build_engine,
    choose_device,
    choose_engine,
    choose_precision,
    cpu_has_int8,
    working_memory,
)
from bts_auto.predict.entropy import export_entropy
from bts_auto.predict.export import export_labels, export_scores, to_scan
from bts_auto.predict.segmenter import Prediction, timed
from bts_auto.predict.tile_choice import Tiling, choose_tiling, fast_tiling, fits, unmeasured_fast_tiling
from bts_auto.predict.tiles import Tile, smallest_tile
from bts_auto.predict.window import count_tiles, predict_array
from bts_auto.preprocess.memory import check_arrays
from bts_auto.preprocess.prepare import Prepared, prepare, prepare_mask
from bts_auto.preprocess.spatial import SpatialSteps


class Fold(Protocol):
    """What a predictor needs of a trained fold (:class:`bts_auto.model.fold.TrainedFold` is one)."""

    @property
    def plan(self) -> Plan: ...

    @property
    def configuration_name(self) -> str: ...

    @property
    def configuration(self) -> SegmentationConfiguration: ...

    def network(self, device: torch.device | str) -> torch.nn.Module: ...


class CasePredictor:
    """Trained folds of one configuration, ready to segment.

    Parameters
    ----------
    folds : sequence of Fold
        Members whose answers are averaged, as the plan says: as probabilities or as logits.
    device, engine, precision : str
        See :func:`bts_auto.predict.engine.build_engine`.
    tta : bool or sequence of int
        Whether inputs are mirrored along the axes of the plan, or the axes.
    step_size, tile : optional
        In place of the plan's. The plan's tile "auto" is the one that validation found best, see
        :mod:`bts_auto.predict.tile_choice`.
    fast : bool
        Without mirroring, and with the fastest tile that validation found to lose little, in int8 where that is among
        it; where nothing was measured, with tiles a little larger than the patch that overlap less, in int8 where the
        ranges of its layers are known.
    previous : CasePredictor, optional
        For a configuration with a previous stage: what predicts that stage.
    given_previous : bool
        The masks of a previous stage come with the prepared images (see :func:`guided`), which are all that is asked
        about; nothing needs to predict that stage.
    converted : callable, optional
        The file in which an engine keeps what it made of a fold, so that the next start is quicker (for example
        :meth:`bts_auto.model.fold.TrainedFold.converted_file`).
    member_entropy : bool
        Whether the members' own entropies are averaged besides, for :meth:`mutual_information`.
    mc_dropout : int
        Answers of each fold under draws of its dropout, each a member; 0: dropout is off. Such networks run in torch.
    seed : int
        Of these draws.
    observer : Observer
        Hears of the tiles.

    Raises
    ------
    ModelError
        When there is no fold, folds do not belong together, or a previous stage is missing.
    """

    def __init__(
        self,
        folds: Sequence[Fold],
        *,
        device: str | torch.device = "auto",
        engine: str = "auto",
        precision: Precision = "auto",
        tta: bool | Sequence[int] = True,
        step_size: float | None = None,
        tile: Tile | None = None,
        fast: bool = False,
        previous: CasePredictor | None = None,
        given_previous: bool = False,
        converted: Callable[[Any], Path] | None = None,
        member_entropy: bool = False,
        mc_dropout: int = 0,
        seed: int = 0,
        observer: Observer = SILENT,
    ) -> None:
        first = _common(folds)
        self.plan = first.plan
        self.configuration_name = first.configuration_name
        self.configuration = first.configuration
        self.labels = self.plan.label_set()
        self.device = choose_device(device)
        chosen_engine = choose_engine(engine, self.device)
        int8 = precision == "auto" and chosen_engine == "openvino" and not mc_dropout and cpu_has_int8()
        tiling = self._choose_tiling(folds, fast, int8, observer)
        precision = "int8" if tiling.int8 else precision
        self.int8 = precision == "int8"
        self.tile = tiling.tile if tile is None else tile
        # A tile that is asked for comes with the plan's distance.
        usual = tiling.step_size if tile is None else self.configuration.inference.step_size
        self.step_size = usual if step_size is None else step_size
        self.hashes = tuple(str(getattr(fold, "content_hash", "")) for fold in folds)
        planned = self.configuration.inference.mirror_axes
        self.mirror_axes = (planned if tta and not fast else ()) if isinstance(tta, bool) else tuple(tta)
        self.observer = observer
        if self.configuration.previous_stage is not None and previous is None and not given_previous:
            raise ModelError(
                f"needs the previous stage '{self.configuration.previous_stage}'", where=self.configuration_name
            )
        self._previous = previous
        self._member_entropy, self.mc_dropout, self.seed = member_entropy, mc_dropout, seed
        engine = engine_for_dropout(engine) if mc_dropout else chosen_engine
        precision = choose_precision(precision, self.device, engine)
        self._computed_with = {"engine": engine, "precision": precision}
        networks: list[Any] = [partial(fold.network, "cpu") for fold in folds]
        if mc_dropout:
            networks = [build() for build in networks]
        self._engines: list[Engine] = [
            build_engine(
                network,
                engine=engine,
                device=self.device,
                precision=precision,
                example=(1, self.plan.network_channels(self.configuration_name)[0], *smallest_tile(self.configuration)),
                converted=None if converted is None else converted(fold),
                ranges=fold.configuration.inference.ranges,
            )
            for fold, network in zip(folds, networks, strict=True)
        ]
        if mc_dropout:
            self._engines = dropout_samples(self._engines, networks, mc_dropout, seed)

    def _choose_tiling(self, folds: Sequence[Fold], fast: bool, int8: bool, observer: Observer) -> Tiling:
        """How the plan wants images to be visited, or what was measured to be the best or the fastest."""
        inference, memory = self.configuration.inference, working_memory(self.device)
        measured = [one for fold in folds for one in fold.configuration.inference.measured]

        def possible(tile: Tile) -> bool:
            return fits(tile, self.configuration, memory)

        planned = Tiling("patch" if inference.tile == "auto" else inference.tile, inference.step_size)
        best = choose_tiling(measured, possible) if inference.tile == "auto" else None
        if not fast:
            return best or planned
        if not measured:
            known = all(fold.configuration.inference.ranges for fold in folds)
            guessed = unmeasured_fast_tiling(self.configuration, memory, int8=int8 and known)
            observer.note(f"what --fast costs was not measured for this model; tiles: {guessed}")
            return guessed
        found = fast_tiling(measured, possible, int8=int8)
        if found is None:
            observer.note("nothing that was tried is as good without mirroring: --fast only leaves mirroring out")
        return found or best or planned

    @property
    def averages_logits(self) -> bool:
        """Whether scores are logits."""
        return self.configuration.inference.averaging == "logits"

    def describe(self) -> dict[str, Any]:
        """What decides about the masks, as JSON: hashes of weights and plan, and how tiles are visited."""
        tile = self.tile if isinstance(self.tile, str | int) else list(self.tile)
        return {
            "model": list(self.hashes),
            "plan": self.plan.content_hash(),
            "configuration": self.configuration_name,
            "tile": tile,
            "step_size": self.step_size,
            "int8": self.int8,
            "mirror_axes": list(self.mirror_axes),
            "previous": None if self._previous is None else self._previous.describe(),
            "mc_dropout": [self.mc_dropout, self.seed] if self.mc_dropout else None,
        }

    def computed_with(self) -> dict[str, str]:
        """Names of the engine and of the precision."""
        return dict(self._computed_with)

    def predict(self, volume: Volume, *, keep_scores: bool = False) -> Prediction:
        """Segment a scan.

        Parameters
        ----------
        volume : Volume
            As it was read; not changed.
        keep_scores : bool
            Whether the result keeps the scores and the prepared image.

        Raises
        ------
        DataError
            When the scan does not fit the plan.
        """
        timings: dict[str, float] = {}
        with timed(timings, "prepare"):
            prepared = self.prepare(volume)
        with timed(timings, "network"):
            scores = self.run(volume, prepared)
        return self.finish(volume, prepared, scores, timings=timings, keep_scores=keep_scores)

    def finish(
        self,
        volume: Volume,
        prepared: Prepared,
        answer: np.ndarray,
        *,
        timings: dict[str, float] | None = None,
        keep_scores: bool = False,
    ) -> Prediction:
        """From the answer to a prepared image to the prediction: export and post-processing."""
        timings = {} if timings is None else timings
        answer, own = self.split(answer)
        with timed(timings, "export"):
            mask = self.postprocess(self.export(answer, prepared.steps), volume, answer, prepared.steps)
        return Prediction(
            mask,
            volume.geometry,
            self.labels,
            logits=self.averages_logits,
            scores=answer if keep_scores else None,
            steps=prepared.steps if keep_scores else None,
            member_entropy=own if keep_scores else None,
            timings=timings,
            remarks=(
                *spacing_remarks(volume.geometry.spacing, self.plan.original_median_spacing_after_transp),
                *self.tile_remarks(prepared.steps.shape),
            ),
        )

    def tile_remarks(self, size: Sequence[int]) -> tuple[str, ...]:
        """A remark where an image of `size` (z, y, x) is visited with another tile than usual, for want of memory."""
        remark = self._tile_for(size)[1]
        return () if remark is None else (remark,)

    def _tile_for(self, size: Sequence[int]) -> tuple[Tile, str | None]:
        return affordable_tile(self.tile, size, self.configuration, self._tile_memory)

    @cached_property
    def _tile_memory(self) -> int:
        """Bytes for a tile in one engine, asked for once: engines keep what they took for the last image."""
        return engine_share(working_memory(self.device), len(self._engines), **self._computed_with)

    def split(self, answer: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The scores (k, z, y, x) of an answer, and the members' mean entropy (z, y, x) where it was asked for."""
        return (answer[:-1], answer[-1]) if self._member_entropy else (answer, None)

    def prepare(self, volume: Volume) -> Prepared:
        """Bring a scan to the network's grid."""
        return prepare(volume, self.plan, self.configuration)

    def run(self, volume: Volume, prepared: Prepared) -> np.ndarray:
        """The answer of the networks to a prepared scan: scores (k, z, y, x), see :meth:`predict_prepared`."""
        check_arrays(len(self.labels.outputs) + self._member_entropy, prepared.steps.resample)
        return self.predict_prepared(self.network_input(volume, prepared))

    def network_input(self, volume: Volume, prepared: Prepared) -> np.ndarray:
        """The prepared image, with one channel for each label of the previous stage's mask where there is one."""
        if self._previous is None:
            return prepared.image
        before = self._previous.prepare(volume)
        scores = self._previous.run(volume, before)
        # As its validation left it, which is what the second stage saw in training.
        mask = self._previous.export(scores, before.steps)
        mask = self._previous.postprocess(mask, volume, scores, before.steps)
        on_grid = prepare_mask(mask, prepared.steps, self.configuration)
        return guided(prepared.image, on_grid, self.plan.previous_stage_labels(self.configuration_name))

    def predict_prepared(self, image: np.ndarray | torch.Tensor) -> np.ndarray:
        """Scores of a prepared image.

        Parameters
        ----------
        image : ndarray or Tensor of float32, shape (c, z, y, x)

        Returns
        -------
        ndarray of float32, shape (k, z, y, x)
            Probabilities, or logits where `averages_logits`; with `member_entropy` one channel more.
        """
        for engine in self._engines:
            if isinstance(engine, DropoutSample):
                engine.restart()
        tile, _ = self._tile_for(image.shape[1:])
        tiles = count_tiles(image.shape[1:], self.configuration, tile, self.step_size)
        passes = len(self._engines) if self.averages_logits else 1
        with self.observer.task("tiles", tiles * passes, "tile") as task:
            scores = predict_array(
                self._engines,
                image,
                self.configuration,
                tile=tile,
                step_size=self.step_size,
                mirror_axes=self.mirror_axes,
                regions=self.labels.has_regions,
                member_entropy=self._member_entropy,
                task=task,
            )
        return scores.cpu().numpy()

    def export(self, scores: np.ndarray, steps: SpatialSteps) -> np.ndarray:
        """The label map (z, y, x) in the scan's grid of the answer to a prepared image."""
        return export_labels(scores, steps, self.labels, self.configuration.resampling, logits=self.averages_logits)

    def postprocess(self, mask: np.ndarray, volume: Volume, scores: np.ndarray, steps: SpatialSteps) -> np.ndarray:
        """Apply the rules of the configuration to a label map in the scan's grid that was made of `scores`."""
        rules = self.configuration.postprocessing
        if not rules:
            return mask
        probabilities = None
        if need_probabilities(rules):
            how = {"logits": self.averages_logits}
            stream = export_scores(scores, steps, self.labels, self.configuration.resampling, **how)
            probabilities = np.stack([array for _, array in stream])
        brain = (volume.array != 0).any(axis=0)
        context = Context(self.labels, volume.geometry.spacing, probabilities=probabilities, brain=brain)
        return apply_rules(mask, rules, context)

    def probabilities(self, prediction: Prediction) -> Iterator[tuple[str, np.ndarray]]:
        """Name and probability (z, y, x) in the scan's grid of each label or region, one at a time.

        `prediction` must have kept its scores.
        """
        scores, steps = prediction.kept()
        return export_scores(scores, steps, self.labels, self.configuration.resampling, logits=prediction.logits)

    def uncertainty(self, prediction: Prediction) -> np.ndarray:
        """Entropy of the averaged answer in the scan's grid, 0 (sure) to 1; `prediction` must have kept its scores."""
        scores, steps = prediction.kept()
        return export_entropy(scores, steps, self.labels, self.configuration.resampling, logits=prediction.logits)

    def mutual_information(self, prediction: Prediction) -> np.ndarray:
        """How much folds, mirrored copies and dropout samples disagree: their mutual information with the answer.

        The entropy of the averaged answer less the mean of their own, in the scan's grid; 0 where all agree. Where
        logits are averaged the difference can be negative, and counts as 0.
        """
        total, own = self.uncertainty(prediction), self.own_entropy(prediction)
        return np.clip(total - own, 0, None)

    def own_entropy(self, prediction: Prediction) -> np.ndarray:
        """The mean of the members' own entropies in the scan's grid, 0 (each is sure) to 1."""
        _, steps = prediction.kept()
        if prediction.member_entropy is None:
            raise ValueError("the members' entropies were not asked for")
        return to_scan(prediction.member_entropy, steps, self.configuration.resampling)


def guided(image: np.ndarray, mask: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """A prepared image followed by a channel for each label of a previous stage.

    Parameters
    ----------
    image : ndarray of float32, shape (c, z, y, x)
    mask : ndarray of int, shape (z, y, x)
        The previous stage's, on the image's grid.
    values : sequence of int
        The labels, see :func:`bts_auto.plan.schema.Plan.previous_stage_labels`.

    Returns
    -------
    ndarray of float32, shape (c + len(values), z, y, x)
    """
    return np.concatenate([image, np.stack([mask == value for value in values])], dtype=np.float32)


def _common(folds: Sequence[Fold]) -> Fold:
    if not folds:
        raise ModelError("no trained fold to predict with")
    first = folds[0]
    if any(_prepares(fold) != _prepares(first) for fold in folds[1:]):
        raise ModelError("the folds do not take the same input and give the same labels", mend="ensemble their masks")
    return first


def _prepares(fold: Fold) -> tuple[object, ...]:
    """All that must be the same for one prepared image to serve several folds."""
    plan, configuration = fold.plan, fold.configuration
    grid = (plan.channel_names, plan.orientation, plan.transpose_forward, configuration.preprocessing_key())
    answers = (plan.labels, plan.regions_class_order, plan.target, configuration.inference.averaging)
    return (*grid, *answers, configuration.previous_stage)
