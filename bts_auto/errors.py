"""The errors that a user sees: one line that says what is wrong, where, and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass


class BtsError(Exception):
    """Something that the user can mend.

    Parameters
    ----------
    what : str
        What is wrong, as a phrase without a full stop: ``"label value 7 is not in dataset.json"``.
    where : object, optional
        The file, folder, case or option that is meant.
    mend : str, optional
        What to do about it: ``"add it under 'labels' or correct the mask"``.
    """

    def __init__(self, what: str, *, where: object = None, mend: str | None = None) -> None:
        self.what, self.where, self.mend = what, where, mend
        line = what if where is None else f"{where}: {what}"
        super().__init__(line if mend is None else f"{line} - {mend}")

    def __reduce__(self):  # travels through process pools with its keyword arguments
        return _rebuild, (type(self), self.what, self.where, self.mend)


def _rebuild(kind: type[BtsError], what: str, where: object, mend: str | None) -> BtsError:
    return kind(what, where=where, mend=mend)


class DataError(BtsError):
    """A case, a file or a dataset that cannot be used as it is."""


class PlanError(BtsError):
    """A plan, recipe or option that does not fit."""


class ModelError(BtsError):
    """A trained model or model package that is missing, damaged or of another version."""


@dataclass(frozen=True)
class CaseFailure:
    """One case that could not be done while the others went on; `reason` is one line, the case not repeated in it."""

    case: str
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", self.reason.removeprefix(f"{self.case}: "))

    def __str__(self) -> str:
        return f"{self.case}: {self.reason}"
