"""`bts_recipes`: list the recipes, or show one."""

from __future__ import annotations

import argparse

from bts_auto.cli import common


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = common.parser(
        "bts_recipes", "List the published methods that can be laid over a plan, or show one.", dataset=False
    )
    parser.add_argument("name", nargs="?", help="a recipe's name or file; ENSEMBLE:MEMBER for one member")

    def work(arguments: argparse.Namespace, observer):
        from bts_auto import steps

        return steps.recipes(arguments.name)

    return common.run(parser, argv, work)
