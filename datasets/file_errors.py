"""Errors about image files: each names the file and says what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from datasets.reading import scale_advice
from utils.console import UserError, quantity

PILLOW_LIMIT = 2**26  # pixels decoded at once where windows cannot be read: 8192 x 8192, 0.2 GB as RGB
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)  # raised at a header with very many pixels
GEO = "pip install -r requirements-geo.txt"


class Unsuitable(UserError):
    """The file is whole, but of a kind that is not read here."""


class OtherColours(Unsuitable):
    """The file has colours other than grey or RGB."""

    def __init__(self, path: Path, colours: str) -> None:
        super().__init__(
            f"{path}: colours are {colours}, not RGB; convert the file, for example with Pillow: "
            f"image.convert('RGB').save(path)"
        )


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Raise any error of Pillow or GDAL about a damaged file as one UserError that names it."""
    try:
        yield
    except (FileNotFoundError, PermissionError, Unsuitable):
        raise
    except UnidentifiedImageError as error:
        kinds = "8-bit PNG, JPEG, BMP, TIFF, WebP, JPEG 2000"
        raise UserError(f"{path}: not an image of a readable kind ({kinds}); convert or replace the file") from error
    except (*BOMBS, MemoryError) as error:
        raise UserError(f"{path}: too many pixels to open at once; cut the image into tiles") from error
    except Exception as error:  # parsers of damaged bytes raise nearly anything
        raise UserError(f"{path}: damaged or unreadable ({error}); replace the file") from error


def too_deep(count: int, kind: str) -> str:
    """Return what to do about an image that is not 8-bit grey or RGB."""
    what = f"has {quantity(count, 'band')} of {kind}, but is to be read as 8-bit grey or RGB"
    return f"{what}; {scale_advice(kind)}, and --bands to choose other bands than the first three"


def refuse_huge(path: Path, height: int, width: int) -> None:
    """Raise a UserError if an image has more than PILLOW_LIMIT pixels to decode at once."""
    if height * width > PILLOW_LIMIT:
        raise Unsuitable(f"{path}: too many pixels to open at once ({height} x {width}); cut the image into tiles")
