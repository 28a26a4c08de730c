"""RAVDESS, the speech part: 24 actors say two sentences in eight emotions, CC BY-NC-SA 4.0.

Everything is in the names of the files::

    Actor_12/03-01-06-01-02-01-12.wav

which are modality (03: audio alone), channel (01: speech), emotion, intensity, statement, repetition, actor.

The corpus has no ratings. Angry, happy, neutral and sad utterances get proxy ratings (:mod:`sa2sr.corpora.proxy`),
the others keep their category alone.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from sa2sr.config import Settings
from sa2sr.corpora.corpus import Corpus, Entry, Problem, Utterance
from sa2sr.corpora.held_out import HeldOut
from sa2sr.corpora.proxy import PROXY_RATINGS, PROXY_SCALE
from sa2sr.corpora.scanning import Folder

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")  # 01 to 08
INTENSITIES = ("normal", "strong")
STATEMENTS = ("Kids are talking by the door", "Dogs are sitting by the door")
_NAME = re.compile(r"(\d\d)-(\d\d)-0([1-8])-0([12])-0([12])-(\d\d)-(\d\d)")


class Options(Settings):
    """Which actors are held out."""

    dev_actors: str = Field("17-20", description="actors of the dev split, such as 17-20 or 3,7,9")
    test_actors: str = Field("21-24", description="actors of the test split; the others are for training")


def read(source: Path, options: Options) -> Iterator[Entry]:
    """The spoken utterances below a folder with ``Actor_*`` folders."""
    held_out = HeldOut(options, "actors")
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
            held_out.split_of(actor),
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
    yield from held_out.missing(source)
    yield from folder.problems


CORPUS = Corpus("ravdess", "acted English emotions: Actor_12/03-01-06-01-02-01-12.wav", read, Options)
