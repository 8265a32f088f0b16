#!/usr/bin/env python3
"""Trains a network on a data set of image pairs: one run, from flags to best.pt."""

if __name__ == "__main__":  # --help and wrong flags are answered before PyTorch is imported, which takes seconds
    from utils.console import errors_in_one_line, interrupts_in_one_line
    from utils.training.config import parse_train_config

    interrupts_in_one_line()
    with errors_in_one_line():
        parse_train_config(None)

import logging
import sys
from collections.abc import Sequence

from utils.console import errors_in_one_line, show_log
from utils.training import distributed
from utils.training.config import parse_train_config, recipe_table
from utils.training.session import train, train_seeds

log = logging.getLogger("train")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the script; an expected error is one line on stderr and exit code 2."""
    with errors_in_one_line("interrupted; what last.pt holds is kept, and --resume goes on with it"):
        show_log(quiet=distributed.is_later_rank())
        config = parse_train_config(argv)
        if config.list_recipes:
            sys.stdout.write(recipe_table() + "\n")
        elif config.seeds > 1:
            train_seeds(config)
        else:
            train(config)


if __name__ == "__main__":
    main()
