"""`bts_convert`: bring a dataset of another layout into the raw format."""

from __future__ import annotations

import argparse
from pathlib import Path

from bts_auto.cli import common


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = common.parser("bts_convert", "Bring a dataset of another layout into the raw format.", dataset=False)
    parser.add_argument("layout", choices=("brats",), help="the layout of SRC")
    parser.add_argument("source", type=Path, metavar="SRC", help="folder with the cases")
    parser.add_argument("-d", "--id", type=int, required=True, metavar="ID", help="number of the new dataset")
    parser.add_argument("-n", "--name", required=True, help="name of the new dataset")

    def work(arguments: argparse.Namespace, observer):
        from bts_auto import steps

        return steps.convert_brats(
            arguments.source,
            arguments.id,
            arguments.name,
            workspace=common.option(arguments, "workspace"),
            observer=observer,
        )

    return common.run(parser, argv, work)
