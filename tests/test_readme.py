"""Commands, flags and links of README.md and docs/ are right, and public sets are described as in the catalog."""

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest

from datasets.catalog import CATALOG, GENERIC, STATISTICS
from datasets.pairs import find_pairs
from datasets.transforms import AUGMENTATIONS
from tests.scripts import ROOT
from tools.make_figures import FIGURES
from utils.prediction.config import KINDS, PredictConfig, parse_predict_config
from utils.training.config import parse_train_config

TEXTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", ROOT / "README.zh.md", ROOT / "checkpoints/README.md", *ROOT.glob("docs/**/*.md")]
}
README, CHINESE, DATASETS = TEXTS["README.md"], TEXTS["README.zh.md"], TEXTS["docs/datasets.md"]
PYTHON = r"(?:srun )?(?:torchrun .*?|python (?:-m )?)"
COMMAND = re.compile(PYTHON + r"(train_aux|predict_batch|tools\.\w+)(?:\.py)?(?: (.*))?$")
PUBLIC = {name: entry for name, entry in CATALOG.items() if name != GENERIC}
OTHERS = {  # flags of torchrun, Slurm and rio
    "--standalone", "--nproc-per-node", "--nnodes", "--rdzv-id", "--rdzv-backend", "--rdzv-endpoint",
    "--nodes", "--ntasks-per-node", "--gpus-per-node", "--signal",
    "--crs", "--transform",
}  # fmt: skip


def fenced(text, languages="python"):
    """Fenced blocks of code."""
    return re.findall(rf"^```(?:{languages})\n(.*?)^```", text, re.S | re.M)


def unfenced(text):
    return re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)


def blocks(text):
    """Lines of the fenced shell blocks, a command that continues after a backslash as one."""
    return "".join(fenced(text, "bash|sh|console")).replace("\\\n", " ").splitlines()


def spans(text):
    """Spans of code outside of blocks."""
    return re.findall(r"`([^`]+)`", unfenced(text))


def commands():
    """Every command of a block or of a code span, on any page, and the flags of training that start with a recipe."""
    said = [line.strip() for text in TEXTS.values() for line in blocks(text) + spans(text)]
    said += [
        f"python train_aux.py {line.replace('NAME', 'hanet')}" for line in said if re.match("--recipe [^|]+$", line)
    ]
    return [line for line in dict.fromkeys(said) if COMMAND.match(line) and "..." not in line]


def tool(name):
    """The module of a command `python -m tools.NAME`."""
    module = importlib.import_module(name)
    return module if hasattr(module, "main") else importlib.import_module(f"{name}.__main__")


class Parsed(Exception):
    """The parser was content; nothing may run."""


def stop_after_parsing(call, monkeypatch, judge=True):
    """Run a call up to its flags, and give the parser of the last ones; without judge whatever they are."""
    genuine = argparse.ArgumentParser.parse_args

    def parse_and_stop(self, *args, **kwargs):
        if judge:
            genuine(self, *args, **kwargs)
        raise Parsed(self)

    with monkeypatch.context() as patch, pytest.raises((Parsed, SystemExit)) as stopped:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
        call()
    return stopped.value


def parse(command, monkeypatch):
    """Give the words of a command to the parser of its script, and to nothing else."""
    script, words = COMMAND.match(command).groups()
    argv = shlex.split(words or "", comments=True)
    module = tool(script) if script.startswith("tools.") else None
    if argv in ([], ["--help"], ["--list"]):
        return
    if script == "train_aux":
        config = parse_train_config(argv)
        assert config.statistics in {*STATISTICS, "train", "set", "checkpoint"}
        assert config.augmentation in AUGMENTATIONS
        assert config.data_name in {*CATALOG, "auto"}
    elif script == "predict_batch":
        parse_predict_config(argv)
    else:
        assert isinstance(stop_after_parsing(lambda: module.main(argv), monkeypatch), Parsed)


@pytest.mark.parametrize("command", commands())
def test_commands_are_understood(command, monkeypatch):
    parse(command, monkeypatch)


@pytest.mark.parametrize(
    "command",
    ["python train_aux.py --statistics w", "python predict_batch.py --chekpoint x",
     "python -m tools.prepare_tiles --output x --tile 9", "torchrun --nnodes 2 train_aux.py --epoch 3",
     "python -m tools.compare hanet-pfbs --epoch 3"],
)  # fmt: skip
def test_a_misspelt_flag_would_be_seen(command, monkeypatch):
    with pytest.raises((SystemExit, ValueError, AssertionError)):
        parse(command, monkeypatch)


def test_every_flag_exists(monkeypatch):
    """Those that a page names outside of commands as well."""
    tools = [path for path in (ROOT / "tools").glob("*.py") if "def main(" in path.read_text(encoding="utf-8")]
    names = [f"tools.{path.stem}" for path in tools] + [
        f"tools.{path.parent.name}" for path in (ROOT / "tools").glob("*/__main__.py")
    ]
    calls = [lambda: parse_train_config([]), lambda: parse_predict_config([])]
    calls += [lambda name=name: tool(name).main([]) for name in names if name not in SEVERAL_PARSERS]
    calls += [lambda figure=figure: tool("tools.make_figures").main([figure]) for figure in FIGURES]
    flags = OTHERS | {"--list-recipes", *tool("tools.compare").own_flags()._option_string_actions}
    for call in calls:
        flags |= set(stop_after_parsing(call, monkeypatch, judge=False).args[0]._option_string_actions)
    named = {
        (page, flag)
        for page, text in TEXTS.items()
        for code in [*spans(text), *blocks(text)]
        for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", code)
    }
    assert len(named) > 150
    assert sorted((page, flag) for page, flag in named if flag not in flags) == []


SEVERAL_PARSERS = ("tools.make_figures", "tools.compare")


def anchors(text):
    """What GitHub calls a page's headings in links."""
    titles = re.findall(r"^#+ (.+)$", unfenced(text), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_to_what_is_there(page):
    wrong = []
    for link in re.findall(r"\]\(([^)\s]+)\)", unfenced(TEXTS[page])):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        name = target.resolve().relative_to(ROOT.resolve()).as_posix()
        if not target.exists() or anchor and anchor not in anchors(TEXTS[name]):
            wrong.append(link)
    assert wrong == []


def test_readme_leads_to_every_page():
    assert {page for page in TEXTS if page.count("/") == 1 and f"]({page}" not in README} == set()


@pytest.mark.parametrize("page", TEXTS)
def test_imports_of_examples_are_right(page):
    for code in fenced(TEXTS[page]):
        exec("\n".join(re.findall(r"^(?:from|import) .+$", code, re.M)), {})


def test_the_table_says_what_can_be_saved():
    """No more and no less than --save takes, and the first of it by default."""
    rows = TEXTS["docs/prediction.md"].split("| `--save` ")[1].split("\n\n")[0].splitlines()[2:]
    words = [word for row in rows for word in re.findall(r"`([\w-]+)`", row.split("|")[1])]
    assert sorted(words) == sorted(KINDS)
    assert tuple(words[:5]) == PredictConfig().save


def test_the_random_split_has_every_tile_once(tmp_path, monkeypatch):
    tiles = {f"christchurch_{row:04d}_0000.png" for row in range(0, 256 * 23, 256)}
    for role in ("A", "B", "label"):
        (tmp_path / "WHU-CD-256" / "all" / role).mkdir(parents=True)
        for name in tiles:
            (tmp_path / "WHU-CD-256" / "all" / role / name).touch()
    monkeypatch.chdir(tmp_path)
    (code,) = (code for code in fenced(DATASETS) if "shuffle" in code)
    exec(code, {})
    found = [find_pairs(Path("WHU-CD-256"), split) for split in ("train", "val", "test")]
    assert [len(pairs) for pairs in found] == [19, 2, 2]
    assert {pair.before.name for pairs in found for pair in pairs} == tiles


def test_the_chinese_page_is_the_same_page():
    """Its commands, code, links and number of headings and rows of tables are those of README.md."""

    def parts(text):
        links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "README" not in link and link[0] != "#"]
        shape = [len(re.findall(mark, text, re.M)) for mark in (r"^## ", r"^\|", r"^- ")]
        return [re.sub(r"\s+# .*", "", line) for line in blocks(text)], fenced(text), links, shape

    assert parts(CHINESE) == parts(README)


def public_sets():
    """Title to text of the subsections."""
    section = re.search(r"^## Public data sets\n(.*)", DATASETS, re.S | re.M)[1]
    parts = re.split(r"^### (.+)\n", section, flags=re.M)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("name", PUBLIC)
def test_rows_and_subsections_say_what_the_catalog_says(name):
    assert list(public_sets()) == [entry.title for entry in PUBLIC.values()]
    entry, text = PUBLIC[name], public_sets()[PUBLIC[name].title]
    (row,) = (line for line in DATASETS.splitlines() if line.startswith(f"| [{entry.title}](#{entry.title.lower()})"))
    _, _, _, metres, _, source, paper, _ = (cell.strip() for cell in row.split("|"))
    assert f"({entry.source})" in source if entry.source.startswith("http") else entry.source in source
    assert f"({re.search(r'https://doi.org/.*', entry.paper)[0]})" in paper if entry.paper else paper == "unknown"
    assert metres.removesuffix(" (uncertain)") == (entry.metres or "unknown")
    assert ("uncertain)" in row + text) == (bool(entry.uncertain) or not all(counts.certain for counts in entry.counts))


@pytest.mark.parametrize("name", PUBLIC)
def test_subsections_have_their_commands(name):
    """Tiles where images are larger, the check, a training."""
    title = PUBLIC[name].title
    *prepare, check, train = blocks(public_sets()[title])
    root = f"{title}-256" if prepare else title
    assert prepare in ([], [f"python -m tools.prepare_tiles --data-root {title} --output {root}"])
    assert check.startswith(f"python -m tools.check_dataset --data-root {root}")
    assert train.startswith(f"python train_aux.py --data-root {root} --recipe ")
    config = parse_train_config(shlex.split(train)[2:])
    if config.recipe == "hanet":  # as released: one phase of PFBS, statistics of the set
        assert config.statistics == name
        assert (config.fixed_epochs > 0) != (config.linear_epochs > 0)
