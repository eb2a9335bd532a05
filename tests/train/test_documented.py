"""Every training option is described in docs/training.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from bts_auto import registry
from bts_auto.plan.schema import Training

TEXT = (Path(__file__).parents[2] / "docs" / "training.md").read_text()


@pytest.mark.parametrize("kind", ["augmentation", "loss", "mixing", "objective", "optimizer", "schedule"])
def test_every_component_is_described(kind: str) -> None:
    assert [name for name in registry.names(kind) if f"`{name}`" not in TEXT] == []


def test_every_field_is_described() -> None:
    assert [name for name in Training.model_fields if f"`{name}`" not in TEXT] == []
