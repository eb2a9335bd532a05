"""Removing the cached probabilities that choosing needs, once it is done."""

from __future__ import annotations

from pathlib import Path

from bts_auto.combine.cache import CACHE_ENDING


def remove_caches(results: Path | str) -> tuple[int, int]:
    """Remove the cached probabilities of every fold in a dataset's results folder; masks and scores stay.

    Returns
    -------
    files, size : int
        How many were removed, and their bytes.
    """
    paths = sorted(Path(results).glob(f"*__*/fold_*/validation/*{CACHE_ENDING}"))
    size = sum(path.stat().st_size for path in paths)
    for path in paths:
        path.unlink()
    return len(paths), size
