"""Files of torch.save give their tensors; whatever else they ask for is refused by name, and nothing of it runs."""

import builtins
import contextlib
import io
import os
import subprocess
import sys
import tempfile
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tools.import_weights import read_state_dict

ORIGIN = "authors_net"  # a module that exists while a file is written, and no more when it is read


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.gamma = nn.Parameter(torch.full((1,), 0.5))
        self.nothing = None
        self.register_buffer("kept", torch.arange(3))
        self.register_buffer("dropped", torch.ones(2), persistent=False)
        self.activation = nn.functional.relu


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Inner()
        self.sequence = nn.Sequential(nn.BatchNorm2d(4), nn.PReLU(), nn.AdaptiveAvgPool2d((3, 3)), nn.Softmax(dim=-1))
        self.shared = self.inner.conv
        self.size = torch.Size([1, 2])


@pytest.fixture
def authors(monkeypatch):
    """Pretends that the classes above are of the authors' module, and makes it vanish."""
    module = types.ModuleType(ORIGIN)
    for cls in (Inner, Outer):
        monkeypatch.setattr(cls, "__module__", ORIGIN)
        setattr(module, cls.__name__, cls)
    monkeypatch.setitem(sys.modules, ORIGIN, module)
    return lambda: monkeypatch.delitem(sys.modules, ORIGIN)


@pytest.mark.parametrize("wrap", [lambda network: network, nn.DataParallel], ids=["bare", "DataParallel"])
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_network_of_a_class_that_is_not_there(wrap, authors, tmp_path):
    network = wrap(Outer())
    torch.save(network, tmp_path / "net.pt")
    authors()
    state, expected = read_state_dict(tmp_path / "net.pt"), network.state_dict()
    assert list(state) == list(expected)
    assert not any("dropped" in key for key in state)
    assert all(torch.equal(state[key], value) for key, value in expected.items())


def test_state_dict(tmp_path):
    """Views, in their order."""
    whole = torch.arange(24.0).view(4, 6)
    state = OrderedDict(whole=whole, part=whole[1:3, ::2], turned=whole.T, scalar=whole[0, 1], empty=whole[:0])
    torch.save(state, tmp_path / "net.pth")
    read = read_state_dict(tmp_path / "net.pth")
    assert list(read) == list(state)
    assert all(torch.equal(read[key], value) for key, value in state.items())


class Calls:
    """Has a function called when it is unpickled."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


class Holder:
    """Keeps something in its state, as a BUILD does."""

    def __init__(self, content):
        self.content = content


def attacks(target):
    """What to pickle, and the name that has to be in the refusal; each would make a file at `target`."""
    command = f"{sys.executable} -c \"open({str(target)!r}, 'w')\""
    system = Calls(os.system, command)
    return {
        "call": (system, f"{os.system.__module__}.system"),
        "eval": (Calls(builtins.eval, f"open({str(target)!r}, 'w')"), r"(builtins|__builtin__)\.eval"),
        "process": (Calls(subprocess.Popen, command), r"(subprocess|commands)\.Popen"),
        "among tensors": (OrderedDict(weight=torch.ones(2), more=system), f"{os.system.__module__}.system"),
        "nested in a state": (Holder(OrderedDict(_modules={"a": Holder([system])})), f"{os.system.__module__}.system"),
        "named only": (Holder(os.system), f"{os.system.__module__}.system"),
        "getattr": (Calls(getattr, Holder(1), "__class__"), r"(builtins|__builtin__)\.getattr"),
        "a function of torch": (Calls(torch.hub.load, "owner/repository", "net"), r"torch\.hub\.load"),
        "a class of somebody's, called": (
            Calls(Holder, str(target)),
            r"tests\.tools\.test_pickled_weights\.Holder\(\)",
        ),
    }


@pytest.mark.parametrize("kind", attacks("target"))
def test_what_would_run_code_is_refused_by_name(kind, tmp_path):
    target = tmp_path / "ran"
    content, name = attacks(target)[kind]
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=rf"net\.pt: asks for {name}.*nothing was run"):
        read_state_dict(tmp_path / "net.pt")
    assert not target.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'touch ran'\ntR.",  # protocol 0
        b"(S'touch ran'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'touch ran'\no.",  # OBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x09touch ran\x85R.",  # STACK_GLOBAL
        b"\x80\x04\x8c\x05torch\x8c\x0dhub.os.system\x93\x8c\x09touch ran\x85R.",  # a name with dots
        b"\x80\x04\x8c\x07authors\x8c\x0dNet.os.system\x93\x8c\x09touch ran\x85R.",
        b"\x80\x04\x8c\x0bcollections\x8c\x20OrderedDict.__init__.__globals__\x93.",
        b"\x80\x02cauthors\nNet\n)\x81\x8c\x02os\x8c\x06system\x93b.",  # as the state of a stand-in
        b"\x80\x02cauthors\nNet\n(S'touch ran'\nt\x81ctorch._utils\n_rebuild_parameter\n\x85ccommands\ngetoutput\nR.",
    ],
)
def test_programs_written_by_hand(program, tmp_path, monkeypatch):
    """A name is refused by name; steps that torch.save never writes are refused as damage."""
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": torch.ones(1)}, tmp_path / "net.pt")
    rewritten(tmp_path / "net.pt", "data.pkl", lambda _: program)
    refused = r"net\.pt: asks for [\w.]+, which .* nothing was run|net\.pt: damaged, .*Unsupported operand"
    with pytest.raises(ValueError, match=refused):
        read_state_dict(tmp_path / "net.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["net.pt"]


@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_one_byte_changed(place, flip):
    """Tensors or one ValueError, whatever the byte was."""
    buffer = io.BytesIO()
    torch.save(nn.Linear(2, 3).state_dict(), buffer)
    damaged = bytearray(buffer.getvalue())
    damaged[int(place * len(damaged))] ^= flip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.pt"
        path.write_bytes(damaged)
        with contextlib.suppress(ValueError):
            assert all(isinstance(value, torch.Tensor) for value in read_state_dict(path).values())


def rewritten(path, name, change, compression=zipfile.ZIP_STORED):
    """The same archive with one record changed."""
    with zipfile.ZipFile(path) as old:
        records = {info.filename: old.read(info) for info in old.infolist()}
    with zipfile.ZipFile(path, "w", compression) as new:
        for key, value in records.items():
            new.writestr(key, change(value) if key.endswith(name) else value)


def saved(content, path, **options):
    torch.save(content, path, **options)
    return path


DAMAGED = "damaged, or not a file of torch.save"
REFUSED = {
    "a list": (lambda path: saved([torch.ones(1)], path), "holds a list, neither a state dict nor a network"),
    "nothing": (lambda path: saved({}, path), "holds no tensor"),
    "ours": (
        lambda path: saved({"model": "hanet", "options": {}, "weights": {}}, path),
        "is a checkpoint of this project; pass it to predict_batch",
    ),
    "a run": (
        lambda path: saved({"epoch": 3, "state_dict": {"weight": torch.ones(1)}}, path),
        "holds other things than tensors: epoch, state_dict",
    ),
    "older": (
        lambda path: saved(Inner().state_dict(), path, _use_new_zipfile_serialization=False),
        "PyTorch 1.6 or later .*load it and save it again by torch.save",
    ),
    "compressed": (
        lambda path: rewritten(saved({"weight": torch.zeros(99)}, path), "none", bytes, zipfile.ZIP_DEFLATED),
        "is compressed",
    ),
    "cut off": (lambda path: path.write_bytes(saved(Inner().state_dict(), path).read_bytes()[:-100]), DAMAGED),
    "empty": (lambda path: path.touch(), DAMAGED),
    "text": (lambda path: path.write_bytes(b"no weights"), DAMAGED),
    "the start of an archive": (lambda path: path.write_bytes(b"PK\x03\x04 and so on"), DAMAGED),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_no_file_of_weights_alone(kind, tmp_path):
    make, words = REFUSED[kind]
    make(tmp_path / "net.pt")
    with pytest.raises(ValueError, match=rf"net\.pt: .*{words}"):
        read_state_dict(tmp_path / "net.pt")
    with pytest.raises(FileNotFoundError, match=r"none\.pt: no such file"):
        read_state_dict(tmp_path / "none.pt")
