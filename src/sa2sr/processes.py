"""One function over many items in several processes, where an item that kills its process is lost alone."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def processors() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    killed: Callable[[Item], Result],
    chunk: int,
    jobs: int | None = None,
) -> Iterator[tuple[Item, Result]]:
    """Yield every item with its result, in the order in which they are ready.

    Processes are spawned, never forked, so that threads and libraries of this one are left alone; as always with
    spawned processes, a script that gets here must keep its own work under ``if __name__ == "__main__"``.

    Args:
        function: of one item; a function of a module, since its name travels to the processes
        items: what is to be done
        killed: the result for an item whose process died, as at a crash of a C library
        chunk: items that a process takes at a time
        jobs: processes; by default one a processor. With 1, or with fewer items than two chunks, none is started, and
            nothing shields this one
    """
    chunks = [items[start : start + chunk] for start in range(0, len(items), chunk)]
    jobs = min(jobs or processors(), len(items) // chunk)
    if jobs <= 1:
        yield from ((item, function(item)) for item in items)
        return
    left = set(range(len(chunks)))
    try:
        with _pool(jobs) as pool:
            running = {pool.submit(_results, function, chunks[index]): index for index in left}
            try:
                for future in as_completed(running):
                    results = future.result()
                    left.discard(running[future])
                    yield from zip(chunks[running[future]], results, strict=True)
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    except BrokenProcessPool:
        for index in sorted(left):
            yield from _one_by_one(function, chunks[index], killed)


def _one_by_one(
    function: Callable[[Item], Result], items: Sequence[Item], killed: Callable[[Item], Result]
) -> Iterator[tuple[Item, Result]]:
    """Halve the items until the one that kills its process is alone."""
    try:
        with _pool(1) as pool:
            results = pool.submit(_results, function, items).result()
    except BrokenProcessPool:
        if len(items) == 1:
            yield items[0], killed(items[0])
            return
        middle = len(items) // 2
        yield from _one_by_one(function, items[:middle], killed)
        yield from _one_by_one(function, items[middle:], killed)
        return
    yield from zip(items, results, strict=True)


def _results(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return [function(item) for item in items]


def _pool(jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=end_with_parent)


def end_with_parent() -> None:
    """End this process when its parent does; otherwise it outlives a parent that is killed, for ever."""
    parent = parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=wait, daemon=True).start()
