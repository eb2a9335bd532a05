"""Laying one document over another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the fields of `over`, mappings merged field by field, everything else (lists too) replaced.

    A component under another name replaces the whole component, since options belong to the component they were
    written for.

    Examples
    --------
    >>> merge({"training": {"epochs": 1000, "seed": 0}}, {"training": {"epochs": 50}})
    {'training': {'epochs': 50, 'seed': 0}}
    >>> merge({"loss": {"name": "dice", "options": {"smooth": 1}}}, {"loss": {"name": "focal"}})
    {'loss': {'name': 'focal'}}
    """
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping) and not _other_component(below, value):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def _other_component(base: Mapping[str, Any], over: Mapping[str, Any]) -> bool:
    return "name" in base and "name" in over and base["name"] != over["name"]
