"""What several tests share: a drawn data set, a short run of each network, and real pairs where a checkout has them."""

import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from datasets.scenes import write_scenes
from models import build_model
from tests.scripts import RECIPES, train
from utils.checkpoint import save_checkpoint

settings.register_profile("any machine", deadline=None)  # how fast a test is, is not what it asserts
settings.load_profile("any machine")
torch.set_num_threads(1)  # the networks of these tests are small, and threads that wait for each other cost more
REAL_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def drawn_set(tmp_path_factory):
    """Drawn scenes of 64 x 64 pixels: 12 to train on, 4 to choose by, 4 to test on."""
    root = tmp_path_factory.mktemp("drawn") / "scenes"
    write_scenes(root, {"train": 12, "val": 4, "test": 4}, size=64, seed=3)
    return root


@pytest.fixture(scope="session")
def runs(drawn_set, tmp_path_factory):
    """A folder of a run a recipe; to be read, not written to."""
    folder = tmp_path_factory.mktemp("runs")
    for recipe in RECIPES:
        train(drawn_set, folder / recipe, recipe=recipe)
    return folder


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
    path = tmp_path_factory.mktemp("checkpoint") / "best.pt"
    statistics = {"mean": [[0.4, 0.4, 0.3], [0.5, 0.4, 0.4]], "std": [[0.2, 0.2, 0.2], [0.3, 0.2, 0.2]]}
    about = {"model": "hanet", "options": {"width": 8}, "recipe": "hanet", "epoch": 1, "selected_on": "val"}
    save_checkpoint(path, {**about, "weights": network.state_dict(), "statistics": statistics, "threshold": 0.5})
    return path


@pytest.fixture(scope="session")
def real_data():
    if not REAL_DATA.is_dir():
        pytest.skip("no real pairs beside this checkout")
    return REAL_DATA
