"""Decides which label code means changed, for all labels of a split alike."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from datasets.label_counts import (
    LabelCounts,
    LabelFacts,
    changed_pixels,
    collect,
    facts_alone,
    known_codes,
    means_changed,
    total_codes,
)
from datasets.pairs import Pair
from datasets.raster import WindowedImage
from datasets.reading import COLOUR, PLAIN, PixelFormat, code_name, code_of
from datasets.threads import threaded
from datasets.windows import scan
from utils.console import UserError, quantity

log = logging.getLogger(__name__)
MAJORITY = 0.5  # share of changed pixels from which on the two values of a label may be swapped
LOSSY = (".jpg", ".jpeg", ".webp")  # formats whose black may hold a 1
MASK_VALUES = "masks have one channel, all of 0 and 1, or all of levels of which 128 means changed"
FLAGS = (
    "pass --change-value N (of colours '#rrggbb'), the value that means changed, --ignore-value N, one that means "
    "unknown, or --change-from 128 for grey levels (JPEG, soft edges)"
)


def shares(codes: Mapping[int, int], most: int = 6) -> str:
    """Return the most frequent codes and their shares as text."""
    ordered, total = sorted(codes, key=lambda code: -codes[code]), max(sum(codes.values()), 1)
    listed = ", ".join(f"{code_name(code)}: {100 * codes[code] / total:.2f} %" for code in ordered[:most])
    return (listed or "none") + (f" and {len(ordered) - most} more" if len(ordered) > most else "")


def _values(facts: Mapping[Path, LabelFacts], codes: Mapping[int, int]) -> str:
    return f"{next(iter(facts)).parent}: {quantity(len(facts), 'label')} of values {shares(codes)}"


def decide(facts: Mapping[Path, LabelFacts], reading: PixelFormat) -> PixelFormat:
    """Decide which code means changed, the same for all labels of a split, unless flags or another split did.

    Two codes of which one is 0 need no flag. All else has to be named, and codes that are decided must fit the split.

    Raises:
        UserError: the codes are ambiguous or do not fit, or unknown pixels hide one of the two classes.
    """
    codes = total_codes(facts.values(), reading)
    if problem := _misfit(codes, reading) if reading.decided else _ambiguity(codes):
        raise UserError(f"{_values(facts, codes)}: {problem}")
    if not reading.decided:
        change: int | str = next((code for code in codes if code), 255)
        if isinstance(change, int) and (change >= COLOUR or any(each.palette for each in facts.values())):
            change = f"#{change - COLOUR if change >= COLOUR else change * 0x010101:06x}"
        reading = replace(reading, change_value=change)
    _refuse_hidden_class(facts, codes, reading)
    return reading


def decide_alone(paths: Sequence[Path], reading: PixelFormat) -> PixelFormat:
    """As `decide`, for labels that are scored without their images."""
    if reading.decided:
        return reading
    return decide(dict(zip(paths, threaded(partial(facts_alone, reading=reading), paths), strict=True)), reading)


def decide_to_predict(pairs: Sequence[Pair], reading: PixelFormat) -> PixelFormat:
    """Decide how the labels of pairs to be predicted are read: as the checkpoint does, or by their own two values.

    Labels that cannot be read are left out; each fails with its pair.

    Raises:
        UserError: the labels fit neither.
    """
    facts = collect(pairs, LabelCounts(reading), skip_unreadable=True)
    if not facts:
        return reading if reading.decided else replace(reading, change_value=255)
    codes = total_codes(facts.values(), reading)
    values = _values(facts, codes)
    if reading.ignore_value is not None and not codes.keys() - {0}:
        what = f"without the ignored value {reading.ignore_value}, all labels are 0"
        log.warning("%s: %s; if it means changed here, pass --change-value", values, what)
    if reading.decided and (problem := _misfit(codes, reading)):
        if reading.named or _ambiguity(codes):
            raise UserError(f"{values}: {problem}")
        here = decide(facts, replace(reading, change_value=None))
        what = f"{reading.change_value} where the network was trained"
        log.warning("%s: %s means changed here, %s", values, here.change_value, what)
        return here
    decided = decide(facts, reading)
    if not reading.decided:
        log.info("%s: %s means changed", values, decided.change_value)
    return decided


def _ambiguity(codes: Mapping[int, int]) -> str:
    """Return why the code that means changed cannot be told; empty if it can."""
    others = [code for code in codes if code]
    if len(codes) > 2:
        return f"more than two; {FLAGS}"
    if len(others) == 2:
        return f"none of them is 0, which means unchanged; {FLAGS}"
    if len(codes) == 2 and codes[others[0]] > MAJORITY * sum(codes.values()):
        share = 100 * codes[others[0]] / sum(codes.values())
        return (
            f"{share:.2f} % would be changed, so the two may be swapped; pass --change-value {code_name(others[0])} or "
            f"--change-value 0"
        )
    return FLAGS if len(codes) == 1 and others and others[0] not in (1, 255) else ""


def _misfit(codes: Mapping[int, int], reading: PixelFormat) -> str:
    """Return why codes do not fit a decided format; empty if they do."""
    if reading.change_value is None or not codes:
        return ""
    change = code_of(reading.change_value)
    if reading.named:
        fits = change in codes or codes.keys() <= {0}
        return "" if fits else f"no pixel has the value {reading.change_value}, which means changed; {FLAGS}"
    odd = codes.keys() - {0, change}
    what = f"{reading.change_value} means changed in another split or in the checkpoint; these values do not fit"
    return f"{what}; {FLAGS}" if odd else ""


def _refuse_hidden_class(facts: Mapping[Path, LabelFacts], codes: Mapping[int, int], reading: PixelFormat) -> None:
    """Refuse labels whose nodata value or transparency makes all changed or all unchanged pixels unknown."""
    changed = {code for code in codes if means_changed(code, reading)}
    unchanged = codes.keys() - changed
    if reading.change_value is not None:
        changed.add(code_of(reading.change_value))
    way_out = "remove that tag: gdal_edit.py -unsetnodata FILE"
    for path, each in facts.items():
        if each.nodata is not None and each.nodata in changed:
            raise UserError(
                f"{path}: its nodata value {code_name(int(each.nodata))} is the value of changed pixels, which would "
                f"not be scored; {way_out}, or name another value: --change-value N"
            )
        if each.nodata == 0 and unchanged <= {0} and codes:
            raise UserError(
                f"{path}: its nodata value 0 is the value of unchanged pixels, which would not be scored; {way_out}"
            )
        if each.hidden and codes and not unchanged:
            raise UserError(
                f"{path}: has transparent or masked pixels, and all others are changed, so unchanged pixels would not "
                f"be scored; save the label without transparency"
            )


def count_changed(pairs: Sequence[Pair], reading: PixelFormat = PLAIN, counts: LabelCounts | None = None) -> list[int]:
    """Return the changed pixels of each pair that count; log the label values and the changed share.

    `counts`, of the same format, reads and keeps counts.

    Raises:
        UserError: no pixel is changed, all are, or there are codes that `reading` does not fit.
    """
    facts = collect(pairs, counts or LabelCounts(reading))
    known = sum(sum(known_codes(each.counted, reading).values()) for each in facts.values())
    changed = [changed_pixels(each.counted, reading) for each in facts.values()]
    reading = decide(facts, reading)
    where = _values(facts, total_codes(facts.values(), reading))
    if not any(changed):
        raise UserError(f"{where}: no pixel is changed where both dates and the label are known; add pairs with change")
    if sum(changed) == known:
        raise UserError(f"{where}: every known pixel is changed; look at the labels, or pass --change-value N")
    what = f"{reading.change_from} and more" if reading.change_value is None else reading.change_value
    share = f"{100 * sum(changed) / known:.2f} % of pixels, in {quantity(sum(map(bool, changed)), 'pair')}"
    log.info("%s; %s means changed: %s", where, what, share)
    return changed


def mask_reading(paths: Sequence[Path]) -> PixelFormat:
    """Return how masks are read: all of levels 0 and 1, or of levels from 128 on for changed; else a UserError."""

    def highest(path: Path) -> int:
        with WindowedImage(path, label=True) as image:
            return max(int(image.content(window)[0].max(initial=0)) for window in scan(image.size))

    most = dict(zip(paths, threaded(highest, paths), strict=True))
    for path, level in most.items():
        if level >= COLOUR:
            raise UserError(f"{path}: holds colours; {MASK_VALUES}")
    top = max(most.values(), default=0)
    for path, level in most.items():
        lossy = path.suffix.lower() in LOSSY
        if (level == top and 1 < top < 128) or (level == 1 < top and not lossy):
            raise UserError(f"{path}: its highest value is {level}, the highest of all is {top}; {MASK_VALUES}")
    return PixelFormat(change_from=1 if top <= 1 else 128)
