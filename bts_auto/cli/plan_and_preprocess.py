"""`bts_plan_and_preprocess`: from a raw dataset to preprocessed cases."""

from __future__ import annotations

import argparse

from bts_auto.cli import common
from bts_auto.cli.planning import (
    add_data_options,
    add_fold_options,
    add_planning_options,
    fold_options,
    planning_options,
)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = common.parser("bts_plan_and_preprocess", "Measure a dataset, plan for it, and preprocess its cases.")
    add_planning_options(parser)
    add_fold_options(parser)
    add_data_options(parser)
    parser.add_argument(
        "-c",
        "--configurations",
        nargs="+",
        metavar="NAME",
        help="preprocess these, and stages before them, only (default: all)",
    )

    def work(arguments: argparse.Namespace, observer):
        from bts_auto import steps

        return steps.plan_and_preprocess(
            **common.place(arguments),
            **planning_options(arguments),
            splits=fold_options(arguments),
            configurations=arguments.configurations,
            workers=arguments.workers,
            nan_to_zero=arguments.nan_to_zero,
            observer=observer,
        )

    return common.run(parser, argv, work)
