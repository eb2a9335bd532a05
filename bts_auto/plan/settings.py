"""Single fields of a plan changed by hand: ``training.epochs=50``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from bts_auto.documents import parse
from bts_auto.errors import PlanError
from bts_auto.plan.schema import Plan

_WORDS = {"none": None, "true": True, "false": False}
# Fields of the whole plan that may be changed for one training, as a recipe may.
_OF_THE_PLAN = ("target",)
# A field of the training that has an entry for each resolution of one network.
_OF_ITS_SIZES = "deep_supervision_weights"


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
        elif isinstance(node[key], str) and path[1] == "options":
            node[key] = {"name": node[key]}
        _assign(node[key], path[1:], value)
        return
    if key == "name" and isinstance(node, dict) and node.get("name") != value and "options" in node:
        node["options"] = {}  # they belong to the component that is replaced
    node[key] = value


def apply_settings(plan: Plan, settings: Sequence[str], configuration: str | None = None) -> Plan:
    """The plan with fields of a configuration changed.

    What is said of the training also holds for the stages before the configuration, which may have to be trained for
    it; sizes and everything else are the configuration's own. ``target`` is a field of the whole plan.

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
    changes = [(setting, *_parsed(setting)) for setting in settings]
    values = plan.model_dump(mode="json")
    for setting, parts, value in changes:
        if parts[0] in _OF_THE_PLAN:
            _assign_said(values, parts, value, setting)
    own = [change for change in changes if change[1][0] not in _OF_THE_PLAN]
    for name, earlier in _changed(plan, configuration):
        resolved = plan.configuration(name).model_dump(mode="json")
        for setting, parts, value in own:
            if earlier and not _holds_for_earlier(parts):
                continue
            _assign_said(resolved, parts, value, setting)
            values["configurations"][name][parts[0]] = resolved[parts[0]]
    changed = parse(Plan, values)
    changed.check()
    return changed


def _parsed(setting: str) -> tuple[list[str], Any]:
    """The path and the value."""
    path, sign, text = setting.partition("=")
    parts = [part.strip() for part in path.split(".")]
    if not sign or not all(parts):
        raise PlanError(f"'{setting}' is not of the form field=value", mend="write --set training.epochs=50")
    return parts, _value(text.strip())


def _assign_said(node: Any, path: list[str], value: Any, setting: str) -> None:
    """As :func:`_assign`; an error names the setting."""
    try:
        _assign(node, path, value)
    except PlanError as error:
        raise PlanError(error.what, where=setting) from None


def _changed(plan: Plan, configuration: str | None) -> list[tuple[str, bool]]:
    """The configurations that are changed, and whether each is only a stage before the one that is meant."""
    if configuration is None:
        return [(name, False) for name, entry in plan.configurations.items() if not entry.get("inherits_from")]
    return [(configuration, False), *((name, True) for name in plan.stages_before(configuration))]


def _holds_for_earlier(path: list[str]) -> bool:
    return path[0] == "training" and path[1:2] != [_OF_ITS_SIZES]
