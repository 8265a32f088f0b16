"""Brings windows to the pixel size that a network knows, and probabilities back."""

import numpy as np


def resized(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return uint8 (h, w, channels) or float32 (h, w) resampled to another height and width, bilinearly.

    Pixels that become larger are means, as of a sensor with such pixels.
    """
    if image.shape[:2] == shape:
        return image
    import torch  # flags are answered before it is imported

    planes = torch.from_numpy(np.ascontiguousarray(image)).float()
    stacked = planes.permute(2, 0, 1)[None] if image.ndim == 3 else planes[None, None]
    found = torch.nn.functional.interpolate(stacked, shape, mode="bilinear", antialias=True)[0]  # (channels, *shape)
    if image.ndim == 2:
        return found[0].numpy()
    return found.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
