"""A prediction shared among processes that torchrun started, and put together by the first.

Many pairs are shared out by groups of a batch each. Fewer pairs than that are shared by rows of windows: each process
keeps the finished rows of its own as parts, and the first reads them in order and draws the maps. The processes only
meet once, at the start; everything else they tell each other by files that are whole or not there. So a process that
dies stops nothing it has done: the same command with --skip-existing, by any number of processes, does the rest.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import distributed as dist

from utils.files import written_whole
from utils.prediction.blending import Cover
from utils.prediction.map_jobs import MapJob
from utils.prediction.pipeline import Pipeline
from utils.prediction.predictor import ChangePredictor
from utils.prediction.records import PARTS

PAUSE = 0.2  # seconds between two looks at what other processes have done


@dataclass(frozen=True)
class Share:
    """Which process this is, of how many."""

    rank: int = 0
    ranks: int = 1

    @classmethod
    def of_torchrun(cls) -> "Share":
        """As torchrun says; without it, the only one."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    def device(self, device: torch.device) -> torch.device:
        """With several GPUs, one of its own for each process of a machine."""
        if self.ranks == 1 or device.type != "cuda":
            return device
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())

    def meet(self) -> None:
        """Wait until all processes are here."""
        if self.ranks > 1:
            dist.init_process_group("gloo")
            dist.barrier()
            dist.destroy_process_group()

    def by_rows(self, count: int, size: int) -> bool:
        """Whether so many pairs, in groups of `size`, are too few to give every process a group."""
        return self.ranks > 1 and count < self.ranks * size

    def groups(self, count: int, size: int) -> list[range]:
        """Numbers of the pairs of each group that this process has a part in."""
        starts = range(0, count, size)
        mine = starts if self.by_rows(count, size) else starts[self.rank :: self.ranks]
        return [range(start, min(start + size, count)) for start in mine]

    def rows(self, count: int, shift: int) -> range:
        """This process's part of `count` rows; a shift lets another process have the larger part."""
        rank = (self.rank + shift) % self.ranks
        return range(rank * count // self.ranks, (rank + 1) * count // self.ranks)


class PartJob(MapJob):
    """A pair of which this process predicts some rows of windows, and keeps them as parts."""

    def __init__(self, job: MapJob, share: Share, shift: int) -> None:
        """Take over what a job would do of all rows.

        Args:
            job: the pair; `done` if there is nothing to do any more.
            share: which process this is.
            shift: of who does which rows; see `Share.rows`.
        """
        super().__init__(job.name, job.open_scene, job.settings, job.done, job.stamp)
        self.share, self.shift = share, shift
        self._tops: list[int] = []

    def rows(self, cover: Cover) -> range:
        """Its share, without what an earlier run did of it."""
        if not super().rows(cover):
            return range(0)
        self._tops = cover.tops
        rows = self.share.rows(len(cover.tops), self.shift)
        missing = [row for row in rows if not self.part(row).is_file()]
        return range(missing[0], rows.stop) if missing else range(0)

    def part(self, row: int) -> Path:
        """Where the finished pixels of a row of windows are kept: of these very files, not of what they were before."""
        files = hashlib.sha256(self.stamp.encode()).hexdigest()[:16]
        return self.settings.output / PARTS / self.name / files / f"{row:06d}.npy"

    def write(self, top: int, probability: np.ndarray) -> None:
        """Keep the next rows."""
        path = self.part(self._tops.index(top))
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as partial:
            np.save(partial, probability)

    def finish(self) -> None:
        """The first process will draw the maps."""


def predict_jobs(
    predictor: ChangePredictor,
    make_job: Callable[[int], MapJob],
    count: int,
    size: int,
    share: Share,
    threads: int,
    advance: Callable[[float], object],
) -> None:
    """Predict this process's share of all pairs; the first process returns when all have done theirs.

    Args:
        predictor: the network.
        make_job: gives the job of a pair by its number.
        count: of pairs.
        size: of a group, whose windows make batches.
        share: which process this is.
        threads: that read, and as many that write.
        advance: told of progress, as shares of a pair.
    """

    def groups() -> Iterator[list[MapJob]]:
        for numbers in share.groups(count, size):
            jobs = [make_job(number) for number in numbers]
            advance(sum(job.done for job in jobs))
            if share.by_rows(
                count, size
            ):  # a group's scenes of one window each belong to one process, as its batches do
                jobs = [PartJob(job, share, numbers.start // size) for job in jobs]
            if not all(job.done for job in jobs):
                yield jobs

    Pipeline(predictor, threads, advance).run(groups())
    if share.ranks == 1 or share.rank > 0:
        return
    for job in map(make_job, range(count)):
        if not job.done and share.by_rows(count, size):
            _put_together(job, predictor)
        _wait_until(partial(job.records.read, job.name))


def _put_together(job: MapJob, predictor: ChangePredictor) -> None:
    """Draw the maps of a pair from the parts of all processes, as they come; then they are removed."""
    try:
        cover = predictor.cover(*job.open())
        job.rows(cover)
        parts = [PartJob(job, Share(), 0).part(row) for row in range(len(cover.tops))]
        for top, part in zip(cover.tops, parts, strict=True):
            _wait_until(lambda part=part: part.is_file() or job.records.read(job.name))  # type: ignore[misc]
            if not part.is_file():  # some process found that this pair cannot be done
                break
            job.write(top, np.load(part))
        else:
            job.finish()
        shutil.rmtree(parts[0].parents[1], ignore_errors=True)
    except (ValueError, FileNotFoundError) as error:
        job.fail(error)
    finally:
        job.close()


def _wait_until(here: Callable[[], object]) -> None:
    """Look from time to time; torchrun ends this process if another one dies."""
    while not here():
        time.sleep(PAUSE)
