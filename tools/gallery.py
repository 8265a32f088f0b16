"""Redraws docs/figures.md: runs the page's commands in their order, after the demo where that has not run."""

import importlib
import logging
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # python path/to/tools/gallery.py works from any folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools import demo
from utils.console import errors_in_one_line, show_log
from utils.flags import Parser

log = logging.getLogger("gallery")
PAGE = Path("docs") / "figures.md"
COMMAND = re.compile(r"^python -m (tools\.\w+) (.+)$", re.M)


def main(argv: Sequence[str] | None = None) -> None:
    """Draw every figure of the page; to be called from the project's folder."""
    parser = Parser(prog="python -m tools.gallery", description=__doc__)
    parser.add_argument("--page", type=Path, default=PAGE, help="the page whose commands are run")
    args = parser.parse_args(argv)
    show_log()
    with errors_in_one_line():
        found = commands(args.page)
        for model in demo.FLAGS:
            if not (demo.run_folder(model) / "predict-test" / "metrics.json").is_file():
                demo.main(["--model", model])
        for module, words in found:
            log.info("%s %s", module, shlex.join(words))
            importlib.import_module(module).main(words)


def commands(page: Path) -> list[tuple[str, list[str]]]:
    """Module and words of every command in the page's shell blocks.

    Raises:
        FileNotFoundError: there is no such page.
        ValueError: it has no command.
    """
    if not page.is_file():
        raise FileNotFoundError(f"{page}: no such page; call this from the project's folder, or name one with --page")
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)
    found = [(module, shlex.split(words)) for block in blocks for module, words in COMMAND.findall(block)]
    if not found:
        raise ValueError(f"{page}: no line `python -m tools.NAME ...` in a block marked bash")
    return found


if __name__ == "__main__":
    main()
