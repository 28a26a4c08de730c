"""The emotion table: what every way of predicting gives, in memory, as CSV, JSON lines and Parquet.

A row is a stretch of audio. Its numbers are on the scale of the ratings that the model learnt from, or on 0-1, and so
are the intervals around them, where there are any; the scale and the level of the intervals are saved beside the table,
as ``<table>.scale.json``.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from sa2sr.config import DIMENSIONS, Scale
from sa2sr.errors import TableError
from sa2sr.inference.formats import read_heading, read_rows, scale_file, table_writer
from sa2sr.inference.rows import (
    COLUMNS,
    EXTRAS,
    INTERVALS,
    TEXTS,
    UNIT,
    Failure,
    Heading,
    Row,
    on_scale,
)
from sa2sr.submission import SCALE as SUBMISSION_SCALE
from sa2sr.submission import write_submission

if TYPE_CHECKING:
    from rich.table import Table

_WIDTH = 200  # characters of a table that is not on a terminal
_FIRST = 20  # rows that a notebook shows

__all__ = [
    "COLUMNS",
    "EXTRAS",
    "INTERVALS",
    "UNIT",
    "EmotionTable",
    "Failure",
    "Heading",
    "Row",
    "on_scale",
    "read_table",
    "scale_file",
    "table_writer",
]


@dataclass(frozen=True, repr=False)
class EmotionTable(Sequence[Row]):
    """Rows under their heading, and what could not be predicted."""

    rows: list[Row]
    heading: Heading
    failures: list[Failure] = field(default_factory=list)

    @property
    def scale(self) -> Scale:
        """Of the numbers."""
        return self.heading.scale

    @property
    def model(self) -> str:
        """The name of the model that they come from."""
        return self.heading.model

    @property
    def level(self) -> float:
        """Of the intervals; at 0 there are none."""
        return self.heading.level

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return self.heading.columns

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        return self.rows[index]

    def column(self, name: str) -> NDArray[Any]:
        """A column, (rows,): ``table.column("valence").mean()``. Where there is no interval its ends are NaN."""
        if name not in self.columns:
            raise KeyError(f"{name!r} is not a column; there are {', '.join(self.columns)}")
        return np.array([row.cell(name) for row in self.rows], object if name in TEXTS else float)

    def on(self, scale: Scale) -> "EmotionTable":
        """The same table on another scale: ``table.on(UNIT)`` is on 0-1."""
        rows = [on_scale(row, self.scale, scale) for row in self.rows]
        return replace(self, rows=rows, heading=replace(self.heading, scale=scale))

    def write(self, path: str | Path) -> None:
        """Write ``path`` (.csv, .jsonl or .parquet) and the scale beside it.

        Raises:
            TableError: if the name ends otherwise, or the file cannot be written
        """
        with table_writer(path, self.heading) as add:
            for row in self.rows:
                add(row)

    def write_submission(self, path: str | Path) -> None:
        """Write a submission to the MSP-Podcast challenges: a row a file, on its scale of 1 to 7.

        Args:
            path: a .csv file

        Raises:
            TableError: if there are no dimensions, a file has several rows, two have one name, or the file cannot be
                written
        """
        if not self.heading.dimensions:
            raise TableError(f"{path}: a submission has {', '.join(DIMENSIONS)}, which '{self.model}' does not predict")
        emotions: dict[str, tuple[float, ...]] = {}
        for row in self.on(SUBMISSION_SCALE).rows:
            name = Path(row.file).name
            if name in emotions:
                raise TableError(
                    f"{row.file}: a submission has one row for each name of a file, and there are several for {name}; "
                    "predict files as wholes (--longest), and those of equal names apart"
                )
            emotions[name] = (row.activation, row.valence, row.dominance)
        write_submission(path, emotions)

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame``, which keeps the scale and the level of the intervals in its ``attrs``.

        Raises:
            TableError: if pandas is not installed
        """
        try:
            import pandas  # type: ignore[import-untyped]
        except ImportError:
            raise TableError("to_pandas() needs pandas: pip install pandas") from None
        frame = pandas.DataFrame({name: self.column(name) for name in self.columns})
        frame.attrs.update(scale=self.scale.model_dump(), model=self.model, level=self.level or None)
        return frame

    def print(self) -> None:
        """Print the table on standard output, a number and its interval in one cell."""
        from rich.console import Console

        # Wide enough that nothing is cut when the output goes to a file.
        console = Console(width=None if Console().is_terminal else _WIDTH, highlight=False)
        console.print(self._drawn(self.rows))

    def __repr__(self) -> str:
        """The first rows as :meth:`print` shows them, and how much else there is."""
        from rich.console import Console

        drawn = StringIO()
        Console(file=drawn, width=_WIDTH, highlight=False, force_jupyter=False).print(self._drawn(self.rows[:_FIRST]))
        lines = [line.rstrip() for line in drawn.getvalue().splitlines()]
        more = len(self) - _FIRST
        beside = [f"{more:,} more row{'s' * (more > 1)}"] if more > 0 else []
        beside += [f"{len(self.failures):,} failed, such as {self.failures[0].file}"] if self.failures else []
        return "\n".join([*lines, *beside])

    def _repr_html_(self) -> str:
        """The same in a notebook."""
        return f"<pre>{html.escape(repr(self))}</pre>"

    def _drawn(self, rows: Sequence[Row]) -> "Table":
        from rich.markup import escape
        from rich.table import Table

        scale = f"{self.scale.low:g} (low) to {self.scale.high:g} (high)"
        level = f"; in brackets {100 * self.level:g} % intervals" if self.level else ""
        title = f"{escape(self.model)}, scale {escape(self.scale.name)}: {scale}{level}"
        table = Table(title=title, title_justify="left")
        columns = replace(self.heading, level=0.0).columns  # the ends of an interval stand beside its number
        shown = [name for name in columns if name != "note" or any(row.note for row in rows)]
        for name in shown:
            number = name not in TEXTS
            table.add_column(escape(name), justify="right" if number else "left", overflow="fold", no_wrap=number)
        for row in rows:
            table.add_row(*(escape(_text(row, name)) if name in TEXTS else _number(row, name) for name in shown))
        return table


def read_table(path: str | Path, scale: Scale | None = None) -> EmotionTable:
    """Read a table back.

    Args:
        path: a file that :func:`table_writer` wrote; further columns are ignored
        scale: of its numbers, where the file of the scale has been lost

    Raises:
        TableError: naming the file, the line and what is wrong
    """
    path = Path(path)
    heading = read_heading(path) if scale is None else Heading(scale, "")
    rows = list(read_rows(path, heading))
    return EmotionTable(rows, heading)


def _number(row: Row, name: str) -> str:
    number = row.cell(name)
    low, high = (getattr(row, f"{name}_{end}", None) for end in ("low", "high"))
    interval = "" if low is None or high is None else f" \\[{low:.2f}, {high:.2f}]"
    return "" if number is None else f"{number:.2f}{interval}"


def _text(row: Row, name: str) -> str:
    return str(getattr(row, name) or "").encode(errors="backslashreplace").decode()  # names need not be Unicode
