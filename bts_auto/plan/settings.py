"""Single fields of a plan changed by hand: ``training.epochs=50``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from bts_auto.documents import parse
from bts_auto.errors import PlanError
from bts_auto.plan.schema import Plan

_WORDS = {"none": None, "true": True, "false": False}


def _value(text: str) -> Any:
    """JSON where it is JSON, otherwise the text itself (so that names need no quotes)."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return _WORDS.get(text.casefold(), text)


def _assign(node: Any, path: list[str], value: Any) -> None:
    """Set `value` at `path` in nested mappings and lists; an unknown key is left for the schema to refuse."""
    key: Any = path[0]
    if isinstance(node, list):
        if not key.isdecimal() or int(key) >= len(node):
            raise PlanError(f"'{key}' is no position in a list of {len(node)}")
        key = int(key)
    elif not isinstance(node, dict):
        raise PlanError(f"there is no field '{key}' below a plain value")
    if len(path) > 1:
        if isinstance(node, dict) and node.get(key) is None:
            node[key] = {}
        _assign(node[key], path[1:], value)
        return
    if key == "name" and isinstance(node, dict) and node.get("name") != value and "options" in node:
        node["options"] = {}  # they belong to the component that is replaced
    node[key] = value


def apply_settings(plan: Plan, settings: Sequence[str], configuration: str | None = None) -> Plan:
    """The plan with fields of a configuration changed.

    Parameters
    ----------
    settings : sequence of str
        Each ``path=value``: the path's parts are separated by dots, list entries are numbered from 0; the value is JSON
        or a bare word. ``training.epochs=50``, ``training.loss.0.weight=2``, ``patch_size=[64,64,64]``.
    configuration : str, optional
        The configuration that is changed; None: all that do not inherit.

    Raises
    ------
    PlanError
        For a malformed setting, an unknown field (the nearest one is named) or a value that does not fit.
    """
    if configuration is not None:
        plan.configuration(configuration)
    chosen = [configuration] if configuration is not None else _roots(plan)
    values = plan.model_dump(mode="json")
    for name in chosen:
        resolved = plan.configuration(name).model_dump(mode="json")
        for setting in settings:
            path, sign, text = setting.partition("=")
            parts = [part.strip() for part in path.split(".")]
            if not sign or not all(parts):
                raise PlanError(f"'{setting}' is not of the form field=value", mend="write --set training.epochs=50")
            try:
                _assign(resolved, parts, _value(text.strip()))
            except PlanError as error:
                raise PlanError(error.what, where=setting) from None
            values["configurations"][name][parts[0]] = resolved[parts[0]]
    changed = parse(Plan, values)
    changed.check()
    return changed


def _roots(plan: Plan) -> list[str]:
    return [name for name, entry in plan.configurations.items() if not entry.get("inherits_from")]
