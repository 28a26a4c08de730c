"""What a person sees of a study: a line when a cell begins or ends, and where the running ones are."""

import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn

from sa2sr.config import Stage
from sa2sr.progress import Bars
from sa2sr.studies.epochs import epochs_so_far, status
from sa2sr.studies.study_cell import seconds_of_training
from sa2sr.studies.study_plan import Cell

_SECONDS = 300.0  # between lines about the running cells, where there are no bars


class StudyProgress:
    """Tells standard error of a study: bars on a terminal, lines otherwise."""

    def __init__(self, out: Path, cells: Sequence[Cell], jobs: int) -> None:
        self.out, self.cells, self.jobs = out, list(cells), jobs
        self.numbers = {cell.folder: number for number, cell in enumerate(cells, start=1)}
        self.ended: set[Path] = set()
        self.begun: dict[Path, float] = {}
        self.console = Console(file=sys.stderr, highlight=False)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[status]}"),
        )
        self.bars = Bars(*columns, console=self.console, disable=not self.console.is_terminal)
        self.whole = self.bars.add_task("cells", total=len(cells), status="")
        self.tasks: dict[Path, TaskID] = {}
        self.told = time.monotonic()

    def __enter__(self) -> "StudyProgress":
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def plan(self, done: Collection[Cell], waiting: Collection[Path], problems: Mapping[str, str]) -> None:
        """Say what is to be done, and what cannot be."""
        self.ended |= {cell.folder for cell in self.cells if cell.folder not in waiting}
        count = f"{len(self.cells)} cells, {len(done)} done already; {len(waiting)} to do"
        self._say(f"{count}, {self.jobs} at a time")
        for name, reason in problems.items():
            self._say(f"cannot be done: {name}: {reason}", style="yellow")
        self.bars.update(self.whole, completed=len(self.ended))

    def begin(self, cell: Cell) -> None:
        """A cell begins."""
        self.begun[cell.folder] = time.monotonic()
        if self.bars.disable:
            self._say(f"{self._name(cell)}: begins")
        else:
            self.tasks[cell.folder] = self.bars.add_task(self._name(cell), total=_epochs(cell), status="")

    def end(self, cell: Cell, reason: str | None) -> None:
        """A cell has ended, well or not."""
        self.ended.add(cell.folder)
        seconds = time.monotonic() - self.begun.pop(cell.folder, time.monotonic())
        if (task := self.tasks.pop(cell.folder, None)) is not None:
            self.bars.remove_task(task)
        self.bars.update(self.whole, completed=len(self.ended))
        if reason is None:
            history = epochs_so_far(cell.folder)
            best: dict[str, Any] = next((line for line in reversed(history) if line.get("best")), {})
            told = [f"done in {_duration(seconds)}", status(best), self._left()]
            self._say(f"{self._name(cell)}: {'; '.join(part for part in told if part)}")
        else:
            self._say(f"{self._name(cell)}: FAILED: {reason}", style="yellow")

    def tick(self) -> None:
        """Time has passed."""
        running = [cell for cell in self.cells if cell.folder in self.begun]
        for cell in running if not self.bars.disable else []:
            if (task := self.tasks.get(cell.folder)) is not None and (history := epochs_so_far(cell.folder)):
                self.bars.update(task, completed=len(history), status=status(history[-1]))
        self.bars.update(self.whole, status=self._left() if not self.bars.disable else "")
        if self.bars.disable and time.monotonic() - self.told > _SECONDS:
            for cell in running:
                history = epochs_so_far(cell.folder)
                scores = f" ({status(history[-1])})" if history else ""
                self._say(f"{self._name(cell)}: {len(history)} of at most {_epochs(cell)} epochs{scores}")
            if left := self._left():
                self._say(left)

    def _left(self) -> str:
        seconds = self.seconds_left()
        return f"about {_duration(seconds)} left" if seconds is not None and seconds > 0 else ""

    def seconds_left(self) -> float | None:
        """An estimate from cells that are done or on their way; none while there is none of a kind to learn from."""
        known: dict[str, list[float]] = {"pretraining": [], "finetuning": [], "regression": []}
        now = time.monotonic()
        spent = {folder: now - begun for folder, begun in self.begun.items()}
        for cell in self.cells:
            if (seconds := seconds_of_training(cell)) is not None:
                known[cell.stage].append(seconds / cell.share)
        for cell in self.cells:
            if cell.folder in self.begun and not known[cell.stage] and (history := epochs_so_far(cell.folder)):
                seconds = float(history[-1].get("seconds", 0.0)) * _epochs(cell) / len(history)
                known[cell.stage].append(seconds / cell.share)
        left = 0.0
        for cell in self.cells:
            if cell.folder in self.ended:
                continue
            if not known[cell.stage]:
                return None
            expected = cell.share * sum(known[cell.stage]) / len(known[cell.stage])
            left += max(0.0, expected - spent.get(cell.folder, 0.0))
        return left / self.jobs

    def _name(self, cell: Cell) -> str:
        name = cell.folder.relative_to(self.out)
        return f"[{self.numbers[cell.folder]} of {len(self.cells)}] {name}"

    def _say(self, text: str, style: str | None = None) -> None:
        self.told = time.monotonic()
        self.console.print(text, style=style, markup=False, soft_wrap=True)


def _epochs(cell: Cell) -> int:
    stage = getattr(cell.recipe, cell.stage)
    return stage.max_epochs if isinstance(stage, Stage) else 1


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
