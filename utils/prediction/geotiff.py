"""Writes georeferenced change maps as GeoTIFFs, row by row.

Only scenes that were read with rasterio (requirements-geo.txt) have a grid, so it is imported when needed.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from datasets.windows import Grid
from utils.files import naming

BLOCK = 256  # pixels, side of a GeoTIFF's tile
LOW = 2**30  # free bytes of a disk below which a finished GeoTIFF is read again as a check
CACHE = 64 * 2**20  # bytes of GDAL's cache; its default is 5 % of the machine's memory


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """GDAL with little memory, whose write errors become an OSError that names the file."""
    from rasterio import Env
    from rasterio.errors import RasterioIOError

    with naming(path), Env(GDAL_CACHEMAX=CACHE):
        try:
            yield
        except RasterioIOError as error:  # it has no reason
            raise OSError(errno.ENOSPC, "could not be written; the disk may be full") from error


class GeoTiff:
    """A georeferenced TIFF of one band that is being written: tiled, compressed, with overviews once it is closed.

    The file declares the value of no data and, so that other programs show probabilities, the value that means 1. With
    `colours`, uint8 (n, 3), it shows each value in a colour.
    """

    def __init__(
        self,
        path: Path,
        grid: Grid,
        nodata: int | None = None,
        dtype: str = "uint8",
        full_scale: int | None = None,
        colours: np.ndarray | None = None,
    ) -> None:
        import rasterio

        height, width = grid.size
        self._path, self._size, self._row = path, grid.size, 0
        self._waiting = np.empty((0, width), dtype)  # rows that do not fill a row of tiles yet
        with _writing(path):
            self._dataset = rasterio.open(
                path, "w", driver="GTiff", dtype=dtype, count=1, height=height, width=width, crs=grid.crs or None,
                transform=rasterio.Affine(*grid.transform), nodata=nodata, tiled=True, blockxsize=BLOCK,
                blockysize=BLOCK, compress="deflate", bigtiff="if_safer",
            )  # fmt: skip
            if colours is not None:
                self._dataset.write_colormap(1, {value: (*rgb, 255) for value, rgb in enumerate(colours.tolist())})
            if full_scale:
                self._dataset.scales = (1 / full_scale,)

    def write(self, rows: np.ndarray) -> None:
        """Add the next rows, (n, width)."""
        self._waiting = np.concatenate([self._waiting, rows])
        self._put(len(self._waiting) // BLOCK * BLOCK)  # a tile is compressed once, when it is full

    def _put(self, count: int) -> None:
        from rasterio.windows import Window

        rows, self._waiting = self._waiting[:count], self._waiting[count:]
        if count:
            with _writing(self._path):
                self._dataset.write(rows, 1, window=Window(0, self._row, rows.shape[1], count))
        self._row += count

    def close(self) -> None:
        """Complete the file and add overviews, halved until one tile holds them.

        Raises:
            OSError: the file is incomplete, because the disk is full; the error names it.
        """
        import rasterio
        from rasterio.enums import Resampling

        self._put(len(self._waiting))
        factors = [2**n for n in range(1, 16) if max(self._size) > BLOCK * 2 ** (n - 1)]
        with _writing(self._path):
            self._dataset.close()
            if factors:
                with rasterio.open(self._path, "r+") as dataset:
                    dataset.build_overviews(factors, Resampling.nearest)
            if shutil.disk_usage(self._path.parent).free < LOW and not _all_there(self._path, len(factors)):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def abandon(self) -> None:
        """Close the incomplete file."""
        self._dataset.close()


def _all_there(path: Path, overviews: int) -> bool:
    """Return True if every tile of a GeoTIFF and of its overviews can be read.

    On closing, GDAL does not report tiles that it could not write: they are damaged, or have no offset.
    """
    import rasterio
    from rasterio.errors import RasterioIOError

    try:
        for level in (None, *range(overviews)):
            with rasterio.open(path, **({} if level is None else {"overview_level": level})) as dataset:
                for (row, column), window in dataset.block_windows(1):
                    if dataset.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=1) is None:
                        return False
                    dataset.read(1, window=window)
    except (RasterioIOError, ValueError):
        return False
    return True
