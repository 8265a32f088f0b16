"""What the benchmark times of files and scripts, beside what they cannot be faster than, and of large scenes."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import BatchSampler, DataLoader

from datasets.catalog import STATISTICS
from datasets.change_pairs import ChangePairs
from datasets.open_pair import read_pair
from datasets.pairs import Pair, find_pairs
from datasets.pfbs import PFBSSampler
from datasets.reading import MASKS
from datasets.scenes import write_scenes
from datasets.tile_cache import TileCache, open_cache
from datasets.transforms import build_augmentation
from models import MODELS, build_model
from tools.doctor.examination import examine, survey
from utils.checkpoint import save_checkpoint
from utils.prediction.blending import BATCH
from utils.prediction.config import parse_predict_config
from utils.prediction.predictor import ChangePredictor
from utils.prediction.session import predict
from utils.prediction.sharing import Share

DRAWN, COPIES = 64, 4  # pairs of 256 x 256 that are drawn, and how often each is written
PREDICTED = 64  # of these, in the suite of prediction
BATCHES = {"none": 8, "hanet": 8, "amfnet": 32, "open-cd": 8, "ours": 8}  # an augmentation's batch, by its recipe


SCENE, WINDOW, TOGETHER = 1024, 256, (1, 4, 8)  # pixels of a scene, of its windows, and how many of these at a time


@dataclass(frozen=True)
class Setting:
    """What a suite is built for.

    Attributes:
        folder: for files of its own; suites share what they draw there.
        device: what computes.
        brief: only the cases of `--short`.
    """

    folder: Path
    device: torch.device
    brief: bool = False


@dataclass(frozen=True)
class Case:
    """One thing to time: each run goes through `pairs` pairs; its speed is compared with the case named by `base`.

    Attributes:
        unit: what is shown: pairs/s, s (of a run), or MB, which a run returns.
        operations: floating-point operations of a pair; 0 where nobody counted them.
        peak: name of the case that shows how many of them this machine does in a second.
    """

    name: str
    run: Callable[[], object]
    pairs: int
    base: str
    note: str = ""
    unit: str = "pairs/s"
    operations: float = 0.0
    peak: str = ""


def drawn_pairs(folder: Path) -> list[Pair]:
    """Drawn scenes of 256 x 256 as PNG, as hard to decode as photographs (120 kB an image); drawn once a folder."""
    if not folder.exists():
        write_scenes(folder, {"train": DRAWN}, size=256)
        for path in list(folder.rglob("*.png")):
            for copy in range(1, COPIES):
                shutil.copyfile(path, path.with_name(f"{path.stem}_{copy}.png"))
    return find_pairs(folder, "train")


def untrained(folder: Path, name: str) -> Path:
    """A checkpoint of a network with random weights."""
    path = folder / f"untrained-{name}.pt"
    if not path.exists():
        about = {"model": name, "options": {}, "statistics": STATISTICS["none"]}
        save_checkpoint(path, {**about, "weights": build_model(name).state_dict()})
    return path


def decode(pairs: Iterable[Pair]) -> None:
    """What no loader can do without: Pillow decodes all files, and nothing is done with the pixels."""
    for pair in pairs:
        for path in (pair.before, pair.after, pair.label):
            with Image.open(path) as image:
                image.load()


def loading(setting: Setting) -> list[Case]:
    """One worker of the training loader, from files and from a cache, against decoding in one process."""
    pairs = drawn_pairs(setting.folder / "scenes")
    cache = open_cache(setting.folder / "train.tiles", pairs, MASKS)
    names = [name for name in BATCHES if name in MODELS or not setting.brief]

    def load(name: str, cached: TileCache | None = None) -> Callable[[], None]:
        batches = BatchSampler(PFBSSampler([1] * len(pairs)), BATCHES[name], drop_last=False)
        dataset = ChangePairs(pairs, build_augmentation(name), MASKS, cached)
        loader: DataLoader = DataLoader(dataset, None, sampler=batches, num_workers=1, persistent_workers=True)

        def epoch() -> None:
            for _ in loader:
                pass

        return epoch

    cases = [Case("decoding", lambda: decode(pairs), len(pairs), "decoding")]
    for name in names:
        cases.append(Case(f"files, {name}", load(name), len(pairs), "decoding"))
    for name in names:
        cases.append(Case(f"cache, {name}", load(name, cache), len(pairs), f"files, {name}"))
    return cases


def doctor(setting: Setting) -> list[Case]:
    """tools.check_dataset on a split, against decoding in as many threads."""
    pairs, threads = drawn_pairs(setting.folder / "scenes"), os.cpu_count() or 1
    (split,) = survey(setting.folder / "scenes")

    def decode_all() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(decode, [[pair] for pair in pairs]))

    return [
        Case("decoding", decode_all, len(pairs), "decoding"),
        Case("doctor", lambda: examine(split, threads), len(pairs), "decoding"),
    ]


def prediction(setting: Setting) -> list[Case]:
    """predict_batch.py from files to maps and report, against its network alone on pixels that are in memory."""
    scenes = setting.folder / "scenes"
    pairs, listed = drawn_pairs(scenes)[:PREDICTED], scenes / "predicted.txt"
    rows = ("\t".join(p.relative_to(scenes).as_posix() for p in (x.before, x.after, x.label)) for x in pairs)
    listed.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    pixels, cases = [read_pair(pair, MASKS)[:2] for pair in pairs], []
    for name in MODELS:
        path = untrained(setting.folder, name)
        predictor = ChangePredictor(path, setting.device)
        batches = [predictor.collate(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)]

        def network(predictor: ChangePredictor = predictor, batches: list = batches) -> None:
            for batch in batches:
                predictor.probability(*batch).cpu()

        flags = ["--checkpoint", str(path), "--data-root", str(listed), "--output", str(setting.folder / name)]
        config = parse_predict_config([*flags, "--device", str(setting.device), "--overwrite"])
        run = partial(predict, config, Share.of_torchrun())
        cases.append(Case(f"network, {name}", network, len(pairs), f"network, {name}"))
        cases.append(Case(f"files, {name}", run, len(pairs), f"network, {name}"))
    return cases


def tiling(setting: Setting) -> list[Case]:
    """A scene of SCENE x SCENE by windows of WINDOW, several at a time and one by one, and seen whole."""
    scene = np.random.default_rng(0).integers(0, 256, (2, SCENE, SCENE, 3), np.uint8)
    cases = []
    for name in MODELS:
        path = untrained(setting.folder, name)
        base = f"{name}, windows of {WINDOW}, one by one"
        for count in TOGETHER:
            predictor = ChangePredictor(path, setting.device, WINDOW, batch_size=count)
            title = base if count == 1 else f"{name}, windows of {WINDOW}, {count} at a time"
            cases.append(Case(title, partial(predictor, *scene), 1, base))
        whole = ChangePredictor(path, setting.device, 0)
        cases.append(Case(f"{name}, whole", partial(whole, *scene), 1, base))
    return cases


def startup(setting: Setting) -> list[Case]:
    """predict_batch.py as a process of its own: its help, and the first map of one pair with an AMFNet."""
    scenes = setting.folder / "one"
    if not scenes.exists():
        write_scenes(scenes, {"test": 1}, size=256)
    flags = ["--checkpoint", untrained(setting.folder, "amfnet"), "--data-root", scenes, "--split", "test"]
    flags += ["--output", setting.folder / "first", "--device", setting.device, "--backend", "torch", "--overwrite"]
    help_text, first_map = "predict_batch.py --help", "first map of one 256 pair, amfnet"
    return [
        Case(help_text, partial(script, "--help"), 1, help_text, unit="s"),
        Case(first_map, partial(script, *map(str, flags)), 1, first_map, unit="s"),
    ]


def script(*flags: str) -> None:
    """Run predict_batch.py.

    Raises:
        ValueError: it left with another exit code than 0.
    """
    command = [sys.executable, Path(__file__).parents[1] / "predict_batch.py", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["nothing"]
        raise ValueError(f"predict_batch.py left with exit code {done.returncode} and said: {said[-1]}")


SUITES: dict[str, Callable[[Setting], list[Case]]] = {
    "loading": loading, "doctor": doctor, "prediction": prediction, "tiling": tiling, "startup": startup,
}  # fmt: skip
