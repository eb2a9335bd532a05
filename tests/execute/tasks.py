"""Tasks that worker processes can import."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import uuid4

from bts_auto.errors import ModelError


@dataclass(frozen=True)
class Squares:
    """Squares of numbers, with the mark of the state that made them; 13 kills its worker, 0 is an error."""

    fails: bool = False
    token: str = field(default_factory=lambda: uuid4().hex)

    def prepare(self, device: str) -> tuple[str, str]:
        if self.fails:
            raise ModelError("cannot be loaded", where=device)
        return uuid4().hex, device

    def do(self, state: tuple[str, str], job: tuple[int, ...]) -> Iterator[tuple[int, str, str]]:
        for number in job:
            if number == 13:
                os.kill(os.getpid(), signal.SIGKILL)
            if number == 0:
                raise ValueError("zero")
            yield number**2, *state
