"""How integers, names, nested regions, network channels and the ignore label relate. Nobody else writes such a rule."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bts_auto.errors import DataError

BACKGROUND = "background"
IGNORE = "ignore"
_WHERE = "dataset.json"
_HALF = 0.5
# Names of tissues in the BraTS challenges 2012 to 2025 and in datasets made from them, in the spelling of `_plain`.
_NECROSIS = ("necrosis", "necrotic", "necrotic_core", "necrotic_tumor_core", "ncr", "nc", "ncr_net", "netc")
_NON_ENHANCING = ("non_enhancing", "nonenhancing", "non_enhancing_tumor", "non_enhancing_tumor_core", "net", "net_ncr")
_CYSTIC = ("cystic", "cystic_component", "cyst", "cc")
_EDEMA = ("edema", "ed", "peritumoral", "peritumoral_edema", "snfh", "peritumoral_edematous_invaded_tissue")
_ENHANCING = ("enhancing", "et", "enhancing_tumor", "gd_enhancing_tumor", "enhancing_tumor_core", "at", "active_tumor")
# Names of the nested regions, likewise, in datasets that declare them.
_REGIONS = {
    "WT": ("wt", "whole_tumor", "whole", "complete_tumor"),
    "TC": ("tc", "tumor_core", "core"),
    "ET": _ENHANCING,
}
# Left by surgery; BraTS counts it to none of WT, TC and ET.
_CAVITY = ("resection_cavity", "cavity", "rc")


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
    parts : mapping of str to tuple of int
        For regions that were made of plain labels (:meth:`as_regions`): those labels.
    shares : mapping of str to mapping of int to float
        For regions that are trained as soft targets: how far each integer belongs to them, 0 to 1; integers of the
        region that are not named belong to it wholly. Everything but training goes by `values`.
    """

    values: Mapping[str, tuple[int, ...]]
    regions_class_order: tuple[int, ...] = ()
    ignore: int | None = None
    submission: Mapping[int, int] = field(default_factory=dict)
    parts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    shares: Mapping[str, Mapping[int, float]] = field(default_factory=dict)

    @classmethod
    def from_dataset(cls, dataset: Mapping) -> Labels:
        """Read them from the content of an nnU-Net v2 dataset.json (plus our optional ``submission_labels``).

        Raises
        ------
        DataError
            For every wrong declaration: background is not 0, a value repeats or is no integer, regions come without
            a fitting ``regions_class_order``, the ignore label is not the highest.
        """
        declared = dataset.get("labels")
        if not isinstance(declared, Mapping) or not declared:
            raise DataError("needs 'labels', such as {'background': 0, 'tumour': 1}", where=_WHERE)
        if BACKGROUND not in declared and all(str(name).isdigit() for name in declared):
            raise DataError(
                "'labels' stand the wrong way round", where=_WHERE, mend="write name: value, not value: name"
            )
        values = {str(name): _as_tuple(value, str(name)) for name, value in declared.items()}
        ignore = values.pop(IGNORE, None)
        if ignore is not None and len(ignore) != 1:
            raise DataError("the ignore label must be a single integer", where=_WHERE)
        order = _as_tuple(dataset.get("regions_class_order") or (), "regions_class_order")
        try:
            submission = {int(own): int(v) for own, v in (dataset.get("submission_labels") or {}).items()}
        except (AttributeError, TypeError, ValueError):
            raise DataError("'submission_labels' must map integers to integers", where=_WHERE) from None
        regional = any(len(value) > 1 for value in values.values())
        shares = _shares(dataset.get("soft_labels") or {})
        labels = cls(values, order if regional else (), ignore[0] if ignore else None, submission, shares=shares)
        labels._check()
        return labels

    @classmethod
    def from_regions(cls, regions: Mapping[str, tuple[int, ...]]) -> Labels:
        """Labels that are only to be scored: names and the integers that belong to each, without an output order.

        Raises
        ------
        DataError
            When a region is without integers, or one of them is not above 0.
        """
        wrong = [name for name, members in regions.items() if not members or min(members) < 1]
        if wrong or not regions:
            raise DataError(f"region '{wrong[0] if wrong else ''}' needs integers above 0", mend="write WT=1,2,3")
        return cls({BACKGROUND: (0,)} | {name: tuple(members) for name, members in regions.items()})

    def _check(self) -> None:
        if self.values.get(BACKGROUND) != (0,):
            raise DataError("label 'background' must be 0", where=_WHERE)
        if not self.foreground:
            raise DataError("no label but the background", where=_WHERE)
        wrong = [name for name in self.foreground if not self.values[name] or min(self.values[name]) < 1]
        if wrong:
            raise DataError(f"label '{wrong[0]}' must be an integer above 0 or a list of them", where=_WHERE)
        if self.ignore is not None and self.ignore <= max(self.known_values):
            raise DataError(f"the ignore label {self.ignore} must be the highest value", where=_WHERE)
        strange = [own for own in self.submission if own not in self.known_values]
        if strange:
            raise DataError(f"'submission_labels' names {strange[0]}, which is no label", where=_WHERE)
        # Two labels written with one integer could not be told apart again.
        written = [self.submission.get(value, value) for value in self.known_values]
        if len(set(written)) < len(written):
            raise DataError("'submission_labels' writes two labels with the same integer", where=_WHERE)
        for name in self.shares:
            if not self.has_regions or name not in self.foreground:
                raise DataError(f"'soft_labels' names '{name}', which is no region", where=_WHERE)
        if self.has_regions:
            self._check_regions()
            return
        first: dict[int, str] = {}
        for name, (value, *_) in self.values.items():
            if first.setdefault(value, name) != name:
                raise DataError(f"labels '{first[value]}' and '{name}' have the same value {value}", where=_WHERE)

    def _check_regions(self) -> None:
        if len(self.regions_class_order) != len(self.foreground):
            raise DataError(
                f"{len(self.foreground)} regions but {len(self.regions_class_order)} values in regions_class_order",
                where=_WHERE,
                mend="give one integer for each region, the outermost region first",
            )
        for name, painted in zip(self.foreground, self.regions_class_order, strict=True):
            if painted not in self.values[name]:
                raise DataError(
                    f"regions_class_order paints region '{name}' with {painted}, which is not one of its labels",
                    where=_WHERE,
                    mend="give the values in the order of the regions under 'labels'",
                )

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
        soft = {v for shares in self.shares.values() for v in shares}
        return tuple(sorted({v for value in self.values.values() for v in value} | soft))

    def unknown(self, mask: np.ndarray) -> dict[int, int]:
        """Integers in `mask` that the dataset does not know, with their voxel counts."""
        found, counts = np.unique(mask[mask != 0], return_counts=True)
        known = {*self.known_values, self.ignore}
        return {int(v): int(n) for v, n in zip(found, counts, strict=True) if int(v) not in known}

    def check_known(self, mask: np.ndarray, what: object) -> None:
        """Refuse a mask with integers that the dataset does not know.

        Raises
        ------
        DataError
            It begins with `what` and names them with their voxel counts.
        """
        unknown = self.unknown(mask)
        if unknown:
            listed = ", ".join(f"{value} ({count} voxels)" for value, count in unknown.items())
            known = ", ".join(map(str, self.known_values))
            raise DataError(f"{what} has labels that the dataset does not know: {listed}", mend=f"known are {known}")

    def members(self) -> tuple[tuple[int, ...], ...]:
        """For each network channel the integers that belong to it."""
        return tuple(self.values[name] for name in self.outputs)

    def decode(self, scores: np.ndarray, limits: Sequence[float] | None = None) -> np.ndarray:
        """Turn scores into a label map.

        Parameters
        ----------
        scores : ndarray, shape (k, ...)
            One entry per `outputs`. Plain labels: anything monotone in the probability; regions: probabilities.
        limits : sequence of float, optional
            A threshold for each foreground label or region, in order; default: 0.5. Plain labels are compared after
            each probability was divided by its threshold, background's by 0.5.

        Returns
        -------
        ndarray of uint8 (uint16 above 255 labels), shape (...)
            Plain labels: the best; regions: painted in order where the probability exceeds the threshold.
        """
        kind = np.uint8 if max(self.known_values) < 256 else np.uint16  # nnU-Net's types
        if not self.has_regions:
            if limits is not None:
                scale = np.array([1.0, *(_HALF / limit for limit in limits)], np.float32)
                scores = scores * scale.reshape(-1, *[1] * (scores.ndim - 1))
            return np.array([value[0] for value in self.members()], dtype=kind)[np.argmax(scores, axis=0)]
        out = np.zeros(scores.shape[1:], dtype=kind)
        limits = [_HALF] * len(scores) if limits is None else limits
        for painted, score, limit in zip(self.regions_class_order, scores, limits, strict=True):
            out[score > limit] = painted
        return out

    def for_submission(self, mask: np.ndarray) -> np.ndarray:
        """The mask with the integers that its readers expect (see `submission`)."""
        out = mask.copy()
        for own, wanted in self.submission.items():
            out[mask == own] = wanted
        return out

    def from_submission(self, mask: np.ndarray) -> np.ndarray:
        """Undo :meth:`for_submission` for the integers that the dataset itself does not know.

        A mask without such integers is returned as it is, not copied.
        """
        back = {wanted: own for own, wanted in self.submission.items() if wanted not in self.known_values}
        if not any(value in back for value in self.unknown(mask)):
            return mask
        out = mask.copy()
        for wanted, own in back.items():
            out[mask == wanted] = own
        return out

    def scoring(self) -> dict[str, tuple[int, ...]]:
        """What is scored: every label or region, and WT, TC and ET where the names are a tumour's tissues."""
        scored = {name: self.values[name] for name in self.foreground}
        return scored | self.tumour_regions()

    def tumour_regions(self) -> dict[str, tuple[int, ...]]:
        """WT, TC and ET as integers; empty when regions are declared or the names are not a tumour's tissues.

        TC holds necrosis, non-enhancing, cystic and enhancing tumour, WT the edema besides; a resection cavity belongs
        to neither (BraTS 2024).
        """
        if self.has_regions:
            return {}
        core = self._tissue(_NECROSIS, _NON_ENHANCING, _CYSTIC, _ENHANCING)
        edema, enhancing, cavity = self._tissue(_EDEMA), self._tissue(_ENHANCING), self._tissue(_CAVITY)
        if not enhancing or not edema or len(core) + len(edema) + len(cavity) != len(self.foreground):
            return {}
        return {"WT": tuple(sorted(core + edema)), "TC": core, "ET": enhancing}

    def _tissue(self, *kinds: tuple[str, ...]) -> tuple[int, ...]:
        """The integers of the plain labels that are named like one of the tissues, sorted."""
        named = ((_plain(name), self.values[name][0]) for name in self.foreground)
        return tuple(sorted(value for name, value in named if any(name in kind for kind in kinds)))

    def as_regions(self) -> Labels:
        """The same integers as the overlapping regions WT, TC and ET, for networks that are trained on what is scored.

        Edema is painted for WT, necrosis (else the lowest label of the core) for TC, enhancing tumour for ET. A
        resection cavity becomes a region of its own. Labels that are no tumour's tissues, and declared regions, stay.
        """
        tumour = self.tumour_regions()
        if not tumour:
            return self
        inner = tuple(value for value in tumour["TC"] if value not in tumour["ET"]) or tumour["TC"]
        painted = [self._tissue(_EDEMA)[0], (self._tissue(_NECROSIS) or inner)[0], tumour["ET"][0]]
        rest = {name: self.values[name] for name in self.foreground if self.values[name][0] not in tumour["WT"]}
        return Labels(
            {BACKGROUND: (0,)} | tumour | rest,
            (*painted, *(value[0] for value in rest.values())),
            self.ignore,
            self.submission,
            {name: self.values[name] for name in self.foreground},
        )

    @staticmethod
    def common(several: Sequence[Labels]) -> Labels:
        """The labels in which networks of one dataset with these labels can be compared.

        Those of all where they agree; where some were trained on regions and others on the plain labels, the regions.

        Raises
        ------
        DataError
            When they belong to different datasets.
        """
        first = several[0]
        if all(one.outputs == first.outputs for one in several):
            return first
        regions = next((one.as_regions() for one in several if not one.has_regions), first)
        for one in several:
            regions.channels_of(one.outputs)
        return regions

    def channels_of(self, outputs: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        """For each of these outputs, the channels of a network with `outputs` whose probabilities add up to it.

        Raises
        ------
        DataError
            When `outputs` are neither the same nor the plain labels that these regions were made of.
        """
        if tuple(outputs) == self.outputs:
            return tuple((channel,) for channel in range(len(outputs)))
        if not self.parts or tuple(outputs) != (BACKGROUND, *self.parts):
            raise DataError(f"holds {', '.join(outputs)}, not {', '.join(self.outputs)}")
        return tuple(
            tuple(i for i, name in enumerate(outputs) if name in self.parts and self.parts[name][0] in region)
            for region in self.members()
        )

    def declared(self, name: str) -> str | None:
        """The label or region that goes by a name: its own, whatever the case, or WT, TC or ET where it means one."""
        plain = next((one for one in self.nameable() if one.lower() == name.lower()), None)
        if plain is not None or not self.has_regions:
            return plain
        return next((one for one in self.foreground if _plain(one) in _REGIONS.get(name.upper(), ())), None)

    def nameable(self) -> dict[str, tuple[int, ...]]:
        """What rules may name: labels and regions, WT, TC and ET, and the label that a region was made of."""
        return dict(self.values) | self.tumour_regions() | {k: v for k, v in self.parts.items() if k not in self.values}


def _plain(name: str) -> str:
    """A label's name as it stands in the lists of tissues: lower case, American, single underscores."""
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return plain.replace("oedema", "edema").replace("tumour", "tumor")


def _shares(declared: object) -> dict[str, dict[int, float]]:
    """``{"tumour": {"1": 0.5}}`` with its numbers as numbers."""
    try:
        found = {str(n): {int(v): float(s) for v, s in per.items()} for n, per in declared.items()}  # type: ignore[attr-defined]
    except (AttributeError, TypeError, ValueError):
        raise DataError("'soft_labels' must be like {'tumour': {'1': 0.5}}", where=_WHERE) from None
    for name, per in found.items():
        if any(value < 1 or not 0 <= share <= 1 for value, share in per.items()):
            raise DataError(f"'soft_labels' of '{name}' must map integers above 0 to shares 0 to 1", where=_WHERE)
    return found


def _as_tuple(value: object, name: str) -> tuple[int, ...]:
    parts: list[Any] = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if any(isinstance(part, bool) or not isinstance(part, (int, np.integer)) for part in parts):
        raise DataError(f"'{name}' must be an integer or a list of integers, not {value!r}", where=_WHERE)
    return tuple(int(part) for part in parts)
