"""Options of the losses, as they stand in a plan. Needs no torch."""

from __future__ import annotations

from pydantic import Field

from bts_auto.documents import Document


class DiceOptions(Document):
    """Soft Dice; defaults are nnU-Net v2's."""

    smooth: float = Field(default=1e-5, ge=0, description="added to numerator and denominator")
    background: bool = Field(default=False, description="whether softmax's background counts; regions have none")


class CrossEntropyOptions(Document):
    """Cross entropy (softmax) or binary cross entropy (regions)."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
