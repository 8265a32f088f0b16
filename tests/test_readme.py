"""What README.md tells users to type is understood, and what it says of public sets is what the catalog says."""

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest

from datasets.catalog import CATALOG, GENERIC, STATISTICS
from datasets.pairs import find_pairs
from datasets.transforms import AUGMENTATIONS
from utils.prediction.config import KINDS, PredictConfig, parse_predict_config
from utils.training.config import parse_train_config

README, CHINESE = (
    (Path(__file__).parents[1] / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh.md")
)
DOCS = Path(__file__).parents[1] / "docs"
COMMAND = re.compile(r"python (?:-m )?(train_aux|predict_batch|tools\.\w+)(?:\.py)?(?: (.*))?$")
MAIN = {"tools.benchmarks": "tools.benchmarks.__main__"}  # of packages that run
PUBLIC = {name: entry for name, entry in CATALOG.items() if name != GENERIC}


def blocks(text):
    """Lines of the fenced shell blocks, a command that goes on with a backslash as one."""
    fenced = re.findall(r"^```(?:bash|sh|console)\n(.*?)^```", text, re.S | re.M)
    return "".join(fenced).replace("\\\n", " ").splitlines()


def sections(text):
    """Commands of each part, without their remarks, by the order of the parts."""
    parts = re.split(r"^## ", text, flags=re.M)[1:]
    return [[re.sub(r"\s+# .*", "", line) for line in blocks(part)] for part in parts]


def commands():
    """Every command of a block or of a code span, here and in docs/."""
    text = README + "".join(page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md")))
    outside = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    said = [line.strip() for line in blocks(text) + re.findall(r"`([^`]+)`", outside)]
    return [line for line in dict.fromkeys(said) if COMMAND.match(line)]


class Parsed(Exception):
    """The parser was content; nothing may run."""


def parse(command, monkeypatch):
    """Give the words of a command to the parser of its script, and to nothing else."""
    script, words = COMMAND.match(command).groups()
    argv = shlex.split(words or "", comments=True)
    if script == "train_aux" and argv != ["--help"]:
        config = parse_train_config(argv)
        assert config.statistics in {*STATISTICS, "train", "set"}
        assert config.augmentation in AUGMENTATIONS
        assert config.data_name in {*CATALOG, "auto"}
    elif script == "predict_batch":
        parse_predict_config(argv)
    else:
        stop_after_parsing(importlib.import_module(MAIN.get(script, script)), argv, monkeypatch)


def stop_after_parsing(module, argv, monkeypatch):
    """Run a script's main up to its flags."""
    genuine = argparse.ArgumentParser.parse_args

    def parse_and_stop(self, *args, **kwargs):
        genuine(self, *args, **kwargs)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    with pytest.raises((Parsed, SystemExit)) as stopped:
        module.main(argv)
    assert stopped.type is Parsed or argv == ["--help"]


@pytest.mark.parametrize("command", commands())
def test_commands_are_understood(command, monkeypatch):
    parse(command, monkeypatch)


@pytest.mark.parametrize("flags", sorted(set(re.findall(r"`(--recipe [^`]+)`", README))))
def test_flags_for_training_are_understood(flags, monkeypatch):
    parse(f"python train_aux.py {flags}", monkeypatch)


@pytest.mark.parametrize(
    "command",
    ["python train_aux.py --epoch 3", "python train_aux.py --recipe hannet", "python train_aux.py --statistics w",
     "python predict_batch.py --chekpoint x", "python -m tools.check_dataset --data-rot x",
     "python -m tools.prepare_tiles --output x --tile 9"],
)  # fmt: skip
def test_a_misspelt_flag_would_be_seen(command, monkeypatch):
    with pytest.raises((SystemExit, ValueError, AssertionError)):
        parse(command, monkeypatch)


def test_the_table_says_what_can_be_saved():
    """No more and no less than --save takes, and the first of it by default."""
    rows = README.split("| `--save` ")[1].split("\n\n")[0].splitlines()[2:]
    words = [word for row in rows for word in re.findall(r"`([\w-]+)`", row.split("|")[1])]
    assert sorted(words) == sorted(KINDS)
    assert tuple(words[:4]) == PredictConfig().save


def test_there_are_commands():
    found = [COMMAND.match(command)[1] for command in commands()]
    assert {"train_aux", "predict_batch", "tools.prepare_tiles", "tools.check_dataset"} <= set(found)
    assert len(found) > 25


def test_the_random_split_has_every_tile_once(tmp_path, monkeypatch):
    tiles = {f"christchurch_{row:04d}_0000.png" for row in range(0, 256 * 23, 256)}
    for role in ("A", "B", "label"):
        (tmp_path / "WHU-CD-256" / "all" / role).mkdir(parents=True)
        for name in tiles:
            (tmp_path / "WHU-CD-256" / "all" / role / name).touch()
    monkeypatch.chdir(tmp_path)
    (code,) = (code for code in re.findall(r"^```python\n(.*?)^```", README, re.S | re.M) if "shuffle" in code)
    exec(code, {})
    found = [find_pairs(Path("WHU-CD-256"), split) for split in ("train", "val", "test")]
    assert [len(pairs) for pairs in found] == [19, 2, 2]
    assert {pair.before.name for pairs in found for pair in pairs} == tiles


@pytest.mark.parametrize("number, title", list(enumerate(["Two commands", "Install", "Train", "Predict", "Figures"])))
def test_the_chinese_page_has_the_same_commands(number, title):
    """Those of a part of README.md, all and in their order; more may follow if README.md has them elsewhere."""
    titles = re.findall(r"^## (.+)$", README, re.M)
    (place,) = (k for k, words in enumerate(titles) if words.startswith(title))
    wanted, found = sections(README)[place], sections(CHINESE)[number]
    assert [line for line in found if line in wanted] == wanted
    assert set(found) <= {line for part in sections(README) for line in part}


def test_the_chinese_page_leads_to_what_is_there():
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", CHINESE) if not link.startswith("http")]
    assert len(links) > 5
    assert [link for link in links if not (Path(__file__).parents[1] / link).exists()] == []


def public_sets():
    """Title to text of the subsections."""
    section = re.search(r"^## Public data sets\n(.*?)^## ", README, re.S | re.M)[1]
    parts = re.split(r"^### (.+)\n", section, flags=re.M)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_public_set_has_its_subsection():
    assert list(public_sets()) == [entry.title for entry in PUBLIC.values()]


@pytest.mark.parametrize("name", PUBLIC)
def test_subsections_say_what_the_catalog_says(name):
    entry, text = PUBLIC[name], public_sets()[PUBLIC[name].title]
    assert not entry.source.startswith("http") or f"({entry.source})" in text
    assert not entry.paper or f"({re.search(r'https://doi.org/.*', entry.paper)[0]})" in text
    assert (f"{entry.metres} m a pixel" if entry.metres else "metres a pixel, terms and paper are unknown") in text
    assert ("uncertain)" in text) == (bool(entry.uncertain) or not all(counts.certain for counts in entry.counts))


@pytest.mark.parametrize("name", PUBLIC)
def test_subsections_have_three_commands(name):
    title = PUBLIC[name].title
    prepare, check, train = blocks(public_sets()[title])
    root = title
    if prepare != "# nothing to prepare":
        root = f"{title}-256"
        assert prepare == f"python -m tools.prepare_tiles --data-root {title} --output {root}"
    assert check == f"python -m tools.check_dataset --data-root {root}"
    assert train.startswith(f"python train_aux.py --data-root {root} --recipe ")
    config = parse_train_config(shlex.split(train)[2:])
    if config.recipe == "hanet":  # as released: one phase of PFBS, statistics of the set
        assert config.statistics == name
        assert (config.fixed_epochs > 0) != (config.linear_epochs > 0)
