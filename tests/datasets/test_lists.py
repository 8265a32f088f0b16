"""List files in every encoding: read rightly or refused by the line."""

import codecs

import pytest

from datasets.lists import read_lines

TEXT = "\u57ce1.png\n\nb.png\n"


@pytest.mark.parametrize(
    "content",
    [TEXT.encode(), TEXT.encode("utf-8-sig"), TEXT.encode("utf-16"), codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
     TEXT.replace("\n", "\r\n").encode(), TEXT.replace("\n", "\r").encode(), TEXT.encode() + bytes(512)],
)  # fmt: skip
def test_encodings_and_line_ends(content, tmp_path):
    path = tmp_path / "train.txt"
    path.write_bytes(content)
    found = [(line.place, line.text) for line in read_lines(path)]
    assert found == [(f"{path}, line 1", "\u57ce1.png"), (f"{path}, line 3", "b.png")]


@pytest.mark.parametrize(
    ("content", "says"),
    [(("a\n" + TEXT).encode("gbk"), "line 2: not UTF-8 text; save the list as UTF-8"),
     (TEXT.encode("utf-16-le"), "line 1: not UTF-8 text|line 1: NUL between characters, so not UTF-8 text"),
     ("a.png\n".encode("utf-16-le"), "line 1: NUL between characters, so not UTF-8 text; save the list as UTF-8"),
     (TEXT.encode("utf-16") + b"!", "not UTF-8 text")],
)  # fmt: skip
def test_other_encodings_are_refused(content, says, tmp_path):
    (tmp_path / "train.txt").write_bytes(content)
    with pytest.raises(ValueError, match=rf"train\.txt, .*{says}"):
        read_lines(tmp_path / "train.txt")


def test_a_line_that_cannot_be_split_is_named(tmp_path):
    (tmp_path / "train.txt").write_text("x" * 200_000)
    with pytest.raises(ValueError, match=r"train\.txt, line 1: not a line of a list"):
        read_lines(tmp_path / "train.txt")[0].splits()
