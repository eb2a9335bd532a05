"""A threshold for each output, fitted by draws: for what a grid cannot cover, and as it was published."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bts_auto.data.labels import Labels
from bts_auto.ensemble.thresholds import median_of_folds
from bts_auto.errors import PlanError
from bts_auto.plan.schema import Component
from bts_auto.postprocess.options import ThresholdDrawsOptions

# Regions are compared in steps of 1/64, in which thresholds are drawn; the most probable label needs finer ones.
_STEPS_OF_REGIONS = 64
_STEPS_OF_LABELS = 255
_LOW, _HIGH = 0.05, 0.95
Objective = Callable[[np.ndarray], float]


@dataclass(frozen=True, eq=False)
class CaseCounts:
    """The voxels of a case, alike ones counted together; equal to nothing but itself, so that a case can be looked up.

    Attributes
    ----------
    steps : ndarray of int, shape (k, n)
        Probability of each output, in steps.
    reference : ndarray of int, shape (n,)
    counts : ndarray of float, shape (n,)
    """

    steps: np.ndarray
    reference: np.ndarray
    counts: np.ndarray


class DrawSearch:
    """Thresholds by the best of many draws for each fold.

    References
    ----------
    Jabareen and Lukassen, Segmenting Brain Tumors in Multi-modal MRI Scans Using a 3D SegNet Architecture, BrainLes
    2021: 1,000 combinations for each fold by a tree-structured Parzen estimator (Bergstra et al., Algorithms for
    hyper-parameter optimization, NeurIPS 2011), then the median of the folds.
    """

    def __init__(self, labels: Labels, regions: Mapping[str, tuple[int, ...]], options: ThresholdDrawsOptions) -> None:
        """See :class:`bts_auto.ensemble.thresholds.GridSearch`.

        Raises
        ------
        PlanError
            When the estimator is asked for and Optuna is not installed.
        """
        self._labels, self._regions, self._draws = labels, regions, options.draws
        self._found: dict[tuple[int, tuple[CaseCounts, ...]], np.ndarray] = {}
        self._steps = _STEPS_OF_REGIONS if labels.has_regions else _STEPS_OF_LABELS
        there = importlib.util.find_spec("optuna") is not None
        self.sampler = options.sampler or ("tpe" if there else "random")
        if self.sampler == "tpe" and not there:
            raise PlanError("sampler 'tpe' needs Optuna", mend="pip install 'bts_auto[hpo]', or use sampler 'random'")

    @property
    def component(self) -> Component:
        """How it was searched, as it stands in the rule that comes of it."""
        return Component(name="draws", options={"draws": self._draws, "sampler": self.sampler})

    def of(self, probabilities: np.ndarray, reference: np.ndarray) -> CaseCounts:
        """What is kept of a case; arguments as those of :meth:`bts_auto.ensemble.thresholds.GridSearch.of`."""
        foreground = probabilities if self._labels.has_regions else probabilities[1:]
        # Elsewhere nothing is true, and nothing is predicted under any threshold that is drawn.
        counted = (reference != 0) | (foreground > _LOW / 2).any(axis=0)
        if self._labels.ignore is not None:
            counted &= reference != self._labels.ignore
        steps = np.ceil(probabilities[:, counted].T * np.float32(self._steps)).astype(np.uint8)
        rows = np.concatenate([steps, reference[counted, None].astype(np.uint16)], axis=1)
        alike, counts = np.unique(rows, axis=0, return_counts=True)
        return CaseCounts(
            np.ascontiguousarray(alike[:, :-1].T), alike[:, -1].astype(np.int64), counts.astype(np.float64)
        )

    def best(self, cases: Mapping[int, Sequence[CaseCounts]]) -> dict[str, float]:
        """The median over folds of the best draw on each fold's cases.

        What was drawn for a fold with the same cases is remembered: leaving out a case changes one fold.
        """
        chosen = [self._best_of(fold, tuple(own)) for fold, own in sorted(cases.items())]
        return median_of_folds(np.array(chosen), self._labels.foreground)

    def _best_of(self, fold: int, cases: tuple[CaseCounts, ...]) -> np.ndarray:
        if (fold, cases) not in self._found:
            draw = _by_estimator if self.sampler == "tpe" else _at_random
            objective = functools.partial(self._mean_dice, cases)
            self._found[fold, cases] = draw(objective, self._labels.foreground, self._draws, fold)
        return self._found[fold, cases]

    def _mean_dice(self, cases: Sequence[CaseCounts], limits: np.ndarray) -> float:
        return float(np.mean([self.dice(one, limits) for one in cases]))

    def dice(self, case: CaseCounts, limits: np.ndarray) -> float:
        """Mean Dice of a case over the scored regions; a region that is empty in both counts 1."""
        size = 1 + max(self._labels.known_values)
        predicted = self._labels.decode(case.steps / np.float32(self._steps), list(limits))
        couples = predicted.astype(np.int64) * size + case.reference
        confusion = np.bincount(couples, case.counts, size * size).reshape(size, size)
        values = []
        for members in self._regions.values():
            own = list(members)
            both, either = confusion[np.ix_(own, own)].sum(), confusion[own].sum() + confusion[:, own].sum()
            values.append(2 * both / either if either else 1.0)
        return float(np.mean(values))


def _at_random(objective: Objective, names: Sequence[str], draws: int, seed: int) -> np.ndarray:
    """The best of uniform draws, of which the first is 0.5 everywhere."""
    generator = np.random.default_rng(seed)
    tried = _on_steps(generator.uniform(_LOW, _HIGH, (draws, len(names))))
    tried[0] = 0.5
    return tried[int(np.argmax([objective(limits) for limits in tried]))]


def _by_estimator(objective: Objective, names: Sequence[str], draws: int, seed: int) -> np.ndarray:
    """The best of as many draws by a tree-structured Parzen estimator, of which the first is 0.5 everywhere."""
    import optuna

    with _silent("optuna"):
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
        study.enqueue_trial(dict.fromkeys(names, 0.5))
        for _ in range(draws):
            trial = study.ask()
            limits = _on_steps(np.array([trial.suggest_float(name, _LOW, _HIGH) for name in names]))
            study.tell(trial, objective(limits))
        best = study.best_params
    return _on_steps(np.array([best[name] for name in names]))


def _on_steps(limits: np.ndarray) -> np.ndarray:
    return np.rint(limits * _STEPS_OF_REGIONS) / _STEPS_OF_REGIONS


@contextlib.contextmanager
def _silent(logger: str) -> Iterator[None]:
    """No remarks of a library meanwhile; its own setting is put back."""
    found = logging.getLogger(logger)
    level = found.level
    found.setLevel(logging.ERROR)
    try:
        yield
    finally:
        found.setLevel(level)
