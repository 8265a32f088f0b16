"""Resamples windows to the pixel size of the training images, and probabilities back."""

import numpy as np


def resized(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return uint8 (h, w, channels) or float32 (h, w) resampled to another height and width.

    Pixels that become larger are means, as of a sensor with such pixels. Images that are enlarged are interpolated
    bicubically, since bilinear interpolation blurs, and the detector misses more in blurred images. All else is
    bilinear, so probabilities stay in [0, 1].
    """
    if image.shape[:2] == shape:
        return image
    import torch  # flags are answered before it is imported

    smooth = image.ndim == 3 and shape[0] > image.shape[0]
    planes = torch.tensor(image.reshape(*image.shape[:2], -1).copy(), dtype=torch.float32).permute(2, 0, 1)[None]
    found = torch.nn.functional.interpolate(planes, shape, mode="bicubic" if smooth else "bilinear", antialias=True)[0]
    if image.ndim == 2:
        return found[0].numpy()
    return found.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
