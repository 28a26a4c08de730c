"""The demo corpus: sentences and ratings made here, spoken by espeak-ng, so that every effect in it is known.

- **Valence is in the words only.** Every sentence holds one word that VADER's lexicon rates, or none. Its mean human
  rating, -4 to 4, is stretched to the scale, 1 to 7; a sentence without one is a 4.
- **Activation and dominance are in the voice only**: two numbers, drawn for every utterance apart from its words, set
  rate, pitch, pitch range and loudness (:func:`prosody_of`). Half of the dominance is the activation, since in ratings
  of natural speech the two go together as well.
- Five raters give whole numbers within one point of these; a rating is their mean.

Three parts share one vocabulary but not its rated words, nor its voices:

========================  ========================  ================================  ========================
part                      voices                    rated words                       ratings
========================  ========================  ================================  ========================
pretraining-train / -dev  training / development    all                               none; transcripts matter
train / dev               training / development    some / others                     few
test-known-words          heard nowhere else        those of train                    for evaluation
test-new-words            heard nowhere else        in neither train nor dev          for evaluation
========================  ========================  ================================  ========================

So a model can only tell the valence of the new words if it learnt what words mean before fine-tuning: which is the
claim of sentiment-aware pre-training. For the known ones it is enough to recognise them. No sentence is in two parts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Literal, TypeVar

from sa2sr.config import Scale
from sa2sr.corpora.espeak import Prosody
from sa2sr.corpora.spoken import SpokenUtterance, speak_corpus
from sa2sr.corpora.voices import VOICES, Group
from sa2sr.errors import CorpusError

Size = Literal["full", "small", "tiny"]
Kind = Literal["adjective", "verb", "noun"]
Polarity = Literal["positive", "negative"]
T = TypeVar("T")

SCALE = Scale(name="1-7", low=1, high=7)
SPLITS = ("pretraining-train", "pretraining-dev", "train", "dev", "test-known-words", "test-new-words")

# No two of these share a stem, so that a word of the test is not half known from another one.
RATED_WORDS: dict[Polarity, dict[Kind, tuple[str, ...]]] = {
    "positive": {
        "adjective": (
            *("wonderful", "happy", "brilliant", "charming", "excellent", "fantastic", "perfect", "glorious"),
            *("superb", "friendly", "amazing", "splendid", "magnificent", "generous", "elegant", "lovely"),
        ),
        "verb": ("admired", "enjoyed", "praised", "celebrated"),
        "noun": ("peace", "laughter", "success", "paradise"),
    },
    "negative": {
        "adjective": (
            *("terrible", "horrible", "awful", "ugly", "nasty", "miserable", "dreadful", "disgusting"),
            *("evil", "dangerous", "hostile", "vicious", "pathetic", "rotten", "stupid", "tragic"),
        ),
        "verb": ("hated", "destroyed", "attacked", "ruined"),
        "noun": ("murder", "panic", "death", "disaster"),
    },
}
NEUTRAL_WORDS: dict[Kind, tuple[str, ...]] = {
    "adjective": ("yellow", "wooden", "narrow", "early", "local", "usual", "purple", "weekly"),
    "verb": ("painted", "carried", "described", "mentioned"),
    "noun": ("music", "coffee", "weather", "paper"),
}
TEMPLATES: dict[Kind, tuple[str, ...]] = {
    "adjective": (
        "the {thing} was {word}",
        "it was a {word} {thing}",
        "my {person} had a {word} {thing}",
        "we saw a {word} {thing} {time}",
        "the {person} found the {thing} {word}",
        "{time} the {thing} looked {word}",
    ),
    "verb": (
        "my {person} {word} the {thing}",
        "they {word} our {thing} {time}",
        "the {person} {word} a {thing} {time}",
    ),
    "noun": (
        "there was {word} in the {place}",
        "the {person} spoke of {word} {time}",
        "{time} my {person} wrote about {word}",
    ),
}
FILLERS: dict[str, tuple[str, ...]] = {
    "thing": (
        *("garden", "table", "window", "letter", "story", "book", "dinner", "meeting", "picture", "carpet"),
        *("engine", "basket", "blanket", "journey", "concert", "lesson", "bridge", "building"),
    ),
    "person": ("teacher", "doctor", "brother", "sister", "neighbour", "cousin", "farmer", "uncle", "father", "mother"),
    "place": ("village", "market", "station", "hotel", "office", "kitchen"),
    "time": ("yesterday", "today", "on monday", "this morning", "last week", "in april"),
}

VOICES_OF_SPLIT: dict[str, Group] = {
    "pretraining-train": "training",
    "pretraining-dev": "development",
    "train": "training",
    "dev": "development",
    "test-known-words": "test",
    "test-new-words": "test",
}


@dataclass(frozen=True)
class DemoSize:
    """How much is spoken."""

    utterances: Mapping[str, int]  # of each split
    words: int  # rated ones of each polarity and kind, at most


SIZES: dict[Size, DemoSize] = {
    "full": DemoSize(dict(zip(SPLITS, (3000, 150, 300, 150, 200, 300), strict=True)), words=16),
    "small": DemoSize(dict(zip(SPLITS, (600, 60, 120, 60, 60, 120), strict=True)), words=8),
    "tiny": DemoSize(dict(zip(SPLITS, (60, 12, 24, 12, 12, 24), strict=True)), words=4),
}


def make_demo_corpus(
    out: str | Path, size: Size = "full", seed: int = 0, *, jobs: int | None = None
) -> dict[str, Path]:
    """Speak the demo corpus into ``out``.

    Interrupted and called again, it goes on; the same arguments give the same bytes.

    Args:
        out: folder for the audio and the manifests
        size: ``"full"`` (about two hours of speech), ``"small"`` or ``"tiny"``
        seed: of the sentences, of what is held out, and of the ratings
        jobs: processes; by default one a processor

    Returns:
        the manifests by split, of which there are :data:`SPLITS`

    Raises:
        UserError: if espeak-ng is not installed (the extra ``demo``)
        CorpusError: if an utterance could not be spoken
    """
    # Pre-training and fine-tuning share voices, as they are meant to.
    report = speak_corpus(demo_utterances(size, seed), out, name="demo", allow_speaker_overlap=True, jobs=jobs)
    if report.problems:
        first = report.problems[0]
        raise CorpusError(f"{len(report.problems)} utterances of the demo failed, such as {first.item}: {first.detail}")
    return {split: report.manifests[split] for split in SPLITS}


def demo_utterances(size: Size = "full", seed: int = 0) -> list[SpokenUtterance]:
    """What the demo corpus says, before it is spoken."""
    random = Random(f"sa2sr demo {seed}")
    words = split_words(size, random)
    sentences = _Sentences(random)
    utterances = []
    for split in SPLITS:
        count = SIZES[size].utterances[split]
        chosen = _balanced(words[split], count, random)
        voices = _endless(VOICES[VOICES_OF_SPLIT[split]], random)
        for number, (word, voice) in enumerate(zip(chosen, voices, strict=False), start=1):
            activation = _between(random, -1, 1)
            dominance = (activation + _between(random, -1, 1)) / 2
            ratings = {
                "activation": _rate(4 + 2 * activation, random),
                "valence": _rate(4 if word is None else 4 + 0.75 * lexicon()[word.text], random),
                "dominance": _rate(4 + 2.5 * dominance, random),
            }
            rated = not split.startswith("pretraining")
            utterances.append(
                SpokenUtterance(
                    f"demo-{split}-{number:04}",
                    sentences.with_word(word),
                    f"en-us+{voice}",
                    prosody_of(activation, dominance),
                    split,
                    ratings=ratings if rated else {},
                    scale=SCALE if rated else None,
                    custom={} if word is None else {"rated_word": word.text},
                )
            )
    return utterances


def prosody_of(activation: float, dominance: float) -> Prosody:
    """How an utterance of a certain activation and dominance, both -1 to 1, is spoken.

    Activation is fast and high; dominance is lively and low; both are loud.
    """
    return Prosody(
        rate_wpm=round(145 * 1.25**activation * 1.05**dominance),
        pitch=round(50 + 15 * activation - 15 * dominance),
        pitch_range=round(50 + 10 * activation + 30 * dominance),
        volume=round(55 + 12 * activation + 12 * dominance),
    )


@lru_cache
def lexicon() -> Mapping[str, float]:
    """VADER's words with their mean human ratings, -4 to 4."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    ratings: dict[str, float] = SentimentIntensityAnalyzer().lexicon
    return ratings


# --- Sentences --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RatedWord:
    """A word that carries the valence of a sentence."""

    text: str
    kind: Kind
    polarity: Polarity


def split_words(size: Size, random: Random) -> dict[str, list[RatedWord]]:
    """The rated words of each split: of each kind, half go to test, a quarter to dev, the others to train."""
    split: dict[str, list[RatedWord]] = {name: [] for name in SPLITS}
    for polarity, kinds in RATED_WORDS.items():
        for kind, texts in kinds.items():
            words = _shuffled([RatedWord(text, kind, polarity) for text in texts[: SIZES[size].words]], random)
            test, dev = len(words) // 2, len(words) // 4
            split["test-new-words"] += words[:test]
            split["dev"] += words[test : test + dev]
            split["train"] += words[test + dev :]
            split["test-known-words"] += words[test + dev :]
            split["pretraining-train"] += words
            split["pretraining-dev"] += words
    return split


class _Sentences:
    """Sentences of up to eight words, none of them twice."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._said: set[str] = set()

    def with_word(self, word: RatedWord | None) -> str:
        """A new sentence with the rated word, or with a neutral one in its place."""
        for _ in range(1000):
            sentence = self._any(word)
            if sentence not in self._said:
                self._said.add(sentence)
                return sentence
        raise RuntimeError(f"the templates give no further sentences with {word}")

    def _any(self, word: RatedWord | None) -> str:
        kind = word.kind if word is not None else _one_of(tuple(NEUTRAL_WORDS), self._random)
        text = word.text if word is not None else _one_of(NEUTRAL_WORDS[kind], self._random)
        fillers = {name: _one_of(words, self._random) for name, words in FILLERS.items()}
        words = _one_of(TEMPLATES[kind], self._random).format(word=text, **fillers).split()
        pairs = zip(words, [*words[1:], ""], strict=True)
        return " ".join("an" if word == "a" and following[0] in "aeiou" else word for word, following in pairs)


def _balanced(words: Sequence[RatedWord], count: int, random: Random) -> list[RatedWord | None]:
    """A third positive, a third negative, a third without a rated word; each word as often as the next."""
    chosen: list[RatedWord | None] = []
    for polarity in RATED_WORDS:
        group = _endless([word for word in words if word.polarity == polarity], random)
        chosen += [next(group) for _ in range(count // 3)]
    return _shuffled([*chosen, *[None] * (count - len(chosen))], random)


# --- Chance: from Random.random alone, whose sequence Python promises to keep ----------------------------------------


def _between(random: Random, low: float, high: float) -> float:
    return low + (high - low) * random.random()


def _one_of(items: Sequence[T], random: Random) -> T:
    return items[int(random.random() * len(items))]


def _shuffled(items: Sequence[T], random: Random) -> list[T]:
    return [item for _, item in sorted(((random.random(), item) for item in items), key=lambda pair: pair[0])]


def _endless(items: Sequence[T], random: Random) -> Iterator[T]:
    """All items in random order, again and again."""
    while True:
        yield from _shuffled(items, random)


def _rate(value: float, random: Random) -> float:
    """The mean of five raters who are up to one point off and give whole numbers on the scale."""
    given = (round(value + _between(random, -1, 1)) for _ in range(5))
    return sum(min(max(rating, 1), 7) for rating in given) / 5
