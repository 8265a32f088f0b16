"""Finds series: the images of a place at several dates, in order, and the pairs they make."""

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.layouts import list_images
from datasets.lists import read_lines
from datasets.names import DATE, image_names, loose
from datasets.pairs import Pair
from utils.console import UserError, quantity

log = logging.getLogger(__name__)
MOST = 255  # dates of a place: a change-date map has 8 bits
COLUMNS = "a line of a list names a place, then its images from the earliest on: PLACE 2015.tif 2018.tif 2021.tif"


@dataclass(frozen=True)
class Series:
    """The images of a place, 2 to MOST, from the earliest on; each is compared with the previous, or with the first."""

    place: str
    images: tuple[Path, ...]
    against_first: bool = False

    def __post_init__(self) -> None:
        if not 2 <= len(self.images) <= MOST:
            raise UserError(
                f"{self.place}: {quantity(len(self.images), 'image')}; a series has 2 to {MOST} dates of one place"
            )
        if len(set(map(loose, self.dates))) < len(self.images):
            raise UserError(f"{self.place}: two images have one name ({', '.join(self.dates)}); rename or remove one")

    @property
    def dates(self) -> list[str]:
        """Names of the dates; see `image_names`."""
        return image_names(self.images)

    @property
    def _earlier(self) -> list[int]:
        return [0 if self.against_first else number for number in range(len(self.images) - 1)]

    @property
    def pairs(self) -> list[Pair]:
        """The pair of each later date, called PLACE_BEFORE__AFTER."""
        dates, images = self.dates, self.images
        return [
            Pair(f"{self.place}_{dates[i]}__{dates[j]}", images[i], images[j]) for j, i in enumerate(self._earlier, 1)
        ]

    @property
    def meanings(self) -> list[str]:
        """What is said of a pixel that is first changed at each later date."""
        words = "first differs from" if self.against_first else "changed since"
        return [f"{self.dates[j]}: {words} {self.dates[i]}" for j, i in enumerate(self._earlier, 1)]


def find_series(root: Path, against_first: bool) -> list[Series]:
    """Find the places of a folder or list, and log the order of the first one's dates.

    A folder has a folder of images for each place, or the images of one place, sorted by name, numbers by their value.
    A list has a place a line, see COLUMNS.

    Raises:
        FileNotFoundError: no such folder or list.
        UserError: there is no image; images lie beside folders of images; the folders are dates; a line is wrong; or
            see `Series`.
    """
    places = _in_list(root) if root.is_file() else _in_folders(root)
    if not places:
        raise UserError(f"{root}: no images, no folder of images, nor a line; {COLUMNS}")
    found = [Series(place, tuple(images), against_first) for place, images in places.items()]
    name, uses = Counter(loose(pair.name) for series in found for pair in series.pairs).most_common(1)[0]
    if uses > 1:
        raise UserError(f"{root}: two pairs are called {name}; rename a place")
    dates = found[0].dates
    shown = ", ".join(dates[:5] + ["..."] * (len(dates) > 5))
    log.info("series: %d of %s; order of dates in %s: %s", len(found), root, found[0].place, shown)
    return found


def _in_folders(root: Path) -> dict[str, Sequence[Path]]:
    alone = {root.resolve().name: found} if (found := list_images(root)) else {}
    inner = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    places = {folder.name: found for folder in inner if (found := list_images(folder))}
    if alone and places:
        what = f"both images and folders of images, such as {next(iter(places))}"
        raise UserError(f"{root}: holds {what}; pass a folder of one place, or of a folder a place")
    dated = all(map(DATE.search, places)) and len({DATE.sub("", place) for place in places}) == 1  # summer_2018, ...
    if len(places) > 1 and (dated or all(map(DATE.match, places))):
        what = (
            f"the folders {', '.join(list(places)[:2])} are named by dates, but a folder holds the dates of one place"
        )
        raise UserError(f"{root}: {what}; pass a list in its place: {COLUMNS}")
    return {place: sorted(found, key=_by_numbers) for place, found in (alone or places).items()}


def _by_numbers(path: Path) -> list[str | int]:
    """Return a key that sorts t2 before t10."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"(\d+)", path.stem))]


def _in_list(path: Path) -> dict[str, Sequence[Path]]:
    places: dict[str, Sequence[Path]] = {}
    for line in read_lines(path):
        if line.is_comment:
            continue
        place, *cells = line.splits()[0]
        images = [line.file(cell, path.parent) for cell in cells]
        if missing := next((image for image in images if not image.is_file()), None):
            raise line.error(f"{missing} does not exist; {COLUMNS}")
        if not place or place in places or re.search(r"[/\\]", place) or (path.parent / place).is_file():
            raise line.error(f"{place!r} is no new name of a place; {COLUMNS}")
        places[place] = images
    return places
