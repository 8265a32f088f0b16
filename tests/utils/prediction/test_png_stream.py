"""What is written row by row is the image that any reader finds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.scripts import files_end_at
from utils.files import partial_of
from utils.prediction.png_stream import PngStream

KINDS = {"L": (1, 8), "RGB": (3, 8), "I;16": (1, 16)}


@given(st.sampled_from(list(KINDS)), st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 40), st.data())
def test_rows_in_any_portions_give_the_image(tmp_path_factory, mode, portions, width, data):
    channels, bits = KINDS[mode]
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    shape = (sum(portions), width, 3)[: 3 if channels == 3 else 2]
    pixels = rng.integers(0, 2**bits, shape).astype(np.uint16 if bits == 16 else np.uint8)
    path = tmp_path_factory.mktemp("png") / "image.png"
    stream, row = PngStream(path, shape[:2], channels, bits), 0
    for portion in portions:
        stream.write(pixels[row : row + portion])
        row += portion
    stream.close()
    with Image.open(path) as image:
        assert image.mode == mode
        assert np.array_equal(np.array(image), pixels)


def test_an_abandoned_file_is_no_image(tmp_path):
    stream = PngStream(tmp_path / "a.png", (4, 4))
    stream.write(np.zeros((4, 4), np.uint8))
    stream.abandon()
    with pytest.raises(OSError), Image.open(tmp_path / "a.png") as image:
        image.load()


def test_a_full_disk_is_named(tmp_path):
    path = tmp_path / "image.png"
    stream = PngStream(partial_of(path), (300, 300))
    with files_end_at(20_000), pytest.raises(OSError, match="too large") as raised:
        stream.write(np.random.default_rng(0).integers(0, 256, (300, 300), np.uint8))
        stream.close()
    assert raised.value.filename == str(path)
