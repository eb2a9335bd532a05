"""The plan's JSON Schema, configurations included."""

from __future__ import annotations

from typing import Any

from bts_auto.plan.schema import Plan, SegmentationConfiguration


def plan_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a plan.

    A configuration is either complete, or partial with ``inherits_from``.
    """
    schema = Plan.model_json_schema()
    full = SegmentationConfiguration.model_json_schema()
    definitions = schema.setdefault("$defs", {}) | full.pop("$defs", {})
    partial = {**full, "title": "PartialConfiguration", "required": ["inherits_from"]}
    definitions |= {"SegmentationConfiguration": full, "PartialConfiguration": partial}
    schema["properties"]["configurations"]["additionalProperties"] = {
        "anyOf": [{"$ref": "#/$defs/SegmentationConfiguration"}, {"$ref": "#/$defs/PartialConfiguration"}]
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "required": ["version", *schema.get("required", [])],
        "$defs": definitions,
    }
