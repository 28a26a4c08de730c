"""Progress bars on standard error, silent where that is not a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Advance(Protocol):
    """Advances a bar by a number of items, and may say something beside it."""

    def __call__(self, count: int, note: str = "") -> None:
        """A note stays until there is another."""


class Bars(Progress):
    """Rich's progress bars, of which disabled ones print nothing at all; before rich 14.3 they leave an empty line."""

    def stop(self) -> None:
        """Take the bars from the terminal."""
        if not self.disable:
            super().stop()


@contextmanager
def progress(label: str, total: int | None) -> Iterator[Advance]:
    """Yield a function that advances a bar named ``label`` by a number of items."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Bars(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=total, note="")

        def advance(count: int, note: str = "") -> None:
            bar.update(task, advance=count, **_fields(note))

        yield advance


def _fields(note: str) -> dict[str, Any]:
    return {"note": note} if note else {}
