"""`bts_export`: trained folds as one model package, or as an nnU-Net model."""

from __future__ import annotations

import argparse
from pathlib import Path

from bts_auto.cli import common


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = common.parser("bts_export", "Write trained folds into one file that bts_predict -m and bts_install take.")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the package, or model folder")
    parser.add_argument("-c", "--configuration", metavar="NAME", help="this one (default: what bts_ensemble chose)")
    parser.add_argument("-f", "--folds", nargs="+", metavar="FOLD", help="these folds (default: all that are trained)")
    parser.add_argument("--recipe", metavar="NAME", help="of this recipe")
    parser.add_argument("--precision", choices=("fp32", "fp16"), default="fp32", help="of the stored weights")
    parser.add_argument("--nnunet", action="store_true", help="write a model folder that nnUNetv2_predict loads")

    def work(arguments: argparse.Namespace, observer):
        from bts_auto import steps

        return steps.export_model(
            arguments.output,
            **common.place(arguments),
            configuration=arguments.configuration,
            folds=arguments.folds,
            recipe=arguments.recipe,
            precision=arguments.precision,
            nnunet=arguments.nnunet,
            observer=observer,
        )

    return common.run(parser, argv, work)
