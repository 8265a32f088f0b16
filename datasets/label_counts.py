"""What the labels of a split hold: how often each code occurs, and which of them means changed."""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from datasets.open_pair import OpenPair
from datasets.pairs import Pair
from datasets.raster import PLAIN, WindowedImage
from datasets.reading import COLOUR, PixelFormat, code_name, code_of, luminance
from datasets.threads import threaded
from datasets.windows import scan
from utils.console import UserError

log = logging.getLogger(__name__)
FORMAT = 3
MOST_CODES = 512  # a file of more values is an image, not a label
MAJORITY = 0.5  # share of changed pixels from which on the two values of a label may be the wrong way round
LOSSY = (".jpg", ".jpeg", ".webp")  # formats whose black may hold a 1
MASK_VALUES = "masks have one channel, all of 0 and 1, or all of levels of which 128 means changed"
FLAGS = (
    "pass --change-value N (of colours '#rrggbb'), the value that means changed, --ignore-value N, one that means "
    "unknown, or --change-from 128 for grey levels (JPEG, soft edges)"
)


@dataclass
class LabelFacts:
    """Codes of one label.

    Attributes:
        known: pixels by code, wherever the label holds data.
        counted: pixels by code, where both dates hold data, too.
        nodata: the file's nodata value, if any pixel has it.
        hidden: True if the file marks pixels as unknown: by nodata, mask or transparency.
        palette: whether its codes are colours of a palette.
    """

    known: Counter[int] = field(default_factory=Counter)
    counted: Counter[int] = field(default_factory=Counter)
    nodata: float | None = None
    hidden: bool = False
    palette: bool = False


def label_facts(opened: OpenPair, reading: PixelFormat) -> LabelFacts:
    """Count the codes of an open pair's label.

    Raises:
        UserError: damaged, or an image in a label's place.
    """
    label = opened.label
    assert label is not None
    facts = LabelFacts(palette=label.palette and not reading.by_index)
    for window in scan(opened.size):
        codes, known = opened.codes(window)
        if reading.change_from is not None:
            codes = luminance(codes)
        dates = opened.known(window)
        facts.known.update(count_codes(codes, known))
        if dates is not None:
            facts.counted.update(count_codes(codes, dates if known is None else dates & known))
        if known is not None and not known.all():
            facts.hidden = True
        _refuse_image(label.path, facts)
    if facts.hidden:
        facts.nodata = label.nodata
    if not opened.before.gaps and not opened.after.gaps:
        facts.counted = facts.known
    return facts


def _refuse_image(path: Path, facts: LabelFacts) -> None:
    if len(facts.known) > MOST_CODES:
        raise UserError(
            f"{path}: more than {MOST_CODES} different values, so it is an image and no label; for grey levels pass "
            f"--change-from 128"
        )


def facts_alone(path: Path, reading: PixelFormat) -> LabelFacts:
    """Count the codes of a label without its dates; errors as `label_facts`."""
    with WindowedImage(path, reading, label=True) as label:
        facts = LabelFacts(palette=label.palette and not reading.by_index)
        for window in scan(label.size):
            codes, known = label.content(window)
            facts.known.update(count_codes(luminance(codes) if reading.change_from is not None else codes, known))
            facts.hidden |= known is not None and not known.all()
            _refuse_image(path, facts)
    facts.nodata = label.nodata if facts.hidden else None
    facts.counted = facts.known
    return facts


def count_codes(codes: np.ndarray, known: np.ndarray | None = None) -> dict[int, int]:
    """How often each code occurs where it is known."""
    some = codes.ravel() if known is None else codes[known]
    if some.dtype == np.uint8:
        levels = np.bincount(some, minlength=256)
        return {int(code): int(levels[code]) for code in np.flatnonzero(levels)}
    values, counts = np.unique(some, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


class LabelCounts:
    """Counts the codes of labels; those counted by an earlier run are not decoded again.

    Kept counts serve a pair whose files have the same paths, sizes and times of change, read in the same way.
    """

    def __init__(self, reading: PixelFormat = PLAIN, path: Path | None = None) -> None:
        """Take what an earlier run kept.

        Args:
            reading: how labels are read; which code means changed does not matter.
            path: the earlier run's `as_text`; without it, or where it cannot be understood, everything is counted.
        """
        self.reading = reading
        self._how = json.dumps([FORMAT, reading.by_index, reading.change_from is not None, list(reading.bands)])
        self._kept = self._read(path) if path else {}
        self._lines: dict[str, Any] = {}

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return dict(content["labels"]) if content["how"] == self._how else {}
        except (OSError, ValueError, LookupError, TypeError):
            return {}

    def facts(self, pair: Pair) -> LabelFacts:
        """Codes of a pair's label; of dates that cannot be read nothing is unknown.

        Raises:
            UserError: the label is damaged, or an image in a label's place.
        """
        assert pair.label is not None
        name, stamp = str(pair.label.resolve()), pair.stamp
        facts = _facts_from(self._lines.get(name) or self._kept.get(name), stamp)
        if facts is None:
            try:
                with OpenPair(pair, self.reading) as opened:
                    facts = label_facts(opened, self.reading)
            except UserError:  # of the dates, perhaps; who reads them says so
                facts = facts_alone(pair.label, self.reading)
        alike = facts.counted == facts.known
        self._lines[name] = [
            stamp, _as_text(facts.known), None if alike else _as_text(facts.counted), facts.nodata, facts.hidden,
            facts.palette,
        ]  # fmt: skip
        return facts

    def as_text(self) -> str:
        """Everything counted, as JSON for the next run."""
        return json.dumps({"how": self._how, "labels": self._lines}, indent=0, sort_keys=True) + "\n"


def _as_text(counts: Mapping[int, int]) -> str:
    return " ".join(f"{code}:{pixels}" for code, pixels in sorted(counts.items()))


def _counts_from(text: str) -> Counter[int]:
    return Counter({int(code): int(pixels) for code, pixels in (word.split(":") for word in text.split())})


def _facts_from(line: Any, stamp: str) -> LabelFacts | None:
    try:
        if line[0] != stamp:
            return None
        known = _counts_from(line[1])
        counted = known if line[2] is None else _counts_from(line[2])
        return LabelFacts(known, counted, line[3], bool(line[4]), bool(line[5])) if known or line[4] else None
    except (TypeError, ValueError, LookupError, AttributeError):
        return None


def collect(pairs: Sequence[Pair], counts: LabelCounts, skip_unreadable: bool = False) -> dict[Path, LabelFacts]:
    """Codes of every label of some pairs; with `skip_unreadable` what cannot be read is left out."""

    def facts_of(pair: Pair) -> LabelFacts | None:
        try:
            return counts.facts(pair)
        except (UserError, OSError):
            if not skip_unreadable:
                raise
            return None

    labelled = [pair for pair in pairs if pair.label]
    found = zip(labelled, threaded(facts_of, labelled), strict=True)
    return {pair.label: facts for pair, facts in found if pair.label and facts}


def decide(facts: Mapping[Path, LabelFacts], reading: PixelFormat) -> PixelFormat:
    """Settle which code of a split's labels means changed, for all of them alike.

    Two codes of which one is 0 need no flag. All else has to be named.

    Args:
        facts: of every label of the split.
        reading: with the codes that flags name.

    Raises:
        UserError: the codes can be understood in more ways than one, or no data hides one of the two classes.
    """
    codes = total_codes(facts.values(), reading)
    if not reading.decided:
        problem = _ambiguity(codes)
        if problem:
            raise UserError(f"{_where(facts)} of values {shares(codes)}: {problem}")
        change = next((code for code in codes if code), 255)
        by_colour = change >= COLOUR or any(each.palette for each in facts.values())
        reading = replace(reading, change_value=_colour_name(change) if by_colour else change)
    _refuse_hidden_class(facts, codes, reading)
    return reading


def decide_split(facts: Mapping[Path, LabelFacts], reading: PixelFormat) -> PixelFormat:
    """As `decide`, but codes that are decided must fit the split.

    Raises:
        UserError: as `decide`, or they do not fit.
    """
    codes = total_codes(facts.values(), reading)
    if reading.decided and (problem := _misfit(codes, reading)):
        raise UserError(f"{_where(facts)} of values {shares(codes)}: {problem}")
    return decide(facts, reading)


def total_codes(facts: Iterable[LabelFacts], reading: PixelFormat) -> Counter[int]:
    """Known pixels by code, of all labels, without the code that means unknown."""
    codes: Counter[int] = Counter()
    for each in facts:
        codes.update(each.known)
    if reading.ignore_value is not None:
        codes.pop(code_of(reading.ignore_value), None)
    return codes


def _ambiguity(codes: Counter[int]) -> str:
    """Why it cannot be told which code means changed; empty if it can."""
    others, total = [code for code in codes if code], sum(codes.values())
    if len(codes) > 2:
        return f"more than two; {FLAGS}"
    if len(others) == 2:
        return f"none of them is 0, which means unchanged; {FLAGS}"
    if len(codes) == 2 and codes[others[0]] > MAJORITY * total:
        share = 100 * codes[others[0]] / total
        return (
            f"{share:.2f} % would be changed, so the two may be the wrong way round; pass --change-value "
            f"{code_name(others[0])} or --change-value 0"
        )
    if len(codes) == 1 and others and others[0] not in (1, 255):
        return FLAGS
    return ""


def _refuse_hidden_class(facts: Mapping[Path, LabelFacts], codes: Counter[int], reading: PixelFormat) -> None:
    """Refuse labels whose nodata value or transparency makes all changed or all unchanged pixels unknown."""
    if reading.change_from is not None:
        changed = {code for code in codes if code >= reading.change_from}
    else:
        assert reading.change_value is not None
        changed = {code_of(reading.change_value)}
    unchanged = codes.keys() - changed
    way_out = "remove that tag: gdal_edit.py -unsetnodata FILE"
    for path, each in facts.items():
        if each.nodata is not None and each.nodata in changed:
            name = code_name(int(each.nodata))
            raise UserError(
                f"{path}: its nodata value {name} is the value of changed pixels, which would not be scored; "
                f"{way_out}, or name another value: --change-value N"
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


def _colour_name(code: int) -> str:
    return code_name(code) if code >= COLOUR else f"#{code:02x}{code:02x}{code:02x}"


def _where(facts: Mapping[Path, LabelFacts]) -> str:
    return f"{next(iter(facts)).parent}: {len(facts)} label{'s' * (len(facts) != 1)}"


def shares(codes: Mapping[int, int], most: int = 6) -> str:
    """The most frequent codes and their shares, as text."""
    ordered, total = sorted(codes, key=lambda code: -codes[code]), max(sum(codes.values()), 1)
    listed = ", ".join(f"{code_name(code)}: {100 * codes[code] / total:.2f} %" for code in ordered[:most])
    return (listed or "none") + (f" and {len(ordered) - most} more" if len(ordered) > most else "")


def count_changed(pairs: Sequence[Pair], reading: PixelFormat = PLAIN, counts: LabelCounts | None = None) -> list[int]:
    """Changed pixels of each pair that count; logs the label values found and the changed share.

    Args:
        pairs: with labels.
        reading: how labels are read; where it has no code for changed, the labels decide.
        counts: of the same reading; gives and takes what need not be counted again.

    Raises:
        UserError: no pixel is changed, all are, or there are codes that `reading` does not fit.
    """
    facts = collect(pairs, counts or LabelCounts(reading))
    codes, counted = total_codes(facts.values(), reading), Counter[int]()
    for each in facts.values():
        counted.update(each.counted)
    changed = [changed_pixels(each.counted, reading) for each in facts.values()]
    reading = decide_split(facts, reading)
    where = f"{_where(facts)} of values {shares(codes)}"
    known = sum(known_codes(counted, reading).values())
    if not any(changed):
        raise UserError(f"{where}: no pixel is changed where both dates and the label are known; add pairs with change")
    if sum(changed) == known:
        raise UserError(f"{where}: every known pixel is changed; look at the labels, or pass --change-value N")
    what = f"{reading.change_from} and more" if reading.change_value is None else reading.change_value
    log.info(
        "%s; %s means changed: %.2f %% of pixels, in %d pairs",
        where, what, 100 * sum(changed) / known, np.count_nonzero(changed),
    )  # fmt: skip
    return changed


def _misfit(codes: Counter[int], reading: PixelFormat) -> str:
    """What is wrong with codes that are read in a decided way; empty if nothing."""
    if reading.change_value is None or not codes:
        return ""
    change = code_of(reading.change_value)
    if reading.named:
        fits = change in codes or codes.keys() <= {0}
        return "" if fits else f"no pixel has the value {reading.change_value}, which means changed; {FLAGS}"
    odd = codes.keys() - {0, change}
    return (
        f"{reading.change_value} means changed in the first split, so these values do not fit; {FLAGS}" if odd else ""
    )


def decide_to_predict(pairs: Sequence[Pair], reading: PixelFormat) -> PixelFormat:
    """Settle how the labels of pairs to be predicted are read: as the checkpoint says, or by their own two values.

    Labels that cannot be read are left out; each fails with its pair.

    Raises:
        UserError: the labels fit neither.
    """
    facts = collect(pairs, LabelCounts(reading), skip_unreadable=True)
    if not facts:
        return reading if reading.decided else replace(reading, change_value=255)
    codes = total_codes(facts.values(), reading)
    if reading.ignore_value is not None and not codes.keys() - {0}:
        log.warning(
            "%s: without the ignored value %s, all labels are 0; if it means changed here, pass --change-value",
            _where(facts), reading.ignore_value,
        )  # fmt: skip
    if reading.decided and (problem := _misfit(codes, reading)):
        if reading.named or _ambiguity(codes):
            raise UserError(f"{_where(facts)} of values {shares(codes)}: {problem}")
        anew = decide(facts, replace(reading, change_value=None))
        log.warning(
            "%s of values %s: %s means changed here, %s where the network was trained",
            _where(facts), shares(codes), anew.change_value, reading.change_value,
        )  # fmt: skip
        return anew
    decided = decide(facts, reading)
    if not reading.decided:
        log.info("%s of values %s: %s means changed", _where(facts), shares(codes), decided.change_value)
    return decided


def decide_alone(paths: Sequence[Path], reading: PixelFormat) -> PixelFormat:
    """Settle how labels are read that are scored without their images; errors as `decide`."""
    if reading.decided:
        return reading
    facts = threaded(partial(facts_alone, reading=reading), paths)
    return decide(dict(zip(paths, facts, strict=True)), reading)


def mask_reading(paths: Sequence[Path]) -> PixelFormat:
    """How masks of change in a folder are read, all alike: of levels 0 and 1, or of levels of which 128 means changed.

    Raises:
        UserError: one cannot be read, or holds colours.
    """

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


def known_codes(codes: Mapping[int, int], reading: PixelFormat) -> dict[int, int]:
    """Pixels by code, without the code that means unknown."""
    ignored = None if reading.ignore_value is None else code_of(reading.ignore_value)
    return {code: pixels for code, pixels in codes.items() if code != ignored}


def changed_pixels(codes: Mapping[int, int], reading: PixelFormat) -> int:
    """Pixels that a decided reading takes as changed, from counts by code."""
    known = known_codes(codes, reading)
    if reading.change_from is not None:
        return sum(pixels for code, pixels in known.items() if code >= reading.change_from)
    assert reading.change_value is not None
    return known.get(code_of(reading.change_value), 0)
