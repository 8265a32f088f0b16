"""What several tests share: writers of images and of small data sets, a short run of each network, real pairs."""

import shutil
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image
from torch import nn

from datasets.pairs import Pair
from datasets.scenes import write_scenes
from models import build_model
from tests.scripts import ROOT, add_network, save_network, train
from utils.training import run_folder, trainer

settings.register_profile("any machine", deadline=None, max_examples=50)  # speed is not what a test asserts
settings.load_profile("any machine")
torch.set_num_threads(1)  # the networks of these tests are small, and threads that wait for each other cost more
for room, name in ((run_folder, "draw_curves"), (trainer, "draw_precision_recall")):
    setattr(room, name, lambda *_: None)  # a chart takes longer than an epoch of these tests
REAL_DATA = ROOT.parent / "shared" / "data"
ROLES = ("A", "B", "label")


def write_image(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    """Write (H, W) or (H, W, 3) with Pillow, and its folder; `options` go to Image.save."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def write_tiff(
    path: Path,
    pixels: np.ndarray,
    left: float = 0,
    top: float = 0,
    metres: float = 2,
    mask: np.ndarray | None = None,
    **profile: Any,
) -> Path:
    """Write (H, W) or (H, W, bands) as a GeoTIFF, and its folder.

    Args:
        path: the file.
        pixels: of any type.
        left: metres from the origin of all files to the west edge, eastwards.
        top: metres from the origin to the north edge, southwards.
        metres: side of a pixel.
        mask: where pixels are data, bool (H, W), stored in the file.
        **profile: of rasterio.open; `transform` and `crs` replace the above, None for neither.
    """
    rasterio = pytest.importorskip("rasterio")
    bands = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    count, height, width = bands.shape
    place = {"crs": "EPSG:32636", "transform": rasterio.Affine(metres, 0, 500000 + left, 0, -metres, 4000000 - top)}
    shape = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": bands.dtype}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **shape, **{**place, **profile}) as file:
        file.write(bands)
        if mask is not None:
            file.write_mask(mask)
    return path


def write_pairs(
    root: Path,
    names: Collection[str] | Mapping[str, Sequence[np.ndarray]] = ("a", "b"),
    size: tuple[int, int] = (8, 8),
    folders: Sequence[str] = ROLES,
    suffix: str = ".png",
    codes: Sequence[int] = (0, 255),
    seed: int = 0,
) -> list[Pair]:
    """Write pairs as ROOT/FOLDER/NAME.SUFFIX: dates of random RGB, labels of which 3 in 10 pixels have a later code.

    Args:
        root: folder of the data set, or of one of its splits.
        names: of the pairs; a mapping gives the pixels of a pair, an array a folder.
        size: (height, width) of drawn pairs.
        folders: of before, after and label; two for pairs without a label.
        suffix: of all files.
        codes: of drawn labels, unchanged first.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    shares = [0.7] + [0.3 / (len(codes) - 1)] * (len(codes) - 1) if len(codes) > 1 else [1]
    pairs = []
    for name in names:
        dates = rng.integers(0, 256, (2, *size, 3), np.uint8)
        arrays = names[name] if isinstance(names, Mapping) else [*dates, rng.choice(np.uint8(codes), size, p=shares)]
        files = [root / folder / f"{name}{suffix}" for folder in folders]
        for path, pixels in zip(files, arrays, strict=False):
            write_image(path, pixels)
        pairs.append(Pair(name, *files))
    return pairs


@pytest.fixture(scope="session")
def drawn_set(tmp_path_factory):
    """Drawn scenes of 64 x 64 pixels: 12 to train on, 4 to choose by, 4 to test on."""
    root = tmp_path_factory.mktemp("drawn") / "scenes"
    write_scenes(root, {"train": 12, "val": 4, "test": 4}, size=64, seed=5, town=True)
    return root


@pytest.fixture(scope="session")
def runs(drawn_set, tmp_path_factory):
    """The folder of a recipe's run, which is trained when it is first asked for; to be read, not written to."""
    folder = tmp_path_factory.mktemp("runs")

    @cache
    def run(recipe):
        train(drawn_set, folder / recipe, recipe=recipe)
        return folder / recipe

    return run


@pytest.fixture
def data(drawn_set, tmp_path):
    """A copy to be damaged."""
    return Path(shutil.copytree(drawn_set, tmp_path / "data"))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A small HANet that was not trained, with all its attention switched on."""
    torch.manual_seed(0)
    network = build_model("hanet", width=8)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "gamma" in name:  # more would turn the rounding of some processors into visible differences
                value.fill_(0.1)
        network.head.weight *= 0.2  # probabilities that differ, and not only in rounding
    about = {"recipe": "hanet", "epoch": 1, "selected_on": "val", "threshold": 0.5}
    about["statistics"] = {"mean": [[0.4, 0.4, 0.3], [0.5, 0.4, 0.4]], "std": [[0.2, 0.2, 0.2], [0.3, 0.2, 0.2]]}
    return save_network(tmp_path_factory.mktemp("checkpoint") / "best.pt", "hanet", network, {"width": 8}, **about)


class Difference(nn.Module):
    """Changed where the dates differ by more than 60 grey levels."""

    size_divisor = 8

    def __init__(self):
        super().__init__()
        self.limit = nn.Parameter(torch.tensor(60 / 255))

    def forward(self, before, after, auxiliary=None):
        logits = 50 * ((before - after).abs().mean(1, keepdim=True) - self.limit)
        return [torch.cat([-logits, logits], 1)]


@pytest.fixture(scope="module")
def difference(tmp_path_factory):
    """A checkpoint of a network that is as good as none, so that every map can be told by value."""
    with pytest.MonkeyPatch.context() as patch:
        add_network(patch, "difference", Difference)
        yield save_network(tmp_path_factory.mktemp("difference") / "best.pt", "difference", Difference())


@pytest.fixture(scope="session")
def real_data():
    if not REAL_DATA.is_dir():
        pytest.skip("no real pairs beside this checkout")
    return REAL_DATA
