"""`bts_install`: a model package into the results of a dataset."""

from __future__ import annotations

import argparse
from pathlib import Path

from bts_auto.cli import common


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = common.parser("bts_install", "Check a model package and unpack it into the results of a dataset.")
    parser.add_argument("package", type=Path, metavar="PACKAGE", help="a file that bts_export wrote")

    def work(arguments: argparse.Namespace, observer):
        from bts_auto import steps

        return steps.install_model(arguments.package, **common.place(arguments), observer=observer)

    return common.run(parser, argv, work)
