"""`bts_evaluate`: score masks against references."""

from __future__ import annotations

import argparse
from pathlib import Path

from bts_auto.cli import common


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = common.parser("bts_evaluate", "Score masks against references, per case, label and region.")
    parser.add_argument(
        "-p", "--predictions", type=Path, metavar="DIR", help="folder of masks (default: the last that were made)"
    )
    parser.add_argument(
        "-g", "--references", type=Path, metavar="DIR", help="folder of reference masks (default: the dataset's own)"
    )
    parser.add_argument(
        "--labels", type=Path, metavar="dataset.json", help="what the integers mean (default: the dataset's own)"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder for scores.json and scores.csv")

    def work(arguments: argparse.Namespace, observer):
        from bts_auto import steps

        return steps.evaluate(
            arguments.predictions,
            arguments.references,
            **common.place(arguments),
            labels=arguments.labels,
            output=arguments.output,
            observer=observer,
        )

    return common.run(parser, argv, work)
