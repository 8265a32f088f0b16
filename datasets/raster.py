"""Opens one image or label; every unreadable or unsuitable file is a ValueError that names it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "PA")  # 8 bits or less a channel


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image, its pixels not yet read; whatever Pillow raises meanwhile becomes one clear ValueError."""
    try:
        with Image.open(path) as image:
            if image.mode not in MODES:
                raise ValueError(
                    f"{path}: pixels of mode {image.mode} are not 8-bit grey or RGB; convert the file first"
                )
            yield image
    except FileNotFoundError:
        raise
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{path}: no image that can be read here (8-bit PNG, JPEG, BMP, TIFF); convert or replace the file"
        ) from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: damaged or unreadable ({error}); replace the file") from error


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) from the file's header."""
    with _opened(path) as image:
        return image.height, image.width


def load_image(path: Path) -> Image.Image:
    """Decode an image as the file has it, grey, RGB, palette or with transparency; errors as `read_image`."""
    with _opened(path) as image:
        image.load()
        return image


def read_image(path: Path) -> np.ndarray:
    """Read an image as RGB, uint8 (H, W, 3); grey is repeated, transparency dropped.

    Raises:
        ValueError: damaged, truncated, or more than 8 bits a channel.
    """
    with _opened(path) as image:
        return np.array(image.convert("RGB"))


def read_label_values(path: Path) -> np.ndarray:
    """Read a label as it is coded, reduced to one grey channel, uint8 (H, W)."""
    with _opened(path) as image:
        return np.array(image.convert("L"))


def read_label(path: Path) -> np.ndarray:
    """Read a label as a mask, uint8 (H, W): 0 unchanged, 1 changed.

    Whatever the coding: where no value exceeds 1, changed is > 0; otherwise it is >= 128, which also serves
    0/255, grey edges and the noise of JPEG.
    """
    return binarise(read_label_values(path))


def binarise(values: np.ndarray) -> np.ndarray:
    """Label values -> 0 / 1, uint8, by the rule of `read_label`."""
    return (values > (0 if values.max(initial=0) <= 1 else 127)).astype(np.uint8)
