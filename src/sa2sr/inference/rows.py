"""Rows of the emotion table, and what its numbers are."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sa2sr.config import DIMENSIONS, SENTIMENTS, Scale

UNIT = Scale(name="0-1", low=0, high=1)
EXTRAS = {"sentiment": SENTIMENTS, "transcript": ("transcript",)}  # further columns, by what a user asks for


@dataclass(frozen=True, slots=True)
class Row:
    """A stretch of audio and the emotions in it."""

    file: str
    start: float  # seconds
    end: float  # seconds
    activation: float  # on the scale of the table, as the next two
    valence: float
    dominance: float
    note: str = ""  # why the numbers should be read with care
    activation_low: float | None = None  # the ends of the intervals; None where there is none
    activation_high: float | None = None
    valence_low: float | None = None
    valence_high: float | None = None
    dominance_low: float | None = None
    dominance_high: float | None = None
    negative: float | None = None  # probabilities of the sentiment that is heard; None where it was not asked for
    neutral: float | None = None
    positive: float | None = None
    transcript: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A file, or the rest of one, that gave no row."""

    file: str
    reason: str


Item = TypeVar("Item", bound=Row | Failure)

COLUMNS = ("file", "start", "end", *DIMENSIONS, "note")  # of a table without intervals
INTERVALS = tuple(f"{dimension}_{end}" for dimension in DIMENSIONS for end in ("low", "high"))
TEXTS = ("file", "note", "transcript")


@dataclass(frozen=True)
class Heading:
    """What the numbers of a table are."""

    scale: Scale
    model: str  # its name
    level: float = 0.0  # of the intervals; at 0 there are none
    extras: tuple[str, ...] = ()  # of EXTRAS

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return columns_of(self.level, self.extras)

    def described(self) -> dict[str, Any]:
        """For a file that says so."""
        return self.scale.model_dump() | {
            "model": self.model,
            "level": self.level or None,
            "columns": list(self.columns),
        }


def columns_of(level: float, extras: Collection[str] = ()) -> tuple[str, ...]:
    """The columns of a table.

    Args:
        level: of the intervals, whose columns follow each dimension; at 0 there are none
        extras: ``"sentiment"``, ``"transcript"``
    """
    around = {name: (name, f"{name}_low", f"{name}_high") if level else (name,) for name in DIMENSIONS}
    others = tuple(column for extra, columns in EXTRAS.items() if extra in extras for column in columns)
    return ("file", "start", "end", *(column for name in DIMENSIONS for column in around[name]), *others, "note")


def values(row: Row, level: float = 0.0, extras: Collection[str] = ()) -> dict[str, Any]:
    """A row by column (see :func:`columns_of`)."""
    return {name: getattr(row, name) for name in columns_of(level, extras)}


def on_scale(item: Item, source: Scale, target: Scale) -> Item:
    """A row whose emotions and intervals are moved from one scale to another; failures stay as they are."""
    if source == target or not isinstance(item, Row):
        return item
    factor = (target.high - target.low) / (source.high - source.low)
    numbers = {name: getattr(item, name) for name in (*DIMENSIONS, *INTERVALS)}
    moved = {name: round(target.low + (x - source.low) * factor, 6) for name, x in numbers.items() if x is not None}
    return replace(item, **moved)
