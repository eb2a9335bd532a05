"""`bts_import_nnunet`: a trained nnU-Net v2 model as one of ours."""

from __future__ import annotations

import argparse
from pathlib import Path

from bts_auto.cli import common


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = common.parser("bts_import_nnunet", "Take in a trained nnU-Net v2 model. Nothing in it is executed.")
    parser.add_argument("source", type=Path, metavar="MODEL", help="a model folder (nnUNetTrainer__...) or a zip of it")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="make a package instead of a dataset's results"
    )
    parser.add_argument(
        "--images", type=Path, metavar="DIR",
        help="scans like those that it was trained on, for int8 (default: the dataset's own, where they are there)",
    )  # fmt: skip
    parser.add_argument("--recipe", default="nnunet", metavar="NAME", help="under which name it is kept")

    def work(arguments: argparse.Namespace, observer):
        from bts_auto import steps

        return steps.import_nnunet_model(
            arguments.source,
            **common.place(arguments),
            output=arguments.output,
            images=arguments.images,
            recipe=arguments.recipe,
            observer=observer,
        )

    return common.run(parser, argv, work)
