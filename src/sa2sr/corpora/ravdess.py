"""RAVDESS, the speech part: 24 actors say two sentences in eight emotions, CC BY-NC-SA 4.0.

Everything is in the names of the files::

    Actor_12/03-01-06-01-02-01-12.wav

which are modality (03: audio alone), channel (01: speech), emotion, intensity, statement, repetition, actor.

The corpus has no ratings. Where the emotion allows it, the utterances get **proxy** ratings: the mean activation,
valence and dominance of 46,160 naturally spoken segments of that class (MSP-Podcast, scale 1-7). Agreement with
them measures how well classes are told apart, not agreement with listeners.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from sa2sr.config import Scale, Settings
from sa2sr.corpora.corpus import Corpus, Entry, Problem, Utterance
from sa2sr.corpora.scanning import Folder
from sa2sr.errors import CorpusError

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")  # 01 to 08
INTENSITIES = ("normal", "strong")
STATEMENTS = ("Kids are talking by the door", "Dogs are sitting by the door")
PROXY_SCALE = Scale(name="1-7 (proxy)", low=1, high=7)
PROXY_RATINGS = {
    "angry": {"activation": 5.34, "valence": 2.83, "dominance": 5.29},
    "happy": {"activation": 4.93, "valence": 4.97, "dominance": 4.89},
    "neutral": {"activation": 4.08, "valence": 4.10, "dominance": 4.29},
    "sad": {"activation": 3.54, "valence": 3.17, "dominance": 3.80},
}
_NAME = re.compile(r"(\d\d)-(\d\d)-0([1-8])-0([12])-0([12])-(\d\d)-(\d\d)")


class Options(Settings):
    """Which actors are held out."""

    dev_actors: str = Field("17-20", description="actors of the dev split, such as 17-20 or 3,7,9")
    test_actors: str = Field("21-24", description="actors of the test split; the others are for training")


def read(source: Path, options: Options) -> Iterator[Entry]:
    """The spoken utterances below a folder with ``Actor_*`` folders."""
    dev, test = parse_numbers(options.dev_actors, "dev_actors"), parse_numbers(options.test_actors, "test_actors")
    if both := dev & test:
        raise CorpusError(f"dev_actors and test_actors share the actors {', '.join(map(str, sorted(both)))}")
    folder = Folder(source)
    for path in folder.audio():
        parts = _NAME.fullmatch(path.stem)
        if parts is None:
            yield Problem("not a RAVDESS name", str(path))
            continue
        modality, channel = parts[1], parts[2]
        if (modality, channel) != ("03", "01"):
            kind = "song" if channel == "02" else "not audio alone"
            yield Problem(f"not speech ({kind})", str(path))
            continue
        emotion, actor = EMOTIONS[int(parts[3]) - 1], int(parts[7])
        yield Utterance(
            path.stem,
            "dev" if actor in dev else "test" if actor in test else "train",
            path,
            text=STATEMENTS[int(parts[5]) - 1],
            speaker=f"{actor:02d}",
            gender="male" if actor % 2 else "female",
            language="English",
            emotion=emotion,
            ratings=PROXY_RATINGS.get(emotion, {}),
            scale=PROXY_SCALE,
            custom={"intensity": INTENSITIES[int(parts[4]) - 1]},
        )
    yield from folder.problems


def parse_numbers(text: str, option: str) -> set[int]:
    """The numbers of ``17-20`` or ``3,7,9`` or both; none for an empty text."""
    numbers: set[int] = set()
    for part in filter(None, text.replace(" ", "").split(",")):
        found = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part)
        if found is None:
            raise CorpusError(f"{option} is '{text}', but must be numbers and ranges such as 17-20 or 3,7,9")
        numbers.update(range(int(found[1]), int(found[2] or found[1]) + 1))
    return numbers


CORPUS = Corpus("ravdess", "acted English emotions: Actor_12/03-01-06-01-02-01-12.wav", read, Options)
