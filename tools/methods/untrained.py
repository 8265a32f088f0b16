"""Methods without training, as rows of a comparison: what every learned row must show that it adds."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from datasets.file_errors import refuse_huge
from datasets.label_codes import decide_to_predict
from datasets.layouts import has_split
from datasets.measurements import choose_reading
from datasets.open_pair import OpenPair
from datasets.pairs import Pair, find_pairs, fingerprint
from datasets.reading import PixelFormat, labels_of
from datasets.threads import threaded
from datasets.windows import Window
from utils.change_map import change_map, error_map
from utils.files import written_whole
from utils.metrics import count_pixels
from utils.prediction.records import image_row
from utils.prediction.summary import write_summary
from utils.settings import BandConfig

BLOCK, COMPONENTS = 4, 3  # side of a block and kept components of PCA-K-means, as in its paper


def grey_difference(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Absolute difference of the dates' means over bands: uint8 (H, W, bands) twice -> uint8 (H, W)."""
    return np.abs(before.mean(-1) - after.mean(-1)).round().astype(np.uint8)


def difference_length(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Length of the change vector of each pixel (CVA): uint8 (H, W, bands) twice -> float64 (H, W)."""
    return np.linalg.norm(before.astype(np.float64) - after, axis=-1)


def above_otsu(
    strength: Callable[..., np.ndarray], before: np.ndarray, after: np.ndarray, known: np.ndarray
) -> np.ndarray:
    """Pixels of a pair whose strength of change exceeds Otsu's threshold of its known pixels, bool (H, W)."""
    from skimage.filters import threshold_otsu

    values = strength(before, after)
    return known & (values > threshold_otsu(values[known])) if known.any() else known


def pca_kmeans(before: np.ndarray, after: np.ndarray, known: np.ndarray) -> np.ndarray:
    """PCA-K-means (Celik, IEEE GRSL 6(4), 2009): uint8 (H, W, bands) twice -> changed pixels, bool (H, W).

    Blocks of the grey difference give the components. Each pixel is described by those of the block around it. Of two
    clusters, the one with the larger mean difference is changed. Pixels that are not `known`, bool (H, W), count as
    equal in blocks, and are in no cluster.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    grey = np.where(known, grey_difference(before, after), 0)
    changed = np.zeros(grey.shape, bool)
    values = grey[known]
    if len(np.unique(values)) < 2:  # nothing to divide into clusters
        return changed
    padded = np.pad(grey, ((1, BLOCK - 2), (1, BLOCK - 2)), mode="symmetric").astype(np.float32)
    around = np.lib.stride_tricks.sliding_window_view(padded, (BLOCK, BLOCK))  # (H, W, BLOCK, BLOCK)
    blocks = around[1::BLOCK, 1::BLOCK].reshape(-1, BLOCK**2)
    pca = PCA(min(COMPONENTS, len(blocks)), svd_solver="full").fit(blocks)
    features = pca.transform(around[known].reshape(-1, BLOCK**2))
    cluster = KMeans(2, n_init=1, random_state=0).fit_predict(features)
    means = [values[cluster == each].mean() for each in (0, 1)]
    changed[known] = cluster == int(np.argmax(means))
    return changed


Method = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # before, after, where both are known -> changed
UNTRAINED: dict[str, Method] = {
    "grey-difference": partial(above_otsu, grey_difference),
    "cva": partial(above_otsu, difference_length),
    "pca-kmeans": pca_kmeans,
}


def score_untrained(name: str, config: BandConfig, split: str, output: Path) -> None:
    """Write masks, error maps and scores of a method of UNTRAINED, as predict_batch.py does."""
    pairs = find_pairs(config.data_root, split, folders=config.folders)
    reading = decide_to_predict(pairs, choose_reading(pairs, config.bands, config.scale, labels_of(config)))
    done = threaded(partial(predict_one, UNTRAINED[name], reading, output), pairs)
    whole = {pair.name: content for pair, content in zip(pairs, done, strict=True)}
    protocol = {
        "checkpoint": "", "checkpoint_sha256": "", "model": name, "selected_on": "", "selected_on_these": False,
        "trained_on_these": 0,
        "images": str(config.data_root), "split": split if has_split(config.data_root, split) else "all",
        "pairs": len(pairs), "data": fingerprint(pairs), "reading": reading.as_plain(), "overlap": 0, "tta": [],
        "threshold": "by k-means of each pair" if name == "pca-kmeans" else "by Otsu for each pair", "min_area": 0,
        "save": ["mask", "error"],
    }  # fmt: skip
    write_summary(output, whole, {}, protocol)


def predict_one(method: Method, reading: PixelFormat, output: Path, pair: Pair) -> dict[str, Any]:
    """Write mask and error map of a pair; return its record, see `write_summary`."""
    with OpenPair(pair, reading) as opened:
        refuse_huge(pair.before, *opened.size)
        whole = Window(0, 0, *opened.size)
        (before, after), mask, known = opened.read(whole), opened.mask(whole), opened.known(whole)
    assert mask is not None  # pairs of a split to be scored have labels
    changed = method(before, after, np.ones(mask.shape, bool) if known is None else known)
    for kind, picture in (("mask", change_map(changed)), ("error", error_map(changed, mask))):
        path = output / kind / f"{pair.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as partly:
            Image.fromarray(picture).save(partly, format="PNG")
    counts = count_pixels(torch.from_numpy(changed), torch.from_numpy(mask))
    row = image_row(pair.name, int(changed.sum()), changed.size, counts)
    files = [f"{kind}/{pair.name}.png" for kind in ("mask", "error")]
    return {"row": row, "size": changed.shape, "windows": "whole image", "aligned": False, "files": files}
