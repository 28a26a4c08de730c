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


@contextmanager
def progress(label: str, total: int | None) -> Iterator[Advance]:
    """Yield a function that advances a bar named ``label`` by a number of items."""
    console = Console(stderr=True)
    if not console.is_terminal:  # a bar that is disabled leaves an empty line there, before rich 14.3
        yield lambda count, note="": None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(label, total=total, note="")

        def advance(count: int, note: str = "") -> None:
            bar.update(task, advance=count, **_fields(note))

        yield advance


def _fields(note: str) -> dict[str, Any]:
    return {"note": note} if note else {}
