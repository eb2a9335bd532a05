"""Name -> component. A table of data: importing this module imports no component, and no plan can name a path.

Every entry says where the component lives and where its options do. Options are pydantic models in modules that need no
torch, so that a plan can be validated, listed and described without loading one.
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from typing import Any

from bts_auto.errors import PlanError


@dataclass(frozen=True)
class Entry:
    """Where a component and its options live, each as ``"module:attribute"``; `options` None: it has none."""

    component: str
    options: str | None = None


TABLE: dict[str, dict[str, Entry]] = {
    "normaliser": {
        "ZScoreNormalization": Entry("bts_auto.preprocess.normalise:z_score"),
        "CTNormalization": Entry("bts_auto.preprocess.normalise:ct"),
        "NoNormalization": Entry("bts_auto.preprocess.normalise:unchanged"),
        "RescaleTo01Normalization": Entry("bts_auto.preprocess.normalise:rescale_to_0_1"),
        "RGBTo01Normalization": Entry("bts_auto.preprocess.normalise:rgb_to_0_1"),
    },
    "network": {
        "plain_unet": Entry("bts_auto.networks.unet:plain_unet", "bts_auto.networks.options:PlainUNetOptions"),
        "residual_unet": Entry("bts_auto.networks.unet:residual_unet", "bts_auto.networks.options:ResidualUNetOptions"),
    },
    "loss": {
        "dice": Entry("bts_auto.losses.dice:SoftDice", "bts_auto.losses.options:DiceOptions"),
        "cross_entropy": Entry("bts_auto.losses.cross_entropy:CrossEntropy", "bts_auto.losses.options:CrossEntropyOptions"),
    },
    "optimizer": {
        "adam": Entry("bts_auto.train.optimizers:adam", "bts_auto.train.options:AdamOptions"),
        "adamw": Entry("bts_auto.train.optimizers:adamw", "bts_auto.train.options:AdamWOptions"),
        "sgd": Entry("bts_auto.train.optimizers:sgd", "bts_auto.train.options:SGDOptions"),
    },
    "schedule": {
        "constant": Entry("bts_auto.train.schedules:constant", "bts_auto.train.options:ConstantOptions"),
        "cosine": Entry("bts_auto.train.schedules:cosine", "bts_auto.train.options:CosineOptions"),
        "one_cycle": Entry("bts_auto.train.schedules:one_cycle", "bts_auto.train.options:OneCycleOptions"),
        "poly": Entry("bts_auto.train.schedules:poly", "bts_auto.train.options:PolyOptions"),
    },
    "objective": {
        "segmentation": Entry(
            "bts_auto.train.objectives.segmentation:Segmentation", "bts_auto.train.options:SegmentationOptions"
        ),
    },
    "augmentation": {},
    "combiner": {},
    "postprocessing": {},
    "metric": {},
}


def names(kind: str) -> tuple[str, ...]:
    """The registered names of a kind, sorted."""
    return tuple(sorted(TABLE[kind]))


def _entry(kind: str, name: str) -> Entry:
    try:
        return TABLE[kind][name]
    except KeyError:
        near = difflib.get_close_matches(name, TABLE[kind], n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(names(kind)) or 'none'}"
        raise PlanError(f"no {kind} is called '{name}'", mend=hint) from None


def _load(reference: str) -> Any:
    module, attribute = reference.split(":")
    return getattr(importlib.import_module(module), attribute)


def component(kind: str, name: str) -> Any:
    """Import and return a component.

    Raises
    ------
    PlanError
        When no component of that kind has that name; the nearest name is suggested.
    """
    return _load(_entry(kind, name).component)


def options(kind: str, name: str, values: dict[str, Any] | None = None) -> Any:
    """Validate `values` as the options of a component (None where the component has none).

    Raises
    ------
    PlanError
        For an unknown component, an unknown option (the nearest one is named) or a value that does not fit.
    """
    from bts_auto.documents import parse

    entry = _entry(kind, name)
    if entry.options is None:
        if values:
            raise PlanError(f"{kind} '{name}' takes no options, got {', '.join(values)}")
        return None
    return parse(_load(entry.options), values or {}, where=f"options of {kind} '{name}'")
