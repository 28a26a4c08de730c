"""How far trainings in other processes are, read from their run folders."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

from sa2sr.progress import Bars
from sa2sr.studies.epochs import epochs_so_far, status

_SECONDS = 0.5  # between looks


@dataclass(frozen=True)
class Training:
    """A training that others do."""

    label: str
    path: Path  # of the run folder
    epochs: int


@contextmanager
def progress_of_trainings(trainings: Sequence[Training]) -> Iterator[None]:
    """Show a bar a training on standard error; where that is not a terminal, a line when one ends."""
    console = Console(file=sys.stderr)  # this one, also while something redirects it
    columns = (
        TextColumn("{task.description:22}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[status]}"),
    )
    bars = Bars(*columns, console=console, disable=not console.is_terminal)
    tasks = [bars.add_task(t.label, total=t.epochs, status="", start=False, visible=False) for t in trainings]
    ended: set[int] = set()
    over = Event()

    def look() -> None:
        for training, task in zip(trainings, tasks, strict=True):
            history = epochs_so_far(training.path)
            if task in ended or not history:
                continue
            scores = status(history[-1])
            finished = (training.path / "metrics.json").exists()
            bars.start_task(task)
            total = len(history) if finished else training.epochs
            bars.update(task, completed=len(history), total=total, status=scores, visible=True)
            if finished:
                ended.add(task)
                bars.stop_task(task)
                if bars.disable:
                    line = f"     {training.label}: {len(history)} epochs; the last: {scores}"
                    console.print(line, highlight=False, soft_wrap=True)

    def watch() -> None:
        while not over.wait(_SECONDS):
            look()

    watcher = Thread(target=watch, daemon=True)
    with bars:
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
            look()
