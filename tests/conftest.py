"""What several tests share: a small drawn data set, and real pairs where a checkout has them beside it."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings

from datasets.scenes import write_scenes

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
def real_data():
    if not REAL_DATA.is_dir():
        pytest.skip("no real pairs beside this checkout")
    return REAL_DATA
