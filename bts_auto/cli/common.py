"""What every command shares: the common options, the shape of a run, and the exit statuses."""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bts_auto.cli.terminal import TerminalObserver
    from bts_auto.events import Observer
    from bts_auto.steps import Outcome

DONE, SOME_FAILED, NOTHING_DONE, INTERRUPTED = 0, 1, 2, 130
_OBJECTS_BETWEEN_COLLECTIONS = 50_000


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults that say something, where the help does not name one itself."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        silent = action.default in (None, False, []) or "(default" in (action.help or "")
        return action.help if silent else super()._get_help_string(action)


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, and JSON besides where that is asked for."""

    asked: Sequence[str] = ()

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and remember for errors what was asked."""
        self.asked = sys.argv[1:] if args is None else args
        return super().parse_args(args, namespace)

    def error(self, message: str) -> Any:
        if "--json" in self.asked:
            print(json.dumps({"status": "error", "error": message}))
        self.exit(NOTHING_DONE, f"{self.prog}: error: {message} - see {self.prog} --help\n")


def parser(command: str, about: str, *, dataset: bool = True) -> argparse.ArgumentParser:
    """A parser with the options that every command has."""
    made = _Parser(prog=command, description=about, formatter_class=_Help)
    shared = made.add_argument_group("common options")
    if dataset:
        shared.add_argument(
            "-d", "--dataset", metavar="ID|NAME", default=argparse.SUPPRESS,
            help="dataset, as 21 or Dataset021_Name (default: $BTS_DATASET, the only one, or the one last planned)",
        )  # fmt: skip
    shared.add_argument(
        "--workspace", type=Path, metavar="DIR", default=argparse.SUPPRESS,
        help="folder with raw/, preprocessed/ and results/ (default: $BTS_WORKSPACE or ./bts_workspace)",
    )  # fmt: skip
    shared.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print the result as JSON")
    volume = shared.add_mutually_exclusive_group()
    volume.add_argument("-v", "--verbose", action="store_true", default=argparse.SUPPRESS, help="say more")
    volume.add_argument("-q", "--quiet", action="store_true", default=argparse.SUPPRESS, help="no progress, no remarks")
    shared.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks")
    return made


def option(arguments: argparse.Namespace, name: str, default: Any = None) -> Any:
    """The value of an option that may have been left out."""
    return getattr(arguments, name, default)


def place(arguments: argparse.Namespace) -> dict[str, Any]:
    """Which dataset in which workspace, as arguments of `steps.py`."""
    return {"dataset": option(arguments, "dataset"), "workspace": option(arguments, "workspace")}


def count(text: str) -> int:
    """A number of workers, 0: none beside this process; for argparse's `type`."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0 up")
    return int(text)


_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(text: str | None) -> float | None:
    """A duration such as ``90s``, ``30m`` or ``1.5h`` in seconds."""
    from bts_auto.errors import BtsError

    if text is None:
        return None
    try:
        value = float(text[:-1]) * _UNITS_S[text[-1]]
    except (ValueError, KeyError, IndexError):
        value = -1.0
    if not 0 < value < float("inf"):
        raise BtsError(f"'{text}' is not a duration", where="--budget", mend="write it as 90s, 30m or 2h")
    return value


def tile(text: str) -> Any:
    """``patch``, ``whole`` or voxels along each axis (one number: the same along all); for argparse's `type`."""
    if text in ("patch", "whole"):
        return text
    sizes = _numbers(text)
    if not sizes or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a tile: write patch, whole, 96 or 96,96,64")
    return sizes[0] if len(sizes) == 1 else sizes


def axes(text: str) -> tuple[int, ...]:
    """``1,2`` as (1, 2); for argparse's `type`."""
    numbers = _numbers(text)
    if not numbers or min(numbers) < 0:
        raise argparse.ArgumentTypeError(f"'{text}' are no axes: write 0, 1 or 2, several with commas")
    return numbers


def share(text: str) -> float:
    """A number above 0 and at most 1; for argparse's `type`."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not more than 0 and at most 1")
    return value


def part(text: str) -> tuple[int, int]:
    """``2/5`` as (2, 5): the second of five parts; for argparse's `type`."""
    numbers = _numbers(text, "/")
    if len(numbers) != 2 or not 1 <= numbers[0] <= numbers[1]:
        raise argparse.ArgumentTypeError(f"'{text}' is not a part: write 1/4 to 4/4")
    return numbers[0], numbers[1]


def _numbers(text: str, between: str = ",") -> tuple[int, ...]:
    """Whole numbers; none where something else stands among them."""
    try:
        return tuple(int(one) for one in text.split(between))
    except ValueError:
        return ()


def run(
    made: argparse.ArgumentParser,
    argv: list[str] | None,
    work: Callable[[argparse.Namespace, Observer], Outcome],
    show: Callable[[Outcome], None] | None = None,
) -> int:
    """Parse, work, report; returns the exit status.

    Parameters
    ----------
    made : ArgumentParser
        From :func:`parser`.
    argv : list of str or None
        Arguments; None: the process's.
    work : callable
        Does the command by one call of `steps.py`.
    show : callable, optional
        Prints the outcome for a person; without it the outcome's own lines are printed.
    """
    arguments = made.parse_args(argv)
    # Importing torch makes so many objects that looking for garbage among them takes a tenth of its time.
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    from bts_auto.cli.terminal import TerminalObserver
    from bts_auto.errors import BtsError

    observer = TerminalObserver(quiet=option(arguments, "quiet", False), verbose=option(arguments, "verbose", False))
    try:
        outcome = work(arguments, observer)
        _report(made.prog, arguments, outcome, show, observer)
        return _status(outcome)
    except BtsError as error:
        if option(arguments, "debug"):
            raise
        return _refuse(made.prog, arguments, str(error))
    except KeyboardInterrupt as interrupt:
        words = str(interrupt) or "finished work is kept; the same command goes on"
        if option(arguments, "json"):
            print(json.dumps({"status": "interrupted", "error": words}))
        print(f"\n{made.prog}: interrupted - {words}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output (head, less) has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except MemoryError:
        return _refuse(made.prog, arguments, "out of memory - close other programs or use fewer workers (-np 1)")
    except OSError as error:
        if option(arguments, "debug"):
            raise
        return _refuse(made.prog, arguments, f"{error.filename or 'system'}: {error.strerror or error}")
    except Exception as error:  # a defect of ours: still one line, and the way to more
        if option(arguments, "debug"):
            raise
        words = " ".join(str(error).split()) or "no more is known"
        return _refuse(
            made.prog, arguments, f"{type(error).__name__}: {words} - the same command with --debug says where"
        )


def _finite(value: Any) -> Any:
    """JSON values in which NaN and infinity, which JSON does not know, are null."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _refuse(command: str, arguments: argparse.Namespace, line: str) -> int:
    if option(arguments, "json"):
        print(json.dumps({"status": "error", "error": line}))
    print(f"{command}: error: {line}", file=sys.stderr)
    return NOTHING_DONE


def _status(outcome: Outcome) -> int:
    if not outcome.failures:
        return DONE
    return SOME_FAILED if outcome.done else NOTHING_DONE


def _report(
    command: str,
    arguments: argparse.Namespace,
    outcome: Outcome,
    show: Callable[[Outcome], None] | None,
    observer: TerminalObserver,
) -> None:
    for failure in outcome.failures:
        if not observer.has_said(failure):
            print(f"{command}: failed: {failure}", file=sys.stderr)
    if option(arguments, "json"):
        status = {DONE: "done", SOME_FAILED: "some failed", NOTHING_DONE: "nothing done"}[_status(outcome)]
        failures = [{"case": f.case, "reason": f.reason} for f in outcome.failures]
        answer = {"status": status, "done": outcome.done, "failures": failures, **outcome.data}
        print(json.dumps(_finite(answer), allow_nan=False))
    elif show is not None:
        show(outcome)
    elif not option(arguments, "quiet"):
        for line in outcome.lines:
            print(line)
