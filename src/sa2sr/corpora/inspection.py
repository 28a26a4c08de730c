"""Looking at many audio files at once, in several processes, each of which imports nothing heavy."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sa2sr.audio import AudioInfo, probe, verify
from sa2sr.errors import AudioError

_CHUNK = 64  # files that a process takes at a time; fewer altogether are not worth a process

Finding = AudioInfo | AudioError


def inspect(paths: Sequence[Path], *, decode: bool, jobs: int | None = None) -> dict[Path, Finding]:
    """What each file holds, or what is wrong with it.

    Args:
        paths: audio files
        decode: decode them to the end, rather than read their headers
        jobs: processes; by default one a processor
    """
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    jobs = min(jobs or _processors(), len(chunks))
    found: dict[Path, Finding] = {}
    with _progress("Decoding audio" if decode else "Reading headers", len(paths)) as advance:
        results = _inspect_in_processes(chunks, decode, jobs) if jobs > 1 else (_inspect(c, decode) for c in chunks)
        for result in results:
            found.update(result)
            advance(len(result))
    return found


def _inspect(paths: Sequence[Path], decode: bool) -> dict[Path, Finding]:
    found: dict[Path, Finding] = {}
    for path in paths:
        try:
            found[path] = verify(path) if decode else probe(path)
        except AudioError as error:
            found[path] = error
    return found


def _inspect_in_processes(chunks: Sequence[Sequence[Path]], decode: bool, jobs: int) -> Iterator[dict[Path, Finding]]:
    done: set[Path] = set()
    try:
        with ProcessPoolExecutor(jobs) as pool:
            for future in as_completed([pool.submit(_inspect, chunk, decode) for chunk in chunks]):
                result = future.result()
                done.update(result)
                yield result
    except BrokenProcessPool:  # a file killed the decoder: it alone shall be lost
        for path in [path for chunk in chunks for path in chunk if path not in done]:
            yield {path: _inspect_alone(path, decode)}


def _inspect_alone(path: Path, decode: bool) -> Finding:
    try:
        with ProcessPoolExecutor(1) as pool:
            return pool.submit(_inspect, [path], decode).result()[path]
    except BrokenProcessPool:
        return AudioError(path, "kills the process that decodes it")


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, if that is a terminal; yields the function that advances it."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda count: progress.advance(task, count)
