"""Cuts: the utterances that flow through the program, in lhotse's manifests.

A cut has its audio and one supervision with ``text``, ``speaker``, ``gender`` and these custom fields, each present
only where it is known:

- ``activation``, ``valence``, ``dominance``: ratings on the corpus's ``scale``
- ``scale``: ``{"name": "1-7", "low": 1.0, "high": 7.0}``
- ``corpus``: whose ratings they are
- ``emotion``: a category, in words
- ``sentiment``: the probabilities of negative, neutral and positive that a text model gives the transcript, or 1 for
  what people say it is

Any lhotse corpus is therefore good for pre-training as it is.
"""

import gzip
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from lhotse import AudioSource, MonoCut, MultiCut, Recording, SupervisionSegment
from lhotse.serialization import deserialize_item
from numpy.typing import NDArray

from sa2sr.audio import AudioInfo, read, resample, to_mono
from sa2sr.config import DIMENSIONS, Scale
from sa2sr.errors import AudioError, CorpusError
from sa2sr.files import atomic

Cut: TypeAlias = MonoCut | MultiCut

_LONGEST_LINE = 10_000_000  # characters
_SLACK = 0.5  # seconds that audio may differ from its manifest, besides 1 %, as headers of compressed files do


def make_cut(
    name: str,
    audio: str | Path,
    info: AudioInfo,
    *,
    text: str | None = None,
    speaker: str | None = None,
    gender: str | None = None,
    language: str | None = None,
    emotion: str | None = None,
    ratings: Mapping[str, float] | None = None,
    scale: Scale | None = None,
    start: float = 0.0,
    duration: float | None = None,
    custom: Mapping[str, Any] | None = None,
) -> Cut:
    """A cut of a file, or of the part of it from ``start`` (seconds).

    Args:
        name: unique within the corpus
        audio: the file, stored as an absolute path
        info: what :func:`sa2sr.audio.probe` says of the file
        text: transcript
        speaker: name, unique within the corpus
        gender: ``"male"`` or ``"female"`` where known
        language: such as ``"English"``
        emotion: category
        ratings: activation, valence and dominance, or some of them, on ``scale``
        scale: of the ratings
        start: in seconds
        duration: in seconds; to the end of the file by default
        custom: further fields of the supervision
    """
    fields: dict[str, Any] = dict(custom or {})
    if emotion is not None:
        fields["emotion"] = emotion
    if ratings:
        if scale is None:
            raise ValueError("ratings need their scale")
        fields.update({name: float(ratings[name]) for name in DIMENSIONS if name in ratings})
        fields["scale"] = scale.model_dump()
    recording = Recording(
        id=name,
        sources=[AudioSource(type="file", channels=list(range(info.channels)), source=str(Path(audio).resolve()))],
        sampling_rate=info.sampling_rate,
        num_samples=info.samples,
        duration=info.seconds,
        channel_ids=list(range(info.channels)),
    )
    length = info.seconds - start if duration is None else duration
    channel: Any = 0 if info.channels == 1 else list(range(info.channels))
    supervision = SupervisionSegment(
        id=name,
        recording_id=name,
        start=0.0,
        duration=length,
        channel=channel,
        text=text,
        language=language,
        speaker=speaker,
        gender=gender,
        custom=fields or None,
    )
    kind = MonoCut if info.channels == 1 else MultiCut
    return kind(id=name, start=start, duration=length, channel=channel, supervisions=[supervision], recording=recording)


def read_cuts(path: str | Path) -> Iterator[Cut]:
    """The cuts of a JSONL manifest (``.jsonl`` or ``.jsonl.gz``), one by one.

    Raises:
        CorpusError: naming the file and the line, if it is not a manifest of cuts
    """
    path = Path(path)
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            while line := file.readline(_LONGEST_LINE):
                number += 1
                if len(line) == _LONGEST_LINE:
                    raise CorpusError(f"{path}, line {number}: is too long for a cut")
                if line.strip():
                    yield _parse_cut(line, f"{path}, line {number}")
    except FileNotFoundError:
        raise CorpusError(f"{path}: does not exist") from None
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        if not number and isinstance(error, gzip.BadGzipFile | UnicodeDecodeError):
            raise CorpusError(f"{path}: is not a manifest of cuts, which is JSON, a line a cut") from None
        reason = getattr(error, "strerror", None) or str(error)
        raise CorpusError(f"{path}: cannot be read after line {number} ({reason})") from None


def write_cuts(path: str | Path, cuts: Iterable[Cut]) -> int:
    """Write a JSONL manifest atomically (gzipped if the name ends in ``.gz``); returns the number of cuts.

    The same cuts give the same bytes.
    """
    count = 0
    with atomic(path) as temporary, temporary.open("wb") as raw:
        file: Any = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if Path(path).suffix == ".gz" else raw
        with nullcontext(raw) if file is raw else file:
            for cut in cuts:
                line = json.dumps(cut.to_dict(), ensure_ascii=False) + "\n"
                file.write(line.encode(errors="backslashreplace"))  # half a surrogate pair becomes its JSON escape
                count += 1
    return count


def load_waveform(cut: Cut, sampling_rate: int) -> NDArray[np.float32]:
    """The audio of a cut: mono (the average of its channels) at ``sampling_rate``, shape (samples,).

    Raises:
        AudioError: if it cannot be decoded, or is shorter or longer than the manifest says
    """
    recording = cut.recording
    plain = len(recording.sources) == 1 and recording.sources[0].type == "file" and not recording.transforms
    if plain:
        channels = [cut.channel] if isinstance(cut.channel, int) else list(cut.channel)
        everything = channels == list(range(recording.num_channels))
        whole = cut.start == 0 and abs(cut.duration - recording.duration) < 1e-3
        slack = _SLACK + cut.duration / 100
        waveform = read(
            recording.sources[0].source,
            sampling_rate,
            offset=cut.start,
            duration=cut.duration + 2 * slack if whole else cut.duration,
            channels=None if everything else channels,
        )
        if abs(len(waveform) / sampling_rate - cut.duration) > slack:
            raise AudioError(
                recording.sources[0].source,
                f"does not last the {cut.duration:.2f} s that its manifest says; prepare the corpus again",
            )
        return waveform
    try:  # other sources (commands, archives, transformed recordings) are lhotse's to read
        samples = cut.load_audio()
    except Exception as error:
        raise AudioError(cut.id, f"cannot be loaded ({error})") from None
    return resample(to_mono(np.ascontiguousarray(samples.T, np.float32)), cut.sampling_rate, sampling_rate)


def custom_fields(cut: Cut) -> dict[str, Any]:
    """The custom fields of a cut's supervision; empty if there is none."""
    return dict(cut.supervisions[0].custom or {}) if cut.supervisions else {}


def _parse_cut(line: str, where: str) -> Cut:
    try:
        cut = deserialize_item(json.loads(line))
        if not isinstance(cut, MonoCut | MultiCut) or cut.recording is None:
            raise CorpusError(f"{where}: is a {type(cut).__name__}; a cut with a recording is needed")
        if any(source.type == "command" for source in cut.recording.sources):
            raise CorpusError(f"{where}: its audio is the output of a command, and a manifest must not run commands")
        if not (0 <= cut.start < math.inf and 0 < cut.duration < math.inf):
            raise CorpusError(f"{where}: begins at {cut.start} s and lasts {cut.duration} s")
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError, RecursionError) as error:
        raise CorpusError(f"{where}: is not a cut ({type(error).__name__}: {error})") from None
    return cut
