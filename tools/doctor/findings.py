"""Kinds of findings about a data set: severity, advice, and how they are printed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

ERROR, WARNING = "error", "warning"

# kind: (severity, what to do); an error makes training or scores wrong or impossible
KINDS: dict[str, tuple[str, str]] = {
    "layout": (ERROR, "name the folders as in the data layout of README.md"),
    "list": (ERROR, "correct the list: its lines are names, or paths from the data set's folder"),
    "no pairs": (ERROR, "fill the split or remove it"),
    "orphan": (ERROR, "add the missing file or remove its partners"),
    "two files of one name": (ERROR, "remove one of them; files belong together by their name without suffix"),
    "unreadable": (ERROR, "download or convert the file again, or remove it with its partners"),
    "sizes in a pair": (ERROR, "cut before, after and label alike; never resize a label"),
    "sizes of tiles": (ERROR, "cut all training tiles to one size"),
    "pair": (ERROR, "correct or remove the pair; its files cannot be read together"),
    "label codes": (ERROR, "use one code for all, 0 unchanged and 255 changed, or name the codes by flags"),
    "no change": (ERROR, "check the labels: a network cannot learn change from a split without any"),
    "no labels": (ERROR, "add the label folder; training needs it"),
    "leak": (ERROR, "remove these images, and their partners, from one of the two splits"),
    "sizes of images": (WARNING, "state with every score whether whole images or tiles were scored"),
    "modes in a pair": (WARNING, "check that both dates have the same channels; grey is read as three equal ones"),
    "modes in the split": (WARNING, "check that these belong here; grey is read as three equal channels"),
    "all unknown": (WARNING, "remove the pair: neither training nor scores count any of its pixels"),
    "all changed": (WARNING, "check the label: every pixel is changed"),
    "constant image": (WARNING, "remove the pair if this is no-data"),
    "identical dates": (WARNING, "check whether one date was copied over the other"),
    "label as date": (WARNING, "check which folder holds what: this is a label, not an image"),
    "swapped dates": (WARNING, "swap the folders, if the names are right; time is not read from the files"),
    "unlike dates": (WARNING, "check that both folders show the same places; forests and water have few edges"),
    "shifted dates": (
        WARNING,
        "align the dates before you label them; predict_batch.py --register auto corrects a shift",
    ),
    "nothing to find": (WARNING, "recall and F1 of this split are 0 by definition"),
    "nothing to score": (WARNING, "nothing, if you only need predictions"),
    "pair count": (WARNING, "do not compare scores with published ones before this is explained"),
}


@dataclass(frozen=True)
class Finding:
    """One problem: its kind (a key of KINDS), the file or split it is in, and a description."""

    kind: str
    where: str
    what: str

    @property
    def severity(self) -> str:
        """ERROR or WARNING."""
        return KINDS[self.kind][0]


def count_errors(findings: Sequence[Finding]) -> int:
    """Number of findings that are errors."""
    return sum(finding.severity == ERROR for finding in findings)


def finding_lines(findings: Sequence[Finding], most: int = 10) -> Iterator[str]:
    """Lines of text by kind, in the order of KINDS, with at most `most` findings of a kind."""
    for kind, (severity, advice) in KINDS.items():
        lines = [f"  {finding.where}: {finding.what}" for finding in findings if finding.kind == kind]
        if lines:
            yield f"{severity}: {kind} ({len(lines)}): {advice}"
            yield from lines[:most]
        if len(lines) > most:
            yield f"  ... and {len(lines) - most} more (--json FILE has all)"
