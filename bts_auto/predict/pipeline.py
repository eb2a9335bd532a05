"""Three stages of work on a series of items, side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def staged(
    items: Sequence[T],
    begin: Callable[[T], Any],
    work: Callable[[T, Any], Any],
    end: Callable[[T, Any], Any],
) -> Iterator[tuple[T, Exception | None]]:
    """Take each item through `begin`, `work` and `end`.

    `work` runs in the caller's thread. Meanwhile one thread begins the next item and another ends the last one, so that
    at most three items are in memory. A single item needs no thread. An interrupt lets the threads come to the end of
    what they are doing.

    Parameters
    ----------
    items : sequence
    begin : callable
        ``begin(item) -> begun``
    work : callable
        ``work(item, begun) -> worked``
    end : callable
        ``end(item, worked)``

    Yields
    ------
    item
        In order, when it has ended.
    error : Exception or None
        What a stage raised; later items are not affected.
    """
    with contextlib.ExitStack() as stack:
        threads = len(items) > 1
        ahead = stack.enter_context(ThreadPoolExecutor(1, "ahead")) if threads else None
        behind = stack.enter_context(ThreadPoolExecutor(1, "behind")) if threads else None
        begun = _start(ahead, begin, items[0]) if items else None
        ending: tuple[T, Future] | None = None
        for number, item in enumerate(items):
            assert begun is not None
            value, error = begun.result()
            begun = _start(ahead, begin, items[number + 1]) if number + 1 < len(items) else None
            if error is None:
                value, error = _attempt(work, item, value)
            if ending is not None:
                yield ending[0], ending[1].result()[1]
                ending = None
            if error is None:
                ending = item, _start(behind, end, item, value)
            else:
                yield item, error
            del value
        if ending is not None:
            yield ending[0], ending[1].result()[1]


def _start(pool: ThreadPoolExecutor | None, function: Callable[..., Any], *arguments: Any) -> Future:
    """The future answer of :func:`_attempt`, there at once without a pool."""
    if pool is not None:
        return pool.submit(_attempt, function, *arguments)
    done: Future = Future()
    done.set_result(_attempt(function, *arguments))
    return done


def _attempt(function: Callable[..., Any], *arguments: Any) -> tuple[Any, Exception | None]:
    try:
        return function(*arguments), None
    except Exception as error:
        return None, error
