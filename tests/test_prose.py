"""README.md and the pages of docs/ keep their limits: lines, words, and words in a sentence."""

import re

import pytest

from tests.scripts import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINES, WORDS = 250, {"README.md": 2500}
SENTENCE = 30


def sentences(text):
    """Sentences of a page without code, tables and pictures; a link counts as its text, a span of code as a word."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M)
    text = re.sub(r"^\|.*$|^!\[.*$|^#.*$", "", text, flags=re.M)
    text = re.sub(r"`[^`]+`", "CODE", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    blocks = re.split(r"\n\s*\n|^\s*(?:[-*]|\d+\.)\s", text, flags=re.M)
    return [words for block in blocks for part in re.split(r"(?<=[.?!])[)*]*\s", block) if (words := part.split())]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_sentences_are_short(page):
    found = sentences(page.read_text(encoding="utf-8"))
    assert [" ".join(words) for words in found if len(words) > SENTENCE] == []


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.zh.md"], ids=lambda page: page.name)
def test_pages_are_short(page):
    text = page.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LINES
    assert len(text.split()) <= WORDS.get(page.name, 3000)


def test_a_long_sentence_would_be_seen():
    text = f"# Title {'word ' * 40}\n\n- {'word ' * 31}`{'x ' * 40}`.\n- [Two words]({'x' * 9}). Three.\n"
    text += f"\n| {'cell ' * 40}|\n\n```\n{'code ' * 40}\n```\n"
    assert [len(words) for words in sentences(text)] == [32, 2, 1]
