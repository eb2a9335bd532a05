"""`bts_ensemble`: choose the best of what is trained, or combine folders of predictions."""

from __future__ import annotations

import argparse
from pathlib import Path

from bts_auto.cli import common


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = common.parser(
        "bts_ensemble",
        "Without -i: score every trained configuration and their combinations on cross-validation, choose the best and "
        "remember it for bts_predict. With -i: combine folders of predictions.",
    )
    parser.add_argument("-i", "--input", type=Path, nargs="+", metavar="DIR", help="folders of predictions to combine")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder for the combined masks")
    parser.add_argument("--search", action="store_true", help="search post-processing even with fewer than 10 cases")
    parser.add_argument(
        "--clean", action="store_true", help="remove the cached probabilities that choosing needs, and do nothing else"
    )

    def work(arguments: argparse.Namespace, observer):
        from bts_auto import steps

        if bool(arguments.input) != bool(arguments.output):
            parser.error("-i and -o belong together")
        if arguments.clean:
            if arguments.input or arguments.search:
                parser.error("--clean stands alone")
            return steps.clean_caches(**common.place(arguments), observer=observer)
        if arguments.input:
            return steps.combine(arguments.input, arguments.output, **common.place(arguments), observer=observer)
        return steps.choose(**common.place(arguments), search=arguments.search, observer=observer)

    return common.run(parser, argv, work)
