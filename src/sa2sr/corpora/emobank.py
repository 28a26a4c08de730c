"""EmoBank, spoken: 10,062 English sentences that readers rated from 1 to 5, said by espeak-ng; CC BY-SA 4.0.

``emobank.csv`` holds a row a sentence, with its valence, arousal and dominance; arousal is activation::

    id,split,V,A,D,text
    110CYL068_1036_1079,train,3.0,3.0,3.2,"Remember what she said in my last letter? ""
    110CYL068_1137_1188,train,3.44,3.0,3.22,Goodwill helps people get off of public assistance.

The splits are the corpus's own, and so are the sentences: one whose words are also a sentence of test is left out of
train and dev, one of dev is left out of train. Each split is said by voices of its own, which no other split hears.

This is a benchmark of **valence in words** that can be rebuilt by anyone, to the byte, without a signed form:

- It measures how much of what people feel about a written sentence a model finds in its spoken words, said by a voice
  that it has never heard.
- It does not measure how people rate speech. They rated the text, unheard; nobody speaks with emotion here. The voice,
  its rate and its pitch are drawn without regard to the ratings, so that prosody plays no part. Activation and
  dominance lie mostly in the voice when people speak: here they are what little the words tell of them.
- Synthetic voices are clearer than people, and all of one kind: a figure of this corpus is no estimate for recordings.

With ``--no-strip-punctuation`` the synthesiser also renders commas, question and exclamation marks. Then prosody, which
follows punctuation, carries some of the ratings, and a result is no longer about words.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import Field

from sa2sr.config import Scale
from sa2sr.corpora.corpus import Problem
from sa2sr.corpora.scanning import Folder
from sa2sr.corpora.sentences import GROUP_OF_SPLIT, Sentence, SpokenOptions, cast, letters, mend, of_length, subset
from sa2sr.corpora.spoken import SpokenCorpus, SpokenUtterance
from sa2sr.corpora.tables import read_table
from sa2sr.errors import CorpusError

SCALE = Scale(name="1-5", low=1, high=5)
_RATINGS = {"activation": "A", "valence": "V", "dominance": "D"}
_COLUMNS = ("id", "split", *_RATINGS.values(), "text")


class Options(SpokenOptions):
    """What is spoken, by whom, and how often the test is."""

    test_voicings: int | None = Field(None, ge=1, description="different voices for each test sentence; as --voicings")


def read(source: Path, options: Options) -> Iterator[SpokenUtterance | Problem]:
    """What is said of ``emobank.csv``, or of the file of this name below a folder."""
    problems: list[Problem] = []
    sentences = of_length(_read_sentences(_find_table(source), problems), options, problems)
    chosen = subset(_unshared(sentences, problems), options)
    yield from cast(chosen, options, {"test": options.test_voicings} if options.test_voicings else None)
    yield from problems


def _find_table(source: Path) -> Path:
    if not source.is_dir():
        return source
    found = [path for path in Folder(source).files if path.name == "emobank.csv"]
    if not found:
        raise CorpusError(f"{source}: holds no emobank.csv")
    return found[0]


def _read_sentences(path: Path, problems: list[Problem]) -> Iterator[Sentence]:
    seen: set[str] = set()
    for where, row in read_table(path, problems):
        if missing := [column for column in _COLUMNS if column not in row]:
            raise CorpusError(f"{path}: has no column {', '.join(missing)}; it has {', '.join(row)}")
        name, split = row["id"], row["split"].lower()
        if not name:
            problems.append(Problem("no id in the row", where))
        elif name in seen:
            problems.append(Problem("id occurs twice", name, f"{where}; the first is kept"))
        elif split not in GROUP_OF_SPLIT:
            detail = f"'{row['split'][:40]}' is not one of {', '.join(GROUP_OF_SPLIT)}"
            problems.append(Problem("unknown split", name, detail))
        else:
            seen.add(name)
            ratings = {dimension: row[column] for dimension, column in _RATINGS.items()}
            yield Sentence(name, mend(row["text"]), split, ratings=ratings, scale=SCALE)


def _unshared(sentences: Iterable[Sentence], problems: list[Problem]) -> Iterator[Sentence]:
    """Each sentence in one split alone: what is tested on is neither trained on nor decided by."""
    waiting = list(sentences)
    held_out: dict[str, str] = {}  # letters -> split
    for split in ("test", "dev", "train"):
        for sentence in waiting:
            if sentence.split != split:
                continue
            if (other := held_out.setdefault(letters(sentence.text), split)) == split:
                yield sentence
            else:
                problems.append(sentence.problem(f"sentence of {other} in {split}"))


CORPUS = SpokenCorpus("emobank", "English sentences with ratings from 1 to 5, spoken by espeak-ng", read, Options)
