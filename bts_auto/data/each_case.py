"""Doing the same to each case, in this process or in several, whichever is sooner done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor
from typing import TypeVar

from bts_auto import machine
from bts_auto.data.raw import CaseFiles
from bts_auto.errors import CaseFailure
from bts_auto.pool import run_each

T = TypeVar("T")
# Starting a process and its imports takes about as long as reading this many (compressed) bytes of images.
_BYTES_WORTH_A_PROCESS = 40 << 20
# Bytes in memory while a case is read, for each byte of its files: decompressed, as float32, and masks.
_MEMORY_PER_FILE_BYTE = 60


def each_case(
    function: Callable[[CaseFiles], T], work: Mapping[str, CaseFiles], workers: int | None = None
) -> Iterator[tuple[str, T | CaseFailure]]:
    """Call `function` for each case and give the results as they come, with the case's name.

    Parameters
    ----------
    function : callable
        Must be importable by name (a `functools.partial` of such a one will do); its own errors pass through.
    work : mapping of str to CaseFiles
    workers : int, optional
        Processes; 0 and 1: this one. None: as many as cores, memory and the size of the work make worth while.

    Yields
    ------
    case, result
        A `CaseFailure` in place of the result of a case whose process died.
    """
    n = _n_processes(work, workers)
    for files, result in run_each(function, list(work.values()), workers=n, processes=n > 1):
        if isinstance(result, BrokenExecutor):
            reason = "its process died, most likely for want of memory; try with fewer workers (-np 1)"
            yield files.case, CaseFailure(files.case, reason)
        elif isinstance(result, BaseException):
            raise result
        else:
            yield files.case, result


def _n_processes(work: Mapping[str, CaseFiles], workers: int | None) -> int:
    sizes = [sum(path.stat().st_size for path in files.files if path.is_file()) for files in work.values()]
    if not sizes:
        return 1
    if workers is None:
        worth = sum(sizes) // _BYTES_WORTH_A_PROCESS
        affordable = machine.free_memory() // max(1, max(sizes) * _MEMORY_PER_FILE_BYTE)
        workers = int(min(machine.cores(), worth, affordable))
    return max(1, min(workers, len(sizes)))
