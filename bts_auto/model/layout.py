"""Where trained folds lie and what their files are called. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

PLAN_FILE = "plan.json"
WEIGHTS_FILE = "checkpoint.safetensors"
# What engines made of the weights: may be deleted at any time.
CONVERTED = "converted"
# What is trained by the plan alone.
DEFAULT_RECIPE = "default"
FoldName = int | Literal["all"]


def configuration_folder(results: Path, recipe: str, configuration: str) -> Path:
    """Where the folds of a recipe's configuration lie below the results of its dataset."""
    return results / f"{recipe}__{configuration}"


def recipe_and_configuration(folder: Path) -> tuple[str, str]:
    """What :func:`configuration_folder` was made of; a recipe's name holds no ``__``."""
    recipe, _, configuration = folder.name.partition("__")
    return recipe, configuration


def recipe_option(recipe: str) -> str:
    """The option by which a command is told of a recipe, with a space before it; nothing for the plan alone.

    A member of an ensemble, ``ENSEMBLE.MEMBER`` in the names of folders, is typed as ``ENSEMBLE:MEMBER``.
    """
    return "" if recipe == DEFAULT_RECIPE else f" --recipe {recipe.replace('.', ':')}"


def fold_folder(results: Path, recipe: str, configuration: str, fold: FoldName) -> Path:
    """Where a fold lies below the results of its dataset."""
    return configuration_folder(results, recipe, configuration) / f"fold_{fold}"
