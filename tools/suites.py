"""What the benchmark times of files: in each suite, things users wait for beside what they cannot be faster than."""

import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image
from torch.utils.data import BatchSampler, DataLoader

import predict_batch
from datasets.catalog import STATISTICS
from datasets.change_pairs import ChangePairs, read_sample
from datasets.doctor import examine, survey
from datasets.pairs import Pair, find_pairs
from datasets.pfbs import PFBSSampler
from datasets.raster import PLAIN
from datasets.scenes import write_scenes
from datasets.tile_cache import TileCache, open_cache
from datasets.transforms import build_augmentation
from models import MODELS, build_model
from utils.checkpoint import save_checkpoint
from utils.predictor import ChangePredictor
from utils.tiling import BATCH

DRAWN, COPIES = 64, 4  # pairs of 256 x 256 that are drawn, and how often each is written
PREDICTED = 64  # of these, in the suite of prediction
BATCHES = {"none": 8, "hanet": 8, "amfnet": 32, "open-cd": 8, "ours": 8}  # an augmentation's batch, by its recipe


@dataclass(frozen=True)
class Case:
    """One thing to time: each run goes through `pairs` pairs; its speed is compared with the case named by `base`.

    In the suite of memory a run returns MB, and these are compared.
    """

    name: str
    run: Callable[[], object]
    pairs: int
    base: str
    note: str = ""


def drawn_pairs(folder: Path) -> list[Pair]:
    """Drawn scenes of 256 x 256 as PNG, as hard to decode as photographs (120 kB an image); drawn once a folder."""
    if not folder.exists():
        write_scenes(folder, {"train": DRAWN}, size=256)
        for path in list(folder.rglob("*.png")):
            for copy in range(1, COPIES):
                shutil.copyfile(path, path.with_name(f"{path.stem}_{copy}.png"))
    return find_pairs(folder, "train")


def decode(pairs: Iterable[Pair]) -> None:
    """What no loader can do without: Pillow decodes all files, and nothing is done with the pixels."""
    for pair in pairs:
        for path in (pair.before, pair.after, pair.label):
            with Image.open(path) as image:
                image.load()


def loading(folder: Path) -> list[Case]:
    """One worker of the training loader, from files and from a cache, against decoding in one process."""
    pairs = drawn_pairs(folder / "scenes")
    cache = open_cache(folder / "train.tiles", pairs, PLAIN)

    def load(name: str, cached: TileCache | None = None) -> Callable[[], None]:
        batches = BatchSampler(PFBSSampler([1] * len(pairs)), BATCHES[name], drop_last=False)
        dataset = ChangePairs(pairs, build_augmentation(name), cached=cached)
        loader: DataLoader = DataLoader(dataset, None, sampler=batches, num_workers=1, persistent_workers=True)

        def epoch() -> None:
            for _ in loader:
                pass

        return epoch

    cases = [Case("decoding", lambda: decode(pairs), len(pairs), "decoding")]
    for name in BATCHES:
        cases.append(Case(f"files, {name}", load(name), len(pairs), "decoding"))
    for name in BATCHES:
        cases.append(Case(f"cache, {name}", load(name, cache), len(pairs), f"files, {name}"))
    return cases


def doctor(folder: Path) -> list[Case]:
    """tools.check_dataset on a split, against decoding in as many threads."""
    pairs, threads = drawn_pairs(folder / "scenes"), os.cpu_count() or 1
    (split,) = survey(folder / "scenes")

    def decode_all() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(decode, [[pair] for pair in pairs]))

    return [
        Case("decoding", decode_all, len(pairs), "decoding"),
        Case("doctor", lambda: examine(split, threads), len(pairs), "decoding"),
    ]


def prediction(folder: Path) -> list[Case]:
    """predict_batch.py from files to maps and report, against its network alone on pixels that are in memory."""
    pairs = drawn_pairs(folder / "scenes")[:PREDICTED]
    listed = folder / "scenes" / "predicted.txt"
    rows = ("\t".join(p.relative_to(listed.parent).as_posix() for p in (x.before, x.after, x.label)) for x in pairs)
    listed.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    pixels, cases = [read_sample(pair)[:2] for pair in pairs], []
    for name in MODELS:
        path = folder / f"{name}.pt"
        about = {"model": name, "options": {}, "statistics": STATISTICS["none"]}
        save_checkpoint(path, {**about, "weights": build_model(name).state_dict()})
        predictor = ChangePredictor(path)
        batches = [predictor.collate(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)]

        def network(predictor: ChangePredictor = predictor, batches: list = batches) -> None:
            for batch in batches:
                predictor.probability(*batch).cpu()

        flags = ["--checkpoint", str(path), "--data-root", str(listed), "--output", str(folder / name)]
        cases.append(Case(f"network, {name}", network, len(pairs), f"network, {name}"))
        cases.append(Case(f"files, {name}", partial(predict_batch.main, flags), len(pairs), f"network, {name}"))
    return cases


SUITES: dict[str, Callable[[Path], list[Case]]] = {"loading": loading, "doctor": doctor, "prediction": prediction}
