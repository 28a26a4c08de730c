"""Sentences that are to be spoken: mended, compared, chosen, and given their voices."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from pydantic import Field

from sa2sr.config import Scale, Settings
from sa2sr.corpora.corpus import Problem
from sa2sr.corpora.espeak import Prosody
from sa2sr.corpora.spoken import SpokenUtterance, without_punctuation
from sa2sr.corpora.voices import Group, choose_voices, draw, shuffled
from sa2sr.errors import CorpusError

GROUP_OF_SPLIT: dict[str, Group] = {"train": "training", "dev": "development", "test": "test"}
_SHOWN = 80  # characters of a text, in a report

_WINDOWS = re.compile(r"[\x80-\x9f]")  # controls in Unicode, curly quotation marks and dashes in windows-1252
_INVISIBLE = re.compile(r"[\xad\u200b\u2060\ufeff]")  # soft hyphen, zero-width space and joiner, byte order mark
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_TREEBANK = (  # tokens of the Penn Treebank: do n't, the film 's, -lrb- as brackets -rrb-, ``quoted'', and\/or
    (re.compile(r"(?<=\w) (n['\u2019]t|['\u2019](?:s|re|ve|ll|d|m))\b(?!['\u2019])", re.IGNORECASE), r"\1"),
    (re.compile(r"-l[rcs]b-", re.IGNORECASE), "("),
    (re.compile(r"-r[rcs]b-", re.IGNORECASE), ")"),
    (re.compile(r"``|''"), '"'),
    (re.compile(r"\\([/*])"), r"\1"),
)


class SpokenOptions(Settings):
    """What is spoken of a corpus of texts, and by whom."""

    voices: str = Field("all", description="all, how many of each split at most, or names such as m1,f3,Lee,f4")
    voicings: int = Field(1, ge=1, description="different voices that say each sentence")
    min_words: int = Field(1, ge=1, description="of a sentence")
    max_words: int | None = Field(None, ge=1, description="of a sentence; by default any number")
    limit: int | None = Field(None, ge=1, description="sentences at most, a random subset; by default all")
    rate: int = Field(175, ge=80, le=450, description="words a minute at which they are said")
    strip_punctuation: bool = Field(True, description="speak the words alone: ? and ! are audible")
    seed: int = Field(0, description="another seed, another subset and other voices for each sentence")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence before it is given a voice."""

    name: str  # unique within the corpus
    text: str
    split: str = "train"
    where: str = ""  # file and line, for reports
    ratings: Mapping[str, str | float] = field(default_factory=dict)
    scale: Scale | None = None  # of the ratings

    def problem(self, reason: str, detail: str = "") -> Problem:
        """Why it is left out; by default its text tells the detail."""
        return Problem(reason, self.where or self.name, detail or f"'{self.text[:_SHOWN]}'")


def mend(text: str) -> str:
    """A text in ordinary characters and spelling, on one line.

    Undone are windows-1252 characters that were read as controls, invisible characters, and the tokens of treebanks.
    """
    text = _WINDOWS.sub(lambda found: found[0].encode("latin-1").decode("windows-1252", "ignore"), text)
    text = _CONTROLS.sub(" ", _INVISIBLE.sub("", text))
    for pattern, replacement in _TREEBANK:
        text = pattern.sub(replacement, text)
    return " ".join(text.split())


def letters(text: str) -> str:
    """The letters and digits of a text, which are the same for all spellings of one sentence.

    Case, accents, punctuation and spaces do not count, so that ``wo n't`` and ``Won't!`` are equal.
    """
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKD", mend(text)).casefold()))


def of_length(sentences: Iterable[Sentence], options: SpokenOptions, problems: list[Problem]) -> Iterator[Sentence]:
    """The sentences with neither too few nor too many words."""
    for sentence in sentences:
        words = len(without_punctuation(sentence.text).split())
        if words < options.min_words:
            problems.append(sentence.problem("too few words", f"{words} in '{sentence.text[:_SHOWN]}'"))
        elif options.max_words is not None and words > options.max_words:
            problems.append(sentence.problem("too many words", f"{words} in '{sentence.text[:_SHOWN]}'"))
        else:
            yield sentence


def subset(sentences: Iterable[Sentence], options: SpokenOptions) -> list[Sentence]:
    """As many as the options allow, drawn at random; a smaller subset is part of every larger one."""
    order = sorted(sentences, key=lambda sentence: draw(options.seed, "subset", sentence.name))
    return order[: options.limit]


def divide(sentences: Iterable[Sentence], dev_share: float, seed: int) -> Iterator[Sentence]:
    """Give about this share of the sentences to the split dev, the rest to train; neither is empty if it can be helped.

    Each sentence is drawn by itself, so that it stays in its split when there are more of them.
    """
    numbered = ((draw(seed, "split", sentence.name), sentence) for sentence in sentences)
    order = sorted(numbered, key=lambda pair: pair[0])
    for rank, (number, sentence) in enumerate(order):
        drawn = rank == 0 or int.from_bytes(number[:4], "big") < dev_share * 2**32
        held_out = dev_share > 0 and drawn and rank < len(order) - 1
        yield replace(sentence, split="dev" if held_out else "train")


def cast(
    sentences: Iterable[Sentence], options: SpokenOptions, voicings: Mapping[str, int] | None = None
) -> Iterator[SpokenUtterance]:
    """Give every sentence its voices, of the group that its split has to itself.

    Which voices a sentence gets depends on the seed and on its name alone.

    Args:
        sentences: of the splits train, dev and test
        options: whose voices, and how many say each sentence
        voicings: how many instead, for some splits

    Raises:
        CorpusError: if a split has fewer voices than are to say each of its sentences
    """
    chosen = choose_voices(options.voices)
    for sentence in sentences:
        group = GROUP_OF_SPLIT[sentence.split]
        count = (voicings or {}).get(sentence.split, options.voicings)
        if count > len(chosen[group]):
            raise CorpusError(
                f"{count} voice(s) shall say each sentence of {sentence.split}, but of the {group} voices "
                f"{len(chosen[group])} are wanted ({', '.join(chosen[group]) or 'none'}); see --voices and --voicings"
            )
        for voice in shuffled(chosen[group], options.seed, "voice", sentence.name)[:count]:
            yield SpokenUtterance(
                f"{sentence.name}-{voice}",
                sentence.text,
                f"en-us+{voice}",
                Prosody(rate_wpm=options.rate),
                split=sentence.split,
                ratings=sentence.ratings,
                scale=sentence.scale,
                custom={"sentence": sentence.name},
            )
