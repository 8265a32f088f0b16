"""Reads the tensors of files that torch.save wrote, whole pickled networks included, and runs nothing from them.

A pickle is a program: it names functions of any installed module and has them called. `torch.load` refuses whole
networks for that reason. Here a pickle may call a few functions that only put tensors together, and may build
objects of classes of which it gives the name; such an object is a `StandIn`, which keeps its state and can do nothing.
No module is ever imported for a name, and whatever a network has no need of is refused by its name.
"""

import io
import pickle
import struct
import sys
import zipfile
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import torch
from torch import Tensor

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # first object of a file from before torch 1.6
LEGACY_PROTOCOL = 1001
STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
PYTHON_2 = {"__builtin__", "copy_reg", "commands", "popen2", "thread"}  # modules that were of the standard library


class RefusedError(ValueError):
    """A file that asks for more than tensors and inert objects."""


class _Uncallable(type):
    def __call__(cls, *args: object, **kwargs: object) -> NoReturn:
        raise RefusedError(_refusal(f"{cls.__module__}.{cls.__qualname__}()"))


class StandIn(metaclass=_Uncallable):
    """In place of an object of a class that the file names: keeps the state, and has no method of its class.

    A pickle makes it without a call; a call is how it would run a function, so that is refused.
    """

    state: dict[str, Any]

    def __new__(cls, *args: object) -> "StandIn":  # noqa: D102, what a pickle does in place of a call
        made = object.__new__(cls)
        made.state = {}
        return made

    def __setstate__(self, state: object) -> None:
        self.state = state if isinstance(state, dict) else {}


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict, or that of a pickled network, onto the CPU.

    Args:
        path: what `torch.save` wrote of a state dict or of a whole module, of torch 1.6 and later or of earlier ones.

    Returns:
        Names to tensors, as `state_dict()` would name them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file would run code (the message says which), is damaged, or holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            read = _read_zip if file.read(2) == b"PK" else _read_legacy
        return _state_dict(read(path))
    except RefusedError as error:
        raise ValueError(f"{path}: {error}") from None
    except Exception as error:  # damaged bytes make an unpickler raise nearly anything
        raise ValueError(
            f"{path}: damaged, or not a file of torch.save ({error or type(error).__name__}); get it again"
        ) from error


class _TensorUnpickler(pickle.Unpickler, ABC):
    """Gives a pickle tensors and stand-ins, and nothing that acts."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self._names: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("builtins", "set"): set,
            ("__builtin__", "set"): set,  # as protocol 2 spells it
            ("torch", "Size"): tuple,
            ("torch", "device"): self._device,
            ("torch._utils", "_rebuild_tensor"): self._tensor,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): self._parameter,
            ("torch.nn.parameter", "Parameter"): self._parameter,
        } | {("torch", name): dtype for name, dtype in STORAGES.items()}
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle gets for a name: a harmless function of ours, a dtype, or a class of stand-ins."""
        if (module, name) not in self._names:
            room = module.split(".")[0]
            of_a_library = room in sys.stdlib_module_names or room in PYTHON_2 or room == "torch"
            if "." in name or (of_a_library and not module.startswith("torch.nn.")):
                raise RefusedError(_refusal(f"{module}.{name}"))
            self._names[module, name] = _Uncallable(name, (StandIn,), {"__module__": module})
        return self._names[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """A storage as a flat tensor; of a class that comes with its source code, the class alone."""
        if pid[0] == "module":
            return pid[1]
        _, dtype, key, _, numel, *view = pid
        if pid[0] != "storage" or not isinstance(dtype, torch.dtype) or any(view):
            raise ValueError(f"a record of the kind {pid[0]!r}")
        if key not in self._storages:
            self._storages[key] = self.storage(key, numel, dtype)
        return self._storages[key]

    @abstractmethod
    def storage(self, key: str, numel: int, dtype: torch.dtype) -> Tensor:
        """The values of one storage, as a flat tensor."""

    def _tensor(self, storage: Tensor, offset: int, size: Sequence[int], stride: Sequence[int], *_: object) -> Tensor:
        return storage.as_strided(size, stride, offset)  # raises where it would leave the storage

    def _parameter(self, data: Tensor, *_: object) -> Tensor:
        return data

    def _device(self, *_: object) -> None:
        return None


class _ZipUnpickler(_TensorUnpickler):
    """Of torch 1.6 and later: every storage is a file of the archive."""

    def __init__(self, read: Callable[[str], bytes]) -> None:
        super().__init__(io.BytesIO(read("data.pkl")))
        self._read = read

    def storage(self, key: str, numel: int, dtype: torch.dtype) -> Tensor:
        return _flat(self._read(f"data/{key}"), numel, dtype)


def _read_zip(path: Path) -> object:
    with zipfile.ZipFile(path) as archive:
        roots = [name.removesuffix("/data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise ValueError("no data.pkl in the archive")

        def read(name: str) -> bytes:
            if archive.getinfo(f"{roots[0]}/{name}").compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{name} is compressed")  # torch.save never does that; so nothing can swell
            return archive.read(f"{roots[0]}/{name}")

        if f"{roots[0]}/byteorder" in archive.namelist() and read("byteorder") != sys.byteorder.encode():
            raise ValueError("written on a machine of another byte order")
        return _ZipUnpickler(read).load()


class _LegacyUnpickler(_TensorUnpickler):
    """Of torch before 1.6: the storages' values come after the pickle."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        super().__init__(file)
        self._most = most

    def storage(self, key: str, numel: int, dtype: torch.dtype) -> Tensor:
        if not 0 <= numel * dtype.itemsize <= self._most:
            raise ValueError(f"a storage of {numel} values in a file of {self._most} bytes")
        return torch.empty(numel, dtype=dtype)

    def fill(self, file: BinaryIO, keys: Sequence[str]) -> None:
        """Read the values of all storages, in the order that the file gives."""
        if set(keys) != self._storages.keys():
            raise ValueError("its list of storages is not that of its tensors")
        for key in keys:
            flat = self._storages[key]
            (numel,) = struct.unpack("<q", file.read(8))
            if numel != len(flat):
                raise ValueError(f"storage {key} has {numel} values in place of {len(flat)}")
            flat.copy_(_flat(file.read(flat.nbytes), numel, flat.dtype))


def _read_legacy(path: Path) -> object:
    with path.open("rb") as file:
        most = path.stat().st_size
        first = [_LegacyUnpickler(file, most).load() for _ in range(2)]
        if first != [LEGACY_MAGIC, LEGACY_PROTOCOL]:
            raise ValueError("it begins like none")
        if not _LegacyUnpickler(file, most).load()["little_endian"]:
            raise ValueError("written on a machine of another byte order")
        unpickler = _LegacyUnpickler(file, most)
        content = unpickler.load()
        unpickler.fill(file, _LegacyUnpickler(file, most).load())
        return content


def _flat(values: bytes, numel: int, dtype: torch.dtype) -> Tensor:
    if len(values) != numel * dtype.itemsize:
        raise ValueError(f"{len(values)} bytes in place of {numel} values of {dtype}")
    return torch.frombuffer(bytearray(values), dtype=dtype) if numel else torch.empty(0, dtype=dtype)


def _state_dict(content: object) -> dict[str, Tensor]:
    """The state dict of a file's content."""
    if isinstance(content, StandIn):
        content = _walk(content, "")
    if not isinstance(content, Mapping):
        raise RefusedError(f"holds a {type(content).__name__}, neither a state dict nor a network")
    if {"model", "options", "weights"} <= content.keys():
        raise RefusedError("is a checkpoint of this project; predict_batch.py takes it as it is")
    others = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if others or not content:
        listed = f"other things than tensors: {', '.join(others[:8])}" if others else "no tensor"
        raise RefusedError(f"holds {listed}; save the state dict alone to a file of its own")
    return {str(key): value for key, value in content.items()}


def _walk(module: StandIn, prefix: str) -> dict[str, Tensor]:
    """What `state_dict()` of the module that this stands for would give."""
    parts = {role: module.state.get(f"_{role}") or {} for role in ("parameters", "buffers", "modules")}
    fleeting = module.state.get("_non_persistent_buffers_set") or ()
    saved = {name: value for name, value in parts["buffers"].items() if name not in fleeting}
    found = {f"{prefix}{name}": value for name, value in (parts["parameters"] | saved).items() if value is not None}
    for name, child in parts["modules"].items():
        if child is not None:
            found |= _walk(child, f"{prefix}{name}.")
    if not all(isinstance(value, Tensor) for value in found.values()):
        raise ValueError(f"{type(module).__name__} has parameters that are no tensors")
    return found


def _refusal(what: str) -> str:
    return (
        f"asks for {what}, which weights have no need of and which could run any code; nothing was run. "
        f"Where you trust the file, open it with its authors' code and save its state_dict()"
    )
