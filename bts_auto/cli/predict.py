"""`bts_predict`: masks for new cases."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bts_auto.cli import common

if TYPE_CHECKING:
    from bts_auto.events import Observer
    from bts_auto.steps import Outcome


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = common.parser("bts_predict", "Segment every case of a folder with the dataset's best model.")
    scans = parser.add_mutually_exclusive_group(required=True)
    scans.add_argument("-i", "--input", type=Path, metavar="DIR", help="folder with CASE_0000.nii.gz ...")
    scans.add_argument(
        "--watch", type=Path, metavar="DIR", help="a folder that fills: segment each case as it arrives, until Ctrl-C"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the masks")
    _add_model(parser)
    _add_how(parser)
    _add_where(parser)
    return common.run(parser, argv, _work)


def _add_model(parser: argparse.ArgumentParser) -> None:
    model = parser.add_argument_group("model (default: what bts_ensemble chose, else the best trained)")
    model.add_argument("-c", "--configuration", metavar="NAME", help="this configuration")
    model.add_argument("-f", "--folds", nargs="+", metavar="FOLD", help="these folds (default: all that are trained)")
    model.add_argument("--recipe", metavar="NAME", help="of this recipe")
    model.add_argument("-m", "--model", type=Path, metavar="PACKAGE", help="a model package or fold folder")


def _add_how(parser: argparse.ArgumentParser) -> None:
    how = parser.add_argument_group("how")
    how.add_argument(
        "--fast",
        action="store_true",
        help="no mirroring, and the fastest tile that lost at most 0.02 Dice in validation",
    )
    mirroring = how.add_mutually_exclusive_group()
    mirroring.add_argument("--no-tta", action="store_true", help="no mirroring at test time")
    mirroring.add_argument(
        "--tta-axes", type=common.axes, metavar="AXES", help="mirror only these axes of the network's input: 1,2"
    )
    how.add_argument("--step-size", type=common.share, metavar="X", help="distance of tiles as a share of the tile")
    how.add_argument(
        "--tile", type=common.tile, metavar="SIZE", help="'patch', 'whole' or voxels along each axis: 96 or 96,96,64"
    )
    how.add_argument("--engine", default="auto", help="auto, torch or openvino")
    how.add_argument(
        "--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16", "int8"), help="of the network"
    )
    how.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, several (cuda:0,cuda:1) or auto (all)")
    how.add_argument("--save-probabilities", action="store_true", help="also an image per label or region")
    how.add_argument("--save-uncertainty", action="store_true", help="also entropy and disagreement of the members")
    how.add_argument(
        "--mc-dropout", type=common.count, default=0, metavar="N",
        help="each network answers N times under its dropout, each answer a member (networks with dropout, in torch)",
    )  # fmt: skip
    how.add_argument("--seed", type=int, default=0, metavar="N", help="of these draws")
    how.add_argument("--preview", action="store_true", help="also a picture of each case with its mask's outlines")
    how.add_argument("--overwrite", action="store_true", help="do finished cases again")
    how.add_argument("--nan-to-zero", action="store_true", help="read NaN and infinite voxels as 0 instead of refusing")
    how.add_argument(
        "--part", type=common.part, metavar="I/N", help="only every N-th case, starting with the I-th (for job arrays)"
    )


def _add_where(parser: argparse.ArgumentParser) -> None:
    where = parser.add_argument_group("where")
    where.add_argument(
        "--executor", metavar="NAME",
        help="serial (this process), local (one for each device) or dask (default: serial, local with several GPUs)",
    )  # fmt: skip
    where.add_argument(
        "--scheduler", metavar="ADDRESS", help="of the Dask cluster that is to work: tcp://10.0.0.7:8786"
    )


def _work(arguments: argparse.Namespace, observer: Observer) -> Outcome:
    from bts_auto import steps

    return steps.predict(
        arguments.watch or arguments.input,
        arguments.output,
        **common.place(arguments),
        configuration=arguments.configuration,
        folds=arguments.folds,
        recipe=arguments.recipe,
        model=arguments.model,
        tta=not arguments.no_tta if arguments.tta_axes is None else arguments.tta_axes,
        step_size=arguments.step_size,
        tile=arguments.tile,
        fast=arguments.fast,
        engine=arguments.engine,
        precision=arguments.precision,
        device=arguments.device,
        save_probabilities=arguments.save_probabilities,
        save_uncertainty=arguments.save_uncertainty,
        mc_dropout=arguments.mc_dropout,
        seed=arguments.seed,
        preview=arguments.preview,
        overwrite=arguments.overwrite,
        nan_to_zero=arguments.nan_to_zero,
        part=arguments.part,
        watch=arguments.watch is not None,
        executor=arguments.executor,
        scheduler=arguments.scheduler,
        observer=observer,
    )
