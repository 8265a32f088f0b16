"""Files beside an image that belong to it: world file, mask, .aux.xml."""

import os
import re
from functools import lru_cache
from pathlib import Path

WORLD = {".tif": "tfw", ".tiff": "tfw", ".png": "pgw", ".jpg": "jgw", ".jpeg": "jgw", ".bmp": "bpw", ".jp2": "j2w"}
SIDECAR = re.compile(r"\.(\w{2,4}w|wld|msk|aux\.xml)$", re.IGNORECASE)
GEOREFERENCE = ("<GeoTransform", "<SRS", "<GCP", "<NoDataValue", "NODATA_VALUES")  # of an .aux.xml


def sidecars(path: Path) -> list[str]:
    """Return the names of the world file, mask and .aux.xml file beside an image."""
    folder = os.fspath(path).rpartition(os.sep)[0] or "."
    beside = _sidecars(folder, os.stat(folder).st_mtime_ns)  # noqa: PTH116, called three times a pair
    if not beside:
        return []
    suffix = path.suffix.lower()
    worlds = {WORLD.get(suffix, "wld"), f"{suffix[1:]}w", "wld"}
    ends = [how(end) for end in sorted(worlds) for how in (str.lower, str.upper, str.capitalize)]
    names = [f"{path.stem}.{end}" for end in ends] + [f"{path.name}.msk", f"{path.name}.aux.xml"]
    return [name for name in names if name in beside]


@lru_cache(64)
def _sidecars(folder: str, changed: int) -> frozenset[str]:
    """List all sidecars in a folder; `changed`, the folder's time, makes the cache forget."""
    return frozenset(name for name in os.listdir(folder) if SIDECAR.search(name))  # noqa: PTH208, half the time


def what_they_hold(path: Path) -> list[str]:
    """Return what sidecars add to an image, in words: world file, mask, or an .aux.xml with more than statistics."""
    found = []
    for name in sidecars(path):
        if name.endswith(".aux.xml"):
            content = path.with_name(name).read_text(encoding="utf-8", errors="replace")
            found += [name] * any(word in content for word in GEOREFERENCE)
        else:
            found.append("its mask" if name.endswith(".msk") else "its world file")
    return found


def world_file(path: Path) -> str | None:
    """Return the name of the world file beside an image; None if there is none of six numbers."""
    name = next((name for name in sidecars(path) if name[-1] in "dDwW"), None)
    try:
        content = path.with_name(name).read_text(encoding="utf-8") if name else ""
        return name if len([float(word) for word in content.split()]) == 6 else None
    except ValueError:
        return None
