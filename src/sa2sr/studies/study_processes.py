"""Processes that take one item after the other, each on one thread; one that dies loses its item alone."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, TypeVar

from sa2sr.processes import end_with_parent

Item = TypeVar("Item")
Result = TypeVar("Result")

_GRACE = 5.0  # seconds to end well


@dataclass(frozen=True)
class Died:
    """In place of a result: the process ended before it came."""

    exit_code: int | None

    def __str__(self) -> str:
        code = self.exit_code
        if code is not None and code < 0:
            return f"its process was killed ({_signal_name(-code)}), perhaps for want of memory"
        return f"its process ended too soon, with exit code {code}"


@dataclass
class _Worker(Generic[Item]):
    process: SpawnProcess
    connection: Connection
    item: Item | None = None


class Crew(Generic[Item, Result]):
    """``with Crew(function, size) as crew``: give items while there is one idle, and wait for results.

    Processes are spawned, never forked, when they are first needed. They ignore Ctrl-C, which is this process's to
    answer, and end with it, whatever ends it.
    """

    def __init__(self, function: Callable[[Item], Result], size: int) -> None:
        self._function, self._size = function, size
        self._workers: list[_Worker[Item]] = []

    def __enter__(self) -> "Crew[Item, Result]":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.connection.close()  # an idle one takes this as the end
            if worker.item is not None:
                worker.process.kill()
        for worker in self._workers:
            worker.process.join(_GRACE)
            worker.process.kill()
            worker.process.join()
        self._workers.clear()

    @property
    def items(self) -> list[Item]:
        """What is being worked on."""
        return [worker.item for worker in self._workers if worker.item is not None]

    @property
    def is_idle(self) -> bool:
        """Whether one more item can be given."""
        return len(self.items) < self._size

    def give(self, item: Item) -> None:
        """Have an item worked on."""
        worker = next((each for each in self._workers if each.item is None), None)
        if worker is None:
            worker = self._hire()
        try:
            worker.connection.send(item)
        except OSError:  # it died while it was idle
            self._dismiss(worker)
            worker = self._hire()
            worker.connection.send(item)
        worker.item = item

    def wait(self, seconds: float) -> list[tuple[Item, Result | Died]]:
        """The items that are finished, after so many seconds at most."""
        busy = {worker.connection: worker for worker in self._workers if worker.item is not None}
        finished: list[tuple[Item, Result | Died]] = []
        for connection in wait(list(busy), seconds):
            worker = busy[connection]  # type: ignore[index]
            item = worker.item
            try:
                result: Result | Died = worker.connection.recv()
            except (EOFError, OSError):
                result = self._dismiss(worker)
            worker.item = None
            if item is not None:
                finished.append((item, result))
        return finished

    def _hire(self) -> _Worker[Item]:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(self._function, theirs))
        with _one_thread():
            process.start()
        theirs.close()  # so that its end is noticed
        worker: _Worker[Item] = _Worker(process, ours)
        self._workers.append(worker)
        return worker

    def _dismiss(self, worker: _Worker[Item]) -> Died:
        self._workers.remove(worker)
        worker.connection.close()
        worker.process.join(_GRACE)
        code = worker.process.exitcode
        worker.process.kill()
        worker.process.join()
        return Died(code)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Numerical libraries read how many threads they may use when they are loaded."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _work(function: Callable[[Any], Any], connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    while True:
        try:
            item = connection.recv()
        except (EOFError, OSError):
            return
        connection.send(function(item))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
