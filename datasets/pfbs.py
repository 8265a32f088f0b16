"""PFBS, progressive foreground-balanced sampling (HANet Sec. III-A, Fig. 3), as a torch Sampler."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from utils.console import UserError

Draw = tuple[int, tuple[int, ...]]


class PFBSSampler(Sampler[Draw]):
    """Draws the images of an epoch from a pool that opens during training.

    Images are ordered by changed pixels, most first (ties keep the given order). An epoch's pool is the first
    `pool_size(epoch)` of that order. Position i of an epoch takes image i mod pool; positions are shuffled. With
    `fixed_epochs` and `linear_epochs` both 0 this is plain shuffling.

    Each draw is (index, key). Augmentation by `default_rng(key)` depends on seed, epoch and position alone, not on the
    worker or rank. Draws are made where the sampler is iterated, so persistent workers see the next epoch's.

    Rank r takes every `ranks`-th of the shuffled positions, from the r-th on: batch k of all ranks together is batch
    k of one process with a batch `ranks` times as large. All ranks draw the same number; up to `ranks` - 1 positions
    at the end of an epoch are dropped.

    Args:
        changed_pixels: changed pixels of each image, in the data set's order.
        fixed_epochs: X of Fixed-X: epochs with only images that have change.
        linear_epochs: Y of Linear-Y: epochs over which the other images are added evenly.
        seed: of the shuffling and of the keys.
        released: index as the released code does: past the images with change, position i takes the i-th of all
            images, so background images are drawn before they are in the pool.
        pool_only: draw each image of the pool once, as HANet's Fig. 3 counts (1200 images in WHU-CD's first epochs),
            so that early epochs are shorter; `released` then makes no difference.
        rank: of this process.
        ranks: number of processes that train together.
        positions: draws an epoch, of all ranks together, each epoch continuing in the pool where the last one ended;
            0: as many as there are images, each epoch from the pool's beginning, as the released code does.

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
        self.fixed_epochs, self.linear_epochs, self.seed = fixed_epochs, linear_epochs, seed
        self.released, self.pool_only, self.rank, self.ranks = released, pool_only, rank, ranks
        self.positions, self.continues = positions or len(self.order), positions > 0
        self.epoch = self.skip = 0
        if (fixed_epochs or linear_epochs) and not self.foreground:
            raise UserError("no image has a changed pixel, so there is no foreground to sample")

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        """Choose the epoch (from 0) of the next iteration, without its first `skip` draws on this rank."""
        self.epoch, self.skip = epoch, skip

    def pool_size(self, epoch: int) -> int:
        """Return the number of images in the pool of an epoch (from 0)."""
        total, after_fixed = len(self.order), epoch - self.fixed_epochs
        if after_fixed < 0:
            return self.foreground
        if after_fixed >= self.linear_epochs:
            return total
        steps = after_fixed + (1 if self.fixed_epochs else 0)  # after a fixed phase the first step already adds
        return self.foreground + steps * ((total - self.foreground) // self.linear_epochs)

    def positions_to_images(self, epoch: int) -> np.ndarray:
        """Return the image of every position of an epoch, of all ranks, before shuffling, (n,) or (pool,)."""
        positions = np.arange(self.pool_size(epoch) if self.pool_only else self.positions)
        positions += epoch * self.positions * self.continues
        wrapped = positions % self.pool_size(epoch)
        if self.released:
            wrapped = np.where(wrapped < self.foreground, wrapped, positions % len(self.order))
        return self.order[wrapped]

    def draws(self, epoch: int) -> int:
        """Return the number of draws of an epoch on each rank."""
        return (self.pool_size(epoch) if self.pool_only else self.positions) // self.ranks

    def __len__(self) -> int:
        return self.draws(self.epoch) - self.skip

    def __iter__(self) -> Iterator[Draw]:
        images = self.positions_to_images(self.epoch)
        shuffled = np.random.default_rng((self.seed, self.epoch)).permutation(len(images))
        for position in shuffled[self.rank :: self.ranks][self.skip : self.draws(self.epoch)]:
            yield int(images[position]), (self.seed, self.epoch, int(position))
