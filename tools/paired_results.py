"""`python -m comfyui_personalize.tools.paired_results a.csv b.csv`: who won, from the files that the raters of a
paired-comparison page downloaded."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..core.errors import InputError
from ..core.evaluation.paired_comparison import read_answers, results_table


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1, with the reason, for files that cannot be used."""
    parser = argparse.ArgumentParser(prog="paired_results", description="Win rates of the methods, with intervals.")
    parser.add_argument("files", nargs="+", help="CSV files of the raters")
    try:
        print(results_table(read_answers(parser.parse_args(arguments).files)))
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
