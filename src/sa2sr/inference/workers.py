"""Chunks of audio are predicted in several processes, and their rows come in the order of the chunks."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from sa2sr.inference.rows import Failure, Row
from sa2sr.inference.sources import Source
from sa2sr.processes import end_with_parent

if TYPE_CHECKING:
    from sa2sr.inference.model import Model, Origin
    from sa2sr.inference.options import Options

Chunk = Sequence[Source]
Results = list[Row | Failure]

_AHEAD = 3  # chunks of each process that may be done or under way while the first is waited for
_model: "Model"  # of a worker process


def predict_chunks(origin: "Origin", chunks: Sequence[Chunk], options: "Options", jobs: int) -> Iterator[Results]:
    """The rows and failures of each chunk, in order.

    A file that kills its process, as at a crash of a decoder, becomes a failure, and the rest goes on.

    Args:
        origin: of the model, which every process loads
        chunks: of sources
        options: of the predictions
        jobs: processes
    """
    waiting = deque(chunks)
    while waiting:
        with _pool(origin, jobs) as pool:
            running: deque[Future[Results]] = deque()
            try:
                while waiting:
                    while len(running) < min(_AHEAD * jobs, len(waiting)):
                        running.append(pool.submit(_predict, waiting[len(running)], options))
                    results = running[0].result()
                    running.popleft()
                    waiting.popleft()
                    yield results
            except BrokenProcessPool:
                yield _one_by_one(origin, waiting.popleft(), options)
            finally:
                for future in running:
                    future.cancel()


def _one_by_one(origin: "Origin", chunk: Chunk, options: "Options") -> Results:
    """Halve a chunk until the source that kills its process is alone."""
    try:
        with _pool(origin, 1) as pool:
            return pool.submit(_predict, chunk, options).result()
    except BrokenProcessPool:
        if len(chunk) > 1:
            middle = len(chunk) // 2
            return [row for half in (chunk[:middle], chunk[middle:]) for row in _one_by_one(origin, half, options)]
        (source,) = chunk
        file = str(source) if isinstance(source, Path) else source.file
        return [Failure(file, "ended the process that read it; the decoder crashes, or memory is short")]


@contextmanager
def _pool(origin: "Origin", jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Processes of one thread each. They are spawned, never forked, and end with this one."""
    threads = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    os.environ.update(dict.fromkeys(threads, "1"))  # libraries read it when they are loaded
    try:
        with ProcessPoolExecutor(jobs, get_context("spawn"), _initialise, (origin,)) as pool:
            yield pool
    finally:
        for name, value in threads.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _initialise(origin: "Origin") -> None:
    global _model
    end_with_parent()
    _model = origin.load()


def _predict(chunk: Chunk, options: "Options") -> Results:
    return list(options.rows(_model, chunk))
