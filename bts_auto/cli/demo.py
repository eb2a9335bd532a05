"""`bts_demo`: the whole pipeline on made-up patients."""

from __future__ import annotations

import argparse
from pathlib import Path

from bts_auto.cli import common


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = common.parser(
        "bts_demo",
        "Make phantom patients, then plan, preprocess, train, predict, ensemble and evaluate them.",
        dataset=False,
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("bts_demo"), metavar="DIR", help="folder for everything"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 or auto")

    def work(arguments: argparse.Namespace, observer):
        from bts_auto import steps

        return steps.demo(arguments.output, device=arguments.device, observer=observer)

    return common.run(parser, argv, work)
