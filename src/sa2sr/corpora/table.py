r"""Any corpus that is listed in a CSV, TSV or JSONL file with a column of audio files.

All other columns are optional and recognised by their usual names, such as::

    FileName,EmoAct,EmoVal,EmoDom,Speaker,Text,Split
    clips/a.wav,2.2,4.0,2.6,anna,"Well, hello.",train

    {"path": "call.wav", "start": 3.2, "end": 6.05, "arousal": 4.5, "split": "test"}
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from sa2sr.config import DIMENSIONS, SENTIMENTS, Scale, Settings
from sa2sr.corpora.corpus import Corpus, Entry, Problem, Utterance
from sa2sr.corpora.options import check_encoding, parse_scale
from sa2sr.corpora.scanning import AudioFinder
from sa2sr.corpora.tables import COMMA_HINT, find_column, has_decimal_commas, read_table
from sa2sr.errors import CorpusError

COLUMNS = {
    "path": ("path", "file", "filename", "file_path", "audio", "audio_path", "audio_file", "audio_filepath", "wav"),
    "id": ("id", "name", "utterance_id", "utt_id", "segment_id"),
    "text": ("text", "transcript", "transcription", "sentence", "utterance"),
    "speaker": ("speaker", "speaker_id", "spkr_id", "spk_id", "spk", "actor"),
    "gender": ("gender", "sex"),
    "emotion": ("emotion", "emo_class", "emotion_class", "category"),
    "activation": ("activation", "arousal", "emo_act", "act", "aro", "A"),
    "valence": ("valence", "emo_val", "val", "V"),
    "dominance": ("dominance", "emo_dom", "dom", "D"),
    "sentiment": ("sentiment",),
    "split": ("split", "split_set", "subset", "partition", "set"),
    "start": ("start", "start_time", "begin", "offset"),
    "end": ("end", "end_time", "stop"),
    "duration": ("duration", "dur"),
}
_SENTIMENTS = {name: each for each in SENTIMENTS for name in (each, each[:3])}
_GENDERS = {"f": "female", "female": "female", "m": "male", "male": "male"}
_SPLITS = {"validation": "dev", "valid": "dev", "val": "dev", "development": "dev", "training": "train"}
_UNKNOWN = ("", "unknown", "nan", "none", "null", "na", "n/a")
_NUMBERS = (*DIMENSIONS, "start", "end", "duration")
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")
# 0 days 00:01:02.5, as pandas writes; 00:01:02,5, as subtitles have it
_CLOCK = re.compile(r"(?:(\d+) days? )?(\d+):(\d\d):(\d\d(?:[.,]\d+)?)")


class Options(Settings):
    """Where the table says what; a column is found by its usual names unless it is named here."""

    audio_root: Path | None = Field(None, description="folder of relative paths; by default the table's")
    scale: str = Field("1-7", description="of the ratings: low-high or low:high, such as 1-5 or -1:1")
    encoding: str = Field("utf-8", description="of the table, such as latin-1")
    language: str | None = Field(None, description="spoken, such as English")
    average: bool = Field(False, description="the mean of the rows of one file and span, as several people rated them")
    path: str | None = Field(None, description="column of the audio files")
    id: str | None = Field(None, description="column of unique names; by default path, start and end")
    text: str | None = Field(None, description="column of the transcripts")
    speaker: str | None = Field(None, description="column of the speakers")
    gender: str | None = Field(None, description="column of their genders")
    emotion: str | None = Field(None, description="column of the categories")
    activation: str | None = Field(None, description="column of the activation ratings")
    valence: str | None = Field(None, description="column of the valence ratings")
    dominance: str | None = Field(None, description="column of the dominance ratings")
    sentiment: str | None = Field(None, description="column of sentiments: negative, neutral or positive")
    split: str | None = Field(None, description="column of the splits; without one, all is one split named 'all'")
    start: str | None = Field(None, description="column of the start in the file, in seconds or h:mm:ss")
    end: str | None = Field(None, description="column of the end in the file")
    duration: str | None = Field(None, description="column of the duration, from the start on, where there is no end")


def read(source: Path, options: Options) -> Iterator[Entry]:
    """The utterances of a table."""
    scale = parse_scale(options.scale)
    check_encoding(options.encoding)
    root = options.audio_root or source.absolute().parent
    finder = AudioFinder()
    problems: list[Problem] = []
    columns: dict[str, str] = {}
    named: frozenset[str] = frozenset()
    decimal_commas = has_decimal_commas(source, options.encoding)
    spans: dict[tuple[object, ...], tuple[str, str]] = {}  # of a file, in a split: name and line
    rated: dict[tuple[object, ...], list[Utterance]] = {}  # by the same, where they are averaged
    for where, row in read_table(source, problems, options.encoding):
        if row.keys() != named:  # once for CSV, whenever the keys change for JSONL
            named = frozenset(row)
            columns = _find_columns(source, list(row), options)
        value = {role: row[column] for role, column in columns.items()}
        if decimal_commas:
            value |= {role: _with_point(value[role]) for role in _NUMBERS if role in value}
        path = value.get("path", "")
        start, end = _span(value, is_named=options.duration is not None)
        if not path or "\0" in path:
            yield Problem("no audio file in the row", where, f"column '{columns.get('path', 'path')}' is '{path}'")
        elif isinstance(start, str) or isinstance(end, str):
            detail = f"'{start}' to '{end}'" + (COMMA_HINT if "," in f"{start} {end}" else "")
            yield Problem("start or end is not a time", where, detail)
        elif "split" in columns and not value["split"]:
            yield Problem("no split in the row", where, f"column '{columns['split']}' is empty")
        else:
            # Ten digits tell samples apart, hours into a file.
            segment = f":{start or 0:.10g}-" + ("" if end is None else f"{end:.10g}")
            name = value.get("id") or (path if start is None and end is None else path + segment)
            split = value.get("split", "all").lower()
            span = path, start or 0.0, end, split
            first, line = spans.setdefault(span, (name, where))
            if line != where and not options.average:
                yield _same_span(path, where, line, is_lost=name == first)
                if name == first:
                    continue
            wanted = _known(value.get("sentiment"))
            sentiment = _SENTIMENTS.get((wanted or "").lower())
            if wanted is not None and sentiment is None:
                detail = f"column '{columns['sentiment']}' is '{wanted}', not {', '.join(SENTIMENTS)}"
                yield Problem("unknown sentiment", name, detail, lost="sentiment")
            utterance = Utterance(
                name,
                _SPLITS.get(split, split),
                finder.find(root / path, root / path.replace("\\", "/")),
                text=value.get("text"),
                speaker=_known(value.get("speaker")),
                gender=_GENDERS.get(value.get("gender", "").lower()),
                language=options.language,
                emotion=_known(value.get("emotion")),
                ratings={name: rating for name in DIMENSIONS if (rating := _known(value.get(name))) is not None},
                scale=scale,
                start=start or 0.0,
                end=end,
                custom={"sentiment": [float(each == sentiment) for each in SENTIMENTS]} if sentiment else {},
            )
            if options.average:
                rated.setdefault(span, []).append(utterance)
            else:
                yield utterance
    yield from map(_averaged, rated.values())
    yield from problems


def _find_columns(source: Path, columns: list[str], options: Options) -> dict[str, str]:
    """Role -> column, for the roles that the table has.

    Raises:
        CorpusError: if a column that the options name is not there, or none has the audio files
    """
    found: dict[str, str] = {}
    for role, usual in COLUMNS.items():
        wanted: str | None = getattr(options, role)
        column = find_column(columns, usual if wanted is None else (wanted,))
        if column is not None:
            found[role] = column
        elif wanted is not None or role == "path":
            missing = f"column '{wanted}'" if wanted else "column of audio files (path, file, filename, ...)"
            raise CorpusError(f"{source}: has no {missing}; it has {', '.join(columns)}; --{role} names another")
    return found


def _span(value: dict[str, str], *, is_named: bool) -> tuple[float | str | None, float | str | None]:
    """Start and end of a row; the end may follow from a duration, which by itself is only that of the whole file."""
    start, end = _seconds(value.get("start", "")), _seconds(value.get("end", ""))
    duration = _seconds(value.get("duration", "")) if end is None and (start is not None or is_named) else None
    if duration is None or isinstance(duration, str) or isinstance(start, str):
        return start, end if duration is None else duration
    return start, (start or 0.0) + duration


def _same_span(path: str, where: str, first: str, *, is_lost: bool) -> Problem:
    detail = (
        f"'{path}' as in {first}; {'the first is' if is_lost else 'both are'} kept. If several people rated it, "
        "--average takes the mean of their ratings; else name the columns that tell rows apart (--id, --start, --end)"
    )
    lost = "utterance" if is_lost else "nothing (a warning)"
    return Problem("several rows of one file and span", where, detail, lost)


def _averaged(rated: Sequence[Utterance]) -> Utterance:
    """One of the rows of an utterance: ratings and sentiment their means, the emotion what most of them say, if any."""

    def first(values: Iterable[str | None]) -> str | None:
        return next((value for value in values if value), None)

    emotions = Counter(each.emotion for each in rated if each.emotion is not None).most_common(2)
    tied = len(emotions) == 2 and emotions[0][1] == emotions[1][1]
    sentiments = [each.custom["sentiment"] for each in rated if each.custom]
    return replace(
        rated[0],
        text=first(each.text for each in rated) if rated[0].text is not None else None,
        speaker=first(each.speaker for each in rated),
        gender=first(each.gender for each in rated),
        emotion=emotions[0][0] if emotions and not tied else None,
        ratings={
            name: _mean(values, rated[0].scale)
            for name in DIMENSIONS
            if (values := [each.ratings[name] for each in rated if name in each.ratings])
        },
        custom={"sentiment": [sum(each) / len(sentiments) for each in zip(*sentiments, strict=True)]}
        if sentiments
        else {},
    )


def _mean(values: Sequence[str | float], scale: Scale | None) -> str | float:
    """The mean; what is no number on the scale stays as it is, to be reported."""
    numbers = []
    for value in values:
        try:
            number = float(value)
        except ValueError:
            return value
        if not math.isfinite(number) or (scale is not None and scale.excludes(number)):
            return value
        numbers.append(number)
    return sum(numbers) / len(numbers)


def _seconds(text: str) -> float | str | None:
    """A time in seconds; none where there is none; the text itself if it is not a time."""
    if text.lower() in (*_UNKNOWN, "nat"):
        return None
    if clock := _CLOCK.fullmatch(text):
        days, hours, minutes, seconds = (float((part or "0").replace(",", ".")) for part in clock.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    try:
        return float(text)
    except ValueError:
        return text


def _with_point(text: str) -> str:
    return text.replace(",", ".") if _DECIMAL_COMMA.fullmatch(text) else text


def _known(text: str | None) -> str | None:
    return None if text is None or text.lower() in _UNKNOWN else text


CORPUS = Corpus("table", "any CSV, TSV or JSONL file with a column of audio files", read, Options, general=True)
