"""Cases that are annotated for some of the labels only.

``dataset.json`` may say ``"partial_labels": {"case_007": ["edema"]}``: for each such case the labels or regions that
were looked for. All that the others name is then background in its mask, and nobody knows what it really is. Cases that
are not listed are annotated in full.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bts_auto.data.labels import BACKGROUND, Labels
from bts_auto.errors import DataError

KEY = "partial_labels"

Annotated = tuple[str, ...] | None
"""The labels and regions that a case is annotated for; None: all of them."""


def read_partial_labels(document: Mapping[str, Any], labels: Labels, path: Path) -> dict[str, tuple[str, ...]]:
    """What dataset.json says under ``partial_labels``: for each case that is annotated in part, for what.

    Raises
    ------
    DataError
        For anything but a mapping of cases to lists of names, an empty list, and a name that the dataset does not know.
    """
    declared = document.get(KEY, {})
    if not isinstance(declared, Mapping):
        raise DataError(f"'{KEY}' must map cases to lists of labels", where=path)
    known = [name for name in labels.nameable() if name != BACKGROUND]
    found = {}
    for case, names in declared.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"'{KEY}' of case '{case}' must be a list of labels, such as ['edema']", where=path)
        if not names:
            raise DataError(
                f"'{KEY}' of case '{case}' is empty", where=path, mend="a case without annotation goes to imagesUn"
            )
        for name in names:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                mend = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"
                raise DataError(f"'{KEY}' of case '{case}' names '{name}', which is no label", where=path, mend=mend)
        found[str(case)] = tuple(dict.fromkeys(names))
    return found


def indistinct(labels: Labels, annotated: Sequence[str]) -> dict[int, int]:
    """For each of the dataset's integers the lowest one that such an annotation does not tell it from.

    Integers are told apart by an annotated label or region that holds one and not the other. Those that nothing tells
    from the background have 0.
    """
    named = labels.nameable()
    lowest: dict[tuple[bool, ...], int] = {}
    return {v: lowest.setdefault(tuple(v in named[name] for name in annotated), v) for v in labels.known_values}


def is_told(members: Sequence[int], same: Mapping[int, int]) -> bool:
    """Whether the annotation says where a label or region made of these integers lies; `same`: :func:`indistinct`."""
    inside = {same[value] for value in members}
    return inside.isdisjoint(other for value, other in same.items() if value not in members)


def told(labels: Labels, annotated: Annotated) -> frozenset[str]:
    """Those of the scored labels and regions that such an annotation tells."""
    scored = labels.scoring()
    if annotated is None:
        return frozenset(scored)
    same = indistinct(labels, annotated)
    return frozenset(name for name, members in scored.items() if is_told(members, same))


def counts_in(labels: Labels, annotated: Annotated) -> tuple[int, ...]:
    """For each network channel the one that it counts in where a case is so annotated.

    A region that the annotation does not tell counts in none (-1). An exclusive label that it does not tell counts in
    the channel of the first label that it cannot be told from, mostly the background.
    """
    members = labels.members()
    if annotated is None:
        return tuple(range(len(members)))
    same = indistinct(labels, annotated)
    if labels.has_regions:
        return tuple(channel if is_told(one, same) else -1 for channel, one in enumerate(members))
    channel_of = {value: channel for channel, (value, *_) in enumerate(members)}
    return tuple(channel_of[same[value]] for value, *_ in members)


def check_annotated(values: Sequence[int], labels: Labels, annotated: Annotated, path: object) -> None:
    """Refuse a mask that holds what its case is said not to be annotated for.

    Raises
    ------
    DataError
        Naming the integers.
    """
    if annotated is None:
        return
    same = indistinct(labels, annotated)
    wrong = [value for value in values if value != 0 and same.get(value) == 0]
    if wrong:
        raise DataError(
            f"holds {', '.join(map(str, wrong))}, but '{KEY}' in dataset.json says that only "
            f"{', '.join(annotated)} is annotated",
            where=path,
            mend=f"correct '{KEY}' or the mask",
        )
