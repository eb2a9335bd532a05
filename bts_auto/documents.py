"""The base of every document that is read from disk: strict pydantic models, and errors that name the nearest key."""

from __future__ import annotations

import difflib
from typing import Any, TypeVar

import pydantic

from bts_auto.errors import PlanError


class Document(pydantic.BaseModel):
    """A frozen model that refuses unknown keys."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


D = TypeVar("D", bound=pydantic.BaseModel)


def _known_keys(model: type[pydantic.BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """All keys that the models along `location` know; used to suggest the nearest one."""
    keys: set[str] = set()
    seen: set[type] = set()

    def visit(kind: Any) -> None:
        if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel) and kind not in seen:
            seen.add(kind)
            for name, field in kind.model_fields.items():
                keys.add(name)
                visit(field.annotation)
        for inner in getattr(kind, "__args__", ()):
            visit(inner)

    visit(model)
    return sorted(keys)


def _line(model: type[pydantic.BaseModel], error: Any) -> str:
    location = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(error["loc"][-1]), _known_keys(model, error["loc"]), n=1)
        return f"unknown key '{location}'" + (f" (did you mean '{near[0]}'?)" if near else "")
    words = error["msg"].removeprefix("Value error, ")
    return f"'{location}': {words}" if location else words


def parse(model: type[D], values: Any, *, where: object = None, mend: str | None = None) -> D:
    """Validate `values` as `model`.

    Raises
    ------
    PlanError
        One line with every problem; an unknown key is named with the nearest known one.
    """
    try:
        return model.model_validate(values)
    except pydantic.ValidationError as error:
        problems = "; ".join(_line(model, one) for one in error.errors())
        raise PlanError(problems, where=where, mend=mend) from None
