"""`bts_fingerprint`: check a raw dataset and measure it."""

from __future__ import annotations

import argparse

from bts_auto.cli import common
from bts_auto.cli.planning import add_data_options


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = common.parser("bts_fingerprint", "Check every case of a raw dataset and measure what planning needs.")
    add_data_options(parser)

    def work(arguments: argparse.Namespace, observer):
        from bts_auto import steps

        return steps.fingerprint(
            **common.place(arguments), workers=arguments.workers, nan_to_zero=arguments.nan_to_zero, observer=observer
        )

    return common.run(parser, argv, work)
