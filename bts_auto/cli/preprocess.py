"""`bts_preprocess`: crop, normalise, resample and store the cases of a planned dataset."""

from __future__ import annotations

import argparse

from bts_auto.cli import common
from bts_auto.cli.planning import add_data_options


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = common.parser("bts_preprocess", "Crop, normalise, resample and store the cases of a planned dataset.")
    add_data_options(parser)
    parser.add_argument("--recipe", metavar="NAME|FILE", help="of a recipe's plan")
    parser.add_argument(
        "-c", "--configurations", nargs="+", metavar="NAME", help="these, and stages before them, only (default: all)"
    )

    def work(arguments: argparse.Namespace, observer):
        from bts_auto import steps

        return steps.preprocess(
            **common.place(arguments),
            recipe=arguments.recipe,
            configurations=arguments.configurations,
            workers=arguments.workers,
            nan_to_zero=arguments.nan_to_zero,
            observer=observer,
        )

    return common.run(parser, argv, work)
