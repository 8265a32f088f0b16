"""Small pictures of images that may be larger than memory."""

from collections.abc import Callable

import numpy as np

from datasets.windows import Window

STRIP = 512  # rows that are read at a time, about


def shrunk(read: Callable[[Window], np.ndarray], size: tuple[int, int], side: int, mixed: bool = True) -> np.ndarray:
    """An image whose longer side has at least `side` and fewer than twice as many pixels; a smaller one as it is.

    Args:
        read: gives a window, uint8 (h, w) or (h, w, channels); windows come from the top down.
        size: (height, width) of the image.
        side: in pixels.
        mixed: whether a pixel is the mean of those it stands for; otherwise it is the first of them, as colours with a
            meaning want it.
    """
    height, width = size
    factor = min(max(size) // side, height, width)
    if factor < 2:
        return read(Window(0, 0, height, width))
    rows, strips = max(1, STRIP // factor) * factor, []
    for top in range(0, height // factor * factor, rows):
        count = min(rows, height // factor * factor - top)
        pixels = read(Window(top, 0, count, width))[:, : width // factor * factor]
        if mixed:
            blocks = pixels.reshape(count // factor, factor, -1, factor, *pixels.shape[2:])
            strips.append(blocks.mean((1, 3)).round().astype(np.uint8))
        else:
            strips.append(pixels[::factor, ::factor])
    return np.concatenate(strips)
