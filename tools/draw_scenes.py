"""Draw scenes at two dates with labels, as a data set to train on: the detector's, and the demo's."""

import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

if __name__ == "__main__":  # python path/to/tools/draw_scenes.py works from any folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets.scenes import write_scenes
from utils.console import errors_in_one_line, show_log
from utils.flags import at_least, given_flags, setting


@dataclass(frozen=True)
class DrawConfig:
    """Settings of the tool; the flags are made from these fields."""

    output: Path = setting(Path(), "data set to write: {train,val,test}/{A,B,label}")
    train: int = setting(4000, "scenes to train on")
    val: int = setting(200, "scenes to choose by")
    test: int = setting(0, "scenes to test on")
    size: int = setting(256, "side of the images in pixels")
    seed: int = setting(0, "of all scenes")
    town: bool = setting(False, "draw streets of houses alone, about a tenth of which is changed")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the script; an expected error is one line on stderr and exit code 2."""
    with errors_in_one_line():
        show_log()
        config = DrawConfig(**given_flags(DrawConfig, str(__doc__), argv, required=("output",)))
        at_least(config, train=0, val=0, test=0, size=64, seed=0)
        splits = [{name: count} for name in ("train", "val", "test") if (count := getattr(config, name))]
        write = partial(write_scenes, config.output, size=config.size, seed=config.seed, town=config.town)
        with ProcessPoolExecutor(max(1, len(splits))) as pool:
            list(pool.map(write, splits))


if __name__ == "__main__":
    main()
