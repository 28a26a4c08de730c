"""Rows of the emotion table, and what its numbers are."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from sa2sr.config import DIMENSIONS, SENTIMENTS, Scale, probability_of

UNIT = Scale(name="0-1", low=0, high=1)
EXTRAS = {"sentiment": SENTIMENTS, "transcript": ("transcript",)}  # further columns, by what a user asks for


@dataclass(frozen=True, slots=True)
class Row:
    """A stretch of audio and the emotions in it."""

    file: str
    start: float  # seconds
    end: float  # seconds
    activation: float  # on the scale of the table, as the next two; NaN where the model does not predict them
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
    emotion: str | None = None  # the most probable category; None where the model tells none apart
    probabilities: Mapping[str, float] = field(default_factory=dict, hash=False)  # of the categories

    def cell(self, column: str) -> Any:
        """What stands in a column of the table."""
        if column in TEXTS or not column.startswith(_PROBABILITY):
            return getattr(self, column)
        return self.probabilities.get(column.removeprefix(_PROBABILITY))


@dataclass(frozen=True, slots=True)
class Failure:
    """A file, or the rest of one, that gave no row."""

    file: str
    reason: str


Item = TypeVar("Item", bound=Row | Failure)

COLUMNS = ("file", "start", "end", *DIMENSIONS, "note")  # of a table without intervals
INTERVALS = tuple(f"{dimension}_{end}" for dimension in DIMENSIONS for end in ("low", "high"))
TEXTS = ("file", "note", "transcript", "emotion")
_PROBABILITY = probability_of("")


@dataclass(frozen=True)
class Heading:
    """What the numbers of a table are."""

    scale: Scale
    model: str  # its name
    level: float = 0.0  # of the intervals; at 0 there are none
    extras: tuple[str, ...] = ()  # of EXTRAS
    categories: tuple[str, ...] = ()  # of emotion, whose probabilities there are
    dimensions: tuple[str, ...] = DIMENSIONS  # none where the model does not predict them

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return columns_of(self.level, self.extras, self.categories, self.dimensions)

    def values(self, row: Row) -> dict[str, Any]:
        """A row by column."""
        return {name: row.cell(name) for name in self.columns}

    def described(self) -> dict[str, Any]:
        """For a file that says so."""
        told = {"categories": list(self.categories)} if self.categories else {}
        return self.scale.model_dump() | {
            "model": self.model,
            "level": self.level or None,
            "columns": list(self.columns),
            **told,
        }


def columns_of(
    level: float,
    extras: Collection[str] = (),
    categories: Collection[str] = (),
    dimensions: Collection[str] = DIMENSIONS,
) -> tuple[str, ...]:
    """The columns of a table.

    Args:
        level: of the intervals, whose columns follow each dimension; at 0 there are none
        extras: ``"sentiment"``, ``"transcript"``
        categories: of emotion: the most probable one, ``emotion``, and the probability of each, such as
            ``emotion_angry``
        dimensions: that are predicted
    """
    around = {name: (name, f"{name}_low", f"{name}_high") if level else (name,) for name in dimensions}
    told = ("emotion", *map(probability_of, categories)) if categories else ()
    others = tuple(column for extra, columns in EXTRAS.items() if extra in extras for column in columns)
    return ("file", "start", "end", *(each for name in dimensions for each in around[name]), *told, *others, "note")


def on_scale(item: Item, source: Scale, target: Scale) -> Item:
    """A row whose emotions and intervals are moved from one scale to another; failures stay as they are."""
    if source == target or not isinstance(item, Row):
        return item
    factor = (target.high - target.low) / (source.high - source.low)
    numbers = {name: getattr(item, name) for name in (*DIMENSIONS, *INTERVALS)}
    moved = {name: round(target.low + (x - source.low) * factor, 6) for name, x in numbers.items() if x is not None}
    return replace(item, **moved)
