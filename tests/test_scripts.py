"""From training to prediction without a word in between, and a script from the shell."""

from itertools import product

import numpy as np
from PIL import Image

from datasets.gdal import encode_tiff
from tests.conftest import write_image
from tests.scripts import metrics_of, predict_set, python, train


def test_sixteen_bits_four_bands_and_odd_codes(tmp_path, capsys):
    """The checkpoint knows bands, limits and label codes."""
    rng = np.random.default_rng(0)
    for split, number in product(("train", "val", "test"), range(4)):
        images = rng.integers(0, 4000, (2, 32, 32, 4)).astype(np.uint16)
        changed = rng.random((32, 32)) < 0.3
        images[1][changed] += 4000
        codes = np.where(changed, 2, np.where(rng.random((32, 32)) < 0.1, 9, 1)).astype(np.uint8)
        write_image(tmp_path / "data" / split / "label" / f"{number}.png", codes)
        for folder, image in zip("AB", images, strict=True):
            (path := tmp_path / "data" / split / folder / f"{number}.tif").parent.mkdir(exist_ok=True)
            path.write_bytes(encode_tiff(image))
    flags = ["--bands", "4,3,2,1", "--change-value", 2, "--ignore-value", 9, "--lr", 0.01, "--linear-epochs", 0]
    train(tmp_path / "data", tmp_path / "run", *flags, epochs=5)
    assert "scaling: uint16 of 4 bands read as uint8, band 4 from " in capsys.readouterr().err
    train(tmp_path / "data", tmp_path / "run", *flags, "--resume", epochs=5)
    predict_set(tmp_path / "run", tmp_path / "data", tmp_path / "out", "--no-report")
    metrics = metrics_of(tmp_path / "out")
    labels = [np.array(Image.open(p)) for p in (tmp_path / "data" / "test" / "label").iterdir()]
    assert sum(metrics["pixels"].values()) == sum((label != 9).sum() for label in labels)
    assert metrics["pixels"]["fn"] + metrics["pixels"]["tp"] == sum((label == 2).sum() for label in labels)
    assert metrics["scores"]["f1"] > 0.6


def test_a_mistake_from_the_shell_is_one_line():
    bad = python("predict_batch.py", "--data-root", "nowhere", code=2)
    assert bad.stderr.count("\n") == 1
    assert bad.stderr.startswith("error: nowhere: no such folder")
