"""`bts_ensemble`: choose the best of what is trained, or combine folders of predictions."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bts_auto import registry
from bts_auto.cli import common

if TYPE_CHECKING:
    from bts_auto.steps import Outcome

_OF_CHOOSING = ("search", "rule", "recipe")
_OF_COMBINING = ("output", "combiner", "options", "labels")


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = common.parser(
        "bts_ensemble",
        "Without -i: score every trained configuration and their combinations on cross-validation, choose the best and "
        "remember it for bts_predict. With -i: combine folders of predictions.",
    )
    _add_choosing(parser.add_argument_group("choosing"))
    _add_combining(parser.add_argument_group("combining folders"))

    def work(arguments: argparse.Namespace, observer):
        from bts_auto import steps

        _check(parser, arguments)
        if arguments.clean:
            return steps.clean_caches(**common.place(arguments), observer=observer)
        try:
            return (_combine if arguments.input else _choose)(arguments, observer)
        except KeyboardInterrupt:
            kept = "masks that are written stay" if arguments.input else "the choice is what it was"
            raise KeyboardInterrupt(f"{kept}; the same command begins anew") from None

    return common.run(parser, argv, work)


def _add_choosing(group: Any) -> None:
    group.add_argument(
        "--rule", choices=("mean_dice", "brats_ranking"),
        help="how combinations are compared: by mean Dice (default), or by their mean rank in Dice and HD95 over cases "
        "and regions, as BraTS does",
    )  # fmt: skip
    group.add_argument(
        "--search", action=argparse.BooleanOptionalAction, default=None,
        help="search post-processing, however few or many cases there are (default: with 10 or more)",
    )  # fmt: skip
    group.add_argument(
        "--recipe", metavar="NAME",
        help="choose this recipe: an ensemble as it is written, or the best of a single one's configurations",
    )  # fmt: skip
    group.add_argument(
        "--clean", action="store_true", help="remove the cached probabilities that choosing needs, and do nothing else"
    )


def _add_combining(group: Any) -> None:
    group.add_argument("-i", "--input", type=Path, nargs="+", metavar="DIR", help="folders of predictions to combine")
    group.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder for the combined masks")
    group.add_argument(
        "--combiner", metavar="NAME",
        help=f"{', '.join(registry.names('combiner'))} (default: the mean of the probabilities where every folder has "
        "them, else the vote)",
    )  # fmt: skip
    group.add_argument(
        "--options", type=_options, metavar="JSON", help="of the combiner, as in a recipe: '{\"weights\": [2, 1]}'"
    )
    group.add_argument(
        "--labels", type=Path, metavar="dataset.json",
        help="what the integers mean (default: the dataset.json beside the masks, else the dataset's own)",
    )  # fmt: skip


def _options(text: str) -> dict[str, Any]:
    """A JSON object; for argparse's `type`."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"'{text}' is no JSON object: write '{{\"weights\": [2, 1]}}'")
    return found


def _check(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Refuse options that do not belong together."""

    def given(names: tuple[str, ...]) -> list[str]:
        return [name for name in names if getattr(arguments, name) is not None]

    combining, choosing = given(_OF_COMBINING), given(_OF_CHOOSING)
    if arguments.clean and (arguments.input or combining or choosing):
        parser.error("--clean stands alone")
    if bool(arguments.input) != bool(arguments.output):
        parser.error("-i and -o belong together")
    if combining and not arguments.input:
        parser.error(f"--{combining[0]} is for combining folders: give them with -i")
    if choosing and arguments.input:
        parser.error(f"--{choosing[0]} is for choosing, without -i")
    if arguments.options is not None and arguments.combiner is None:
        parser.error("--options are those of a --combiner")


def _combine(arguments: argparse.Namespace, observer: Any) -> Outcome:
    from bts_auto import steps

    return steps.combine(
        arguments.input,
        arguments.output,
        **common.place(arguments),
        labels=arguments.labels,
        combiner=arguments.combiner,
        options=arguments.options,
        observer=observer,
    )


def _choose(arguments: argparse.Namespace, observer: Any) -> Outcome:
    from bts_auto import steps

    return steps.choose(
        **common.place(arguments),
        rule=arguments.rule or "mean_dice",
        search=arguments.search,
        recipe=arguments.recipe,
        observer=observer,
    )
