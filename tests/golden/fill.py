"""Deterministic arrays for the golden cases: the same name, shape and seed give the same numbers on every machine.

Only numpy is needed.  `tensor(name, shape, seed)` fills one entry of a state dict; `image(name, shape, seed)` one input.
"""

import zlib

import numpy as np


def _rng(name, seed):
    return np.random.Generator(np.random.PCG64([zlib.crc32(name.encode()), seed]))


def tensor(name, shape, seed=0):
    """float32 values for the official state-dict entry `name` (int64 zero for num_batches_tracked)."""
    rng, leaf = _rng(name, seed), name.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if leaf == "running_mean":
        x = 0.1 * rng.standard_normal(shape)
    elif leaf == "running_var":
        x = rng.uniform(0.5, 1.5, shape)
    elif leaf == "gamma":  # gate of an attention branch: must not be 0, or the branch is untested
        x = rng.uniform(0.3, 0.9, shape)
    elif leaf == "bias":
        x = 0.1 * rng.standard_normal(shape)
    elif len(shape) == 1:  # scale of a batch norm, slope of a PReLU
        x = rng.uniform(0.5, 1.2, shape)
    else:  # convolution kernel: He scale keeps activations near 1
        fan_in = int(np.prod(shape[1:]))
        x = rng.standard_normal(shape) * np.sqrt(2.0 / fan_in)
    return x.astype(np.float32)


def image(name, shape, seed=0):
    """A smooth random image batch in [0, 1], float32, shape (N, 3, H, W)."""
    n, c, h, w = shape
    coarse = _rng(name, seed).uniform(0, 1, (n, c, h // 8 + 2, w // 8 + 2))
    ys, xs = np.arange(h) / 8.0, np.arange(w) / 8.0
    y0, x0 = ys.astype(int), xs.astype(int)
    fy, fx = (ys - y0)[:, None], (xs - x0)[None, :]
    a, b = coarse[:, :, y0][:, :, :, x0], coarse[:, :, y0][:, :, :, x0 + 1]
    d, e = coarse[:, :, y0 + 1][:, :, :, x0], coarse[:, :, y0 + 1][:, :, :, x0 + 1]
    return ((a * (1 - fx) + b * fx) * (1 - fy) + (d * (1 - fx) + e * fx) * fy).astype(np.float32)


def mask(name, shape, seed=0):
    """A blocky change mask, int64 in {0, 1}, shape (N, H, W), with unchanged pixels in the majority."""
    n, h, w = shape
    blocks = _rng(name, seed).uniform(0, 1, (n, h // 8, w // 8)) > 0.8
    return np.kron(blocks, np.ones((1, 8, 8))).astype(np.int64)
