"""A report as a value: sections of paragraphs, tables, pictures and clips, whatever they are about.

:mod:`sa2sr.studies.rendering` writes it as Markdown, as one HTML page and as CSV and LaTeX tables.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

from sa2sr.metrics import Estimate

Cell: TypeAlias = str | int | float | Estimate | None


@dataclass(frozen=True)
class Column:
    """A column of a table; ``key`` is its name in CSV, ``title`` its name for people."""

    key: str
    title: str
    digits: int = 3
    best: Literal["highest", "lowest"] | None = None  # which cell is shown in bold


@dataclass(frozen=True)
class Table:
    """Rows of cells; ``name`` becomes a file name."""

    name: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""

    def best_row(self, index: int) -> int | None:
        """The row whose cell is the best of a column; none where there are not two numbers to compare."""
        wanted = self.columns[index].best
        values = {number: value for number, row in enumerate(self.rows) if (value := _number(row[index])) is not None}
        if wanted is None or len(values) < 2:
            return None
        return (max if wanted == "highest" else min)(values, key=lambda number: values[number])

    def has_intervals(self, index: int) -> bool:
        """Whether some cell of a column is an estimate with an interval."""
        return any(isinstance(row[index], Estimate) for row in self.rows)

    def without_empty_columns(self, keys: Collection[str] | None = None) -> "Table":
        """The table without the columns in which no row says anything: of all, or of those with these keys."""
        kept = [
            index
            for index, column in enumerate(self.columns)
            if (keys is not None and column.key not in keys) or any(row[index] is not None for row in self.rows)
        ]
        rows = [[row[index] for index in kept] for row in self.rows]
        return replace(self, columns=[self.columns[index] for index in kept], rows=rows)


@dataclass(frozen=True)
class Picture:
    """A picture, twice: as SVG whose colours follow the page, and as PNG on white; ``name`` becomes a file name."""

    name: str
    title: str
    svg: str
    png: bytes


@dataclass(frozen=True)
class Pictures:
    """Pictures that belong together."""

    pictures: Sequence[Picture]
    caption: str = ""


@dataclass(frozen=True)
class Clip:
    """A recording that can be listened to in the page."""

    title: str
    audio: Path
    lines: Sequence[str] = ()


@dataclass(frozen=True)
class Clips:
    """Recordings that belong together."""

    clips: Sequence[Clip]


@dataclass(frozen=True)
class Code:
    """Commands or settings, to be copied; ``title`` folds it away."""

    text: str
    title: str = ""


Block: TypeAlias = str | Table | Pictures | Clips | Code  # a str is a paragraph of plain text


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    summary: str
    sections: Sequence[Section] = field(default_factory=tuple)

    def tables(self) -> list[Table]:
        """All tables in their order."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Table)]

    def pictures(self) -> list[Picture]:
        """All pictures in their order."""
        groups = [block for section in self.sections for block in section.blocks if isinstance(block, Pictures)]
        return [picture for group in groups for picture in group.pictures]


def number_text(value: float, digits: int) -> str:
    """A number as people read it, with a true minus sign; empty if it is not finite."""
    if not math.isfinite(value):
        return ""
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("-", "\N{MINUS SIGN}")


def cell_text(cell: Cell, digits: int) -> str:
    """A cell as people read it."""
    match cell:
        case None:
            return ""
        case Estimate(value, low, high) if math.isfinite(low):
            return f"{number_text(value, digits)} [{number_text(low, digits)}, {number_text(high, digits)}]"
        case Estimate(value):
            return number_text(value, digits)
        case float():
            return number_text(cell, digits)
        case int():
            return f"{cell:,}"
        case _:
            return cell


def printable(text: str) -> str:
    """A text without control characters and halves of surrogate pairs, which no file format takes."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _number(cell: Cell) -> float | None:
    value = cell.value if isinstance(cell, Estimate) else cell
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
