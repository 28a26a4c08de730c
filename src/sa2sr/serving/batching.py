"""One thread predicts for all: what clients ask for while it computes makes up the next batch."""

import queue
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import groupby
from threading import Lock, Thread
from typing import Any

from sa2sr.inference.batches import BATCH_CLIPS
from sa2sr.inference.clips import Clip
from sa2sr.inference.model import Model
from sa2sr.inference.table import Failure, Row

Results = list[Row | Failure]

BATCH_SECONDS = 60.0  # of audio at most, unless a single request brings more; so nobody waits long for a turn


@dataclass(frozen=True)
class _Job:
    clips: Sequence[Clip | Failure]
    options: tuple[Any, ...]
    rows: Future[Results] = field(default_factory=Future)

    @property
    def seconds(self) -> float:
        return sum(clip.end - clip.start for clip in self.clips if isinstance(clip, Clip))


class Batcher:
    """Predicts clips of any number of clients.

    Nothing waits for a batch to fill. The model sorts the clips of a batch by duration, and their company does not
    change what comes out.

    Attributes:
        batches: how many have been predicted
        clips: how many were in them
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.batches = self.clips = 0
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock, self._closed = Lock(), False  # nothing comes after the None that ends the queue
        self._thread = Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    def submit(self, clips: Sequence[Clip | Failure], *options: Any) -> Future[Results]:
        """Ask for the rows of clips, in their order; further arguments are those of :meth:`sa2sr.Model.rows`.

        After :meth:`close` the answer is a RuntimeError.
        """
        job = _Job(clips, options)
        with self._lock:
            if self._closed:
                job.rows.set_exception(RuntimeError("the batcher is closed"))
            else:
                self._jobs.put(job)
        return job.rows

    def close(self) -> None:
        """End when all that was asked for is done."""
        with self._lock:
            self._closed = True
            self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        going_on = True
        while going_on:
            jobs, going_on = self._next_batch()
            wanted = [job for job in jobs if job.rows.set_running_or_notify_cancel()]
            for options, alike in groupby(sorted(wanted, key=_options), _options):
                self._predict(list(alike), options)

    def _next_batch(self) -> tuple[list[_Job], bool]:
        """The next jobs, at least one unless the end has come, and whether more may follow."""
        jobs: list[_Job] = []
        seconds, clips = 0.0, 0
        while seconds < BATCH_SECONDS and clips < BATCH_CLIPS:
            try:
                job = self._jobs.get(block=not jobs)
            except queue.Empty:
                break
            if job is None:
                return jobs, False
            jobs.append(job)
            seconds, clips = seconds + job.seconds, clips + len(job.clips)
        return jobs, True

    def _predict(self, jobs: Sequence[_Job], options: tuple[Any, ...]) -> None:
        try:
            results = self.model.rows((clip for job in jobs for clip in job.clips), *options)
            for job in jobs:
                job.rows.set_result([next(results) for _ in job.clips])
        except Exception as error:  # whatever it is, those who wait must hear of it
            undone = [job for job in jobs if not job.rows.done()]
            if len(undone) == 1:
                undone[0].rows.set_exception(error)
            else:
                for job in undone:  # one of them is at fault
                    self._predict([job], options)
            return
        self.batches += 1
        self.clips += sum(len(job.clips) for job in jobs)


def _options(job: _Job) -> tuple[Any, ...]:
    return job.options


class SharedModel(Model):
    """A model whose rows are predicted by a batcher, together with those of others."""

    def __init__(self, batcher: Batcher) -> None:
        vars(self).update(vars(batcher.model))
        self.batcher = batcher

    def rows(self, clips: Iterable[Clip | Failure], *options: Any) -> Iterator[Row | Failure]:
        """As :meth:`sa2sr.Model.rows`; all clips are taken at once."""
        given = list(clips)
        yield from self.batcher.submit(given, *options).result() if given else ()
