"""What a corpus is to the rest of the room: a generator of utterances, and of problems where there is none."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sa2sr.config import Scale, Settings


@dataclass(frozen=True, slots=True)
class Utterance:
    """An utterance as the corpus gives it, before anything is checked."""

    name: str  # unique within the corpus
    split: str
    audio: Path
    text: str | None = None  # the raw transcript; "" where one was to be expected
    speaker: str | None = None  # None where unknown
    gender: str | None = None  # "male" or "female" where known
    language: str | None = None
    emotion: str | None = None  # a category, in words
    ratings: Mapping[str, str | float] = field(default_factory=dict)  # as written; empty values count as absent
    scale: Scale | None = None  # of the ratings
    start: float = 0.0  # seconds
    end: float | None = None  # seconds; None: to the end of the file
    custom: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the corpus that cannot be used, and what is left out on account of it."""

    reason: str  # short and the same for all problems of a kind, since they are counted by it
    item: str  # the utterance, or the file and line
    detail: str = ""
    lost: str = "utterance"  # or "ratings", "transcript", ...


Entry = Utterance | Problem


class NoOptions(Settings):
    """For a corpus that needs no options of its own."""


@dataclass(frozen=True)
class Corpus:
    """A corpus that can be prepared.

    Attributes:
        name: as on the command line
        summary: one line for its help
        read: ``read(source, options)`` yields utterances and problems in any order; it opens no audio
        options: the class of ``options``; its fields become options of the command line
        needs_text: whether an utterance without transcript is of no use
        general: whether it may be any corpus, so that its name says nothing of the ratings
    """

    name: str
    summary: str
    read: Callable[[Path, Any], Iterator[Entry]]
    options: type[Settings] = NoOptions
    needs_text: bool = False
    general: bool = False
