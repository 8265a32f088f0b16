"""Change maps and error maps as colours, once, in RGB."""

import numpy as np

# by 2 * truth + prediction: true negative black, false positive red, false negative green, true positive white
RED_GREEN = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0), (255, 255, 255)], np.uint8)


def change_map(changed: np.ndarray) -> np.ndarray:
    """Bool (H, W) -> uint8 (H, W): 255 where changed, else 0."""
    return changed.astype(np.uint8) * 255


def error_map(changed: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Red and green map of what is right and wrong, the AMFNet paper's colours, uint8 (H, W, 3) RGB.

    Args:
        changed: bool (H, W), the prediction.
        mask: (H, W) of 0 and 1, the truth.
    """
    return RED_GREEN[2 * (mask == 1) + changed.astype(bool)]
