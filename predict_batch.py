#!/usr/bin/env python3
"""Draws change maps of image pairs with a trained network; scores them, or masks of other methods, against labels."""

if __name__ == "__main__":  # answers --help and wrong flags before PyTorch is imported, which takes seconds
    from utils.console import errors_in_one_line, interrupts_in_one_line
    from utils.prediction.config import parse_predict_config

    interrupts_in_one_line()
    with errors_in_one_line():
        parse_predict_config(None)

from collections.abc import Sequence

from utils.console import errors_in_one_line, show_log
from utils.prediction.config import parse_predict_config
from utils.prediction.masks import score_masks
from utils.prediction.session import predict
from utils.prediction.sharing import Process


def main(argv: Sequence[str] | None = None) -> None:
    """Run the script. An expected error is one line on stderr and exit code 2; exit code 1 means that pairs failed."""
    with errors_in_one_line("interrupted; resume by the same command with --skip-existing (not --overwrite)"):
        show_log(quiet=Process.of_torchrun().rank > 0)
        config = parse_predict_config(argv)
        failed = score_masks(config) if config.masks else predict(config)
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
