"""Options of the executors."""

from __future__ import annotations

from pydantic import Field

from bts_auto.documents import Document


class SerialOptions(Document):
    """One worker: this process."""

    device: str = "auto"


class LocalOptions(Document):
    """A process for each device; a device that is named twice gets two."""

    devices: tuple[str, ...] = Field(min_length=1)


class DaskOptions(Document):
    """The workers of a cluster that is there: the address of its scheduler, ``tcp://10.0.0.7:8786``."""

    scheduler: str = Field(min_length=1)
    device: str = "auto"
