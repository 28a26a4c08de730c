"""CREMA-D: 91 actors say twelve sentences in six emotions, 7,442 clips, with votes of listeners, ODbL.

The intended emotion is in the name, actor_sentence_emotion_level::

    AudioWAV/1001_IEO_NEU_XX.wav

``processedResults/summaryTable.csv`` holds what most listeners heard, tied votes separated by a colon::

    "","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel","MultiModalVote","MultiModalLevel"
    "1","1001_IEO_NEU_XX","N","2.68","N","3","N","2.92"
    "2","1001_IEO_HAP_LO","N:S","3.1","H","52.3","H","48"

``VideoDemographics.csv`` holds the actors::

    ActorID,Age,Sex,Race,Ethnicity
    1001,51,Male,Caucasian,Not Hispanic

The repository keeps audio in Git LFS: without ``git lfs pull`` each file is a pointer and is reported as one.
Angry, happy, neutral and sad clips get proxy ratings (:mod:`sa2sr.corpora.proxy`), the others none.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from sa2sr.audio import SUFFIXES, is_lfs_pointer
from sa2sr.config import Settings
from sa2sr.corpora.corpus import Corpus, Entry, Problem, Utterance
from sa2sr.corpora.held_out import HeldOut
from sa2sr.corpora.proxy import PROXY_RATINGS, PROXY_SCALE
from sa2sr.corpora.scanning import Folder
from sa2sr.corpora.tables import read_table

SENTENCES = {
    "IEO": "It's eleven o'clock",
    "TIE": "That is exactly what happened",
    "IOM": "I'm on my way to the meeting",
    "IWW": "I wonder what this is about",
    "TAI": "The airplane is almost full",
    "MTI": "Maybe tomorrow it will be cold",
    "IWL": "I would like a new alarm clock",
    "ITH": "I think I have a doctor's appointment",
    "DFA": "Don't forget a jacket",
    "ITS": "I think I've seen this before",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}
EMOTIONS = {"ANG": "angry", "DIS": "disgust", "FEA": "fearful", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
LEVELS = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified", "X": "unspecified"}
_VOTES = {code[0]: word for code, word in EMOTIONS.items()}
_NAME = re.compile(rf"(\d{{4}})_({'|'.join(SENTENCES)})_({'|'.join(EMOTIONS)})_({'|'.join(LEVELS)})")


class Options(Settings):
    """Which actors are held out, and whose opinion the category is."""

    dev_actors: str = Field("1065-1077", description="actors of the dev split, such as 1065-1077 or 1001,1003")
    test_actors: str = Field("1078-1091", description="actors of the test split; the others are for training")
    category: Literal["intended", "heard"] = Field(
        "intended", description="the emotion that was asked for, or the one that most listeners heard: intended, heard"
    )


def read(source: Path, options: Options) -> Iterator[Entry]:
    """The clips below the folder of the repository."""
    held_out = HeldOut(options, "actors")
    folder = Folder(source)
    problems = folder.problems
    votes = dict(_column(folder, "summaryTable.csv", "FileName", "VoiceVote", problems))
    sexes = dict(_column(folder, "VideoDemographics.csv", "ActorID", "Sex", problems))
    for path in _one_of_each(folder.audio()):
        parts = _NAME.fullmatch(path.stem)
        if parts is None:
            yield Problem("not a CREMA-D name", str(path))
            continue
        actor, sentence, code, level = parts.groups()
        vote = votes.get(path.stem, "")
        heard = _VOTES.get(vote)
        emotion = EMOTIONS[code] if options.category == "intended" else heard
        if emotion is None:
            reason = "tied votes" if ":" in vote else "no vote"
            yield Problem(reason, path.stem, f"'{vote}'", lost="emotion")
        yield Utterance(
            path.stem,
            held_out.split_of(int(actor)),
            path,
            text=SENTENCES[sentence],
            speaker=actor,
            gender={"Male": "male", "Female": "female"}.get(sexes.get(actor, "")),
            language="English",
            emotion=emotion,
            ratings=PROXY_RATINGS.get(emotion or "", {}),
            scale=PROXY_SCALE,
            custom={"intended": EMOTIONS[code], "level": LEVELS[level]} | ({"heard": heard} if heard else {}),
        )
    yield from held_out.missing(source)
    yield from problems


def _one_of_each(paths: Iterable[Path]) -> Iterator[Path]:
    """The repository has each clip as WAV and as MP3, and Git LFS may have fetched either: WAV where it is there."""
    of_stem: dict[str, list[Path]] = {}
    for path in paths:
        of_stem.setdefault(path.stem, []).append(path)
    for clips in of_stem.values():
        if len({path.suffix for path in clips}) > 1:
            best = min(clips, key=lambda path: (is_lfs_pointer(path), SUFFIXES.index(path.suffix.lower())))
            clips = [path for path in clips if path.suffix == best.suffix]
        yield from clips  # several of one suffix are reported


def _column(folder: Folder, file_name: str, key: str, value: str, problems: list[Problem]) -> Iterator[tuple[str, str]]:
    """Two columns of a table, wherever it is in the folder; nothing but a warning if it is not there."""
    path = next((path for path in folder.files if path.name == file_name), None)
    if path is None:
        problems.append(Problem("table is missing", file_name, f"nowhere in {folder.root}", lost=f"the column {value}"))
        return
    for where, row in read_table(path, problems):
        if key in row and value in row:
            yield row[key], row[value]
        else:
            problems.append(Problem("column is missing", where, f"{key} or {value}", lost=f"the column {value}"))
            return


CORPUS = Corpus("crema-d", "acted English emotions: AudioWAV/1001_IEO_NEU_XX.wav", read, Options)
