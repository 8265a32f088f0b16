"""PFBS, progressive foreground-balanced sampling (HANet Sec. III-A, Fig. 3), as a torch Sampler."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from utils.console import UserError

Draw = tuple[int, tuple[int, ...]]


class PFBSSampler(Sampler[Draw]):
    """Draws the images of an epoch from a pool that opens as training goes on.

    Images are ordered by changed pixels, most first (ties keep the given order). An epoch's pool is the first
    `pool_size(epoch)` of that order; an epoch has `positions` positions, by default as many as there are images,
    position i takes image i mod pool, positions are shuffled. With `fixed_epochs` and `linear_epochs` both 0 every
    image is then drawn once: plain shuffling.

    Each draw is (index, key): the key names the draw, so augmentation by `default_rng(key)` depends on seed, epoch
    and position alone, whatever worker or rank makes it. Draws are made where the sampler is iterated, so workers
    that outlive an epoch see the next one's.

    Rank r takes every `ranks`-th of the shuffled positions, from the r-th on: batch k of all ranks together is batch
    k of one process with a batch `ranks` times as large. Every rank draws the same number; the up to `ranks` - 1
    positions that are left at the end, others in each epoch, are dropped.

    Args:
        changed_pixels: changed pixels of each image, in the data set's order.
        fixed_epochs: X of Fixed-X: epochs that see only images with change.
        linear_epochs: Y of Linear-Y: epochs over which the other images come in, evenly.
        seed: of the shuffling and of the keys.
        released: index as the released code does: past the images with change, position i takes the i-th of all
            images, so background images come in before they are open.
        pool_only: draw each image of the pool once, as HANet's Fig. 3 counts (1200 images in WHU-CD's first epochs),
            so that early epochs are shorter. Nothing wraps then, and `released` makes no difference.
        rank: which of the processes that train together this is.
        ranks: how many they are.
        positions: draws an epoch, of all ranks together, each epoch going on in the pool where the last one ended; 0:
            as many as there are images, each epoch from the pool's beginning, as the released code does.

    Raises:
        UserError: no image has change, but the pool is to begin with those that have.
    """

    def __init__(
        self,
        changed_pixels: Sequence[int],
        fixed_epochs: int = 0,
        linear_epochs: int = 0,
        seed: int = 0,
        released: bool = False,
        pool_only: bool = False,
        rank: int = 0,
        ranks: int = 1,
        positions: int = 0,
    ) -> None:
        self.order = np.argsort(-np.asarray(changed_pixels, np.int64), kind="stable")
        self.foreground = int(np.count_nonzero(changed_pixels))
        self.fixed_epochs = fixed_epochs
        self.linear_epochs = linear_epochs
        self.seed = seed
        self.released = released
        self.pool_only = pool_only
        self.positions = positions or len(self.order)
        self.goes_on = positions > 0
        self.rank = rank
        self.ranks = ranks
        self.epoch = 0
        self.skip = 0
        if (fixed_epochs or linear_epochs) and not self.foreground:
            raise UserError("no image has a changed pixel, so there is no foreground to sample")

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        """Choose the epoch (from 0) that the next iteration draws, without its first `skip` draws on this rank."""
        self.epoch = epoch
        self.skip = skip

    def pool_size(self, epoch: int) -> int:
        """Number of images open in an epoch (from 0)."""
        total, after_fixed = len(self.order), epoch - self.fixed_epochs
        if after_fixed < 0:
            return self.foreground
        if after_fixed >= self.linear_epochs:
            return total
        steps = after_fixed + (1 if self.fixed_epochs else 0)  # after a fixed phase the first step already adds
        return self.foreground + steps * ((total - self.foreground) // self.linear_epochs)

    def positions_to_images(self, epoch: int) -> np.ndarray:
        """Image of every position of an epoch, of all ranks, before shuffling, (n,) or (pool,)."""
        positions = np.arange(self.pool_size(epoch) if self.pool_only else self.positions)
        if self.goes_on:
            positions += epoch * self.positions
        wrapped = positions % self.pool_size(epoch)
        if self.released:
            wrapped = np.where(wrapped < self.foreground, wrapped, positions % len(self.order))
        return self.order[wrapped]

    def draws(self, epoch: int) -> int:
        """How many draws an epoch has on each rank."""
        return (self.pool_size(epoch) if self.pool_only else self.positions) // self.ranks

    def __len__(self) -> int:
        return self.draws(self.epoch) - self.skip

    def __iter__(self) -> Iterator[Draw]:
        images = self.positions_to_images(self.epoch)
        shuffled = np.random.default_rng((self.seed, self.epoch)).permutation(len(images))
        for position in shuffled[self.rank :: self.ranks][self.skip : self.draws(self.epoch)]:
            yield int(images[position]), (self.seed, self.epoch, int(position))
