"""Shares a prediction among the processes of torchrun; the first one completes it.

Pairs are shared by groups of a batch. If there are too few groups, pairs are shared by rows of windows: each process
keeps its finished rows as parts, and the first process reads them in order and draws the maps. Processes meet once, at
the start, and then communicate by files that are whole or absent. If one dies, the work of all others is kept: the same
command with --skip-existing, with any number of processes, does the rest.
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

from utils.console import UserError
from utils.files import written_whole
from utils.prediction.blending import Cover
from utils.prediction.map_jobs import MapJob
from utils.prediction.pipeline import Pipeline
from utils.prediction.predictor import ChangePredictor
from utils.prediction.records import PARTS

PAUSE = 0.2  # seconds between two looks at the files of other processes


@dataclass(frozen=True)
class Process:
    """The number of this process, and how many there are."""

    rank: int = 0
    ranks: int = 1

    @classmethod
    def of_torchrun(cls) -> "Process":
        """Return what torchrun says of this process; without torchrun it is the only one."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    def device(self, device: torch.device) -> torch.device:
        """Return the device of this process; with several GPUs, one of its own."""
        if self.ranks == 1 or device.type != "cuda":
            return device
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())

    def meet(self) -> None:
        """Wait for all processes."""
        if self.ranks > 1:
            dist.init_process_group("gloo")
            dist.barrier()
            dist.destroy_process_group()

    def by_rows(self, count: int, size: int) -> bool:
        """Return True if `count` pairs, in groups of `size`, do not give every process a group."""
        return self.ranks > 1 and count < self.ranks * size

    def groups(self, count: int, size: int) -> list[range]:
        """Return the numbers of the pairs of each group in which this process has a part."""
        starts = range(0, count, size)
        mine = starts if self.by_rows(count, size) else starts[self.rank :: self.ranks]
        return [range(start, min(start + size, count)) for start in mine]

    def rows(self, count: int, shift: int) -> range:
        """Return this process's part of `count` rows; `shift` changes which process has the larger part."""
        rank = (self.rank + shift) % self.ranks
        return range(rank * count // self.ranks, (rank + 1) * count // self.ranks)


class PartJob(MapJob):
    """A pair of which this process predicts some rows of windows, see `Process.rows`, and keeps them as parts."""

    def __init__(self, job: MapJob, process: Process, shift: int) -> None:
        super().__init__(job.name, job.open_pair, job.settings, job.done, job.stamp)
        self.process, self.shift = process, shift
        self._tops: list[int] = []

    def rows(self, cover: Cover) -> range:
        """Return this process's rows, from the first that no earlier run predicted."""
        if not super().rows(cover):
            return range(0)
        self._tops = cover.tops
        rows = self.process.rows(len(cover.tops), self.shift)
        missing = [row for row in rows if not self.part(row).is_file()]
        return range(missing[0], rows.stop) if missing else range(0)

    def part(self, row: int) -> Path:
        """Return the file with the finished pixels of a row of windows, for these very image files."""
        files = hashlib.sha256(self.stamp.encode()).hexdigest()[:16]
        return self.settings.output / PARTS / self.name / files / f"{row:06d}.npy"

    def write(self, top: int, probability: np.ndarray) -> None:
        """Keep the next rows."""
        path = self.part(self._tops.index(top))
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as partial:
            np.save(partial, probability)

    def finish(self) -> None:
        """Do nothing: the first process draws the maps."""


def predict_jobs(pipeline: Pipeline, job_of: Callable[[int], MapJob], count: int, size: int, process: Process) -> None:
    """Predict this process's share of `count` pairs; the first process returns when all have done theirs.

    `job_of` returns the job of a pair by its number. The windows of `size` pairs, a group, make batches.
    """
    by_rows = process.by_rows(count, size)

    def groups() -> Iterator[list[MapJob]]:
        for numbers in process.groups(count, size):
            jobs = [job_of(number) for number in numbers]
            pipeline.advance(sum(job.done for job in jobs))
            if by_rows:  # scenes of one window in a group belong to one process, as their batches do
                jobs = [PartJob(job, process, numbers.start // size) for job in jobs]
            if not all(job.done for job in jobs):
                yield jobs

    pipeline.run(groups())
    if process.ranks == 1 or process.rank > 0:
        return
    for job in map(job_of, range(count)):
        if not job.done and by_rows:
            _put_together(job, pipeline.predictor)
        _wait_until(partial(job.records.read, job.name))


def _put_together(job: MapJob, predictor: ChangePredictor) -> None:
    """Draw the maps of a pair from the parts of all processes, as they arrive, and remove the parts."""
    try:
        cover = predictor.cover(*job.open(), job.pixel_size)
        job.rows(cover)
        for window in cover.windows:
            job.read(window)  # for what is doubtful about the whole images
        parts = [PartJob(job, Process(), 0).part(row) for row in range(len(cover.tops))]
        for top, part in zip(cover.tops, parts, strict=True):
            _wait_until(lambda part=part: part.is_file() or job.records.read(job.name))  # type: ignore[misc]
            if not part.is_file():  # the pair failed in some process
                break
            job.write(top, np.load(part))
        else:
            job.finish()
        shutil.rmtree(parts[0].parents[1], ignore_errors=True)
    except (UserError, FileNotFoundError) as error:
        job.fail(error)
    finally:
        job.close()


def _wait_until(here: Callable[[], object]) -> None:
    """Wait for a condition; torchrun ends this process if another one dies."""
    while not here():
        time.sleep(PAUSE)
