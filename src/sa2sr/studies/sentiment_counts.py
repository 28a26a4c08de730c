"""How often each text sentiment occurs with each emotion: counted over cuts, over transcripts in a CSV, or as given."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sa2sr.config import SENTIMENTS
from sa2sr.corpora.corpus import Problem
from sa2sr.corpora.tables import find_column, read_table
from sa2sr.cuts import read_cuts
from sa2sr.errors import CorpusError
from sa2sr.progress import progress
from sa2sr.sentiment import Teacher

_TEXT_COLUMNS = ("utterance", "text", "transcript", "transcription", "sentence")
_EMOTION_COLUMNS = ("emotion", "emoclass")
_SUMS = ("total", "totals", "grand total", "sum", "all", "overall")  # rows of a table of counts that are no emotion
_TABLES = (".csv", ".tsv")
_MOST_EMOTIONS = 100
_CHUNK = 512  # texts that a teacher sees at once


@dataclass(frozen=True)
class SentimentCounts:
    """Utterances by emotion and text sentiment.

    Attributes:
        emotions: in lower case
        counts: shape (emotions, 3), in the order of :data:`sa2sr.config.SENTIMENTS`
        teachers: what told the sentiments, and of how many utterances
        skipped: what could not be counted, and how often
    """

    emotions: tuple[str, ...]
    counts: NDArray[np.int64]
    teachers: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Utterance:
    """An emotion, and a text whose sentiment is known (by whom) or is still to be told."""

    emotion: str
    text: str = ""
    sentiment: int | None = None
    teacher: str = ""


def counts_of_cuts(
    manifests: Sequence[Path], teacher: Callable[[], Teacher], *, relabel: bool = False
) -> SentimentCounts:
    """Count the utterances of manifests that have an emotion and a text.

    Args:
        manifests: of cuts
        teacher: gives the teacher of texts that have no ``sentiment`` yet
        relabel: ask the teacher about all texts

    Raises:
        CorpusError: if nothing can be counted
    """
    skipped: Counter[str] = Counter()
    return _count(_utterances_of_cuts(manifests, skipped, relabel), teacher, skipped, manifests)


def counts_of_table(
    tables: Sequence[Path],
    teacher: Callable[[], Teacher],
    *,
    text_column: str | None = None,
    emotion_column: str | None = None,
    sentiment_column: str | None = None,
) -> SentimentCounts:
    """Count the rows of CSV, TSV or JSONL files, such as MELD's with the columns ``Utterance`` and ``Emotion``.

    Args:
        tables: files
        teacher: gives the teacher of the texts
        text_column: where the texts are, if it has an unusual name
        emotion_column: where the emotions are, if it has an unusual name
        sentiment_column: where ``negative``, ``neutral`` and ``positive`` are, to ask no teacher

    Raises:
        CorpusError: if a file lacks a column, or nothing can be counted
    """
    skipped: Counter[str] = Counter()

    def rows() -> Iterator[_Utterance]:
        for path in tables:
            yield from _utterances_of_table(path, text_column, emotion_column, sentiment_column, skipped)

    return _count(rows(), teacher, skipped, tables)


def read_counts(path: Path) -> SentimentCounts:
    """Read a table of counts with the columns ``emotion``, ``negative``, ``neutral`` and ``positive``.

    Rows of sums, such as ``Total``, are left out, and so are further columns.

    Raises:
        CorpusError: naming the line that is no such row
    """
    problems: list[Problem] = []
    counts: dict[str, list[int]] = {}
    skipped: Counter[str] = Counter()
    for where, row in read_table(path, problems):
        columns = [_column(path, list(row), name, ()) for name in ("emotion", *SENTIMENTS)]
        name, *numbers = (row[column] for column in columns)
        emotion = _plain(name)
        if emotion in _SUMS:
            skipped[f"row of sums, '{name}'"] += 1
            continue
        if not all(number.isascii() and number.isdigit() and len(number) < 16 for number in numbers):
            raise CorpusError(f"{where}: {', '.join(numbers)} must be three whole numbers")
        if not emotion or emotion in counts:
            raise CorpusError(f"{where}: the emotion '{emotion}' is empty or occurs twice")
        counts[emotion] = [int(number) for number in numbers]
    for problem in problems:
        raise CorpusError(f"{problem.item}: {problem.reason} ({problem.detail})")
    return SentimentCounts(*_as_table(counts, str(path)), skipped=dict(skipped))


def _utterances_of_cuts(manifests: Sequence[Path], skipped: Counter[str], relabel: bool) -> Iterator[_Utterance]:
    for path in manifests:
        if path.suffix.lower() in _TABLES:
            raise CorpusError(
                f"{path}: is a table, not a manifest of cuts; name it with --csv, or with --counts if it holds counts"
            )
        for cut in read_cuts(path):
            for supervision in cut.supervisions:
                custom = supervision.custom if isinstance(supervision.custom, dict) else {}
                emotion, text = custom.get("emotion"), supervision.text
                if not isinstance(emotion, str) or not emotion.strip():
                    skipped["without an emotion"] += 1
                elif not relabel and (told := _most_probable(custom.get("sentiment"))) is not None:
                    teacher = str(custom.get("sentiment_teacher", "the manifest"))
                    yield _Utterance(emotion, sentiment=told, teacher=teacher)
                elif isinstance(text, str) and text.strip():
                    yield _Utterance(emotion, text)
                else:
                    skipped["without a transcript"] += 1


def _utterances_of_table(
    path: Path, text: str | None, emotion: str | None, sentiment: str | None, skipped: Counter[str]
) -> Iterator[_Utterance]:
    if path.name.lower().endswith(".jsonl.gz"):
        raise CorpusError(f"{path}: is a manifest of cuts, not a table; name it without --csv")
    problems: list[Problem] = []
    for _, row in read_table(path, problems):
        columns = list(row)
        label = row[_column(path, columns, emotion, _EMOTION_COLUMNS)]
        if not label:
            skipped["without an emotion"] += 1
        elif sentiment is not None:
            told = row[_column(path, columns, sentiment, ())].lower()
            if told in SENTIMENTS:
                yield _Utterance(label, sentiment=SENTIMENTS.index(told), teacher=f"the column {sentiment}")
            else:
                skipped["without a sentiment"] += 1
        elif words := row[_column(path, columns, text, _TEXT_COLUMNS)]:
            yield _Utterance(label, words)
        else:
            skipped["without a transcript"] += 1
    skipped.update(problem.reason for problem in problems)


def _count(
    utterances: Iterable[_Utterance], teacher: Callable[[], Teacher], skipped: Counter[str], sources: Sequence[Path]
) -> SentimentCounts:
    counts: dict[str, list[int]] = {}
    teachers: Counter[str] = Counter()
    untold: dict[str, Counter[str]] = {}  # emotions of each text
    source = " and ".join(map(str, sources[:3]))
    for utterance in utterances:
        emotion = _plain(utterance.emotion)
        row = counts.setdefault(emotion, [0] * len(SENTIMENTS))
        if len(counts) > _MOST_EMOTIONS:
            raise CorpusError(f"{source}: has more than {_MOST_EMOTIONS} emotions; is it the right column?")
        if utterance.sentiment is not None:
            row[utterance.sentiment] += 1
            teachers[utterance.teacher] += 1
        else:
            untold.setdefault(utterance.text, Counter())[emotion] += 1
    if untold:
        model = teacher()
        for text, sentiment in _told(model, list(untold)):
            for emotion, times in untold[text].items():
                counts[emotion][sentiment] += times
                teachers[model.name] += times
    if not counts:
        lacking = "; ".join(f"{number:,} {reason}" for reason, number in skipped.items()) or "it is empty"
        raise CorpusError(f"{source}: no utterance has an emotion and a text ({lacking})")
    frequent = dict(sorted(counts.items(), key=lambda item: -sum(item[1])))
    return SentimentCounts(*_as_table(frequent, source), dict(teachers), dict(skipped))


def _told(teacher: Teacher, texts: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Each text and its most probable sentiment."""
    with progress("sentiment", len(texts)) as advance:
        for start in range(0, len(texts), _CHUNK):
            chunk = texts[start : start + _CHUNK]
            yield from zip(chunk, teacher.probabilities(chunk).argmax(axis=1).tolist(), strict=True)
            advance(len(chunk))


def _as_table(counts: dict[str, list[int]], source: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    table = np.array(list(counts.values()), np.int64).reshape(-1, len(SENTIMENTS))
    if not table.sum():
        raise CorpusError(f"{source}: counts no utterance")
    return tuple(counts), table


def _column(path: Path, columns: list[str], name: str | None, usual: tuple[str, ...]) -> str:
    column = find_column(columns, (name,) if name else usual)
    if column is None:
        wanted = f"'{name}'" if name else " or ".join(usual)
        raise CorpusError(f"{path}: has no column {wanted}; its columns are {', '.join(columns[:20])}")
    return column


def _most_probable(probabilities: object) -> int | None:
    """The class that is most probable; none if these are no three probabilities."""
    if not isinstance(probabilities, list) or len(probabilities) != len(SENTIMENTS):
        return None
    numbers = all(isinstance(number, int | float) and math.isfinite(number) for number in probabilities)
    return int(np.argmax(probabilities)) if numbers else None


def _plain(emotion: str) -> str:
    return " ".join(emotion.lower().split())
