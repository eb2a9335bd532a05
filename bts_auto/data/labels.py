"""How integers, names, nested regions, network channels and the ignore label relate. Nobody else writes such a rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bts_auto.errors import DataError

BACKGROUND = "background"
IGNORE = "ignore"
# Names under which the BraTS tissue classes appear in published datasets, for deriving the nested regions.
_NECROSIS = ("necrosis", "necrotic", "ncr", "net", "ncr_net", "non_enhancing", "nonenhancing", "non-enhancing")
_EDEMA = ("edema", "oedema", "ed", "peritumoral")
_ENHANCING = ("enhancing", "et", "enhancing_tumor", "enhancing_tumour")


@dataclass(frozen=True)
class Labels:
    """The labels of a dataset.

    Attributes
    ----------
    values : mapping of str to tuple of int
        For each name the integers in a mask that belong to it; one integer for a plain label, several for a region.
        Background is included as ``(0,)``, the ignore label is not.
    regions_class_order : tuple of int
        For regions: the integer painted for each region, in the order of the regions; empty for plain labels.
    ignore : int or None
        The integer that marks voxels without annotation.
    submission : mapping of int to int
        Integers to be written to output masks in place of the dataset's own (``{3: 4}`` for older BraTS years).
    """

    values: Mapping[str, tuple[int, ...]]
    regions_class_order: tuple[int, ...] = ()
    ignore: int | None = None
    submission: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def from_dataset(cls, dataset: Mapping) -> Labels:
        """Read them from the content of an nnU-Net v2 dataset.json (plus our optional ``submission_labels``).

        Raises
        ------
        DataError
            When background is not 0, a value repeats, or regions come without ``regions_class_order``.
        """
        declared = dict(dataset["labels"])
        ignore = declared.pop(IGNORE, None)
        values = {name: _as_tuple(value) for name, value in declared.items()}
        order = tuple(int(v) for v in dataset.get("regions_class_order") or ())
        submission = {int(k): int(v) for k, v in (dataset.get("submission_labels") or {}).items()}
        labels = cls(values, order if any(len(v) > 1 for v in values.values()) else (), ignore, submission)
        labels._check()
        return labels

    def _check(self) -> None:
        if self.values.get(BACKGROUND) != (0,):
            raise DataError("label 'background' must be 0", where="dataset.json")
        if self.has_regions and len(self.regions_class_order) != len(self.foreground):
            raise DataError(
                f"{len(self.foreground)} regions but {len(self.regions_class_order)} values in regions_class_order",
                where="dataset.json",
                mend="give one integer for each region, the outermost region first",
            )
        if not self.has_regions and len({v for v in self.values.values()}) != len(self.values):
            raise DataError("two labels have the same value", where="dataset.json")
        if self.ignore is not None and self.ignore <= max(self.known_values):
            raise DataError("the ignore label must be the highest value", where="dataset.json")

    @property
    def has_regions(self) -> bool:
        """Whether the network predicts overlapping regions (sigmoid) instead of exclusive labels (softmax)."""
        return any(len(value) > 1 for value in self.values.values())

    @property
    def foreground(self) -> tuple[str, ...]:
        """Names of all labels or regions but the background, in network order."""
        return tuple(name for name in self.values if name != BACKGROUND)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The name of each network channel: the regions, or background and the labels."""
        return self.foreground if self.has_regions else (BACKGROUND, *self.foreground)

    @property
    def known_values(self) -> tuple[int, ...]:
        """Every integer that may stand in a mask, sorted, without the ignore label."""
        return tuple(sorted({v for value in self.values.values() for v in value}))

    def unknown(self, mask: np.ndarray) -> dict[int, int]:
        """Integers in `mask` that the dataset does not know, with their voxel counts."""
        found, counts = np.unique(mask, return_counts=True)
        known = {*self.known_values, self.ignore}
        return {int(v): int(n) for v, n in zip(found, counts, strict=True) if int(v) not in known}

    def members(self) -> tuple[tuple[int, ...], ...]:
        """For each network channel the integers that belong to it."""
        return tuple(self.values[name] for name in self.outputs)

    def decode(self, scores: np.ndarray) -> np.ndarray:
        """Turn scores into a label map.

        Parameters
        ----------
        scores : ndarray, shape (k, ...)
            One entry per `outputs`. Plain labels: anything monotone in the probability; regions: probabilities.

        Returns
        -------
        ndarray of uint8 (uint16 above 255 labels), shape (...)
            Plain labels: the best; regions: painted in order where the probability exceeds 0.5.
        """
        kind = np.uint8 if max(self.known_values) < 256 else np.uint16
        if not self.has_regions:
            return np.array([value[0] for value in self.members()], dtype=kind)[np.argmax(scores, axis=0)]
        out = np.zeros(scores.shape[1:], dtype=kind)
        for painted, score in zip(self.regions_class_order, scores, strict=True):
            out[score > 0.5] = painted
        return out

    def for_submission(self, mask: np.ndarray) -> np.ndarray:
        """The mask with the integers that its readers expect (see `submission`)."""
        out = mask.copy()
        for own, wanted in self.submission.items():
            out[mask == own] = wanted
        return out

    def scoring(self) -> dict[str, tuple[int, ...]]:
        """What is scored: every label or region, and WT, TC and ET where the names are a tumour's tissues."""
        scored = {name: self.values[name] for name in self.foreground}
        return scored | self.tumour_regions()

    def tumour_regions(self) -> dict[str, tuple[int, ...]]:
        """WT, TC and ET as integers; empty when regions are declared or the names are not a tumour's tissues."""
        if self.has_regions:
            return {}
        tissue = {name.lower().replace(" ", "_"): self.values[name][0] for name in self.foreground}
        core = [value for name, value in tissue.items() if name in _NECROSIS]
        enhancing = [value for name, value in tissue.items() if name in _ENHANCING]
        edema = [value for name, value in tissue.items() if name in _EDEMA]
        if not (enhancing and edema) or len(core) + len(enhancing) + len(edema) != len(tissue):
            return {}
        return {
            "WT": tuple(sorted(core + enhancing + edema)),
            "TC": tuple(sorted(core + enhancing)),
            "ET": tuple(sorted(enhancing)),
        }


def _as_tuple(value: int | Sequence[int]) -> tuple[int, ...]:
    return tuple(int(v) for v in value) if isinstance(value, Sequence) else (int(value),)
