r"""Any text, spoken by espeak-ng, to learn to listen from: a sentence a line, or the column of a table.

Lines may begin with a label, as those of the Stanford Sentiment Treebank do (``--drop-label``), whose tokens are put
together again::

    1 they presume their audience wo n't sit still for a sociology lesson , however entertainingly presented

A table is read from CSV, TSV and JSONL, and so is MELD, whose windows-1252 apostrophes are often broken::

    Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime
    2,You must\x92ve had your hands full.,The Interviewer,neutral,neutral,0,1,8,21,"00:16:21,940","00:16:23,442"

The transcripts of a manifest (``.jsonl.gz``) will do as well. Sentences that occur twice are said once. Those in the
files of ``--exclude`` are left out, however they are spelt there: nothing that a model is tested on is to be heard
before. Training and development are said by different voices, and the test voices say nothing.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from pydantic import Field

from sa2sr.corpora.corpus import Problem
from sa2sr.corpora.options import check_encoding
from sa2sr.corpora.scanning import read_lines
from sa2sr.corpora.sentences import Sentence, SpokenOptions, cast, divide, letters, mend, of_length, subset
from sa2sr.corpora.spoken import SpokenCorpus, SpokenUtterance
from sa2sr.corpora.table import COLUMNS
from sa2sr.corpora.tables import JSON_LINES, find_column, read_table
from sa2sr.errors import CorpusError

_TABLES = (".csv", ".tsv", *JSON_LINES)
_MANIFEST = ".jsonl.gz"
_LABEL = re.compile(r"[+-]?\d{1,3}\s+")


class Options(SpokenOptions):
    """Where the sentences are, which of them are said, and by whom."""

    column: str | None = Field(None, description="of a table; by default text, transcript, utterance, ...")
    drop_label: bool = Field(False, description="each line begins with a number that is not part of the text")
    exclude: tuple[str, ...] = Field(
        (), description="FILE or FILE:COLUMN of sentences to leave out: lines, table or manifest; may be repeated"
    )
    dev_share: float = Field(0.05, ge=0, le=0.5, description="of the sentences, about, for the dev split")
    encoding: str = Field("utf-8", description="of the files, such as windows-1252")


def read(source: Path, options: Options) -> Iterator[SpokenUtterance | Problem]:
    """What is said of a text."""
    check_encoding(options.encoding)
    excluded = _excluded_letters(options.exclude, options.encoding)
    problems: list[Problem] = []
    texts = _read_texts(source, options.column, options.encoding, problems)
    sentences = of_length(_sentences(source.name, texts, options.drop_label, problems), options, problems)
    chosen = subset(_distinct(sentences, excluded, problems), options)
    yield from cast(divide(chosen, options.dev_share, options.seed), options)
    yield from problems


def _read_texts(path: Path, column: str | None, encoding: str, problems: list[Problem]) -> Iterator[tuple[str, str]]:
    """The texts of a manifest, a table or a text file, and where each is: ``file, line n``."""
    if path.name.endswith(_MANIFEST):
        from sa2sr.cuts import read_cuts  # takes seconds to import

        for cut in read_cuts(path):
            for supervision in cut.supervisions:
                yield f"{path}, {cut.id}", supervision.text or ""
    elif column is not None or path.suffix.lower() in _TABLES:
        wanted = COLUMNS["text"] if column is None else (column,)
        for where, row in read_table(path, problems, encoding):
            found = find_column(list(row), wanted)
            if found is None:
                raise CorpusError(f"{where}: has no column {' or '.join(wanted)}; it has {', '.join(row)}")
            yield where, row[found]
    else:
        for number, line in read_lines(path, problems, encoding):
            if line.strip():
                yield f"{path}, line {number}", line


def _sentences(
    file: str, texts: Iterable[tuple[str, str]], drop_label: bool, problems: list[Problem]
) -> Iterator[Sentence]:
    """Named after their words, so that a file that grows keeps the voices of the sentences that it had."""
    for where, raw in texts:
        text = mend(raw)
        if drop_label:
            label = _LABEL.match(text)
            if label is None:
                problems.append(Problem("line without a label", where, f"'{text[:80]}'"))
                continue
            text = text[label.end() :]
        digest = sha256(letters(text).encode(errors="backslashreplace")).hexdigest()
        yield Sentence(f"{file}-{digest[:16]}", text, where=where)


def _distinct(sentences: Iterable[Sentence], excluded: set[str], problems: list[Problem]) -> Iterator[Sentence]:
    """Each sentence once, and none that is excluded."""
    seen: set[str] = set()
    for sentence in sentences:
        said = letters(sentence.text)
        if said in excluded:
            problems.append(sentence.problem("sentence is excluded"))
        elif said in seen:
            problems.append(sentence.problem("sentence occurs twice"))
        else:
            seen.add(said)
            yield sentence


def _excluded_letters(files: Sequence[str], encoding: str) -> set[str]:
    """What must not be said, also without the label that a line may begin with.

    Raises:
        CorpusError: if part of a file cannot be read, for then its sentences would slip through
    """
    excluded: set[str] = set()
    for file in files:
        path, column = Path(file), None
        if not path.exists() and ":" in file:
            name, _, column = file.rpartition(":")
            path = Path(name)
        problems: list[Problem] = []
        for _, text in _read_texts(path, column, encoding, problems):
            excluded |= {letters(text), letters(_LABEL.sub("", mend(text), count=1))}
        if problems:
            first = problems[0]
            raise CorpusError(
                f"--exclude {file}: {len(problems)} part(s) cannot be read, and what they hold would not be left out, "
                f"such as {first.item}: {first.reason} ({first.detail})"
            )
    return excluded - {""}


CORPUS = SpokenCorpus(
    "text", "any sentences, spoken by espeak-ng: a file of lines, or a column of a table", read, Options
)
