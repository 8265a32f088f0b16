"""Winograd's form of 3 x 3 convolutions on the CPU, where gcc is at hand: sooner, and no less exact.

Pixels of the output that lie together have products in common: four of them need 16, and not 36 (Lavin and Gray, Fast
Algorithms for Convolutional Neural Networks, CVPR 2016, Sec. 4.1). PyTorch multiplies the matrices. What comes before
and behind that is a step of winograd.c, since in steps of PyTorch it would cost what is won.
"""

import ctypes
import logging
import platform
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)
SOURCE = Path(__file__).with_suffix(".c")
CHANNELS = 64  # of input and output, from which on it is sooner
CHUNK = 2**20  # values in the planes of a chunk, that they stay in the cores' own cache
REALS = {torch.float32: "float", torch.float64: "double"}


def use_winograd(network: nn.Module) -> None:
    """Have a network's 3 x 3 convolutions of many channels done by Winograd's form where they are called on a CPU.

    Modules keep their names and parameters. Whatever does not fit is done as before: other types, odd sizes, autocast,
    what is traced or compiled, or a machine without gcc.
    """
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Conv2d and _fits(child):
                setattr(module, name, WinogradConv2d(child))


def _fits(conv: nn.Conv2d) -> bool:
    same = conv.kernel_size == (3, 3) and conv.padding == (1, 1) and conv.padding_mode == "zeros"
    plain = conv.stride == conv.dilation == (1, 1) and conv.groups == 1
    return same and plain and min(conv.in_channels, conv.out_channels) >= CHANNELS


class WinogradConv2d(nn.Conv2d):
    """A 3 x 3 convolution with the parameters of another."""

    def __init__(self, conv: nn.Conv2d) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(conv.__dict__)
        self._kept: tuple[Any, Tensor] = None, torch.empty(0)  # of which weight, and its planes

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, K, H, W)."""
        traced = type(x) is not Tensor or torch.compiler.is_compiling() or torch.jit.is_tracing()
        usual = x.is_cpu and x.ndim == 4 and not torch.is_autocast_enabled("cpu")
        if traced or not usual or not kernels(x.dtype) or not self._takes(x):
            return super().forward(x)
        bias = x.new_zeros(self.out_channels) if self.bias is None else self.bias
        return _Winograd.apply(x, self.weight, self._frozen_planes(), bias)

    def _takes(self, x: Tensor) -> bool:
        """Whether channels and types agree, and it has whole tiles."""
        batch, channels, height, width = x.shape
        same = channels == self.in_channels and all(p.dtype == x.dtype and p.is_cpu for p in self.parameters())
        return same and batch > 0 < height * width and height % 2 == width % 2 == 0

    def _frozen_planes(self) -> Tensor | None:
        """Those of a weight that is not trained, as products of matrices want them, kept until it is another.

        Fused optimizers change a weight and leave its version as it was, so for one that is trained nothing is kept.
        """
        if self.weight.requires_grad or self.weight.is_inference():
            return None
        version = self.weight.data_ptr(), self.weight._version
        if self._kept[0] != version:
            with torch.inference_mode(False):
                self._kept = version, weight_planes(self.weight).transpose(1, 2).contiguous().transpose(1, 2)
        return self._kept[1]


def weight_planes(weight: Tensor) -> Tensor:
    """(K, C, 3, 3) -> (16, K, C)."""
    taps = weight.permute(2, 3, 0, 1).reshape(9, -1)  # as they lie in memory, channels_last
    return (_taps_to_planes(weight) @ taps).view(16, *weight.shape[:2])


def _taps_to_planes(like: Tensor) -> Tensor:
    line = like.new_tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    return torch.kron(line, line)  # (16, 9)


class _Winograd(torch.autograd.Function):
    """(B, C, H, W) by weights (K, C, 3, 3), their planes if they are known, and a bias, (K,) -> (B, K, H, W)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, planes: Tensor | None, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve(x, (weight_planes(weight) if planes is None else planes).transpose(1, 2), bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x = of_weight = of_bias = None
        with torch.autocast("cpu", enabled=False):
            if ctx.needs_input_grad[0]:  # a convolution by the same weights, turned by 180 degrees
                of_x = _convolve(gradient, weight_planes(weight), x.new_zeros(x.shape[1]), turned=True)
            if ctx.needs_input_grad[1]:
                of_weight = _gradient_of_weight(x, gradient)
            if ctx.needs_input_grad[3]:
                of_bias = gradient.sum((0, 2, 3))
        return of_x, of_weight, None, of_bias


def _convolve(x: Tensor, planes: Tensor, bias: Tensor, turned: bool = False) -> Tensor:
    """(B, C, H, W) by planes (16, C, K), plus a bias, (K,) -> (B, K, H, W)."""
    run, x = kernels(x.dtype), _channels_last(x)
    (inputs, outputs), zeros = planes.shape[1:], x.new_zeros(planes.shape[1])
    y = torch.empty(len(x), outputs, *x.shape[1:3], dtype=x.dtype, memory_format=torch.channels_last)
    for chunk in _chunks(x, outputs):
        seen = x.new_empty(16, chunk[2], inputs)
        run.input_planes(*chunk, inputs, turned, x.data_ptr(), zeros.data_ptr(), seen.data_ptr())
        products = torch.bmm(seen, planes)
        run.output_pixels(*chunk, outputs, turned, products.data_ptr(), bias.data_ptr(), y.data_ptr())
    return y  # no view, or nothing could be done in place behind it


def _gradient_of_weight(x: Tensor, gradient: Tensor) -> Tensor:
    """Input (B, C, H, W) and gradient of the output (B, K, H, W) -> gradient of the weight, (K, C, 3, 3)."""
    run, x, gradient = kernels(x.dtype), _channels_last(x), _channels_last(gradient)
    outputs, inputs = gradient.shape[3], x.shape[3]
    total, zeros = x.new_empty(16, outputs, inputs), x.new_zeros(inputs)
    for chunk in _chunks(x, outputs):
        seen, given = (x.new_empty(16, chunk[2], channels) for channels in (inputs, outputs))
        run.input_planes(*chunk, inputs, False, x.data_ptr(), zeros.data_ptr(), seen.data_ptr())
        run.gradient_planes(*chunk, outputs, gradient.data_ptr(), given.data_ptr())
        torch.baddbmm(total, given.transpose(1, 2), seen, beta=int(chunk[1] > 0), out=total)
    taps = _taps_to_planes(x).T @ total.transpose(0, 1)  # (K, 9, C), in memory as weights that are channels_last
    return taps.view(outputs, 3, 3, inputs).permute(0, 3, 1, 2)


def _channels_last(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H, W, C); a view, if it lies so."""
    return x.permute(0, 2, 3, 1).contiguous()


def _chunks(x: Tensor, outputs: int) -> Iterator[tuple[int, ...]]:
    """What every kernel begins with, for pixels (B, H, W, C): threads, first and number of the tiles, height, width."""
    batch, height, width, inputs = x.shape
    tiles, most = batch * height * width // 4, max(1, CHUNK // (16 * max(inputs, outputs)))
    for first in range(0, tiles, most):
        yield torch.get_num_threads(), first, min(most, tiles - first), height, width


@cache
def kernels(dtype: torch.dtype) -> Any:
    """What is in winograd.c, for a type of numbers; None where it cannot be compiled.

    It is compiled by every process that needs it, for the machine it runs on, which takes less than a second, and
    leaves nothing behind. Its threads are those of PyTorch's own libgomp, since two such libraries would hinder each
    other; a PyTorch without one does without this.
    """
    threads = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*"))
    if dtype not in REALS or not threads:
        return None
    flags = ["-O3", "-march=native", "-fopenmp", "-fPIC", "-shared", "-Wl,--as-needed", f"-DREAL={REALS[dtype]}"]
    if platform.machine() in ("x86_64", "AMD64"):
        flags.append("-mprefer-vector-width=512")  # where there are such; twice as fast as half of it
    try:
        with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            path = Path(folder) / "winograd.so"
            command = ["gcc", *flags, "-o", str(path), str(SOURCE), str(threads[0])]
            subprocess.run(command, check=True, capture_output=True, timeout=20)  # other processes wait longer
            library = ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        log.debug("convolutions go without Winograd's form: %s", getattr(error, "stderr", None) or error)
        return None
    where = [ctypes.c_int, *[ctypes.c_ssize_t] * 5]
    library.input_planes.argtypes = [*where, ctypes.c_int, *[ctypes.c_void_p] * 3]
    library.output_pixels.argtypes = [*where, ctypes.c_int, *[ctypes.c_void_p] * 3]
    library.gradient_planes.argtypes = [*where, *[ctypes.c_void_p] * 2]
    return library
